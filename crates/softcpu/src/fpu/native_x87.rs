//! One x87 instruction on the host's own x87.
//!
//! The guest's registers and words are loaded, the very instruction is carried out, everything is
//! stored again. `fnsave` neither waits nor faults, so that an exception which the guest unmasked
//! is never delivered here: it stands in the stored status word, with exactly what the processor
//! does to registers and memory in that case.
#![allow(unsafe_code, reason = "the host's x87 by inline assembly")]

use std::arch::asm;

use super::{operands::flag, state::EXCEPTIONS};

/// The area of `fnsave` in 64-bit code.
///
/// Source: Intel SDM volume 1, figure 8-9.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug)]
pub(super) struct Image {
    pub(super) control: u16,
    reserved_control: u16,
    pub(super) status: u16,
    reserved_status: u16,
    /// Two bits for each physical register.
    pub(super) tags: u16,
    reserved_tags: u16,
    addresses: [u32; 4],
    /// st0 to st7.
    pub(super) st: [[u8; 10]; 8],
}

impl Image {
    /// `tags` has one bit for each physical register.
    pub(super) fn new(control: u16, status: u16, tags: u8, st: [[u8; 10]; 8]) -> Image {
        let tags =
            (0..8).fold(0, |full, n| full | if tags >> n & 1 == 0 { 3 } else { 0 } << (2 * n));
        Image {
            control,
            reserved_control: 0,
            status,
            reserved_status: 0,
            tags,
            reserved_tags: 0,
            addresses: [0; 4],
            st,
        }
    }
}

/// What of an instruction lies outside x87.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outside {
    /// The memory operand.
    pub(super) memory: [u8; 16],
    /// The arithmetic bits of rflags, in and out.
    pub(super) flags: u64,
}

/// Loads the image, carries out the instruction of these two bytes, stores the image.
fn run<const OPCODE: u8, const MODRM: u8>(image: &mut Image, outside: &mut Outside) {
    // SAFETY: the two bytes are an x87 instruction that every x86-64 processor has; with a memory
    // operand it is at [rax], where it reads and writes at most 10 of `memory`'s 16 bytes. The
    // image is the 108 bytes of `frstor` and `fnsave`, and no exception is pending in it, as the
    // caller promises. `fnsave` leaves x87 as Rust expects it: empty, with the default control
    // word. Only arithmetic bits of rflags are set, and the direction flag stays clear.
    unsafe {
        asm!(
            "frstor [{image}]",
            "push {flags}",
            "popfq",
            ".byte {opcode}, {modrm}",
            "pushfq",
            "pop {flags}",
            "fnsave [{image}]",
            image = in(reg) image,
            flags = inout(reg) outside.flags,
            opcode = const OPCODE,
            modrm = const MODRM,
            in("rax") &mut outside.memory,
            out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
            out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
        );
    }
}

type Run = fn(&mut Image, &mut Outside);

/// The forms with eight ModRM bytes, from the one that is given.
macro_rules! eight {
    ($opcode:literal, $base:literal) => {
        [
            run::<$opcode, { $base }>,
            run::<$opcode, { $base + 1 }>,
            run::<$opcode, { $base + 2 }>,
            run::<$opcode, { $base + 3 }>,
            run::<$opcode, { $base + 4 }>,
            run::<$opcode, { $base + 5 }>,
            run::<$opcode, { $base + 6 }>,
            run::<$opcode, { $base + 7 }>,
        ]
    };
}

/// One opcode's forms: eight of memory at [rax], then the 64 of registers.
macro_rules! forms {
    ($opcode:literal) => {
        (
            [
                run::<$opcode, 0x00> as Run,
                run::<$opcode, 0x08>,
                run::<$opcode, 0x10>,
                run::<$opcode, 0x18>,
                run::<$opcode, 0x20>,
                run::<$opcode, 0x28>,
                run::<$opcode, 0x30>,
                run::<$opcode, 0x38>,
            ],
            [
                eight!($opcode, 0xc0) as [Run; 8],
                eight!($opcode, 0xc8),
                eight!($opcode, 0xd0),
                eight!($opcode, 0xd8),
                eight!($opcode, 0xe0),
                eight!($opcode, 0xe8),
                eight!($opcode, 0xf0),
                eight!($opcode, 0xf8),
            ],
        )
    };
}

type Forms = ([Run; 8], [[Run; 8]; 8]);

/// Opcodes D8 to DF.
static FORMS: [Forms; 8] = [
    forms!(0xd8),
    forms!(0xd9),
    forms!(0xda),
    forms!(0xdb),
    forms!(0xdc),
    forms!(0xdd),
    forms!(0xde),
    forms!(0xdf),
];

/// Which of them the guest's instructions may be, one bit for each memory form and each register
/// form: those that every processor has, and no control instruction.
const ALLOWED: [(u8, u64); 8] = [
    (0b1111_1111, u64::MAX),
    (0b0000_1101, span(0xc0, 0xd0) | span(0xd8, 0xe1) | span(0xe4, 0xe5) | D9_CONSTANTS),
    (0b1111_1111, span(0xc0, 0xdf) | span(0xe9, 0xe9)),
    (0b1010_1101, span(0xc0, 0xdf) | span(0xe8, 0xf7)),
    (0b1111_1111, span(0xc0, 0xcf) | span(0xe0, 0xff)),
    (0b0000_1101, span(0xc0, 0xc7) | span(0xd0, 0xef)),
    (0b1111_1111, span(0xc0, 0xcf) | span(0xd9, 0xd9) | span(0xe0, 0xff)),
    (0b1111_1101, span(0xc0, 0xc7) | span(0xe8, 0xf7)),
];

/// `fld1` to `fldz`, and the functions.
const D9_CONSTANTS: u64 = span(0xe8, 0xee) | span(0xf0, 0xff);

/// Register forms from one ModRM byte to another.
const fn span(first: u8, last: u8) -> u64 {
    (u64::MAX >> (63 - (last - first))) << (first - 0xc0)
}

/// Carries out an x87 instruction: opcode D8 to DF, and either a ModRM byte of the register forms
/// or one with a memory operand, of which only the middle field counts.
///
/// # Panics
/// The instruction is not one of those allowed, or an exception is pending in the image, which
/// would become this process's.
pub(super) fn carry_out(opcode: u8, modrm: u8, image: &mut Image, outside: &mut Outside) {
    let row = usize::from(opcode & 7);
    let field = usize::from(modrm >> 3 & 7);
    outside.flags &= flag::ALL;
    let pending = image.status & !image.control & EXCEPTIONS;
    assert!(pending == 0, "a pending exception was delivered before");
    let (memory, registers) = &FORMS[row];
    if modrm >= 0xc0 {
        assert!(ALLOWED[row].1 >> (modrm & 0x3f) & 1 == 1, "x87 form is defined");
        registers[field][usize::from(modrm & 7)](image, outside);
    } else {
        assert!(ALLOWED[row].0 >> field & 1 == 1, "x87 form is defined");
        memory[field](image, outside);
    }
    outside.flags &= flag::ALL;
}

//! The tables and the frame of code around the tests of ring 0, as one flat image that both
//! machines load: a Multiboot kernel, begun in 32-bit protected mode.
//!
//! Every exception leads to a handler that writes the test's number, the vector, what the processor
//! pushed and some registers to port 0xE9, and goes on with the next test.

use iced_x86::code_asm::*;

use crate::cases::Case;

/// Where the image lies.
pub(crate) const BASE: u64 = 0x10_0000;
const ENTRY32: u64 = BASE + 0x40;
const ENTRY64: u64 = BASE + 0x400;
const NEXT: u64 = BASE + 0x600;
const COMMON: u64 = BASE + 0x800;
const EMIT: u64 = BASE + 0xb00;
const STUBS: u64 = BASE + 0x1000;
/// What the handler keeps meanwhile: rax, rcx, the number of the test.
const SAVED: u64 = BASE + 0x2000;
pub(crate) const GDT: u64 = BASE + 0x3000;
pub(crate) const IDT: u64 = BASE + 0x4000;
pub(crate) const TSS: u64 = BASE + 0x5000;
const TABLES: u64 = BASE + 0x6000;
/// Entries of 4 KiB pages for the first 2 MiB.
pub(crate) const PAGES: u64 = TABLES + 0x3000;
/// The tests, so many bytes each.
pub(crate) const CASES: u64 = BASE + 0x1_0000;
const CASE_LEN: u64 = 0x100;
/// Stacks end here: the tests', that of rsp0, and two of the table of stacks.
pub(crate) const STACK: u64 = 0x18_0000;
const STACK0: u64 = 0x18_4000;
const STACK1: u64 = 0x18_8000;
const STACK2: u64 = 0x18_c000;
/// The user's stack, and a page that he cannot reach.
pub(crate) const USER_STACK: u64 = 0x19_0000;
/// Pages of other kinds.
pub(crate) const ABSENT: u64 = 0x1f_0000;
pub(crate) const READ_ONLY: u64 = 0x1f_1000;
pub(crate) const RESERVED: u64 = 0x1f_2000;
pub(crate) const NO_EXECUTE: u64 = 0x1f_3000;
pub(crate) const SUPERVISOR: u64 = 0x1f_4000;
pub(crate) const USER_READ_ONLY: u64 = 0x1f_5000;
/// The page before one that is not present.
pub(crate) const LAST: u64 = 0x1f_6000;

/// Selectors.
pub(crate) const CODE: u64 = 0x08;
pub(crate) const DATA: u64 = 0x10;
pub(crate) const USER_CODE_32: u64 = 0x1b;
pub(crate) const USER_DATA: u64 = 0x23;
pub(crate) const USER_CODE: u64 = 0x2b;
pub(crate) const TASK: u64 = 0x30;
pub(crate) const ABSENT_DATA: u64 = 0x40;
pub(crate) const ABSENT_CODE: u64 = 0x48;
pub(crate) const CONFORMING: u64 = 0x50;
pub(crate) const CODE_32: u64 = 0x58;
pub(crate) const READ_ONLY_DATA: u64 = 0x60;
pub(crate) const EXECUTE_ONLY: u64 = 0x68;
pub(crate) const ABSENT_TASK: u64 = 0x70;
pub(crate) const CALL_GATE: u64 = 0x80;
/// Behind the last.
pub(crate) const BEYOND: u64 = 0x90;

const DESCRIPTORS: [u64; 16] = [
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x00cf_fb00_0000_ffff,
    0x00cf_f300_0000_ffff,
    0x00af_fb00_0000_ffff,
    0,
    0,
    0x00cf_1300_0000_ffff,
    0x00af_1b00_0000_ffff,
    0x00af_9f00_0000_ffff,
    0x00cf_9b00_0000_ffff,
    0x00cf_9100_0000_ffff,
    0x00cf_9900_0000_ffff,
    0x0000_0900_0000_0067,
    0,
];

/// What a test leaves in the handler's hands on purpose.
pub(crate) const REPORT: u32 = 0xfe;
/// A gate that a user may call.
pub(crate) const USER_GATE: u32 = 0x80;
/// Gates that lead nowhere: not present, of a wrong type, without a selector, to data, to code that
/// is not present; and one with a stack of its own.
pub(crate) const GATE_ABSENT: u32 = 0x90;
pub(crate) const GATE_TYPE: u32 = 0x91;
pub(crate) const GATE_NULL: u32 = 0x92;
pub(crate) const GATE_DATA: u32 = 0x93;
pub(crate) const GATE_ABSENT_CODE: u32 = 0x94;
pub(crate) const GATE_STACK: u32 = 0x95;
pub(crate) const GATE_TRAP: u32 = 0x96;
/// What the local APIC sends itself.
pub(crate) const INTERRUPT: u32 = 0xf0;

/// Words of one record.
pub(crate) const WORDS: [&str; 12] =
    ["case", "vector", "code", "rip", "cs", "rflags", "rsp", "ss", "cr2", "rax", "rcx", "r11"];

/// Ends the guest.
pub(crate) const END_PORT: u32 = 0xf4;
/// Where records go.
pub(crate) const PORT: u32 = 0xe9;

/// Steps of an assembler that cannot fail in these programs.
macro_rules! asm {
    ($a:ident, $($line:expr;)*) => { $( $line.expect("an instruction"); )* };
}
pub(crate) use asm;

struct Image(Vec<u8>);

impl Image {
    fn put(&mut self, at: u64, bytes: &[u8]) {
        let at = usize::try_from(at - BASE).expect("within the image");
        if self.0.len() < at + bytes.len() {
            self.0.resize(at + bytes.len(), 0);
        }
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn put_words(&mut self, at: u64, words: &[u64]) {
        for (n, word) in words.iter().enumerate() {
            self.put(at + 8 * n as u64, &word.to_le_bytes());
        }
    }

    fn code(&mut self, at: u64, bits: u32, write: impl FnOnce(&mut CodeAssembler)) -> usize {
        let mut assembler = CodeAssembler::new(bits).expect("an assembler");
        write(&mut assembler);
        let bytes = assembler.assemble(at).expect("a program");
        self.put(at, &bytes);
        bytes.len()
    }
}

/// Where a test begins.
pub(crate) fn address(number: usize) -> u64 {
    CASES + CASE_LEN * number as u64
}

/// The image, and where it is begun.
pub(crate) fn build(cases: &[Case]) -> (Vec<u8>, u64) {
    let mut image = Image(Vec::new());
    header(&mut image);
    descriptors(&mut image);
    gates(&mut image);
    tables(&mut image);
    image.code(ENTRY32, 32, entry_32);
    image.code(ENTRY64, 64, entry_64);
    let count = u32::try_from(cases.len()).expect("few cases");
    image.code(NEXT, 64, |a| next(a, count));
    image.code(COMMON, 64, common);
    image.code(EMIT, 64, emit);
    for (number, case) in cases.iter().enumerate() {
        let len = image.code(address(number), 64, case.write);
        assert!(len <= 0x100, "{} is {len} bytes long", case.what);
    }
    assert!(address(cases.len()) < 0x17_0000, "the stacks begin there");
    (image.0, ENTRY32)
}

/// Source: Multiboot Specification 0.6.96, 3.1.
fn header(image: &mut Image) {
    let flags = 1u32 << 16;
    let magic = 0x1bad_b002u32;
    let [base, entry] = [BASE, ENTRY32].map(|at| u32::try_from(at).expect("32 bits"));
    let words = [magic, flags, 0u32.wrapping_sub(magic + flags), base, base, 0, 0, entry];
    for (n, word) in words.iter().enumerate() {
        image.put(BASE + 4 * n as u64, &word.to_le_bytes());
    }
}

fn descriptors(image: &mut Image) {
    image.put_words(GDT, &DESCRIPTORS);
    let task = 0x67 | (TSS & 0xff_ffff) << 16 | 0x89 << 40 | (TSS >> 24) << 56;
    image.put_words(GDT + TASK, &[task, 0]);
    // Of a gate that this processor does not take.
    image.put_words(GDT + CALL_GATE, &[0, 0]);
    image.put(GDT + 0x100, &(u16::try_from(BEYOND - 1).expect("short")).to_le_bytes());
    image.put(GDT + 0x102, &GDT.to_le_bytes());
    image.put(GDT + 0x110, &0xfffu16.to_le_bytes());
    image.put(GDT + 0x112, &IDT.to_le_bytes());
    image.put(TSS + 4, &STACK0.to_le_bytes());
    image.put(TSS + 0x24, &STACK1.to_le_bytes());
    image.put(TSS + 0x2c, &STACK2.to_le_bytes());
    // Ports 0 to 0xFF are the user's, but the first eight, within the segment's limit.
    image.put(TSS + 0x66, &0x60u16.to_le_bytes());
    image.put(TSS + 0x60, &[0xff, 0, 0, 0, 0, 0]);
}

fn gates(image: &mut Image) {
    for vector in 0..256u32 {
        let to = STUBS + 16 * u64::from(vector);
        let (dpl, stack) = match vector {
            3 | USER_GATE => (3, 0),
            8 => (0, 1),
            GATE_STACK => (3, 2),
            _ => (0, 0),
        };
        let kind = match vector {
            GATE_ABSENT => 0x0e,
            GATE_TYPE => 0x85,
            GATE_TRAP => 0x8f,
            _ => 0x8e | dpl << 5,
        };
        let selector = match vector {
            GATE_NULL => 0,
            GATE_DATA => DATA,
            GATE_ABSENT_CODE => ABSENT_CODE,
            _ => CODE,
        };
        let low = to & 0xffff | selector << 16 | stack << 32 | kind << 40 | (to >> 16) << 48;
        image.put_words(IDT + 16 * u64::from(vector), &[low, 0]);
        let coded = matches!(vector, 8 | 10..=14 | 17);
        image.code(to, 64, |a| {
            if !coded {
                asm! { a, a.push(0); }
            }
            asm! { a, a.push(vector.cast_signed()); a.jmp(COMMON); }
        });
    }
}

/// Four levels; the first 2 MiB are pages of their own kinds, the fourth GiB's end has the APIC.
fn tables(image: &mut Image) {
    let (top, gibs, megs, high) = (TABLES, TABLES + 0x1000, TABLES + 0x2000, TABLES + 0x4000);
    image.put_words(top, &[gibs | 7]);
    // One GiB, which is reserved where there are no such pages; one without execution.
    image.put_words(gibs, &[megs | 7, 1 << 30 | 0x87, megs | 7 | 1 << 63, high | 7]);
    image.put_words(megs, &[PAGES | 7, 0x20_0000 | 1 << 13 | 0x87, 0, 0x60_0000 | 0x83]);
    image.put_words(high + 8 * 503, &[0xfee0_0000 | 0x9b]);
    let pages: Vec<u64> = (0..512).map(|n| n << 12 | 7).collect();
    image.put_words(PAGES, &pages);
    for (page, entry) in [
        (ABSENT, 0),
        (READ_ONLY, READ_ONLY | 1),
        (RESERVED, RESERVED | 7 | 1 << 45),
        (NO_EXECUTE, NO_EXECUTE | 7 | 1 << 63),
        (SUPERVISOR, SUPERVISOR | 3),
        (USER_READ_ONLY, USER_READ_ONLY | 5),
        (LAST + 0x1000, 0),
    ] {
        image.put_words(PAGES + 8 * (page >> 12), &[entry]);
    }
}

fn entry_32(a: &mut CodeAssembler) {
    asm! { a,
        a.cli();
        a.lgdt(ptr(GDT + 0x100));
        a.lidt(ptr(GDT + 0x110));
        a.mov(eax, 0x6a0);
        a.mov(cr4, eax);
        a.mov(eax, u32::try_from(TABLES).expect("32 bits"));
        a.mov(cr3, eax);
        a.mov(ecx, 0xc000_0080u32);
        a.mov(eax, 0x901);
        a.xor(edx, edx);
        a.wrmsr();
        a.mov(eax, 0x8001_0033u32);
        a.mov(cr0, eax);
    }
    // jmp far CODE:ENTRY64
    let [b0, b1, b2, b3] = u32::try_from(ENTRY64).expect("32 bits").to_le_bytes();
    asm! { a, a.db(&[0xea, b0, b1, b2, b3, 8, 0]); }
}

fn wrmsr(a: &mut CodeAssembler, msr: u32, value: u64) {
    let [low, high] =
        [value & 0xffff_ffff, value >> 32].map(|half| u32::try_from(half).expect("a half"));
    asm! { a, a.mov(ecx, msr); a.mov(eax, low); a.mov(edx, high); a.wrmsr(); }
}

fn entry_64(a: &mut CodeAssembler) {
    asm! { a,
        a.mov(eax, 0x10);
        a.mov(ss, eax);
        a.mov(rsp, STACK);
        // The old interrupt controllers are silent.
        a.mov(al, 0xff);
        a.out(0x21, al);
        a.out(0xa1, al);
        a.mov(eax, u32::try_from(TASK).expect("short"));
        a.ltr(ax);
        a.xor(eax, eax);
        a.lldt(ax);
        a.mov(rdi, 0xfee0_00f0u64);
        a.mov(dword_ptr(rdi), 0x1ff);
        a.fninit();
    }
    wrmsr(a, 0xc000_0081, 0x001b_0008 << 32);
    wrmsr(a, 0xc000_0082, COMMON - 0x20);
    wrmsr(a, 0xc000_0084, 0x4_4700);
    wrmsr(a, 0x174, CODE);
    wrmsr(a, 0x175, STACK0);
    wrmsr(a, 0x176, COMMON - 0x20);
    asm! { a,
        a.mov(dword_ptr(SAVED + 16), -1);
        a.jmp(NEXT);
    }
}

/// Sets everything as each test finds it, and goes to the next one.
fn next(a: &mut CodeAssembler, count: u32) {
    let mut more = a.create_label();
    asm! { a,
        a.mov(eax, 0x10);
        a.mov(ss, eax);
        a.mov(rsp, STACK);
        a.xor(eax, eax);
        a.mov(ds, eax);
        a.mov(es, eax);
        a.mov(fs, eax);
        a.mov(gs, eax);
        a.mov(cr2, rax);
        a.push(2);
        a.popfq();
        a.mov(eax, 0x8001_0033u32);
        a.mov(cr0, rax);
        a.mov(eax, 0xffff_0ff0u32);
        a.mov(dr6, rax);
        // The end of an interrupt, if it was one.
        a.mov(rdi, 0xfee0_00b0u64);
        a.mov(dword_ptr(rdi), 0);
        a.inc(dword_ptr(SAVED + 16));
        a.mov(eax, dword_ptr(SAVED + 16));
        a.cmp(eax, count);
        a.jb(more);
        a.out(END_PORT, al);
        a.hlt();
        a.set_label(&mut more);
        a.shl(rax, 8);
        a.add(rax, u32::try_from(CASES).expect("32 bits").cast_signed());
        a.mov(r8, rax);
        a.mov(r11d, 0x1111);
        a.mov(ecx, 0x2222);
        a.mov(eax, 0x3333);
        a.xor(ebx, ebx);
        a.jmp(r8);
    }
}

/// Where `syscall` and `sysenter` lead is in front of it: they report, too.
fn common(a: &mut CodeAssembler) {
    asm! { a,
        a.cld();
        a.mov(qword_ptr(SAVED), rax);
        a.mov(qword_ptr(SAVED + 8), rcx);
        a.mov(rbx, rsp);
        a.mov(eax, dword_ptr(SAVED + 16));
        a.call(EMIT);
    }
    // The vector, the code and the five words that the processor pushed.
    for n in 0..7 {
        asm! { a, a.mov(rax, qword_ptr(rbx + 8 * n)); a.call(EMIT); }
    }
    asm! { a,
        a.mov(rax, cr2);
        a.call(EMIT);
        a.mov(rax, qword_ptr(SAVED));
        a.call(EMIT);
        a.mov(rax, qword_ptr(SAVED + 8));
        a.call(EMIT);
        a.mov(rax, r11);
        a.call(EMIT);
        a.jmp(NEXT);
    }
}

fn emit(a: &mut CodeAssembler) {
    let mut again = a.create_label();
    asm! { a,
        a.mov(ecx, 8);
        a.set_label(&mut again);
        a.out(PORT, al);
        a.shr(rax, 8);
        a.dec(ecx);
        a.jnz(again);
        a.ret();
    }
}

/// Where `syscall` and `sysenter` lead: to a report.
pub(crate) fn entry_points(image: &mut [u8]) {
    let at = usize::try_from(COMMON - 0x20 - BASE).expect("within the image");
    image[at..at + 2].copy_from_slice(&[0xcd, 0xfe]);
}

//! The probe's guest: its bytes, its tables, and the state in which each trial begins.
#![allow(unsafe_code, reason = "symbols of the assembler's")]

use std::{arch::global_asm, slice};

use super::Trial;
use crate::{
    CpuState, GuestMemory,
    memory::NotMemory,
    state::{Activity, Events, FpuState, Segment, Table, gpr},
};

global_asm!(include_str!("guest.s"));

unsafe extern "C" {
    static hv_probe_start: u8;
    static hv_probe_end: u8;
}

/// How much memory it has.
pub(super) const MEMORY: u64 = 0x20000;

/// Where things are.
const TABLES: u64 = 0x1000;
const GDT: u64 = 0x4000;
const IDT: u64 = 0x5000;
const TASK: u64 = 0x6000;
const STACK: u64 = 0x9000;
const CODE: u64 = 0x10000;
/// The stubs of exceptions, from the code's beginning on.
const STUBS: u64 = 0x40;
const STUB_BYTES: u64 = 16;
const VECTORS: u64 = 32;

/// Selectors: the kernel's code and data, the user's, the task.
const KERNEL_CODE: u16 = 0x08;
const KERNEL_DATA: u16 = 0x10;
const TASK_SELECTOR: u16 = 0x28;

/// `IA32_STAR`, `IA32_LSTAR`, `IA32_FMASK`, `IA32_EFER` with long mode and system calls.
const STAR: u32 = 0xc000_0081;
const LSTAR: u32 = 0xc000_0082;
const FMASK: u32 = 0xc000_0084;
const EFER: u32 = 0xc000_0080;
const LONG_MODE: u64 = 0x501;

/// cr4: large pages, floating point for SSE, and `xsave`.
const CR4: u64 = 0x620;
const OSXSAVE: u64 = 1 << 18;

/// What it can be asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A loop of [`ROUND`] instructions, so many times.
    Rate(u64),
    /// Exits for ever.
    Exits,
    /// A trial; of `cpuid`, the bits that count and what they are.
    Trial(Trial, u32, u32),
}

/// Instructions of a round of the loop.
pub(super) const ROUND: u64 = 5;

fn bytes() -> &'static [u8] {
    let (start, end) = (&raw const hv_probe_start, &raw const hv_probe_end);
    // SAFETY: the assembler puts all of these bytes into one read-only section, in this order.
    unsafe { slice::from_raw_parts(start, end.addr() - start.addr()) }
}

/// Where an entry of the table at the beginning leads to.
fn place(entry: usize) -> u64 {
    let bytes = bytes();
    let word = std::array::from_fn(|n| bytes[4 * entry + n]);
    CODE + u64::from(u32::from_le_bytes(word))
}

fn number(entry: Entry) -> usize {
    match entry {
        Entry::Rate(_) => 0,
        Entry::Exits => 1,
        Entry::Trial(trial, ..) => match trial {
            Trial::Popcnt => 2,
            Trial::Cmpxchg16b => 3,
            Trial::Sse => 4,
            Trial::Int3 => 5,
            Trial::Xsave => 6,
            Trial::Syscall => 7,
            Trial::Cpuid => 8,
        },
    }
}

/// Where system calls arrive.
const ENTERED: usize = 9;

/// Puts it into memory: code, page tables, descriptors.
pub(super) fn load(memory: &GuestMemory) -> Result<(), NotMemory> {
    memory.write(CODE, bytes())?;
    // One page of 2 MiB, the user's as well.
    memory.store(TABLES, (TABLES + 0x1000) | 7)?;
    memory.store(TABLES + 0x1000, (TABLES + 0x2000) | 7)?;
    memory.store(TABLES + 0x2000, 0x87u64)?;
    let task = 0x0000_8b00_0000_0067 | (TASK & 0xffff) << 16;
    let descriptors = [
        0,
        0x00af_9b00_0000_ffff,
        0x00cf_9300_0000_ffff,
        0x00af_fb00_0000_ffff,
        0x00cf_f300_0000_ffff,
        task,
        0,
    ];
    for (at, descriptor) in (GDT..).step_by(8).zip(descriptors) {
        memory.store::<u64>(at, descriptor)?;
    }
    for vector in 0..VECTORS {
        let stub = CODE + STUBS + vector * STUB_BYTES;
        let gate = stub & 0xffff | u64::from(KERNEL_CODE) << 16 | 0x8e00 << 32 | stub >> 16 << 48;
        memory.store(IDT + 16 * vector, gate)?;
        memory.store(IDT + 16 * vector + 8, stub >> 32)?;
    }
    memory.store(TASK + 4, STACK)
}

/// The state in which it begins; `xsave` is switched on where the model has it.
pub(super) fn state(entry: Entry, xsave: bool) -> CpuState {
    let flat = |selector, access| Segment { selector, base: 0, limit: u32::MAX, access };
    let data = flat(KERNEL_DATA, 0xc093);
    let mut registers = [0; 16];
    registers[gpr::RSP] = STACK;
    match entry {
        Entry::Rate(rounds) => registers[gpr::RCX] = rounds,
        Entry::Exits => {}
        Entry::Trial(_, mask, expected) => {
            registers[gpr::RDI] = mask.into();
            registers[gpr::RSI] = expected.into();
        }
    }
    CpuState {
        gpr: registers,
        rip: place(number(entry)),
        rflags: 2,
        segments: [data, flat(KERNEL_CODE, 0xa09b), data, data, data, data],
        tr: Segment { selector: TASK_SELECTOR, base: TASK, limit: 0x67, access: 0x8b },
        ldt: Segment { access: 1 << 16, ..Segment::default() },
        gdt: Table { base: GDT, limit: 0x37 },
        idt: Table { base: IDT, limit: 0x1ff },
        cr0: 0x8005_0033,
        cr2: 0,
        cr3: TABLES,
        cr4: CR4 | if xsave { OSXSAVE } else { 0 },
        cr8: 0,
        xcr0: if xsave { 3 } else { 1 },
        debug: [0, 0, 0, 0, 0xffff_0ff0, 0x400],
        msrs: vec![
            (EFER, LONG_MODE),
            (STAR, u64::from(KERNEL_CODE) << 32),
            (LSTAR, place(ENTERED)),
            (FMASK, 0x200),
        ],
        fpu: FpuState::default(),
        apic: Vec::new(),
        activity: Activity::Running,
        events: Events::default(),
    }
}

//! A machine for tests: programs written with an assembler, in 64-bit mode with the first GiB
//! and the one before 4 GiB mapped one to one, or in whichever state a test makes.
#![allow(dead_code, reason = "each test uses its part")]

use std::sync::Arc;

use hv::{
    CpuState, GuestMemory, Hypervisor as _, Model, Shape, Vcpu, Vm,
    state::{Activity, Segment, Table},
};
use iced_x86::code_asm::CodeAssembler;
use softcpu::Soft;

/// Where a program begins.
pub(crate) const CODE: u64 = 0x10_0000;
/// Where its stack ends.
pub(crate) const STACK: u64 = 0x8_0000;
/// Page tables: the top, then one each.
pub(crate) const TABLES: u64 = 0x1000;
/// Descriptors: null, null, code (0x10), data (0x18), 32-bit code (0x20).
pub(crate) const GDT: u64 = 0x5000;
/// Gates, of which a test fills what it needs.
pub(crate) const IDT: u64 = 0x6000;
/// Task segment.
pub(crate) const TSS: u64 = 0x7000;

/// Present, writable.
pub(crate) const PRESENT: u64 = 3;

/// A machine of so many processors and 4 MiB.
pub(crate) fn machine(vcpus: u8) -> (GuestMemory, Arc<dyn Vm>) {
    let memory = GuestMemory::new(4 << 20).expect("memory");
    let vm = on(&memory, vcpus);
    (memory, vm)
}

/// A machine on this memory.
pub(crate) fn on(memory: &GuestMemory, vcpus: u8) -> Arc<dyn Vm> {
    let shape = Shape { vcpus, model: Model::V2 };
    Soft.create(memory.clone(), &shape).expect("a machine")
}

/// Assembles a program and puts it where it is to be.
pub(crate) fn put(memory: &GuestMemory, at: u64, mut program: CodeAssembler) {
    let bytes = program.assemble(at).expect("a program");
    memory.write(at, &bytes).expect("room for it");
}

/// Assembles 64-bit code at [`CODE`].
pub(crate) fn program(memory: &GuestMemory, write: impl FnOnce(&mut CodeAssembler)) {
    let mut assembler = CodeAssembler::new(64).expect("an assembler");
    write(&mut assembler);
    put(memory, CODE, assembler);
}

/// Tables, descriptors and registers of 64-bit mode.
pub(crate) fn long_mode(memory: &GuestMemory, mut state: CpuState) -> CpuState {
    let store = |at: u64, value: u64| memory.store(at, value).expect("memory");
    store(TABLES, (TABLES + 0x1000) | PRESENT);
    store(TABLES + 0x1000, (TABLES + 0x2000) | PRESENT);
    store(TABLES + 0x1018, (TABLES + 0x3000) | PRESENT);
    for n in 0..512 {
        store(TABLES + 0x2000 + 8 * n, n << 21 | 0x80 | PRESENT);
        store(TABLES + 0x3000 + 8 * n, 3 << 30 | n << 21 | 0x80 | PRESENT);
    }
    store(GDT + 0x10, 0x00af_9b00_0000_ffff);
    store(GDT + 0x18, 0x00cf_9300_0000_ffff);
    store(GDT + 0x20, 0x00cf_9b00_0000_ffff);
    let data = Segment { selector: 0x18, base: 0, limit: u32::MAX, access: 0xc093 };
    state.segments = [data; 6];
    state.segments[1] = Segment { selector: 0x10, access: 0xa09b, ..data };
    state.tr = Segment { selector: 0x40, base: TSS, limit: 0x67, access: 0x8b };
    state.gdt = Table { base: GDT, limit: 0x27 };
    state.idt = Table { base: IDT, limit: 0xfff };
    (state.cr0, state.cr3, state.cr4) = (0x8001_0033, TABLES, 0x620);
    for (msr, value) in &mut state.msrs {
        if *msr == 0xc000_0080 {
            *value = 0xd01;
        }
    }
    state.activity = Activity::Running;
    state.rip = CODE;
    state.gpr[4] = STACK;
    state.rflags = 2;
    state
}

/// A gate of 64-bit mode that leads to this address.
pub(crate) fn gate(memory: &GuestMemory, vector: u64, to: u64) {
    let low = to & 0xffff | 0x10 << 16 | 0x8e00 << 32 | (to >> 16 & 0xffff) << 48;
    memory.store(IDT + 16 * vector, low).expect("memory");
    memory.store(IDT + 16 * vector + 8, to >> 32).expect("memory");
}

/// The first processor, at [`CODE`] in 64-bit mode.
pub(crate) fn first(memory: &GuestMemory, vm: &Arc<dyn Vm>) -> Box<dyn Vcpu> {
    let mut vcpu = vm.vcpu(0).expect("the first processor");
    let state = long_mode(memory, vcpu.state().expect("a state"));
    vcpu.set_state(&state).expect("a state that can be");
    vcpu
}

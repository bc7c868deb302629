//! Our processor in the host's place: one instruction at ring 3 of a small machine whose page
//! tables have the harness's pages at the harness's addresses.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "bits are taken apart"
)]

use hv::{
    CpuState, Exit, GuestMemory, Hypervisor as _, Model, Shape, Vcpu, Vm,
    state::{Segment, Table},
};
use softcpu::Soft;

use crate::host::{CODE, DATA, DATA_LEN, Event, Outcome, State, repeats};

/// Guest-physical places.
const TABLES: u64 = 0x1000;
const GDT: u64 = 0x8000;
const IDT: u64 = 0x9000;
const TSS: u64 = 0xa000;
const HANDLERS: u64 = 0xb000;
const STACK_TOP: u64 = 0xd000;
const CODE_AT: u64 = 0x1_0000;
const DATA_AT: u64 = 0x1_1000;
const BYTES: u64 = 0x2_0000;

/// Longest repetition of one instruction.
const STEPS_MAX: usize = 100_000;

/// The machine.
pub(crate) struct Soft64 {
    memory: GuestMemory,
    _vm: std::sync::Arc<dyn Vm>,
    vcpu: Box<dyn Vcpu>,
    base: CpuState,
}

impl Soft64 {
    pub(crate) fn new() -> Soft64 {
        let memory = GuestMemory::new(BYTES).expect("memory");
        let shape = Shape { vcpus: 1, model: Model::V2 };
        let vm = Soft.create(memory.clone(), &shape).expect("a machine");
        let vcpu = vm.vcpu(0).expect("its processor");
        tables(&memory);
        gates(&memory);
        let base = registers(vcpu.state().expect("a state"));
        Soft64 { memory, _vm: vm, vcpu, base }
    }

    pub(crate) fn set_data(&self, offset: usize, bytes: &[u8]) {
        self.memory.write(DATA_AT + offset as u64, bytes).expect("data");
    }

    pub(crate) fn clear_data(&self) {
        self.set_data(0, &[0; DATA_LEN]);
    }

    pub(crate) fn data(&self) -> Vec<u8> {
        let mut data = vec![0; DATA_LEN];
        self.memory.read(DATA_AT, &mut data).expect("data");
        data
    }

    /// Carries out one instruction, with all its repetitions.
    pub(crate) fn run(&mut self, code: &[u8], state: &State) -> Outcome {
        self.memory.write(CODE_AT, code).expect("code");
        let mut before = self.base.clone();
        before.gpr = state.gpr;
        before.rflags = state.flags | 1 << 8 | 2;
        before.rip = CODE;
        [before.segments[4].base, before.segments[5].base] = state.bases;
        if let Some(fpu) = &state.fpu {
            before.fpu = fpu.clone();
        }
        for _ in 0..STEPS_MAX {
            self.vcpu.set_state(&before).expect("a state");
            let exit = self.vcpu.run().expect("a run");
            assert!(matches!(exit, Exit::Stuck), "{exit:?} instead of a halt");
            let outcome = self.outcome(state.fpu.is_some());
            if outcome.event != Event::Done || outcome.rip != 0 || !repeats(code) {
                return outcome;
            }
            before.gpr = outcome.state.gpr;
            before.rflags = outcome.state.flags | 1 << 8;
        }
        panic!("one instruction took {STEPS_MAX} steps");
    }

    /// What the handler's stack says.
    fn outcome(&self, with_fpu: bool) -> Outcome {
        let after = self.vcpu.state().expect("a state");
        let vector = (after.rip - HANDLERS - 1) / 16;
        let at = |n: u64| self.memory.load::<u64>(after.gpr[4] + 8 * n).expect("a stack");
        let coded = matches!(vector, 8 | 10..=14);
        let skip = u64::from(coded);
        let mut gpr = after.gpr;
        gpr[4] = at(skip + 3);
        let flags = at(skip + 2) & !(1 << 8 | 1 << 16);
        let fpu = with_fpu.then(|| after.fpu.clone());
        let event = match vector {
            1 => Event::Done,
            0 | 16 | 19 => signal(libc::SIGFPE, 0),
            3 => signal(libc::SIGTRAP, 0),
            6 => signal(libc::SIGILL, 0),
            12 => signal(libc::SIGBUS, 0),
            14 => signal(libc::SIGSEGV, after.cr2),
            _ => signal(libc::SIGSEGV, 0),
        };
        let bases = [after.segments[4].base, after.segments[5].base];
        let state = State { gpr, flags, bases, fpu };
        Outcome { state, rip: at(skip).wrapping_sub(CODE), event }
    }
}

fn signal(number: i32, address: u64) -> Event {
    Event::Signal { number, code: 0, address }
}

/// Four levels that map the first 2 MiB one to one for the kernel, and the harness's pages for
/// the user.
fn tables(memory: &GuestMemory) {
    let store = |at: u64, value: u64| memory.store(at, value).expect("a table");
    let (pml4, pdpt, pd) = (TABLES, TABLES + 0x1000, TABLES + 0x2000);
    let (code, data) = (TABLES + 0x3000, TABLES + 0x4000);
    store(pml4, pdpt | 7);
    store(pdpt, pd | 7);
    store(pd, 0x83);
    store(pd + 8 * (CODE >> 21), code | 7);
    store(code, CODE_AT | 5);
    store(pd + 8 * (DATA >> 21), data | 7);
    store(data, DATA_AT | 7);
    store(data + 8, (DATA_AT + 0x1000) | 7);
}

/// A handler for each exception, which halts; a task segment with a stack.
fn gates(memory: &GuestMemory) {
    memory.store(GDT + 8, 0x00af_9b00_0000_ffffu64).expect("code");
    memory.store(GDT + 16, 0x00cf_9300_0000_ffffu64).expect("data");
    for vector in 0..32u64 {
        let handler = HANDLERS + 16 * vector;
        memory.store(handler, 0xf4u8).expect("hlt");
        let low = handler & 0xffff | 8 << 16 | 0xee00 << 32 | (handler >> 16 & 0xffff) << 48;
        memory.store(IDT + 16 * vector, low).expect("a gate");
    }
    memory.store(TSS + 4, STACK_TOP).expect("a stack");
    memory.store(TSS + 0x66, 0x68u16).expect("no ports");
}

fn registers(mut state: CpuState) -> CpuState {
    // The selectors that a program of Linux has.
    let data = Segment { selector: 0, base: 0, limit: u32::MAX, access: 0xc0f3 };
    state.segments = [data; 6];
    state.segments[2].selector = 0x2b;
    state.segments[1] = Segment { selector: 0x33, access: 0xa0fb, ..data };
    state.tr = Segment { selector: 0x40, base: TSS, limit: 0x67, access: 0x8b };
    state.gdt = Table { base: GDT, limit: 0x1f };
    state.idt = Table { base: IDT, limit: 32 * 16 - 1 };
    state.cr0 = 0x8000_0033;
    state.cr3 = TABLES;
    state.cr4 = 0x620;
    for (msr, value) in &mut state.msrs {
        if *msr == 0xc000_0080 {
            *value = 0xd01;
        }
    }
    state
}

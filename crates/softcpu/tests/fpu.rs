//! Floating-point state where the expected bytes are known from the manuals: saved areas in every
//! mode, stack faults, pending exceptions, MMX in x87's registers.

#[path = "native/model.rs"]
mod model;
#[path = "native/random.rs"]
mod random;

use hv::state::FpuState;
use iced_x86::{Decoder, DecoderOptions};
use model::{CODE, DATA, Model, memory_operand};
use random::Random;
use softcpu::fpu::{Environment, Fpu, Stop, execute};

const INVALID: u16 = 1 << 0;
const DIVIDED_BY_ZERO: u16 = 1 << 2;
const STACK_FAULT: u16 = 1 << 6;
const SUMMARY_AND_BUSY: u16 = 1 << 15 | 1 << 7;
const C1: u16 = 1 << 9;

/// A processor with one page, whose operand is at rsi.
struct Machine {
    fpu: Fpu,
    memory: Vec<u8>,
    gpr: [u64; 16],
    environment: Environment,
}

impl Machine {
    fn new(environment: Environment) -> Machine {
        let mut gpr = [0; 16];
        gpr[6] = DATA;
        Machine { fpu: Fpu::default(), memory: vec![0; 0x1000], gpr, environment }
    }

    /// Runs instructions up to the first that stops.
    fn run(&mut self, code: &[u8]) -> Result<(), Stop<u64>> {
        let bitness = match self.environment {
            Environment::Long => 64,
            Environment::Protected | Environment::Real => 32,
        };
        let decoder = Decoder::with_ip(bitness, code, CODE, DecoderOptions::NONE);
        for instruction in decoder {
            let mut model = Model {
                gpr: self.gpr,
                flags: 2,
                memory: &mut self.memory,
                address: memory_operand(&instruction, &self.gpr),
                environment: self.environment,
            };
            execute(&mut self.fpu, &instruction, &mut model)?;
            self.gpr = model.gpr;
        }
        Ok(())
    }

    fn word(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.memory[at], self.memory[at + 1]])
    }

    fn double(&self, at: usize) -> u32 {
        u32::from(self.word(at)) | u32::from(self.word(at + 2)) << 16
    }

    fn status(&self) -> u16 {
        self.fpu.state().status
    }
}

/// A state in which every field is told apart.
fn marked() -> FpuState {
    let mut state = FpuState {
        control: 0x037f,
        status: 3 << 11 | 0x4100,
        tags: 0b1010_0110,
        opcode: 0x5ab,
        instruction: 0x1234_5678_9abc,
        operand: 0x4321_8765_cba9,
        mxcsr: 0x1fa5,
        ..FpuState::default()
    };
    for (n, register) in (1..).zip(&mut state.st) {
        *register = [n, n, n, n, n, n, n, 0x80 | n, n, 0x40];
    }
    for (n, register) in (0x10..).zip(&mut state.xmm) {
        *register = [n; 16];
    }
    for (n, register) in (0x30..).zip(&mut state.ymm) {
        *register = [n; 16];
    }
    state
}

#[test]
fn state_goes_in_and_comes_out_the_same() {
    assert_eq!(Fpu::new(&marked()).state(), marked());
    assert_eq!(Fpu::default().state(), FpuState::default());
}

#[test]
fn fxsave_has_its_fields_where_the_manual_has_them() {
    let mut machine = Machine::new(Environment::Long);
    machine.fpu = Fpu::new(&marked());
    machine.memory.fill(0xee);
    machine.run(&[0x48, 0x0f, 0xae, 0x06]).unwrap(); // fxsave64 [rsi]
    assert_eq!(machine.word(0), 0x037f);
    assert_eq!(machine.word(2), 3 << 11 | 0x4100);
    assert_eq!(machine.memory[4..6], [0b1010_0110, 0]);
    assert_eq!(machine.word(6), 0x5ab);
    assert_eq!(machine.memory[8..16], 0x1234_5678_9abc_u64.to_le_bytes());
    assert_eq!(machine.memory[16..24], 0x4321_8765_cba9_u64.to_le_bytes());
    assert_eq!((machine.double(24), machine.double(28)), (0x1fa5, 0xffff));
    for n in 0..8 {
        let register = &machine.memory[32 + 16 * n..][..16];
        assert_eq!(register[..10], marked().st[n]);
        assert_eq!(register[10..], [0; 6]);
    }
    for n in 0..16 {
        assert_eq!(machine.memory[160 + 16 * n..][..16], marked().xmm[n]);
    }
    // What follows is the system's.
    assert!(machine.memory[416..].iter().all(|&byte| byte == 0xee));
}

#[test]
fn fxsave_in_32_bit_code_has_short_addresses_and_eight_registers() {
    let mut machine = Machine::new(Environment::Protected);
    machine.fpu = Fpu::new(&marked());
    machine.memory.fill(0xee);
    machine.run(&[0x0f, 0xae, 0x06]).unwrap();
    assert_eq!((machine.double(8), machine.double(12)), (0x5678_9abc, 0));
    assert_eq!((machine.double(16), machine.double(20)), (0x8765_cba9, 0));
    assert_eq!(machine.memory[160 + 16 * 7..][..16], marked().xmm[7]);
    assert!(machine.memory[160 + 16 * 8..].iter().all(|&byte| byte == 0xee));
}

#[test]
fn fxrstor_takes_back_what_fxsave_stored() {
    let mut machine = Machine::new(Environment::Long);
    machine.fpu = Fpu::new(&marked());
    machine.run(&[0x48, 0x0f, 0xae, 0x06]).unwrap();
    machine.fpu = Fpu::new(&FpuState { ymm: marked().ymm, ..FpuState::default() });
    machine.run(&[0x48, 0x0f, 0xae, 0x0e]).unwrap();
    assert_eq!(machine.fpu.state(), marked());
}

#[test]
fn fxrstor_refuses_reserved_bits_of_mxcsr_and_changes_nothing() {
    let mut machine = Machine::new(Environment::Long);
    machine.fpu = Fpu::new(&marked());
    machine.memory[24..28].copy_from_slice(&0x1_0000_u32.to_le_bytes());
    assert_eq!(machine.run(&[0x48, 0x0f, 0xae, 0x0e]), Err(Stop::Protection));
    assert_eq!(machine.fpu.state(), marked());
}

#[test]
fn fxsave_wants_an_aligned_area() {
    let mut machine = Machine::new(Environment::Long);
    machine.gpr[6] = DATA + 8;
    assert_eq!(machine.run(&[0x0f, 0xae, 0x06]), Err(Stop::Protection));
}

#[test]
fn environments_of_protected_mode() {
    let mut machine = Machine::new(Environment::Protected);
    machine.fpu = Fpu::new(&FpuState { control: 0x0340, ..marked() });
    machine.run(&[0xd9, 0x36]).unwrap(); // fnstenv [esi], 28 bytes
    assert_eq!(machine.double(0), 0xffff_0340);
    assert_eq!(machine.double(4), 0xffff_5900);
    // Registers 1, 2, 5, 7 are used and hold numbers; the others are empty.
    assert_eq!(machine.double(8), 0xffff_0000 | 0b00_11_00_11_11_00_00_11);
    assert_eq!(machine.double(12), 0x5678_9abc);
    assert_eq!(machine.double(16), 0x5ab << 16);
    assert_eq!(machine.double(20), 0x8765_cba9);
    assert_eq!(machine.double(24), 0xffff_0000);
    // It masks all exceptions once they are stored.
    assert_eq!(machine.fpu.state().control, 0x037f);
    machine.run(&[0x66, 0xd9, 0x36]).unwrap(); // 14 bytes
    let words: Vec<u16> = (0..7).map(|n| machine.word(2 * n)).collect();
    assert_eq!(words, [0x037f, 0x5900, 0b00_11_00_11_11_00_00_11, 0x9abc, 0, 0xcba9, 0]);
}

#[test]
fn environments_of_real_mode_hold_linear_addresses() {
    let state = FpuState { instruction: 0x9_abcd, operand: 0xf_1234, ..marked() };
    for (code, step) in [(&[0xd9, 0x36][..], 4), (&[0x66, 0xd9, 0x36], 2)] {
        let mut machine = Machine::new(Environment::Real);
        machine.fpu = Fpu::new(&state);
        machine.run(code).unwrap();
        let words: Vec<u16> = (3..7).map(|n| machine.word(step * n)).collect();
        assert_eq!(words, [0xabcd, 0x9000 | 0x5ab, 0x1234, 0xf000]);
        let load: Vec<u8> = code[..code.len() - 1].iter().copied().chain([0x26]).collect();
        machine.fpu = Fpu::default();
        machine.run(&load).unwrap(); // fldenv
        let loaded = machine.fpu.state();
        assert_eq!((loaded.instruction, loaded.operand), (0x9_abcd, 0xf_1234));
        assert_eq!(loaded.opcode, 0x5ab);
        assert_eq!(loaded.tags, marked().tags);
    }
}

#[test]
fn frstor_takes_back_what_fnsave_stored() {
    for prefix in [&[][..], &[0x66]] {
        let mut machine = Machine::new(Environment::Protected);
        let state = FpuState { opcode: 0, instruction: 0x1234, operand: 0x4321, ..marked() };
        machine.fpu = Fpu::new(&state);
        machine.run(&[prefix, &[0xdd, 0x36]].concat()).unwrap();
        let saved = machine.fpu.state();
        assert_eq!((saved.control, saved.status, saved.tags), (0x037f, 0, 0));
        machine.run(&[prefix, &[0xdd, 0x26]].concat()).unwrap();
        assert_eq!(machine.fpu.state(), state);
    }
}

#[test]
fn pushing_onto_a_full_stack_is_a_fault_with_c1() {
    let mut machine = Machine::new(Environment::Long);
    machine.fpu = Fpu::new(&FpuState { tags: 0xff, ..FpuState::default() });
    machine.run(&[0xd9, 0xe8]).unwrap(); // fld1
    assert_eq!(machine.status() & (INVALID | STACK_FAULT | C1), INVALID | STACK_FAULT | C1);
    // The indefinite NaN is pushed all the same, as the exception is masked.
    assert_eq!(machine.fpu.state().st[0], [0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff]);
}

#[test]
fn popping_an_empty_stack_is_a_fault_without_c1() {
    let mut machine = Machine::new(Environment::Long);
    machine.run(&[0xd9, 0x1e]).unwrap(); // fstp dword [rsi]
    assert_eq!(machine.status() & (INVALID | STACK_FAULT | C1), INVALID | STACK_FAULT);
    assert_eq!(machine.double(0), 0xffc0_0000);
}

#[test]
fn an_exception_that_is_not_masked_waits_for_the_next_waiting_instruction() {
    let mut machine = Machine::new(Environment::Long);
    machine.fpu = Fpu::new(&FpuState { control: 0x037b, ..FpuState::default() });
    machine.run(&[0xd9, 0xe8, 0xd9, 0xee]).unwrap(); // fld1, fldz
    let before = machine.fpu.state().st;
    machine.run(&[0xde, 0xf9]).unwrap(); // fdivp: 1 / 0
    let pending = machine.fpu.state();
    assert_eq!(
        pending.status & (DIVIDED_BY_ZERO | SUMMARY_AND_BUSY),
        DIVIDED_BY_ZERO | SUMMARY_AND_BUSY
    );
    assert_eq!(pending.st, before);
    // Instructions that wait do not begin; MMX waits, too.
    let waiting: [&[u8]; 5] =
        [&[0x9b], &[0xd9, 0xe8], &[0xd9, 0x2e], &[0x0f, 0xef, 0xc0], &[0x0f, 0x77]];
    for code in waiting {
        assert_eq!(machine.run(code), Err(Stop::Math), "{code:x?}");
        assert_eq!(machine.fpu.state(), pending);
    }
    // These do not wait: fnstsw ax, fnstcw [rsi], fxsave [rsi], pxor xmm0, xmm0; fnclex clears.
    machine.run(&[0xdf, 0xe0, 0xd9, 0x3e, 0x0f, 0xae, 0x06, 0x66, 0x0f, 0xef, 0xc0]).unwrap();
    assert_eq!(machine.gpr[0], pending.status.into());
    machine.run(&[0xdb, 0xe2, 0x9b]).unwrap();
    assert_eq!(machine.status() & SUMMARY_AND_BUSY, 0);
}

#[test]
fn unmasking_what_is_flagged_makes_it_pending() {
    let mut machine = Machine::new(Environment::Long);
    machine.run(&[0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9]).unwrap();
    machine.memory[..2].copy_from_slice(&0x0340_u16.to_le_bytes());
    machine.run(&[0xd9, 0x2e]).unwrap(); // fldcw [rsi]
    assert_eq!(machine.status() & SUMMARY_AND_BUSY, SUMMARY_AND_BUSY);
    assert_eq!(machine.run(&[0x9b]), Err(Stop::Math));
}

#[test]
fn mmx_registers_are_the_significands_of_physical_registers() {
    let mut machine = Machine::new(Environment::Long);
    machine.run(&[0xd9, 0xe8]).unwrap(); // fld1: physical register 7
    machine.gpr[0] = 0x1122_3344_5566_7788;
    // movq mm2, rax; movq rbx, mm7
    machine.run(&[0x48, 0x0f, 0x6e, 0xd0, 0x48, 0x0f, 0x7e, 0xfb]).unwrap();
    assert_eq!(machine.gpr[3], 1 << 63);
    let state = machine.fpu.state();
    assert_eq!((state.status >> 11 & 7, state.tags), (0, 0xff));
    assert_eq!(state.st[2], [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0xff, 0xff]);
    machine.run(&[0x0f, 0x77]).unwrap(); // emms
    assert_eq!(machine.fpu.state().tags, 0);
}

#[test]
fn x87_remembers_its_last_instruction_and_operand() {
    let mut machine = Machine::new(Environment::Long);
    machine.gpr[6] = DATA + 0x20;
    machine.run(&[0xd9, 0x46, 0x10]).unwrap(); // fld dword [rsi + 16]
    let state = machine.fpu.state();
    assert_eq!((state.opcode, state.instruction, state.operand), (0x146, CODE, DATA + 0x30));
    machine.run(&[0xd8, 0xc9]).unwrap(); // fmul st0, st1
    assert_eq!(machine.fpu.state().opcode, 0x0c9);
    assert_eq!(machine.fpu.state().operand, DATA + 0x30);
}

#[test]
fn an_sse_exception_that_is_not_masked_writes_flags_only() {
    let mut machine = Machine::new(Environment::Long);
    let mut state = FpuState { mxcsr: 0x1f80 & !(1 << 9), ..FpuState::default() };
    state.xmm[0][..4].copy_from_slice(&1f32.to_le_bytes());
    machine.fpu = Fpu::new(&state);
    assert_eq!(machine.run(&[0xf3, 0x0f, 0x5e, 0xc1]), Err(Stop::Simd)); // divss xmm0, xmm1
    assert_eq!(machine.fpu.state(), FpuState { mxcsr: state.mxcsr | 4, ..state });
}

#[test]
fn misaligned_vectors_in_memory_are_refused_but_where_the_instruction_says_so() {
    let mut machine = Machine::new(Environment::Long);
    machine.gpr[6] = DATA + 1;
    assert_eq!(machine.run(&[0x0f, 0x28, 0x06]), Err(Stop::Protection)); // movaps
    assert_eq!(machine.run(&[0x66, 0x0f, 0xfc, 0x06]), Err(Stop::Protection)); // paddb
    machine.run(&[0x0f, 0x10, 0x06]).unwrap(); // movups
    machine.run(&[0xf2, 0x0f, 0x10, 0x06]).unwrap(); // movsd
}

#[test]
fn what_is_not_of_this_part_is_undefined() {
    let mut machine = Machine::new(Environment::Long);
    // nop; movsd (of strings); crc32; vaddps
    for code in [&[0x90][..], &[0xa5], &[0xf2, 0x0f, 0x38, 0xf0, 0xc0], &[0xc5, 0xf8, 0x58, 0xc0]] {
        assert_eq!(machine.run(code), Err(Stop::Undefined));
    }
}

/// Codes of any shape in any mode, states of any bits, memory that ends early.
#[test]
fn no_instruction_and_no_state_is_too_strange() {
    let mut random = Random::new(7);
    let modes = [Environment::Real, Environment::Protected, Environment::Long];
    for _ in 0..8_000 {
        let mut machine = Machine::new(random.pick(&modes));
        machine.memory.truncate(0x240);
        machine.gpr = machine.gpr.map(|_| DATA + random.below(0x280));
        machine.memory.fill_with(|| random.bits().to_le_bytes()[0]);
        let mut state = marked();
        state.control = random.bits().to_le_bytes()[0].into();
        state.status = u16::from_le_bytes(*random.bits().to_le_bytes().first_chunk().unwrap());
        state.tags = random.bits().to_le_bytes()[0];
        state.mxcsr = u32::from_le_bytes(*random.bits().to_le_bytes().first_chunk().unwrap());
        state.st = state.st.map(|_| random.extended());
        state.xmm = state.xmm.map(|_| random.vector());
        machine.fpu = Fpu::new(&state);
        let prefix = random.pick(&[0x66, 0xf2, 0xf3, 0x67, 0x48, 0x41, 0x90]);
        let mut code = vec![prefix, 0x0f];
        match random.below(4) {
            0 => code = vec![prefix, 0xd8 | random.bits().to_le_bytes()[0] & 7],
            1 => code.push(random.pick(&[0x38, 0x3a])),
            _ => {}
        }
        code.extend(random.bits().to_le_bytes());
        let _ = machine.run(&code);
        let after = machine.fpu.state();
        assert_eq!(after.mxcsr & !0xffff, 0);
        assert_eq!(Fpu::new(&after).state(), after, "a state that is reached is one that is taken");
    }
}

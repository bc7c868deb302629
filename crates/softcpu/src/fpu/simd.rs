//! MMX and SSE instructions: their operands, and what they leave behind.

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};

use super::{
    float::{self, Float},
    operands::{Operands, Stop, flag},
    state::Fpu,
    strings::Control,
    vector::{self, Args, Vector},
};

/// Exceptions found before a result is made (invalid, denormal, divide by zero): one that is not
/// masked leaves the others unlooked for.
const BEFORE_RESULT: u32 = 0x7;

/// An MMX or SSE instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Simd {
    action: Action,
    /// Whether it uses an MMX register, and so changes x87's state.
    mmx: bool,
    /// Whether a memory operand of 16 bytes must be aligned.
    aligned: bool,
}

/// What it does.
#[derive(Clone, Copy, Debug)]
enum Action {
    /// Integers and bits.
    Vector(Vector),
    /// The same with a choice in xmm0.
    Chosen(fn(Args, u128) -> u128),
    /// Floating point, with exceptions.
    Float(Float),
    /// Floating point into rflags.
    Compare(Float),
    /// `ptest`.
    Test,
    /// Comparing strings.
    Strings {
        /// Lengths are in registers, of this many bits; else the strings end with zeros.
        counted: Option<u32>,
        /// The result is an index in ecx rather than a mask in xmm0.
        index: bool,
    },
    /// `maskmovq`, `maskmovdqu`.
    MaskedStore,
    /// `ldmxcsr`.
    LoadControl,
    /// `stmxcsr`.
    StoreControl,
    /// `emms`.
    Empty,
}

impl Simd {
    pub(super) fn of(instruction: &Instruction) -> Option<Simd> {
        // movsd and cmpsd are string instructions, too.
        if instruction.is_string_instruction() {
            return None;
        }
        let action = action(instruction)?;
        let mut registers = (0..instruction.op_count())
            .filter(|&n| instruction.op_kind(n) == OpKind::Register)
            .map(|n| instruction.op_register(n));
        let mmx = registers.any(Register::is_mm) || matches!(action, Action::Empty);
        Some(Simd { action, mmx, aligned: !unaligned(instruction.mnemonic()) })
    }

    pub(super) fn run<O: Operands>(
        self,
        fpu: &mut Fpu,
        instruction: &Instruction,
        operands: &mut O,
    ) -> Result<(), Stop<O::Fault>> {
        if self.mmx && fpu.pending() {
            return Err(Stop::Math);
        }
        let mut frame = Frame { fpu, instruction, operands, simd: self };
        match self.action {
            Action::Vector(f) => {
                let args = frame.args()?;
                frame.write(f(args))
            }
            Action::Chosen(f) => {
                let args = frame.args()?;
                let choice = frame.fpu.xmm[0];
                frame.write(f(args, choice))
            }
            Action::Float(f) => {
                let value = frame.float(f)?;
                frame.write(value)
            }
            Action::Compare(f) => {
                let flags = frame.float(f)?;
                frame.operands.set_flags(u64::try_from(flags).expect("flags are 64 bits"));
                Ok(())
            }
            Action::Test => frame.test(),
            Action::Strings { counted, index } => frame.strings(counted, index),
            Action::MaskedStore => frame.masked_store(),
            Action::LoadControl => {
                let mxcsr = frame.read(0)?;
                let mxcsr = u32::try_from(mxcsr).expect("four bytes were read");
                fpu.set_mxcsr(mxcsr).ok_or(Stop::Protection)
            }
            Action::StoreControl => Ok(frame.operands.store(0, &frame.fpu.mxcsr.to_le_bytes())?),
            Action::Empty => {
                fpu.enter_mmx();
                fpu.tags = 0;
                Ok(())
            }
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "thousands of other instructions")]
fn action(instruction: &Instruction) -> Option<Action> {
    let mnemonic = instruction.mnemonic();
    let counted = match instruction.code() {
        Code::Pcmpestri64_xmm_xmmm128_imm8 | Code::Pcmpestrm64_xmm_xmmm128_imm8 => Some(64),
        _ => Some(32),
    };
    match mnemonic {
        Mnemonic::Ptest => return Some(Action::Test),
        Mnemonic::Pcmpestri | Mnemonic::Pcmpestri64 => {
            return Some(Action::Strings { counted, index: true });
        }
        Mnemonic::Pcmpestrm | Mnemonic::Pcmpestrm64 => {
            return Some(Action::Strings { counted, index: false });
        }
        Mnemonic::Pcmpistri => return Some(Action::Strings { counted: None, index: true }),
        Mnemonic::Pcmpistrm => return Some(Action::Strings { counted: None, index: false }),
        Mnemonic::Maskmovq | Mnemonic::Maskmovdqu => return Some(Action::MaskedStore),
        Mnemonic::Ldmxcsr => return Some(Action::LoadControl),
        Mnemonic::Stmxcsr => return Some(Action::StoreControl),
        Mnemonic::Emms => return Some(Action::Empty),
        _ => {}
    }
    let special = match (instruction.op0_kind(), instruction.op1_kind()) {
        (OpKind::Memory, _) => vector::to_memory(mnemonic),
        (_, OpKind::Memory) => vector::from_memory(mnemonic),
        _ => None,
    };
    special
        .or_else(|| vector::of(mnemonic))
        .map(Action::Vector)
        .or_else(|| vector::by_xmm0(mnemonic).map(Action::Chosen))
        .or_else(|| float::of(mnemonic).map(Action::Float))
        .or_else(|| float::with_register(instruction.code()).map(Action::Float))
        .or_else(|| float::to_flags(mnemonic).map(Action::Compare))
}

/// Instructions that take a misaligned operand.
fn unaligned(mnemonic: Mnemonic) -> bool {
    use Mnemonic::{Lddqu, Movdqu, Movupd, Movups, Pcmpestri, Pcmpestrm, Pcmpistri, Pcmpistrm};
    matches!(
        mnemonic,
        Movups | Movupd | Movdqu | Lddqu | Pcmpestri | Pcmpestrm | Pcmpistri | Pcmpistrm
    ) || matches!(mnemonic, Mnemonic::Pcmpestri64 | Mnemonic::Pcmpestrm64)
}

/// One instruction with what it works on.
struct Frame<'a, O> {
    fpu: &'a mut Fpu,
    instruction: &'a Instruction,
    operands: &'a mut O,
    simd: Simd,
}

impl<O: Operands> Frame<'_, O> {
    fn args(&mut self) -> Result<Args, Stop<O::Fault>> {
        let source = if self.instruction.op_count() > 1 { 1 } else { 0 };
        let b = self.read(source)?;
        Ok(Args {
            a: self.old(),
            b,
            imm: self.immediate(),
            bytes: if self.simd.mmx { 8 } else { 16 },
        })
    }

    /// The last operand, where it is an immediate byte.
    fn immediate(&self) -> u8 {
        let last = self.instruction.op_count().saturating_sub(1);
        if self.instruction.op_kind(last) == OpKind::Immediate8 {
            self.instruction.immediate8()
        } else {
            0
        }
    }

    /// The destination's old value, where it is a vector.
    fn old(&self) -> u128 {
        let register = self.instruction.op0_register();
        if register.is_vector_register() || register.is_mm() { self.register(register) } else { 0 }
    }

    fn register(&self, register: Register) -> u128 {
        if register.is_mm() {
            self.fpu.mm(register.number()).into()
        } else if register.is_vector_register() {
            self.fpu.xmm[register.number()]
        } else {
            self.operands.register(register).into()
        }
    }

    /// An operand's value, without sign.
    fn read(&mut self, operand: u32) -> Result<u128, Stop<O::Fault>> {
        let kind = self.instruction.op_kind(operand);
        if kind == OpKind::Register {
            return Ok(self.register(self.instruction.op_register(operand)));
        }
        if kind == OpKind::Immediate8 {
            return Ok(self.instruction.immediate8().into());
        }
        let len = self.memory_len()?;
        let mut bytes = [0; 16];
        self.operands.load(0, &mut bytes[..len])?;
        Ok(u128::from_le_bytes(bytes))
    }

    /// The size of the memory operand, which is aligned where it must be.
    fn memory_len(&self) -> Result<usize, Stop<O::Fault>> {
        let len = self.instruction.memory_size().size().min(16);
        if len == 16 && self.simd.aligned && !self.operands.address().is_multiple_of(16) {
            return Err(Stop::Protection);
        }
        Ok(len)
    }

    /// Sets the first operand.
    fn write(&mut self, value: u128) -> Result<(), Stop<O::Fault>> {
        let register = self.instruction.op0_register();
        let [low, _] = vector::lanes::split64(value);
        if self.instruction.op0_kind() != OpKind::Register {
            let len = self.memory_len()?;
            self.operands.store(0, &value.to_le_bytes()[..len])?;
            self.leave_x87();
        } else if register.is_mm() {
            self.leave_x87();
            self.fpu.set_mm(register.number(), low);
        } else if register.is_vector_register() {
            self.leave_x87();
            self.fpu.xmm[register.number()] = value;
        } else {
            self.leave_x87();
            let bits = 8 * register.size();
            self.operands.set_register(register, low & (u64::MAX >> (64 - bits)));
        }
        Ok(())
    }

    fn leave_x87(&mut self) {
        if self.simd.mmx {
            self.fpu.enter_mmx();
        }
    }

    /// Carries floating-point arithmetic out and notes its exceptions.
    fn float(&mut self, f: Float) -> Result<u128, Stop<O::Fault>> {
        let Args { a, b, imm, .. } = self.args()?;
        let mxcsr = self.fpu.mxcsr;
        let float::Output { value, raised } = f(float::Input { a, b, imm, mxcsr });
        let unmasked = !(mxcsr >> 7);
        if raised & unmasked & BEFORE_RESULT != 0 {
            self.fpu.mxcsr |= raised & BEFORE_RESULT;
            return Err(Stop::Simd);
        }
        self.fpu.mxcsr |= raised;
        if raised & unmasked != 0 { Err(Stop::Simd) } else { Ok(value) }
    }

    fn test(&mut self) -> Result<(), Stop<O::Fault>> {
        let Args { a, b, .. } = self.args()?;
        let zero = if a & b == 0 { flag::ZF } else { 0 };
        let carry = if !a & b == 0 { flag::CF } else { 0 };
        self.operands.set_flags(zero | carry);
        Ok(())
    }

    fn strings(&mut self, counted: Option<u32>, index: bool) -> Result<(), Stop<O::Fault>> {
        let Args { a, b, imm, .. } = self.args()?;
        let control = Control(imm);
        let (first, second) = match counted {
            None => (control.terminated(a), control.terminated(b)),
            Some(bits) => {
                let len = |register| {
                    let value = self.operands.register(register).cast_signed();
                    value << (64 - bits) >> (64 - bits)
                };
                let lengths = (len(Register::RAX), len(Register::RDX));
                (control.counted(a, lengths.0), control.counted(b, lengths.1))
            }
        };
        let matches = control.compare(first, second);
        if index {
            self.operands.set_register(Register::ECX, control.index(matches));
        } else {
            self.fpu.xmm[0] = control.mask(matches);
        }
        self.operands.set_flags(matches.flags);
        Ok(())
    }

    /// Stores the bytes whose mask has its highest bit set, in runs.
    fn masked_store(&mut self) -> Result<(), Stop<O::Fault>> {
        let bytes = self.register(self.instruction.op1_register()).to_le_bytes();
        let mask = self.register(self.instruction.op2_register());
        let len = if self.simd.mmx { 8 } else { 16 };
        let chosen = |n: &usize| mask >> (8 * n + 7) & 1 == 1;
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for n in (0..len).filter(chosen) {
            match runs.last_mut() {
                Some((_, end)) if *end == n => *end = n + 1,
                _ => runs.push((n, n + 1)),
            }
        }
        for &(start, end) in &runs {
            self.operands.check_store(start as u64, end - start)?;
        }
        for &(start, end) in &runs {
            self.operands.store(start as u64, &bytes[start..end])?;
        }
        self.leave_x87();
        Ok(())
    }
}

//! MMX and SSE instructions: their operands, and what they leave behind.

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};

use super::{
    float::{self, Float},
    operands::{Operands, Stop, flag},
    state::Fpu,
    strings::Control,
    vector::{self, Args, Vector},
};

/// An MMX or SSE instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Simd {
    action: Action,
    destination: Place,
    source: Place,
    /// The immediate byte, or 0.
    imm: u8,
    /// Whether it uses an MMX register, and so changes x87's state.
    mmx: bool,
    /// Whether a memory operand of 16 bytes must be aligned.
    aligned: bool,
}

/// An SSE instruction on integers and registers alone: most of them, and nothing can go wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registers {
    f: Vector,
    destination: u8,
    source: Source,
    imm: u8,
}

/// Its source.
#[derive(Clone, Copy, Debug)]
enum Source {
    Xmm(u8),
    Immediate(u8),
}

impl Registers {
    pub(super) fn of(instruction: &Instruction) -> Option<Registers> {
        let Simd {
            action: Action::Vector(f),
            destination: Place::Xmm(destination),
            source,
            imm,
            ..
        } = Simd::of(instruction)?
        else {
            return None;
        };
        let source = match source {
            Place::Xmm(source) => Source::Xmm(source),
            Place::Immediate(value) => Source::Immediate(value),
            Place::Mmx(_) | Place::General(_) | Place::Memory(_) | Place::None => return None,
        };
        Some(Registers { f, destination, source, imm })
    }

    #[inline]
    pub(super) fn run(self, fpu: &mut Fpu) {
        let a = fpu.xmm[usize::from(self.destination) % 16];
        let b = match self.source {
            Source::Xmm(source) => fpu.xmm[usize::from(source) % 16],
            Source::Immediate(value) => value.into(),
        };
        let value = (self.f)(Args { a, b, imm: self.imm, bytes: 16 });
        fpu.xmm[usize::from(self.destination) % 16] = value;
    }
}

/// Where an operand is.
#[derive(Clone, Copy, Debug)]
enum Place {
    Xmm(u8),
    Mmx(u8),
    General(Register),
    /// As many bytes.
    Memory(u8),
    Immediate(u8),
    None,
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
        let destination = Place::of(instruction, 0)?;
        // Of one operand, it is the source, too.
        let second = if instruction.op_count() > 1 { 1 } else { 0 };
        let source = Place::of(instruction, second)?;
        let mmx = [destination, source].iter().any(|place| matches!(place, Place::Mmx(_)));
        let mmx = mmx || matches!(action, Action::Empty);
        let aligned = !unaligned(instruction.mnemonic());
        Some(Simd { action, destination, source, imm: immediate(instruction), mmx, aligned })
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
        let mut frame = Frame { fpu, operands, simd: self };
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
            Action::MaskedStore => frame.masked_store(instruction.op2_register()),
            Action::LoadControl => {
                let mxcsr = frame.read(self.source)?;
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

impl Place {
    /// Nothing where the instruction has no such operand.
    fn of(instruction: &Instruction, operand: u32) -> Option<Place> {
        if operand >= instruction.op_count() {
            return Some(Place::None);
        }
        #[expect(clippy::wildcard_enum_match_arm, reason = "the others are memory")]
        match instruction.op_kind(operand) {
            OpKind::Register => Some(Place::register(instruction.op_register(operand))),
            OpKind::Immediate8 => Some(Place::Immediate(instruction.immediate8())),
            _ => u8::try_from(instruction.memory_size().size()).ok().map(Place::Memory),
        }
    }

    fn register(register: Register) -> Place {
        let number = u8::try_from(register.number()).expect("16 registers at most");
        if register.is_mm() {
            Place::Mmx(number)
        } else if register.is_xmm() {
            Place::Xmm(number)
        } else {
            Place::General(register)
        }
    }
}

/// The last operand, where it is an immediate byte.
fn immediate(instruction: &Instruction) -> u8 {
    match instruction.op_count().checked_sub(1) {
        Some(last) if instruction.op_kind(last) == OpKind::Immediate8 => instruction.immediate8(),
        _ => 0,
    }
}

/// One instruction with what it works on.
struct Frame<'a, O> {
    fpu: &'a mut Fpu,
    operands: &'a mut O,
    simd: Simd,
}

impl<O: Operands> Frame<'_, O> {
    #[inline]
    fn args(&mut self) -> Result<Args, Stop<O::Fault>> {
        let b = self.read(self.simd.source)?;
        let a = match self.simd.destination {
            Place::Xmm(n) => self.fpu.xmm[usize::from(n) % 16],
            Place::Mmx(n) => self.fpu.mm(n.into()).into(),
            Place::General(_) | Place::Memory(_) | Place::Immediate(_) | Place::None => 0,
        };
        Ok(Args { a, b, imm: self.simd.imm, bytes: if self.simd.mmx { 8 } else { 16 } })
    }

    /// An operand's value, without sign.
    #[inline]
    fn read(&mut self, place: Place) -> Result<u128, Stop<O::Fault>> {
        Ok(match place {
            Place::Xmm(n) => self.fpu.xmm[usize::from(n) % 16],
            Place::Mmx(n) => self.fpu.mm(n.into()).into(),
            Place::General(register) => self.operands.register(register).into(),
            Place::Immediate(value) => value.into(),
            Place::Memory(len) => {
                self.align(len)?;
                let mut bytes = [0; 16];
                self.operands.load(0, &mut bytes[..usize::from(len).min(16)])?;
                u128::from_le_bytes(bytes)
            }
            Place::None => 0,
        })
    }

    /// Refuses memory that is not aligned and must be.
    #[inline]
    fn align(&self, len: u8) -> Result<(), Stop<O::Fault>> {
        if len == 16 && self.simd.aligned && !self.operands.address().is_multiple_of(16) {
            return Err(Stop::Protection);
        }
        Ok(())
    }

    /// Sets the first operand.
    #[inline]
    fn write(&mut self, value: u128) -> Result<(), Stop<O::Fault>> {
        let [low, _] = vector::lanes::split64(value);
        if let Place::Memory(len) = self.simd.destination {
            self.align(len)?;
            self.operands.store(0, &value.to_le_bytes()[..usize::from(len).min(16)])?;
        }
        self.leave_x87();
        match self.simd.destination {
            Place::Xmm(n) => self.fpu.xmm[usize::from(n) % 16] = value,
            Place::Mmx(n) => self.fpu.set_mm(n.into(), low),
            Place::General(register) => {
                let bits = 8 * register.size();
                self.operands.set_register(register, low & (u64::MAX >> (64 - bits)));
            }
            Place::Memory(_) | Place::Immediate(_) | Place::None => {}
        }
        Ok(())
    }

    #[inline]
    fn leave_x87(&mut self) {
        if self.simd.mmx {
            self.fpu.enter_mmx();
        }
    }

    /// Carries floating-point arithmetic out and notes its exceptions.
    #[inline]
    fn float(&mut self, f: Float) -> Result<u128, Stop<O::Fault>> {
        let Args { a, b, imm, .. } = self.args()?;
        let mxcsr = self.fpu.mxcsr;
        let float::Output { value, raised } = f(float::Input { a, b, imm, mxcsr });
        self.fpu.mxcsr |= raised;
        if raised & !(mxcsr >> 7) == 0 { Ok(value) } else { Err(Stop::Simd) }
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
    fn masked_store(&mut self, mask: Register) -> Result<(), Stop<O::Fault>> {
        let bytes = self.read(self.simd.source)?.to_le_bytes();
        let mask = self.read(Place::register(mask))?;
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

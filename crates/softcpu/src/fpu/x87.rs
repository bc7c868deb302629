//! x87: which instruction it is, and its way through the host's x87.

mod encoding;

use iced_x86::{Code, Instruction, Register};

use super::{
    area::{self, Format},
    native_x87::{self, Image, Outside},
    operands::{Operands, Stop},
    state::Fpu,
};

/// Rounding towards zero in the control word.
const TRUNCATE: u16 = 3 << 10;
const ROUNDING: u16 = 3 << 10;

/// Exceptions that keep a store from happening, where they are unmasked: all but inexact.
const BEFORE_STORE: u16 = 0x1f;

/// The fields of the status word that `fnclex` clears.
const CLEARED_BY_FNCLEX: u16 = 0x80ff;

/// An x87 instruction.
#[derive(Clone, Copy, Debug)]
pub(super) enum X87 {
    /// Opcode and ModRM byte of the host's instruction, and how it uses memory.
    Native(u8, u8, Memory),
    /// `fisttp`: the same with rounding towards zero, whatever the control word says.
    Truncating(u8, u8, usize),
    /// `fwait`, and what does nothing since the 80387 but wait or not.
    Nothing {
        /// Whether it waits.
        waits: bool,
    },
    /// `fninit`.
    Initialize,
    /// `fnclex`.
    Clear,
    /// `fldcw`.
    LoadControl,
    /// `fnstcw`.
    StoreControl,
    /// `fnstsw`, to memory or ax.
    StoreStatus,
    /// `fnstenv`, `fldenv`, `fnsave`, `frstor`.
    Area(Area, Format),
    /// `fxsave` and `fxrstor`; true with 64-bit addresses.
    Fxsave(bool),
    /// See [`X87::Fxsave`].
    Fxrstor(bool),
}

/// How a native instruction uses memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    /// Not.
    None,
    /// It reads as many bytes.
    Load(usize),
    /// It writes as many bytes.
    Store(usize),
}

/// The instructions on environments.
#[derive(Clone, Copy, Debug)]
pub(super) enum Area {
    /// `fnstenv`.
    StoreEnvironment,
    /// `fldenv`.
    LoadEnvironment,
    /// `fnsave`.
    Save,
    /// `frstor`.
    Restore,
}

impl X87 {
    /// The instruction, and whether it begins with a wait of its own (`fstcw` for `fnstcw`).
    pub(super) fn of(instruction: &Instruction) -> Option<X87> {
        encoding::control(instruction.code()).or_else(|| encoding::native(instruction))
    }

    /// Whether a pending exception comes before it.
    ///
    /// Source: Intel SDM volume 1, 8.3.11 and 8.7.
    fn waits(self) -> bool {
        match self {
            X87::Nothing { waits } => waits,
            X87::Initialize | X87::Clear | X87::StoreControl | X87::StoreStatus => false,
            X87::Area(Area::StoreEnvironment | Area::Save, _) => false,
            X87::Fxsave(_) | X87::Fxrstor(_) => false,
            X87::Native(..) | X87::Truncating(..) | X87::LoadControl => true,
            X87::Area(Area::LoadEnvironment | Area::Restore, _) => true,
        }
    }

    pub(super) fn run<O: Operands>(
        self,
        fpu: &mut Fpu,
        instruction: &Instruction,
        operands: &mut O,
    ) -> Result<(), Stop<O::Fault>> {
        if fpu.pending() && (self.waits() || encoding::begins_with_wait(instruction.code())) {
            return Err(Stop::Math);
        }
        match self {
            X87::Native(opcode, modrm, memory) => {
                native(fpu, instruction, (opcode, modrm), memory, operands)
            }
            X87::Truncating(opcode, modrm, len) => {
                let control = fpu.control;
                fpu.control = control & !ROUNDING | TRUNCATE;
                let memory = Memory::Store(len);
                let done = native(fpu, instruction, (opcode, modrm), memory, operands);
                fpu.control = control;
                done
            }
            X87::Nothing { .. } => Ok(()),
            X87::Initialize => {
                fpu.initialize();
                Ok(())
            }
            X87::Clear => {
                fpu.status &= !CLEARED_BY_FNCLEX;
                Ok(())
            }
            X87::LoadControl => {
                let mut word = [0; 2];
                operands.load(0, &mut word)?;
                fpu.set_control(u16::from_le_bytes(word));
                Ok(())
            }
            X87::StoreControl => Ok(operands.store(0, &fpu.control.to_le_bytes())?),
            X87::StoreStatus => store_status(fpu, instruction, operands),
            X87::Area(Area::StoreEnvironment, format) => area::fnstenv(fpu, format, operands),
            X87::Area(Area::LoadEnvironment, format) => area::fldenv(fpu, format, operands),
            X87::Area(Area::Save, format) => area::fnsave(fpu, format, operands),
            X87::Area(Area::Restore, format) => area::frstor(fpu, format, operands),
            X87::Fxsave(wide) => area::fxsave(fpu, wide, operands),
            X87::Fxrstor(wide) => area::fxrstor(fpu, wide, operands),
        }
    }
}

fn store_status<O: Operands>(
    fpu: &Fpu,
    instruction: &Instruction,
    operands: &mut O,
) -> Result<(), Stop<O::Fault>> {
    if matches!(instruction.code(), Code::Fnstsw_AX | Code::Fstsw_AX) {
        operands.set_register(Register::AX, fpu.status.into());
        return Ok(());
    }
    Ok(operands.store(0, &fpu.status.to_le_bytes())?)
}

/// Carries the instruction out on a copy, which takes effect once memory did its part.
fn native<O: Operands>(
    fpu: &mut Fpu,
    instruction: &Instruction,
    (opcode, modrm): (u8, u8),
    memory: Memory,
    operands: &mut O,
) -> Result<(), Stop<O::Fault>> {
    let mut image = Image::new(fpu.control, fpu.status, fpu.tags, fpu.st);
    let mut outside = Outside { flags: operands.flags(), ..Outside::default() };
    if let Memory::Load(len) = memory {
        operands.load(0, &mut outside.memory[..len])?;
    }
    native_x87::carry_out(opcode, modrm, &mut image, &mut outside);
    if let Memory::Store(len) = memory {
        let raised = image.status & !fpu.status;
        if raised & !fpu.control & BEFORE_STORE == 0 {
            operands.store(0, &outside.memory[..len])?;
        } else {
            operands.check_store(0, len)?;
        }
    }
    if encoding::sets_flags(instruction.mnemonic()) {
        operands.set_flags(outside.flags);
    }
    fpu.set_status(image.status);
    fpu.tags = super::state::abridged(image.tags);
    fpu.st = image.st;
    fpu.instruction = operands.instruction_pointer();
    fpu.opcode = encoding::opcode(instruction, opcode, modrm);
    if memory != Memory::None {
        fpu.operand = operands.offset();
    }
    Ok(())
}

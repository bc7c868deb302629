//! Saved state in memory: the areas of `fxsave`, `fnsave` and `fnstenv`.
//!
//! The selectors of the last instruction and operand read as 0, as in every processor that
//! deprecates them (CPUID.7:EBX bit 13).
//!
//! Source: Intel SDM volume 1, 8.1.10 (environments), 10.5.1 (FXSAVE area).

use super::{
    operands::{Environment, Operands, Stop},
    state::{EXCEPTIONS, Fpu, MXCSR_MASK, abridged},
};

/// Bytes that `fxsave` reads and writes; what follows is the system's.
const FXSAVE_LEN: usize = 416;

/// Where the registers lie in it.
const FXSAVE_ST: usize = 32;
const FXSAVE_XMM: usize = 160;

/// Which alignment it needs.
const FXSAVE_ALIGN: u64 = 16;

/// Bytes of the eight registers in the area of `fnsave`.
const REGISTERS_LEN: usize = 80;

/// How an x87 environment lies in memory.
#[derive(Clone, Copy, Debug)]
pub(super) enum Format {
    /// 14 bytes.
    Words,
    /// 28 bytes.
    Doubles,
}

impl Format {
    fn len(self) -> usize {
        match self {
            Format::Words => 14,
            Format::Doubles => 28,
        }
    }
}

fn word(area: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([area[at], area[at + 1]])
}

fn double(area: &[u8], at: usize) -> u32 {
    u32::from(word(area, at)) | u32::from(word(area, at + 2)) << 16
}

fn quad(area: &[u8], at: usize) -> u64 {
    u64::from(double(area, at)) | u64::from(double(area, at + 4)) << 32
}

fn put<const N: usize>(area: &mut [u8], at: usize, bytes: [u8; N]) {
    area[at..at + N].copy_from_slice(&bytes);
}

/// The lower 32 bits.
fn low(value: u64) -> u32 {
    (value & 0xffff_ffff).try_into().expect("32 bits were kept")
}

/// `fxsave`; `wide` is the form with 64-bit addresses.
pub(super) fn fxsave<O: Operands>(
    fpu: &Fpu,
    wide: bool,
    operands: &mut O,
) -> Result<(), Stop<O::Fault>> {
    aligned(operands)?;
    let mut area = [0; FXSAVE_LEN];
    put(&mut area, 0, fpu.control.to_le_bytes());
    put(&mut area, 2, fpu.status.to_le_bytes());
    area[4] = fpu.tags;
    put(&mut area, 6, fpu.opcode.to_le_bytes());
    if wide {
        put(&mut area, 8, fpu.instruction.to_le_bytes());
        put(&mut area, 16, fpu.operand.to_le_bytes());
    } else {
        put(&mut area, 8, low(fpu.instruction).to_le_bytes());
        put(&mut area, 16, low(fpu.operand).to_le_bytes());
    }
    put(&mut area, 24, fpu.mxcsr.to_le_bytes());
    put(&mut area, 28, MXCSR_MASK.to_le_bytes());
    for (n, register) in fpu.st.iter().enumerate() {
        put(&mut area, FXSAVE_ST + 16 * n, *register);
    }
    for (n, register) in fpu.xmm.iter().enumerate() {
        put(&mut area, FXSAVE_XMM + 16 * n, register.to_le_bytes());
    }
    let len = FXSAVE_XMM + 16 * registers(operands);
    Ok(operands.store(0, &area[..len])?)
}

/// `fxrstor`; `wide` is the form with 64-bit addresses.
pub(super) fn fxrstor<O: Operands>(
    fpu: &mut Fpu,
    wide: bool,
    operands: &mut O,
) -> Result<(), Stop<O::Fault>> {
    aligned(operands)?;
    let mut area = [0; FXSAVE_LEN];
    let registers = registers(operands);
    operands.load(0, &mut area[..FXSAVE_XMM + 16 * registers])?;
    fpu.set_mxcsr(double(&area, 24)).ok_or(Stop::Protection)?;
    fpu.set_control(word(&area, 0));
    fpu.set_status(word(&area, 2));
    fpu.tags = area[4];
    fpu.opcode = word(&area, 6) & 0x7ff;
    if wide {
        fpu.instruction = quad(&area, 8);
        fpu.operand = quad(&area, 16);
    } else {
        fpu.instruction = double(&area, 8).into();
        fpu.operand = double(&area, 16).into();
    }
    for (n, register) in fpu.st.iter_mut().enumerate() {
        register.copy_from_slice(&area[FXSAVE_ST + 16 * n..][..10]);
    }
    for (n, register) in fpu.xmm[..registers].iter_mut().enumerate() {
        let at = FXSAVE_XMM + 16 * n;
        *register = u128::from(quad(&area, at)) | u128::from(quad(&area, at + 8)) << 64;
    }
    Ok(())
}

/// How many of the xmm registers the mode reaches.
fn registers<O: Operands>(operands: &O) -> usize {
    if operands.environment() == Environment::Long { 16 } else { 8 }
}

fn aligned<O: Operands>(operands: &O) -> Result<(), Stop<O::Fault>> {
    if operands.address().is_multiple_of(FXSAVE_ALIGN) { Ok(()) } else { Err(Stop::Protection) }
}

/// `fnstenv`: masks every exception once they are stored.
pub(super) fn fnstenv<O: Operands>(
    fpu: &mut Fpu,
    format: Format,
    operands: &mut O,
) -> Result<(), Stop<O::Fault>> {
    let area = environment(fpu, format, operands.environment());
    operands.store(0, &area[..format.len()])?;
    fpu.set_control(fpu.control | EXCEPTIONS);
    Ok(())
}

/// `fldenv`.
pub(super) fn fldenv<O: Operands>(
    fpu: &mut Fpu,
    format: Format,
    operands: &mut O,
) -> Result<(), Stop<O::Fault>> {
    let mut area = [0; 28];
    operands.load(0, &mut area[..format.len()])?;
    // The physical registers keep what they hold; which of them is st0 changes.
    let physical = fpu.rotated(0);
    set_environment(fpu, &area, format, operands.environment());
    let top = fpu.top();
    fpu.st = physical;
    fpu.st.rotate_left(top);
    Ok(())
}

/// `fnsave`: as after `fninit` once everything is stored.
pub(super) fn fnsave<O: Operands>(
    fpu: &mut Fpu,
    format: Format,
    operands: &mut O,
) -> Result<(), Stop<O::Fault>> {
    let mut area = [0; 28 + REGISTERS_LEN];
    let len = format.len();
    area[..28].copy_from_slice(&environment(fpu, format, operands.environment()));
    area[len..len + REGISTERS_LEN].copy_from_slice(fpu.st.as_flattened());
    operands.store(0, &area[..len + REGISTERS_LEN])?;
    fpu.initialize();
    Ok(())
}

/// `frstor`.
pub(super) fn frstor<O: Operands>(
    fpu: &mut Fpu,
    format: Format,
    operands: &mut O,
) -> Result<(), Stop<O::Fault>> {
    let mut area = [0; 28 + REGISTERS_LEN];
    let len = format.len();
    operands.load(0, &mut area[..len + REGISTERS_LEN])?;
    set_environment(fpu, &area, format, operands.environment());
    fpu.st.as_flattened_mut().copy_from_slice(&area[len..len + REGISTERS_LEN]);
    Ok(())
}

/// The environment in memory; reserved upper halves are ones.
fn environment(fpu: &Fpu, format: Format, mode: Environment) -> [u8; 28] {
    let (instruction, operand) = (low(fpu.instruction), low(fpu.operand));
    let opcode = u32::from(fpu.opcode);
    let [_, control, status, tags] =
        [0, fpu.control, fpu.status, fpu.full_tags()].map(|low| 0xffff_0000 | u32::from(low));
    // What follows the three control words: in real mode 32-bit addresses without selectors.
    let addresses = match (format, mode) {
        (Format::Doubles, Environment::Real) => [
            0xffff_0000 | instruction & 0xffff,
            (instruction >> 16) << 12 | opcode,
            0xffff_0000 | operand & 0xffff,
            (operand >> 16) << 12,
        ],
        (Format::Doubles, Environment::Protected | Environment::Long) => {
            [instruction, opcode << 16, operand, 0xffff_0000]
        }
        (Format::Words, Environment::Real) => {
            [instruction, instruction >> 16 << 12 | opcode, operand, operand >> 16 << 12]
        }
        (Format::Words, Environment::Protected | Environment::Long) => [instruction, 0, operand, 0],
    };
    let fields = [control, status, tags].into_iter().chain(addresses);
    let mut area = [0; 28];
    for (n, field) in fields.enumerate() {
        let [a, b, c, d] = field.to_le_bytes();
        match format {
            Format::Words => put(&mut area, 2 * n, [a, b]),
            Format::Doubles => put(&mut area, 4 * n, [a, b, c, d]),
        }
    }
    area
}

/// Takes an environment over; the registers stay where they are relative to the top.
fn set_environment(fpu: &mut Fpu, area: &[u8], format: Format, mode: Environment) {
    let field = |n: usize| match format {
        Format::Words => u32::from(word(area, 2 * n)),
        Format::Doubles => double(area, 4 * n),
    };
    let half = |n: usize| word(area, if let Format::Words = format { 2 * n } else { 4 * n });
    fpu.set_control(half(0));
    fpu.set_status(half(1));
    fpu.tags = abridged(half(2));
    let (instruction, opcode, operand) = match (mode, format) {
        (Environment::Real, _) => (
            u32::from(half(3)) | field(4) >> 12 << 16,
            half(4),
            u32::from(half(5)) | field(6) >> 12 << 16,
        ),
        (_, Format::Words) => (field(3), 0, field(5)),
        (_, Format::Doubles) => (field(3), word(area, 18), field(5)),
    };
    fpu.instruction = instruction.into();
    fpu.opcode = opcode & 0x7ff;
    fpu.operand = operand.into();
}

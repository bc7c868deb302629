//! The processor around a floating-point instruction, as small as it can be.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::wildcard_enum_match_arm, reason = "iced's lists are long")]
#![allow(clippy::cast_possible_truncation, reason = "bits are taken apart")]

use iced_x86::{Instruction, OpKind, Register};
use softcpu::fpu::{Environment, Operands};

/// Where the data lies, and the instruction.
pub(crate) const DATA: u64 = 0x2000_0000;
pub(crate) const CODE: u64 = 0x1000_0000;

/// Carry, parity, adjust, zero, sign, overflow.
pub(crate) const ARITHMETIC: u64 = 0x8d5;

/// The guest's side.
pub(crate) struct Model<'a> {
    /// Registers.
    pub(crate) gpr: [u64; 16],
    /// rflags.
    pub(crate) flags: u64,
    /// The data pages.
    pub(crate) memory: &'a mut [u8],
    /// Where the operand is.
    pub(crate) address: u64,
    /// The mode.
    pub(crate) environment: Environment,
}

impl Model<'_> {
    fn range(&self, offset: u64, len: usize) -> Result<std::ops::Range<usize>, u64> {
        let first = self.address.wrapping_add(offset);
        for n in 0..len as u64 {
            let at = first.wrapping_add(n);
            if !(DATA..DATA + self.memory.len() as u64).contains(&at) {
                return Err(at);
            }
        }
        let start = (first - DATA) as usize;
        Ok(start..start + len)
    }
}

impl Operands for Model<'_> {
    type Fault = u64;

    fn address(&self) -> u64 {
        self.address
    }

    fn offset(&self) -> u64 {
        self.address
    }

    fn instruction_pointer(&self) -> u64 {
        CODE
    }

    fn load(&mut self, offset: u64, into: &mut [u8]) -> Result<(), u64> {
        into.copy_from_slice(&self.memory[self.range(offset, into.len())?]);
        Ok(())
    }

    fn store(&mut self, offset: u64, bytes: &[u8]) -> Result<(), u64> {
        let range = self.range(offset, bytes.len())?;
        self.memory[range].copy_from_slice(bytes);
        Ok(())
    }

    fn check_store(&mut self, offset: u64, len: usize) -> Result<(), u64> {
        self.range(offset, len).map(drop)
    }

    fn register(&self, register: Register) -> u64 {
        let value = self.gpr[register.full_register().number()];
        match register.size() {
            8 => value,
            bytes => value & ((1 << (8 * bytes)) - 1),
        }
    }

    fn set_register(&mut self, register: Register, value: u64) {
        let gpr = &mut self.gpr[register.full_register().number()];
        match register.size() {
            8 => *gpr = value,
            4 => *gpr = value & 0xffff_ffff,
            2 => *gpr = *gpr & !0xffff | value & 0xffff,
            _ => panic!("no instruction sets bytes"),
        }
    }

    fn flags(&self) -> u64 {
        self.flags
    }

    fn set_flags(&mut self, flags: u64) {
        assert_eq!(flags & !ARITHMETIC, 0, "only arithmetic flags");
        self.flags = self.flags & !ARITHMETIC | flags;
    }

    fn environment(&self) -> Environment {
        self.environment
    }
}

/// The address of the memory operand, if there is one.
pub(crate) fn memory_operand(instruction: &Instruction, gpr: &[u64; 16]) -> u64 {
    use OpKind::{Memory, MemorySegRDI};
    let value = |register: Register, _, _| match register {
        Register::DS | Register::SS | Register::ES | Register::CS => Some(0),
        Register::FS | Register::GS => Some(0),
        register => Some(gpr[register.full_register().number()]),
    };
    (0..instruction.op_count())
        .find(|&n| matches!(instruction.op_kind(n), Memory | MemorySegRDI))
        .and_then(|n| instruction.virtual_address(n, 0, value))
        .unwrap_or(0)
}

//! What an instruction asks of the processor around it, and how it can end early.

use iced_x86::Register;

/// The processor's side of one instruction: its memory operand, general registers and flags.
///
/// An instruction has at most one memory operand; offsets count from its first byte. For
/// `maskmovq` and `maskmovdqu` it is the one at ds:rdi (or the segment that a prefix names).
pub trait Operands {
    /// Why memory could not be reached.
    type Fault;

    /// Linear address of the memory operand, for the check of alignment.
    fn address(&self) -> u64;

    /// The memory operand's offset in its segment, which x87 remembers.
    fn offset(&self) -> u64;

    /// The instruction's own offset in its segment, which x87 remembers.
    fn instruction_pointer(&self) -> u64;

    /// Reads some bytes of the memory operand.
    ///
    /// # Errors
    /// Any byte cannot be read.
    fn load(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Self::Fault>;

    /// Writes some bytes of the memory operand: all of them or none.
    ///
    /// # Errors
    /// Any byte cannot be written.
    fn store(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Self::Fault>;

    /// Whether some bytes of the memory operand could be written, without writing them.
    ///
    /// # Errors
    /// Any byte cannot be written.
    fn check_store(&mut self, offset: u64, len: usize) -> Result<(), Self::Fault>;

    /// A general register, of the width that its name says, without sign.
    fn register(&self, register: Register) -> u64;

    /// Sets a general register, of the width that its name says; one of 32 bits clears the rest.
    fn set_register(&mut self, register: Register, value: u64);

    /// rflags.
    fn flags(&self) -> u64;

    /// Sets the arithmetic bits of rflags (CF, PF, AF, ZF, SF, OF); only these are set in `flags`.
    fn set_flags(&mut self, flags: u64);

    /// What the layout of saved state depends on.
    fn environment(&self) -> Environment;
}

/// The processor's mode, as far as the layouts of saved state differ by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// Real and virtual-8086 mode.
    Real,
    /// Protected and compatibility mode.
    Protected,
    /// 64-bit mode.
    Long,
}

/// Why an instruction did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop<F> {
    /// Memory could not be reached.
    #[error("memory fault")]
    Fault(F),
    /// #UD: not an instruction of this part.
    #[error("undefined instruction")]
    Undefined,
    /// #MF: an earlier x87 instruction left an unmasked exception.
    #[error("pending x87 exception")]
    Math,
    /// #XM: an unmasked SSE exception, which mxcsr names. Where cr4.OSXMMEXCPT is clear it is #UD.
    #[error("SSE exception")]
    Simd,
    /// #GP(0): a misaligned operand, or a reserved bit of mxcsr.
    #[error("general protection")]
    Protection,
}

impl<F> From<F> for Stop<F> {
    fn from(fault: F) -> Stop<F> {
        Stop::Fault(fault)
    }
}

/// The arithmetic bits of rflags.
pub(super) mod flag {
    /// Carry.
    pub(in crate::fpu) const CF: u64 = 1 << 0;
    /// Parity.
    pub(in crate::fpu) const PF: u64 = 1 << 2;
    /// Adjust.
    pub(in crate::fpu) const AF: u64 = 1 << 4;
    /// Zero.
    pub(in crate::fpu) const ZF: u64 = 1 << 6;
    /// Sign.
    pub(in crate::fpu) const SF: u64 = 1 << 7;
    /// Overflow.
    pub(in crate::fpu) const OF: u64 = 1 << 11;
    /// All of them.
    pub(in crate::fpu) const ALL: u64 = CF | PF | AF | ZF | SF | OF;
}

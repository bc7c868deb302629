//! Policy to program.
use crate::{Arch, Instruction};
use base::ErrorKind;
use workload::SeccompPolicy;

/// Why a policy has no program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// More than the kernel takes.
    #[error("the seccomp policy compiles to {instructions} instructions; the kernel takes 4096")]
    TooLong {
        /// How many there would be.
        instructions: usize,
    },
}
impl CompileError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

/// The program for a policy on a host of this architecture.
pub fn compile(_policy: &SeccompPolicy, _native: Arch) -> Result<Vec<Instruction>, CompileError> {
    Err(CompileError::TooLong { instructions: 0 })
}

//! From a policy to what the kernel loads.

use workload::{SeccompPolicy, SeccompProgram};

use crate::{Arch, CompileError, FilterFlags, FlagError, Instruction, compile};

/// Why a policy cannot be loaded here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssembleError {
    /// There are no numbers for this processor's calls.
    #[error("system calls of this processor are not known by number")]
    Arch,
    /// The policy asks somebody who is not there.
    #[error("nobody is there to be asked what its action \"notify\" asks")]
    Listener,
    /// A flag is not known.
    #[error(transparent)]
    Flag(#[from] FlagError),
    /// It says what cannot be.
    #[error(transparent)]
    Compile(#[from] CompileError),
}

/// The program of a policy for the processor that this runs on, with its flags.
///
/// # Errors
/// [`AssembleError`].
pub fn assemble(policy: &SeccompPolicy) -> Result<SeccompProgram, AssembleError> {
    let native = Arch::native().ok_or(AssembleError::Arch)?;
    let FilterFlags(flags) = FilterFlags::of(policy)?;
    if flags & FilterFlags::NEW_LISTENER != 0 {
        return Err(AssembleError::Listener);
    }
    let program = compile(policy, native)?;
    Ok(SeccompProgram { instructions: program.into_iter().map(Instruction::word).collect(), flags })
}

impl Instruction {
    /// As one number: `code`, `jt`, `jf` and `k`, the first in the lowest bits.
    pub fn word(self) -> u64 {
        u64::from(self.code)
            | u64::from(self.jt) << 16
            | u64::from(self.jf) << 24
            | u64::from(self.k) << 32
    }

    /// The instruction of such a number.
    pub fn of_word(word: u64) -> Instruction {
        let [c0, c1, jt, jf, k0, k1, k2, k3] = word.to_le_bytes();
        let k = u32::from_le_bytes([k0, k1, k2, k3]);
        Instruction { code: u16::from_le_bytes([c0, c1]), jt, jf, k }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_is_what_its_number_says() {
        let one = Instruction { code: 0x35, jt: 7, jf: 255, k: 0xc000_003e };
        assert_eq!(one.word(), 0xc000_003e_ff07_0035);
        assert_eq!(Instruction::of_word(one.word()), one);
    }
}

//! What an instruction does, found once and run many times.

use iced_x86::Instruction;

use super::{
    operands::{Operands, Stop},
    simd::{Registers, Simd},
    state::Fpu,
    x87::X87,
};

/// An instruction of this part, as far as it can be resolved before it runs.
#[derive(Clone, Copy, Debug)]
pub struct Operation(Kind);

#[derive(Clone, Copy, Debug)]
enum Kind {
    X87(X87),
    Registers(Registers),
    Simd(Simd),
}

impl Operation {
    /// What an instruction does, if it is of this part.
    pub fn of(instruction: &Instruction) -> Option<Operation> {
        let x87 = || X87::of(instruction).map(Kind::X87);
        let simd = || Simd::of(instruction).map(Kind::Simd);
        let registers = || Registers::of(instruction).map(Kind::Registers);
        registers().or_else(simd).or_else(x87).map(Operation)
    }

    /// Carries it out. The instruction must be the one it was made from.
    ///
    /// # Errors
    /// See [`Stop`].
    pub fn run<O: Operands>(
        &self,
        fpu: &mut Fpu,
        instruction: &Instruction,
        operands: &mut O,
    ) -> Result<(), Stop<O::Fault>> {
        match self.0 {
            Kind::X87(x87) => x87.run(fpu, instruction, operands),
            Kind::Registers(registers) => {
                registers.run(fpu);
                Ok(())
            }
            Kind::Simd(simd) => simd.run(fpu, instruction, operands),
        }
    }
}

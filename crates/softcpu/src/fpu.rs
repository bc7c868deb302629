//! x87, MMX and SSE to SSE4.2, exact to the bit: the host carries out what it can.
//!
//! Floating-point arithmetic is done by the host's own instruction on the guest's values, in the
//! guest's rounding and precision, with the exceptions masked; what the guest unmasked is found
//! from the flags afterwards. Integers are the host's SSE2 and plain Rust. So a guest gets what the host's
//! processor would have given it, transcendental functions and approximations included.
//!
//! ```text
//!  Instruction ──Operation::of──▶ Operation ──run(Fpu, Operands)──▶ Ok | Stop
//! ```
//!
//! A stopped instruction has changed nothing but the flags of its exception.
//!
//! Not here: whether the guest may use these instructions at all (cr0.EM, cr0.TS, cr4.OSFXSR, the
//! processor's model), which the processor asks first; `crc32`, `popcnt`, fences and prefetches.

mod area;
mod float;
mod native_sse;
mod native_sse2;
mod native_x87;
mod operands;
mod operation;
mod simd;
mod state;
mod strings;
mod vector;
mod x87;

use iced_x86::Instruction;

pub use {
    operands::{Environment, Operands, Stop},
    operation::Operation,
    state::Fpu,
};

/// Whether an instruction is carried out here.
pub fn handles(instruction: &Instruction) -> bool {
    Operation::of(instruction).is_some()
}

/// Carries out one instruction. A processor that keeps decoded instructions keeps the
/// [`Operation`] instead.
///
/// # Errors
/// See [`Stop`]; what is not [handled](handles) is [`Stop::Undefined`].
pub fn execute<O: Operands>(
    fpu: &mut Fpu,
    instruction: &Instruction,
    operands: &mut O,
) -> Result<(), Stop<O::Fault>> {
    let operation = Operation::of(instruction).ok_or(Stop::Undefined)?;
    operation.run(fpu, instruction, operands)
}

//! MMX and SSE instructions on integers and bits: each a function of plain values.
//!
//! What SSE2 has is done by the host's SSE2; the rest, which not every x86-64 processor has, by
//! plain Rust.

mod arithmetic;
pub(super) mod lanes;
mod moves;
mod pack;
mod shuffle;

use iced_x86::Mnemonic;

/// What such a function is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Args {
    /// The destination's old value; 0 where it is memory or a general register.
    pub(super) a: u128,
    /// The source.
    pub(super) b: u128,
    /// The immediate byte, or 0.
    pub(super) imm: u8,
    /// Bytes of the vector: 8 for MMX, 16 for SSE.
    pub(super) bytes: usize,
}

/// The destination's new value; bits beyond its size do not count.
pub(super) type Vector = fn(Args) -> u128;

/// The function of an instruction.
pub(super) fn of(mnemonic: Mnemonic) -> Option<Vector> {
    moves::of(mnemonic)
        .or_else(|| arithmetic::of(mnemonic))
        .or_else(|| pack::of(mnemonic))
        .or_else(|| shuffle::of(mnemonic))
}

/// Those of its forms that store something other than the source's lowest bits.
pub(super) fn to_memory(mnemonic: Mnemonic) -> Option<Vector> {
    moves::to_memory(mnemonic)
}

/// Those of its forms that load otherwise than from a register.
pub(super) fn from_memory(mnemonic: Mnemonic) -> Option<Vector> {
    moves::from_memory(mnemonic)
}

/// Those whose choice is in xmm0, the second argument.
pub(super) fn by_xmm0(mnemonic: Mnemonic) -> Option<fn(Args, u128) -> u128> {
    shuffle::by_xmm0(mnemonic)
}

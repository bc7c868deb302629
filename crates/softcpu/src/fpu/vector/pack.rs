//! Packing into smaller lanes, and interleaving.
#![expect(clippy::wildcard_enum_match_arm, reason = "thousands of other instructions")]
#![expect(clippy::cast_sign_loss, reason = "values are clamped to their lane")]

use std::array;

use iced_x86::Mnemonic;

use super::{
    Args, Vector,
    lanes::{join16, split32},
};
use crate::fpu::native_sse2 as native;

const LOW32: u128 = u32::MAX as u128;

pub(super) fn of(mnemonic: Mnemonic) -> Option<Vector> {
    use Mnemonic as M;
    Some(match mnemonic {
        M::Packsswb => |x| packed(x, native::packsswb),
        M::Packuswb => |x| packed(x, native::packuswb),
        M::Packssdw => |x| packed(x, native::packssdw),
        M::Packusdw => packusdw,
        M::Punpcklbw => native::punpcklbw,
        M::Punpcklwd => native::punpcklwd,
        M::Punpckldq | M::Unpcklps => native::punpckldq,
        M::Punpcklqdq | M::Unpcklpd => native::punpcklqdq,
        M::Punpckhbw => |x| upper(x, native::punpcklbw, native::punpckhbw),
        M::Punpckhwd => |x| upper(x, native::punpcklwd, native::punpckhwd),
        M::Punpckhdq | M::Unpckhps => |x| upper(x, native::punpckldq, native::punpckhdq),
        M::Punpckhqdq | M::Unpckhpd => native::punpckhqdq,
        _ => return None,
    })
}

/// The lanes of the destination, then of the source: of MMX the lower quarters of each half.
fn packed(x: Args, f: Vector) -> u128 {
    let both = f(x);
    if x.bytes == 16 { both } else { both & LOW32 | (both >> 64 & LOW32) << 32 }
}

/// The upper lanes in turn: of MMX they follow the lower ones, where SSE has all of its lower half.
fn upper(x: Args, lower: Vector, upper: Vector) -> u128 {
    if x.bytes == 16 { upper(x) } else { lower(x) >> 64 }
}

fn packusdw(x: Args) -> u128 {
    let (a, b) = (split32(x.a), split32(x.b));
    let clamped = |lane: u32| lane.cast_signed().clamp(0, 0xffff) as u16;
    join16(array::from_fn(|n| clamped(if n < 4 { a[n] } else { b[n - 4] })))
}

//! Packing into smaller lanes, and interleaving.
#![expect(clippy::wildcard_enum_match_arm, reason = "thousands of other instructions")]
#![expect(clippy::cast_possible_truncation, reason = "values are clamped to their lane")]
#![expect(clippy::cast_sign_loss, reason = "values are clamped to their lane")]

use std::array;

use iced_x86::Mnemonic;

use super::{
    Args, Vector,
    lanes::{join8, join16, split16, split32},
};

pub(super) fn of(mnemonic: Mnemonic) -> Option<Vector> {
    use Mnemonic as M;
    Some(match mnemonic {
        M::Packsswb => |x| packed16(x, |word| word.clamp(-128, 127) as u8),
        M::Packuswb => |x| packed16(x, |word| word.clamp(0, 255) as u8),
        M::Packssdw => |x| packed32(x, |double| double.clamp(-0x8000, 0x7fff) as u16),
        M::Packusdw => |x| packed32(x, |double| double.clamp(0, 0xffff) as u16),
        M::Punpcklbw => |x| interleaved(x, 1, false),
        M::Punpcklwd => |x| interleaved(x, 2, false),
        M::Punpckldq | M::Unpcklps => |x| interleaved(x, 4, false),
        M::Punpcklqdq | M::Unpcklpd => |x| interleaved(x, 8, false),
        M::Punpckhbw => |x| interleaved(x, 1, true),
        M::Punpckhwd => |x| interleaved(x, 2, true),
        M::Punpckhdq | M::Unpckhps => |x| interleaved(x, 4, true),
        M::Punpckhqdq | M::Unpckhpd => |x| interleaved(x, 8, true),
        _ => return None,
    })
}

/// The words of the destination, then of the source.
fn packed16(x: Args, f: impl Fn(i16) -> u8) -> u128 {
    let (a, b, words) = (split16(x.a), split16(x.b), x.bytes / 2);
    join8(array::from_fn(|n| match n {
        n if n < words => f(a[n].cast_signed()),
        n if n < 2 * words => f(b[n - words].cast_signed()),
        _ => 0,
    }))
}

fn packed32(x: Args, f: impl Fn(i32) -> u16) -> u128 {
    let (a, b, doubles) = (split32(x.a), split32(x.b), x.bytes / 4);
    join16(array::from_fn(|n| match n {
        n if n < doubles => f(a[n].cast_signed()),
        n if n < 2 * doubles => f(b[n - doubles].cast_signed()),
        _ => 0,
    }))
}

/// Lanes of one half, in turn of the destination and of the source.
fn interleaved(x: Args, lane_bytes: usize, upper: bool) -> u128 {
    let half = 4 * x.bytes;
    let shift = if upper { half } else { 0 };
    let (a, b) = (x.a >> shift, x.b >> shift);
    let (bits, mask) = (8 * lane_bytes, u128::MAX >> (128 - 8 * lane_bytes));
    (0..half / bits).fold(0, |vector, n| {
        let pair = (a >> (n * bits) & mask) | (b >> (n * bits) & mask) << bits;
        vector | pair << (2 * n * bits)
    })
}

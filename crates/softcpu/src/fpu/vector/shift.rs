//! Shifts: by an immediate or by the lower 64 bits of a vector, and of whole vectors by bytes.
#![expect(clippy::wildcard_enum_match_arm, reason = "thousands of other instructions")]
#![expect(clippy::cast_possible_truncation, reason = "the count's lower half is what counts")]

use iced_x86::Mnemonic;

use super::{
    Args, Vector,
    lanes::{join16, join32, join64, split16, split32, split64},
};

/// The count is the source: of the forms with an immediate, the immediate.
pub(super) fn of(mnemonic: Mnemonic) -> Option<Vector> {
    use Mnemonic as M;
    Some(match mnemonic {
        M::Psllw => |x| each16(x, |lane, by| lane.checked_shl(by).unwrap_or(0)),
        M::Pslld => |x| each32(x, |lane, by| lane.checked_shl(by).unwrap_or(0)),
        M::Psllq => |x| each64(x, |lane, by| lane.checked_shl(by).unwrap_or(0)),
        M::Psrlw => |x| each16(x, |lane, by| lane.checked_shr(by).unwrap_or(0)),
        M::Psrld => |x| each32(x, |lane, by| lane.checked_shr(by).unwrap_or(0)),
        M::Psrlq => |x| each64(x, |lane, by| lane.checked_shr(by).unwrap_or(0)),
        M::Psraw => |x| each16(x, |lane, by| (lane.cast_signed() >> by.min(15)).cast_unsigned()),
        M::Psrad => |x| each32(x, |lane, by| (lane.cast_signed() >> by.min(31)).cast_unsigned()),
        M::Pslldq => |x| x.a.checked_shl(8 * count(x)).unwrap_or(0),
        M::Psrldq => |x| x.a.checked_shr(8 * count(x)).unwrap_or(0),
        _ => return None,
    })
}

/// The count, up to what clears any lane.
fn count(x: Args) -> u32 {
    (x.b as u64).min(255) as u32
}

fn each16(x: Args, f: impl Fn(u16, u32) -> u16) -> u128 {
    join16(split16(x.a).map(|lane| f(lane, count(x))))
}

fn each32(x: Args, f: impl Fn(u32, u32) -> u32) -> u128 {
    join32(split32(x.a).map(|lane| f(lane, count(x))))
}

fn each64(x: Args, f: impl Fn(u64, u32) -> u64) -> u128 {
    join64(split64(x.a).map(|lane| f(lane, count(x))))
}

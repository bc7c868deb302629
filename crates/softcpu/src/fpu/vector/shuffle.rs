//! Shuffles, blends, and shifts by whole bytes.
#![expect(clippy::wildcard_enum_match_arm, reason = "thousands of other instructions")]

use std::array;

use iced_x86::Mnemonic;

use super::{
    Args, Vector,
    lanes::{join8, join16, join32, join64, split8, split16, split32, split64},
};

const LOW: u128 = u64::MAX as u128;

pub(super) fn of(mnemonic: Mnemonic) -> Option<Vector> {
    use Mnemonic as M;
    Some(match mnemonic {
        M::Pshufb => pshufb,
        M::Pshufw => |x| u128::from(words(x.b, x.imm)),
        M::Pshuflw => |x| x.b & !LOW | u128::from(words(x.b, x.imm)),
        M::Pshufhw => |x| x.b & LOW | u128::from(words(x.b >> 64, x.imm)) << 64,
        M::Pshufd => |x| join32(array::from_fn(|n| split32(x.b)[chosen(x.imm, n)])),
        M::Shufps => |x| {
            let (a, b) = (split32(x.a), split32(x.b));
            join32(array::from_fn(|n| if n < 2 { a } else { b }[chosen(x.imm, n)]))
        },
        M::Shufpd => |x| {
            let (a, b) = (split64(x.a), split64(x.b));
            join64([a[usize::from(x.imm & 1)], b[usize::from(x.imm >> 1 & 1)]])
        },
        M::Palignr => palignr,
        M::Pslldq => |x| x.a.checked_shl(bits(x)).unwrap_or(0),
        M::Psrldq => |x| x.a.checked_shr(bits(x)).unwrap_or(0),
        M::Pblendw => |x| blended(x, 2, |n| x.imm >> n & 1 == 1),
        M::Blendps => |x| blended(x, 4, |n| x.imm >> n & 1 == 1),
        M::Blendpd => |x| blended(x, 8, |n| x.imm >> n & 1 == 1),
        _ => return None,
    })
}

/// Those whose choice is in xmm0.
pub(super) fn by_xmm0(mnemonic: Mnemonic) -> Option<fn(Args, u128) -> u128> {
    Some(match mnemonic {
        Mnemonic::Pblendvb => |x, choice| blended(x, 1, |n| choice >> (8 * n + 7) & 1 == 1),
        Mnemonic::Blendvps => |x, choice| blended(x, 4, |n| choice >> (32 * n + 31) & 1 == 1),
        Mnemonic::Blendvpd => |x, choice| blended(x, 8, |n| choice >> (64 * n + 63) & 1 == 1),
        _ => return None,
    })
}

/// Which of four lanes two bits of the immediate choose.
fn chosen(imm: u8, n: usize) -> usize {
    usize::from(imm >> (2 * n) & 3)
}

/// The lowest four words by an immediate.
fn words(vector: u128, imm: u8) -> u64 {
    let lanes = split16(vector);
    let shuffled: [u16; 4] = array::from_fn(|n| lanes[chosen(imm, n)]);
    let [a, b, c, d] = shuffled;
    split64(join16([a, b, c, d, 0, 0, 0, 0]))[0]
}

fn pshufb(x: Args) -> u128 {
    let a = split8(x.a);
    join8(split8(x.b).map(|choice| match choice {
        0x80.. => 0,
        lane => a[usize::from(lane) % x.bytes],
    }))
}

/// How many bits the source's number of bytes are: an immediate.
fn bits(x: Args) -> u32 {
    8 * u32::from(x.b.to_le_bytes()[0])
}

/// Both vectors one after another, shifted right by bytes.
fn palignr(x: Args) -> u128 {
    let by = u32::from(x.imm);
    if x.bytes == 8 {
        return (x.a << 64 | x.b).checked_shr(8 * by).unwrap_or(0);
    }
    match by {
        0 => x.b,
        1..16 => x.b >> (8 * by) | x.a << (128 - 8 * by),
        _ => x.a.checked_shr(8 * (by - 16)).unwrap_or(0),
    }
}

/// Lanes of the source where the choice says so, else of the destination.
fn blended(x: Args, lane_bytes: usize, choice: impl Fn(usize) -> bool) -> u128 {
    let lane = u128::MAX >> (128 - 8 * lane_bytes);
    let mask = (0..16 / lane_bytes)
        .filter(|&n| choice(n))
        .fold(0, |mask, n| mask | lane << (8 * lane_bytes * n));
    x.a & !mask | x.b & mask
}

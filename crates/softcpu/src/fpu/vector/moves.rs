//! Moves, logic, and what takes single lanes in and out.
#![expect(clippy::wildcard_enum_match_arm, reason = "thousands of other instructions")]

use iced_x86::Mnemonic;

use super::{
    Args, Vector,
    lanes::{join8, join16, join32, split8, split16, split32, split64},
};

use crate::fpu::native_sse2 as native;

const LOW: u128 = u64::MAX as u128;
const LOW32: u128 = u32::MAX as u128;

pub(super) fn of(mnemonic: Mnemonic) -> Option<Vector> {
    use Mnemonic as M;
    Some(match mnemonic {
        M::Movaps | M::Movapd | M::Movups | M::Movupd | M::Movdqa | M::Movdqu | M::Lddqu => whole,
        M::Movntdqa | M::Movntps | M::Movntpd | M::Movntdq | M::Movntq | M::Movnti => whole,
        M::Movd => |x| x.b & LOW32,
        M::Movq | M::Movq2dq | M::Movdq2q => |x| x.b & LOW,
        // To a register: their memory forms differ, see [`from_memory`].
        M::Movss => |x| x.a & !LOW32 | x.b & LOW32,
        M::Movsd => |x| x.a & !LOW | x.b & LOW,
        M::Movlps | M::Movlpd => |x| x.a & !LOW | x.b & LOW,
        M::Movhps | M::Movhpd | M::Movlhps => |x| x.a & LOW | x.b << 64,
        M::Movhlps => |x| x.a & !LOW | x.b >> 64,
        M::Movddup => |x| x.b & LOW | x.b << 64,
        M::Movshdup => |x| duplicated(x, 1),
        M::Movsldup => |x| duplicated(x, 0),
        M::Andps | M::Andpd | M::Pand => |x| x.a & x.b,
        M::Andnps | M::Andnpd | M::Pandn => |x| !x.a & x.b,
        M::Orps | M::Orpd | M::Por => |x| x.a | x.b,
        M::Xorps | M::Xorpd | M::Pxor => |x| x.a ^ x.b,
        M::Movmskps => |x| signs(split32(x.b).map(|lane| lane >> 31 == 1)),
        M::Movmskpd => |x| signs(split64(x.b).map(|lane| lane >> 63 == 1)),
        M::Pmovmskb => native::pmovmskb,
        M::Pextrb => |x| split8(x.b)[usize::from(x.imm) % 16].into(),
        M::Pextrw => |x| split16(x.b)[usize::from(x.imm) % (x.bytes / 2)].into(),
        M::Pextrd | M::Extractps => |x| split32(x.b)[usize::from(x.imm) % 4].into(),
        M::Pextrq => |x| split64(x.b)[usize::from(x.imm) % 2].into(),
        M::Pinsrb => |x| inserted(x, 1, 16),
        M::Pinsrw => |x| inserted(x, 2, x.bytes / 2),
        M::Pinsrd => |x| inserted(x, 4, 4),
        M::Pinsrq => |x| inserted(x, 8, 2),
        M::Insertps => insertps,
        M::Pmovsxbw => |x| extended::<1, 2>(x, true),
        M::Pmovsxbd => |x| extended::<1, 4>(x, true),
        M::Pmovsxbq => |x| extended::<1, 8>(x, true),
        M::Pmovsxwd => |x| extended::<2, 4>(x, true),
        M::Pmovsxwq => |x| extended::<2, 8>(x, true),
        M::Pmovsxdq => |x| extended::<4, 8>(x, true),
        M::Pmovzxbw => |x| extended::<1, 2>(x, false),
        M::Pmovzxbd => |x| extended::<1, 4>(x, false),
        M::Pmovzxbq => |x| extended::<1, 8>(x, false),
        M::Pmovzxwd => |x| extended::<2, 4>(x, false),
        M::Pmovzxwq => |x| extended::<2, 8>(x, false),
        M::Pmovzxdq => |x| extended::<4, 8>(x, false),
        M::Pabsb => |x| join8(split8(x.b).map(|lane| lane.cast_signed().unsigned_abs())),
        M::Pabsw => |x| join16(split16(x.b).map(|lane| lane.cast_signed().unsigned_abs())),
        M::Pabsd => |x| join32(split32(x.b).map(|lane| lane.cast_signed().unsigned_abs())),
        _ => return None,
    })
}

/// The store forms whose bits are not the lowest of the source.
pub(super) fn to_memory(mnemonic: Mnemonic) -> Option<Vector> {
    matches!(mnemonic, Mnemonic::Movhps | Mnemonic::Movhpd).then_some(|x: Args| x.b >> 64)
}

/// The source as it is.
fn whole(x: Args) -> u128 {
    x.b
}

fn signs<const N: usize>(lanes: [bool; N]) -> u128 {
    lanes.into_iter().rev().fold(0, |mask, lane| mask << 1 | u128::from(lane))
}

/// Both lanes of each pair become the lower or the upper.
fn duplicated(x: Args, upper: usize) -> u128 {
    let b = split32(x.b);
    join32([b[upper], b[upper], b[upper + 2], b[upper + 2]])
}

fn inserted(x: Args, lane_bytes: usize, lanes: usize) -> u128 {
    let shift = 8 * lane_bytes * (usize::from(x.imm) % lanes);
    let mask = (u128::MAX >> (128 - 8 * lane_bytes)) << shift;
    x.a & !mask | x.b << shift & mask
}

/// The source is a register: bits 6 and 7 of the immediate choose its lane, 4 and 5 the
/// destination's, 0 to 3 clear lanes. Memory counts as lane 0, see [`from_memory`].
fn insertps(x: Args) -> u128 {
    let mut lanes = split32(x.a);
    lanes[usize::from(x.imm >> 4 & 3)] = split32(x.b)[usize::from(x.imm >> 6)];
    for (n, lane) in lanes.iter_mut().enumerate() {
        if x.imm >> n & 1 == 1 {
            *lane = 0;
        }
    }
    join32(lanes)
}

/// The load forms that differ from those with a register.
pub(super) fn from_memory(mnemonic: Mnemonic) -> Option<Vector> {
    match mnemonic {
        Mnemonic::Movss | Mnemonic::Movsd => Some(whole),
        Mnemonic::Insertps => Some(|x| insertps(Args { imm: x.imm & 0x3f, ..x })),
        _ => None,
    }
}

/// Lanes of `FROM` bytes become lanes of `TO` bytes.
fn extended<const FROM: usize, const TO: usize>(x: Args, signed: bool) -> u128 {
    (0..16 / TO).fold(0, |vector, n| {
        let above = 128 - 8 * FROM;
        let lane = x.b << (above - 8 * FROM * n);
        let lane =
            if signed { (lane.cast_signed() >> above).cast_unsigned() } else { lane >> above };
        let mask = u128::MAX >> (128 - 8 * TO);
        vector | (lane & mask) << (8 * TO * n)
    })
}

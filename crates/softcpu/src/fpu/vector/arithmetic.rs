//! Adding, multiplying and comparing lanes.
#![expect(clippy::wildcard_enum_match_arm, reason = "thousands of other instructions")]
#![expect(clippy::cast_possible_truncation, reason = "products and sums are cut to their lane")]

use std::array;

use iced_x86::Mnemonic;

use super::{
    Args, Vector,
    lanes::{join16, join32, join64, split8, split16, split32, zip8, zip16, zip32, zip64},
};

pub(super) fn of(mnemonic: Mnemonic) -> Option<Vector> {
    sums(mnemonic).or_else(|| compared(mnemonic)).or_else(|| products(mnemonic))
}

fn sums(mnemonic: Mnemonic) -> Option<Vector> {
    use Mnemonic as M;
    Some(match mnemonic {
        M::Paddb => |x| zip8(x, u8::wrapping_add),
        M::Paddw => |x| zip16(x, u16::wrapping_add),
        M::Paddd => |x| zip32(x, u32::wrapping_add),
        M::Paddq => |x| zip64(x, u64::wrapping_add),
        M::Psubb => |x| zip8(x, u8::wrapping_sub),
        M::Psubw => |x| zip16(x, u16::wrapping_sub),
        M::Psubd => |x| zip32(x, u32::wrapping_sub),
        M::Psubq => |x| zip64(x, u64::wrapping_sub),
        M::Paddusb => |x| zip8(x, u8::saturating_add),
        M::Paddusw => |x| zip16(x, u16::saturating_add),
        M::Psubusb => |x| zip8(x, u8::saturating_sub),
        M::Psubusw => |x| zip16(x, u16::saturating_sub),
        M::Paddsb => |x| zip8(x, |a, b| signed8(a, b, i8::saturating_add)),
        M::Paddsw => |x| zip16(x, |a, b| signed16(a, b, i16::saturating_add)),
        M::Psubsb => |x| zip8(x, |a, b| signed8(a, b, i8::saturating_sub)),
        M::Psubsw => |x| zip16(x, |a, b| signed16(a, b, i16::saturating_sub)),
        M::Pavgb => |x| zip8(x, |a, b| (u16::from(a) + u16::from(b)).div_ceil(2) as u8),
        M::Pavgw => |x| zip16(x, |a, b| (u32::from(a) + u32::from(b)).div_ceil(2) as u16),
        M::Psignb => |x| zip8(x, |a, b| signed8(a, b, |a, b| a.wrapping_mul(b.signum()))),
        M::Psignw => |x| zip16(x, |a, b| signed16(a, b, |a, b| a.wrapping_mul(b.signum()))),
        M::Psignd => |x| {
            zip32(x, |a, b| a.cast_signed().wrapping_mul(b.cast_signed().signum()).cast_unsigned())
        },
        M::Phaddw => |x| horizontal16(x, u16::wrapping_add),
        M::Phsubw => |x| horizontal16(x, u16::wrapping_sub),
        M::Phaddsw => |x| horizontal16(x, |a, b| signed16(a, b, i16::saturating_add)),
        M::Phsubsw => |x| horizontal16(x, |a, b| signed16(a, b, i16::saturating_sub)),
        M::Phaddd => |x| horizontal32(x, u32::wrapping_add),
        M::Phsubd => |x| horizontal32(x, u32::wrapping_sub),
        M::Psadbw => sums_of_differences,
        M::Mpsadbw => mpsadbw,
        M::Phminposuw => least,
        _ => return None,
    })
}

fn compared(mnemonic: Mnemonic) -> Option<Vector> {
    use Mnemonic as M;
    Some(match mnemonic {
        M::Pcmpeqb => |x| zip8(x, |a, b| if a == b { u8::MAX } else { 0 }),
        M::Pcmpeqw => |x| zip16(x, |a, b| if a == b { u16::MAX } else { 0 }),
        M::Pcmpeqd => |x| zip32(x, |a, b| if a == b { u32::MAX } else { 0 }),
        M::Pcmpeqq => |x| zip64(x, |a, b| if a == b { u64::MAX } else { 0 }),
        M::Pcmpgtb => |x| zip8(x, |a, b| signed8(a, b, |a, b| -i8::from(a > b))),
        M::Pcmpgtw => |x| zip16(x, |a, b| signed16(a, b, |a, b| -i16::from(a > b))),
        M::Pcmpgtd => |x| zip32(x, |a, b| signed32(a, b, |a, b| -i32::from(a > b))),
        M::Pcmpgtq => {
            |x| zip64(x, |a, b| if a.cast_signed() > b.cast_signed() { u64::MAX } else { 0 })
        }
        M::Pmaxub => |x| zip8(x, u8::max),
        M::Pmaxuw => |x| zip16(x, u16::max),
        M::Pmaxud => |x| zip32(x, u32::max),
        M::Pminub => |x| zip8(x, u8::min),
        M::Pminuw => |x| zip16(x, u16::min),
        M::Pminud => |x| zip32(x, u32::min),
        M::Pmaxsb => |x| zip8(x, |a, b| signed8(a, b, i8::max)),
        M::Pmaxsw => |x| zip16(x, |a, b| signed16(a, b, i16::max)),
        M::Pmaxsd => |x| zip32(x, |a, b| signed32(a, b, i32::max)),
        M::Pminsb => |x| zip8(x, |a, b| signed8(a, b, i8::min)),
        M::Pminsw => |x| zip16(x, |a, b| signed16(a, b, i16::min)),
        M::Pminsd => |x| zip32(x, |a, b| signed32(a, b, i32::min)),
        _ => return None,
    })
}

fn products(mnemonic: Mnemonic) -> Option<Vector> {
    use Mnemonic as M;
    Some(match mnemonic {
        M::Pmullw => |x| zip16(x, u16::wrapping_mul),
        M::Pmulld => |x| zip32(x, u32::wrapping_mul),
        M::Pmulhuw => |x| zip16(x, |a, b| ((u32::from(a) * u32::from(b)) >> 16) as u16),
        M::Pmulhw => |x| zip16(x, |a, b| (product(a, b) >> 16).cast_unsigned() as u16),
        M::Pmulhrsw => {
            |x| zip16(x, |a, b| (((product(a, b) >> 14) + 1) >> 1).cast_unsigned() as u16)
        }
        M::Pmuludq => |x| zip64(x, |a, b| (a & 0xffff_ffff) * (b & 0xffff_ffff)),
        M::Pmuldq => |x| {
            zip64(x, |a, b| {
                let low = |lane: u64| i64::from((lane as u32).cast_signed());
                (low(a) * low(b)).cast_unsigned()
            })
        },
        M::Pmaddwd => multiply_add,
        M::Pmaddubsw => multiply_add_bytes,
        _ => return None,
    })
}

fn signed8(a: u8, b: u8, f: impl Fn(i8, i8) -> i8) -> u8 {
    f(a.cast_signed(), b.cast_signed()).cast_unsigned()
}

fn signed16(a: u16, b: u16, f: impl Fn(i16, i16) -> i16) -> u16 {
    f(a.cast_signed(), b.cast_signed()).cast_unsigned()
}

fn signed32(a: u32, b: u32, f: impl Fn(i32, i32) -> i32) -> u32 {
    f(a.cast_signed(), b.cast_signed()).cast_unsigned()
}

fn product(a: u16, b: u16) -> i32 {
    i32::from(a.cast_signed()) * i32::from(b.cast_signed())
}

/// Neighbours of the destination, then neighbours of the source.
fn horizontal16(x: Args, f: impl Fn(u16, u16) -> u16) -> u128 {
    let (a, b, half) = (split16(x.a), split16(x.b), x.bytes / 4);
    join16(array::from_fn(|n| match n {
        n if n < half => f(a[2 * n], a[2 * n + 1]),
        n if n < 2 * half => f(b[2 * (n - half)], b[2 * (n - half) + 1]),
        _ => 0,
    }))
}

fn horizontal32(x: Args, f: impl Fn(u32, u32) -> u32) -> u128 {
    let (a, b, half) = (split32(x.a), split32(x.b), x.bytes / 8);
    join32(array::from_fn(|n| match n {
        n if n < half => f(a[2 * n], a[2 * n + 1]),
        n if n < 2 * half => f(b[2 * (n - half)], b[2 * (n - half) + 1]),
        _ => 0,
    }))
}

fn sums_of_differences(x: Args) -> u128 {
    let (a, b) = (split8(x.a), split8(x.b));
    join64(array::from_fn(|half| {
        (8 * half..8 * half + 8).map(|n| u64::from(a[n].abs_diff(b[n]))).sum()
    }))
}

/// Four bytes of the source, chosen by the immediate, against the destination at eight places.
fn mpsadbw(x: Args) -> u128 {
    let (a, b) = (split8(x.a), split8(x.b));
    let (first_a, first_b) = (usize::from(x.imm >> 2 & 1) * 4, usize::from(x.imm & 3) * 4);
    join16(array::from_fn(|n| {
        (0..4).map(|k| u16::from(a[first_a + n + k].abs_diff(b[first_b + k]))).sum()
    }))
}

/// The least word, and where it stands first.
fn least(x: Args) -> u128 {
    let words = split16(x.b).into_iter().zip(0u8..);
    let (least, at) = words.min().expect("eight words");
    u128::from(least) | u128::from(at) << 16
}

fn multiply_add(x: Args) -> u128 {
    let (a, b) = (split16(x.a), split16(x.b));
    join32(array::from_fn(|n| {
        let (low, high) = (product(a[2 * n], b[2 * n]), product(a[2 * n + 1], b[2 * n + 1]));
        low.wrapping_add(high).cast_unsigned()
    }))
}

/// Unsigned bytes of the destination with signed ones of the source.
fn multiply_add_bytes(x: Args) -> u128 {
    let (a, b) = (split8(x.a), split8(x.b));
    let product = |n: usize| i32::from(a[n]) * i32::from(b[n].cast_signed());
    join16(array::from_fn(|n| {
        let sum = product(2 * n) + product(2 * n + 1);
        (sum.clamp(i16::MIN.into(), i16::MAX.into()) as i16).cast_unsigned()
    }))
}

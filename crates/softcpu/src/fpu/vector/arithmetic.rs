//! Adding, multiplying and comparing lanes.
#![expect(clippy::wildcard_enum_match_arm, reason = "thousands of other instructions")]
#![expect(clippy::cast_possible_truncation, reason = "products and sums are cut to their lane")]

use std::array;

use iced_x86::Mnemonic;

use super::{
    Args, Vector,
    lanes::{join16, join32, split8, split16, split32, zip8, zip16, zip32, zip64},
};
use crate::fpu::native_sse2 as native;

pub(super) fn of(mnemonic: Mnemonic) -> Option<Vector> {
    of_sse2(mnemonic).or_else(|| of_later(mnemonic))
}

/// The shifts' count is the source: of the forms with an immediate, the immediate.
fn of_sse2(mnemonic: Mnemonic) -> Option<Vector> {
    use Mnemonic as M;
    Some(match mnemonic {
        M::Paddb => native::paddb,
        M::Paddw => native::paddw,
        M::Paddd => native::paddd,
        M::Paddq => native::paddq,
        M::Psubb => native::psubb,
        M::Psubw => native::psubw,
        M::Psubd => native::psubd,
        M::Psubq => native::psubq,
        M::Paddusb => native::paddusb,
        M::Paddusw => native::paddusw,
        M::Psubusb => native::psubusb,
        M::Psubusw => native::psubusw,
        M::Paddsb => native::paddsb,
        M::Paddsw => native::paddsw,
        M::Psubsb => native::psubsb,
        M::Psubsw => native::psubsw,
        M::Pavgb => native::pavgb,
        M::Pavgw => native::pavgw,
        M::Psadbw => native::psadbw,
        M::Pmaxub => native::pmaxub,
        M::Pminub => native::pminub,
        M::Pmaxsw => native::pmaxsw,
        M::Pminsw => native::pminsw,
        M::Pcmpeqb => native::pcmpeqb,
        M::Pcmpeqw => native::pcmpeqw,
        M::Pcmpeqd => native::pcmpeqd,
        M::Pcmpgtb => native::pcmpgtb,
        M::Pcmpgtw => native::pcmpgtw,
        M::Pcmpgtd => native::pcmpgtd,
        M::Pmullw => native::pmullw,
        M::Pmulhuw => native::pmulhuw,
        M::Pmulhw => native::pmulhw,
        M::Pmuludq => native::pmuludq,
        M::Pmaddwd => native::pmaddwd,
        M::Psllw => native::psllw,
        M::Pslld => native::pslld,
        M::Psllq => native::psllq,
        M::Psrlw => native::psrlw,
        M::Psrld => native::psrld,
        M::Psrlq => native::psrlq,
        M::Psraw => native::psraw,
        M::Psrad => native::psrad,
        _ => return None,
    })
}

fn of_later(mnemonic: Mnemonic) -> Option<Vector> {
    use Mnemonic as M;
    Some(match mnemonic {
        M::Psignb => |x| zip8(x, |a, b| signed8(a, b, |a, b| a.wrapping_mul(b.signum()))),
        M::Psignw => |x| zip16(x, |a, b| signed16(a, b, |a, b| a.wrapping_mul(b.signum()))),
        M::Psignd => |x| zip32(x, |a, b| signed32(a, b, |a, b| a.wrapping_mul(b.signum()))),
        M::Phaddw => |x| horizontal16(x, u16::wrapping_add),
        M::Phsubw => |x| horizontal16(x, u16::wrapping_sub),
        M::Phaddsw => |x| horizontal16(x, |a, b| signed16(a, b, i16::saturating_add)),
        M::Phsubsw => |x| horizontal16(x, |a, b| signed16(a, b, i16::saturating_sub)),
        M::Phaddd => |x| horizontal32(x, u32::wrapping_add),
        M::Phsubd => |x| horizontal32(x, u32::wrapping_sub),
        M::Mpsadbw => mpsadbw,
        M::Phminposuw => least,
        M::Pcmpeqq => |x| zip64(x, |a, b| if a == b { u64::MAX } else { 0 }),
        M::Pcmpgtq => {
            |x| zip64(x, |a, b| if a.cast_signed() > b.cast_signed() { u64::MAX } else { 0 })
        }
        M::Pmaxuw => |x| zip16(x, u16::max),
        M::Pmaxud => |x| zip32(x, u32::max),
        M::Pminuw => |x| zip16(x, u16::min),
        M::Pminud => |x| zip32(x, u32::min),
        M::Pmaxsb => |x| zip8(x, |a, b| signed8(a, b, i8::max)),
        M::Pmaxsd => |x| zip32(x, |a, b| signed32(a, b, i32::max)),
        M::Pminsb => |x| zip8(x, |a, b| signed8(a, b, i8::min)),
        M::Pminsd => |x| zip32(x, |a, b| signed32(a, b, i32::min)),
        M::Pmulld => |x| zip32(x, u32::wrapping_mul),
        M::Pmulhrsw => {
            |x| zip16(x, |a, b| (((product(a, b) >> 14) + 1) >> 1).cast_unsigned() as u16)
        }
        M::Pmuldq => |x| {
            zip64(x, |a, b| {
                let low = |lane: u64| i64::from((lane as u32).cast_signed());
                (low(a) * low(b)).cast_unsigned()
            })
        },
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

/// Unsigned bytes of the destination with signed ones of the source.
fn multiply_add_bytes(x: Args) -> u128 {
    let (a, b) = (split8(x.a), split8(x.b));
    let product = |n: usize| i32::from(a[n]) * i32::from(b[n].cast_signed());
    join16(array::from_fn(|n| {
        let sum = product(2 * n) + product(2 * n + 1);
        (sum.clamp(i16::MIN.into(), i16::MAX.into()) as i16).cast_unsigned()
    }))
}

//! `roundps` and its kin: to an integral value, by the bits of the format.
//!
//! Source: Intel SDM volume 2, ROUNDPD (figure 4-24: the immediate).

use super::{Input, Output};
use crate::fpu::vector::lanes::{join32, join64, split32, split64};

/// Invalid and inexact in mxcsr.
const INVALID: u32 = 1 << 0;
const INEXACT: u32 = 1 << 5;
const DENORMALS_ARE_ZEROS: u32 = 1 << 6;

/// The immediate's "as mxcsr says" and "without inexact".
const BY_MXCSR: u8 = 1 << 2;
const QUIET: u8 = 1 << 3;

/// A binary format: bits of its fraction and of its exponent.
#[derive(Clone, Copy)]
struct Format {
    fraction: u32,
    exponent: u32,
}

const SINGLE: Format = Format { fraction: 23, exponent: 8 };
const DOUBLE: Format = Format { fraction: 52, exponent: 11 };

pub(super) fn roundps(x: Input) -> Output {
    let mut raised = 0;
    let value = join32(split32(x.b).map(|lane| single(lane, x, &mut raised)));
    Output::new(value, raised, x.mxcsr)
}

pub(super) fn roundss(x: Input) -> Output {
    let mut raised = 0;
    let [_, b, c, d] = split32(x.a);
    let value = join32([single(split32(x.b)[0], x, &mut raised), b, c, d]);
    Output::new(value, raised, x.mxcsr)
}

pub(super) fn roundpd(x: Input) -> Output {
    let mut raised = 0;
    let value = join64(split64(x.b).map(|lane| round(lane, DOUBLE, x, &mut raised)));
    Output::new(value, raised, x.mxcsr)
}

pub(super) fn roundsd(x: Input) -> Output {
    let mut raised = 0;
    let [_, upper] = split64(x.a);
    let value = join64([round(split64(x.b)[0], DOUBLE, x, &mut raised), upper]);
    Output::new(value, raised, x.mxcsr)
}

fn single(lane: u32, x: Input, raised: &mut u32) -> u32 {
    let rounded = round(lane.into(), SINGLE, x, raised);
    u32::try_from(rounded).expect("a single has 32 bits")
}

/// Rounds the bits of a number.
fn round(bits: u64, format: Format, x: Input, raised: &mut u32) -> u64 {
    let Format { fraction, exponent } = format;
    let sign = bits & 1 << (fraction + exponent);
    let magnitude = bits ^ sign;
    let one = ((1 << (exponent - 1)) - 1) << fraction;
    let infinity = ((1 << exponent) - 1) << fraction;
    if magnitude > infinity {
        let quiet = 1 << (fraction - 1);
        *raised |= if bits & quiet == 0 { INVALID } else { 0 };
        return bits | quiet;
    }
    let denormal = magnitude < 1 << fraction;
    if magnitude == 0 || denormal && x.mxcsr & DENORMALS_ARE_ZEROS != 0 {
        return sign;
    }
    // Bits below the one that counts 1.
    let below = (one >> fraction) + u64::from(fraction);
    let exponent = magnitude >> fraction;
    if exponent >= below {
        return bits;
    }
    let (integral, cut, half) = if magnitude < one {
        (0, magnitude, one - (1 << fraction))
    } else {
        let unit = 1 << (below - exponent);
        (magnitude & !(unit - 1), magnitude & (unit - 1), unit >> 1)
    };
    if cut == 0 {
        return bits;
    }
    *raised |= if x.imm & QUIET == 0 { INEXACT } else { 0 };
    let odd = if magnitude < one { false } else { is_odd(integral, below - exponent, fraction) };
    if !away(cut.cmp(&half), odd, sign != 0, rounding(x)) {
        return sign | integral;
    }
    // A carry out of the fraction goes on into the exponent, as it should.
    sign | if magnitude < one { one } else { integral + (1 << (below - exponent)) }
}

/// Whether an integral value is odd; its last bit may be the one that is not stored.
fn is_odd(integral: u64, last: u64, fraction: u32) -> bool {
    last == u64::from(fraction) || integral >> last & 1 == 1
}

/// Nearest, down, up, to zero.
fn rounding(x: Input) -> u8 {
    if x.imm & BY_MXCSR == 0 {
        return x.imm & 3;
    }
    match x.mxcsr >> 13 & 3 {
        0 => 0,
        1 => 1,
        2 => 2,
        _ => 3,
    }
}

/// Whether a cut value is rounded away from zero.
fn away(cut_to_half: std::cmp::Ordering, odd: bool, negative: bool, rounding: u8) -> bool {
    match rounding {
        0 => cut_to_half.is_gt() || cut_to_half.is_eq() && odd,
        1 => negative,
        2 => !negative,
        _ => false,
    }
}

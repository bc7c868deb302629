//! Arithmetic whose results can be too large or too small for their format.
//!
//! Where overflow or underflow is not masked, the processor finds them and inexactness on the
//! result as it would be with any exponent; the host's instruction, which runs with all exceptions
//! masked, finds them on what it delivers instead. So in that rare case each lane is looked at by
//! itself, and x87 says whether it is inexact: its exponents reach far enough for all of them.
//!
//! Source: Intel SDM volume 1, 4.9.1.4 to 4.9.1.6.

use super::{Float, Input, Output};
use crate::fpu::{
    native_sse as native,
    native_x87::{self, Image, Outside},
    vector::lanes::{split32, split64},
};

/// Flags of mxcsr; the masks are seven bits higher.
const OVERFLOW: u32 = 1 << 3;
const UNDERFLOW: u32 = 1 << 4;
const INEXACT: u32 = 1 << 5;

/// x87's control word: exceptions masked, and the precisions.
const X87_MASKED: u16 = 0x3f;
const X87_SINGLE: u16 = 0;
const X87_DOUBLE: u16 = 2 << 8;
/// x87's flag of inexactness.
const X87_INEXACT: u16 = 1 << 5;

/// What is done to two numbers, as the middle field of x87's ModRM byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Add = 0,
    Multiply = 1,
    Subtract = 4,
    Divide = 6,
    /// A double becomes a single: multiplied by one.
    Narrow,
}

/// The lanes of a result.
#[derive(Clone, Copy, Debug)]
enum Lanes {
    Singles(usize),
    Doubles(usize),
}

/// What of mxcsr must be so that nothing can come of ordinary numbers but what has been flagged
/// already: all exceptions masked, inexact flagged, nearest, no flushing.
const CALM_BITS: u32 = 0xffe0;
const CALM: u32 = 0x1fa0;

/// A scalar operation on numbers that are not too near to the ends of their format, for which
/// Rust's own arithmetic is the same: most of them, and the host's mxcsr need not change.
macro_rules! calm {
    ($name:ident, $float:ty, $split:ident, $exponent:literal, $fraction:literal, $others:literal) => {
        fn $name(x: Input, f: impl Fn($float, $float) -> $float) -> Option<Output> {
            let exponent = |number: $float| number.to_bits() >> $fraction & $exponent;
            let ordinary = |number: $float| {
                (1..$exponent).contains(&exponent(number)) || number.to_bits() << 1 == 0
            };
            let [a, b] = [x.a, x.b].map(|vector| <$float>::from_bits($split(vector)[0]));
            let result = f(a, b);
            let calm = x.mxcsr & CALM_BITS == CALM
                && ordinary(a)
                && ordinary(b)
                && (2..$exponent - 1).contains(&exponent(result));
            let value = x.a & $others | u128::from(result.to_bits());
            calm.then_some(Output { value, raised: 0 })
        }
    };
}

calm!(calm_single, f32, split32, 0xff, 23, 0xffff_ffff_ffff_ffff_ffff_ffff_0000_0000);
calm!(calm_double, f64, split64, 0x7ff, 52, 0xffff_ffff_ffff_ffff_0000_0000_0000_0000);

macro_rules! scalar {
    ($($name:ident: $ranged:ident $calm:ident $operation:tt,)*) => {$(
        pub(super) fn $name(x: Input) -> Output {
            $calm(x, |a, b| a $operation b).unwrap_or_else(|| $ranged(x))
        }
    )*};
}

scalar! {
    addss: ranged_addss calm_single +,
    subss: ranged_subss calm_single -,
    mulss: ranged_mulss calm_single *,
    divss: ranged_divss calm_single /,
    addsd: ranged_addsd calm_double +,
    subsd: ranged_subsd calm_double -,
    mulsd: ranged_mulsd calm_double *,
    divsd: ranged_divsd calm_double /,
}

macro_rules! ranged {
    ($($function:ident: $name:ident $lanes:ident($count:literal) $operation:ident by $one:ident,)*) => {$(
        pub(super) fn $function(x: Input) -> Output {
            let output = native::$name(x);
            let each = (Lanes::$lanes($count), Operation::$operation, native::$one as Float);
            Output::new(output.value, raised(x, output.raised, each), x.mxcsr)
        }
    )*};
}

ranged! {
    addps: addps Singles(4) Add by addss,
    ranged_addss: addss Singles(1) Add by addss,
    addpd: addpd Doubles(2) Add by addsd,
    ranged_addsd: addsd Doubles(1) Add by addsd,
    subps: subps Singles(4) Subtract by subss,
    ranged_subss: subss Singles(1) Subtract by subss,
    subpd: subpd Doubles(2) Subtract by subsd,
    ranged_subsd: subsd Doubles(1) Subtract by subsd,
    mulps: mulps Singles(4) Multiply by mulss,
    ranged_mulss: mulss Singles(1) Multiply by mulss,
    mulpd: mulpd Doubles(2) Multiply by mulsd,
    ranged_mulsd: mulsd Doubles(1) Multiply by mulsd,
    divps: divps Singles(4) Divide by divss,
    ranged_divss: divss Singles(1) Divide by divss,
    divpd: divpd Doubles(2) Divide by divsd,
    ranged_divsd: divsd Doubles(1) Divide by divsd,
    cvtpd2ps: cvtpd2ps Singles(2) Narrow by cvtsd2ss,
    cvtsd2ss: cvtsd2ss Singles(1) Narrow by cvtsd2ss,
}

/// Exceptions of all lanes, from those of the whole with everything masked.
fn raised(x: Input, masked: u32, (lanes, operation, one): (Lanes, Operation, Float)) -> u32 {
    let unmasked = !(x.mxcsr >> 7) & (OVERFLOW | UNDERFLOW);
    if unmasked == 0 {
        return masked;
    }
    let lane = |n: usize| {
        let (a, b) = operands(x, lanes, operation, n);
        let Output { value, raised } = one(Input { a: a.into(), b: b.into(), ..x });
        let tiny = if tiny(value, lanes) { UNDERFLOW } else { 0 };
        if (raised | tiny) & unmasked == 0 {
            return raised;
        }
        let inexact = if inexact(a, b, lanes, operation, x.mxcsr) { INEXACT } else { 0 };
        raised & !INEXACT | tiny | inexact
    };
    let (Lanes::Singles(count) | Lanes::Doubles(count)) = lanes;
    (0..count).map(lane).fold(0, |all, raised| all | raised)
}

/// One lane of destination and source.
fn operands(x: Input, lanes: Lanes, operation: Operation, n: usize) -> (u64, u64) {
    match lanes {
        Lanes::Singles(_) if operation != Operation::Narrow => {
            (split32(x.a)[n].into(), split32(x.b)[n].into())
        }
        Lanes::Singles(_) | Lanes::Doubles(_) => (split64(x.a)[n], split64(x.b)[n]),
    }
}

/// Whether a result is not zero and too small for a full significand.
fn tiny(value: u128, lanes: Lanes) -> bool {
    match lanes {
        Lanes::Singles(_) => (1..1 << 23).contains(&(split32(value)[0] & 0x7fff_ffff)),
        Lanes::Doubles(_) => (1..1 << 52).contains(&(split64(value)[0] & !(1 << 63))),
    }
}

/// Whether the result would be inexact with any exponent.
fn inexact(a: u64, b: u64, lanes: Lanes, operation: Operation, mxcsr: u32) -> bool {
    let precision = match lanes {
        Lanes::Singles(_) => X87_SINGLE,
        Lanes::Doubles(_) => X87_DOUBLE,
    };
    // Both have two bits of rounding, with the same meaning.
    let rounding = u16::try_from(mxcsr >> 13 & 3).expect("two bits");
    let mut image = Image::new(X87_MASKED | precision | rounding << 10, 0, 0, [[0; 10]; 8]);
    let mut step = |opcode: u8, field: u8, number: u64| {
        let mut outside = Outside::default();
        outside.memory[..8].copy_from_slice(&number.to_le_bytes());
        native_x87::carry_out(opcode, field << 3, &mut image, &mut outside);
    };
    match (operation, lanes) {
        (Operation::Narrow, _) => {
            step(0xdd, 0, b);
            step(0xdc, Operation::Multiply as u8, 1f64.to_bits());
        }
        (_, Lanes::Singles(_)) => {
            step(0xd9, 0, a);
            step(0xd8, operation as u8, b);
        }
        (_, Lanes::Doubles(_)) => {
            step(0xdd, 0, a);
            step(0xdc, operation as u8, b);
        }
    }
    image.status & X87_INEXACT != 0
}

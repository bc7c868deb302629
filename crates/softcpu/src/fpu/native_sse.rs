//! Floating-point arithmetic of SSE on the host's own SSE.
//!
//! Every function carries out its instruction with the guest's rounding, flush-to-zero and
//! denormals-are-zeros and with all exceptions masked, and gives back which exceptions it raised.
//! Only instructions of SSE and SSE2 are used, which every x86-64 processor has.
#![allow(unsafe_code, reason = "the host's SSE by inline assembly")]

use std::{
    arch::{asm, x86_64::__m128i},
    mem,
};

use super::{
    float::{Input, Output},
    vector::lanes::split64,
};

/// Bits of mxcsr that an instruction obeys: rounding, flush-to-zero, denormals-are-zeros.
const OBEYED: u32 = 0xe040;
/// All exceptions masked.
const MASKED: u32 = 0x1f80;
/// Underflow's mask.
const UNDERFLOW_MASK: u32 = 1 << 11;
/// Counts only where underflow is masked.
const FLUSH_TO_ZERO: u32 = 1 << 15;

/// mxcsr for the guest's instruction, and the one that Rust wants afterwards: the default.
fn words(mxcsr: u32) -> [u32; 2] {
    let ignored = if mxcsr & UNDERFLOW_MASK == 0 { FLUSH_TO_ZERO } else { 0 };
    [mxcsr & OBEYED & !ignored | MASKED, MASKED]
}

#[inline]
pub(super) fn vector(value: u128) -> __m128i {
    // SAFETY: 16 bytes of which every pattern is a value.
    unsafe { mem::transmute(value) }
}

#[inline]
pub(super) fn value(vector: __m128i) -> u128 {
    // SAFETY: 16 bytes of which every pattern is a value.
    unsafe { mem::transmute(vector) }
}

/// Instructions of two vectors.
macro_rules! vectors {
    ($($name:ident,)*) => {$(
        pub(super) fn $name(x: Input) -> Output {
            let (mut result, source) = (vector(x.a), vector(x.b));
            let mut words = words(x.mxcsr);
            // SAFETY: SSE2 on registers; both words of mxcsr are in `words`, and Rust's is back
            // at the end.
            unsafe {
                asm!(
                    "ldmxcsr [{words}]",
                    concat!(stringify!($name), " {result}, {source}"),
                    "stmxcsr [{words}]",
                    "ldmxcsr [{words} + 4]",
                    words = in(reg) &mut words,
                    result = inout(xmm_reg) result,
                    source = in(xmm_reg) source,
                    options(nostack, preserves_flags),
                );
            }
            Output::new(value(result), words[0], x.mxcsr)
        }
    )*};
}

vectors! {
    addps, addss, addpd, addsd,
    subps, subss, subpd, subsd,
    mulps, mulss, mulpd, mulsd,
    divps, divss, divpd, divsd,
    minps, minss, minpd, minsd,
    maxps, maxss, maxpd, maxsd,
    sqrtps, sqrtss, sqrtpd, sqrtsd,
    rcpps, rcpss, rsqrtps, rsqrtss,
    cvtdq2ps, cvtps2dq, cvttps2dq,
    cvtdq2pd, cvtpd2dq, cvttpd2dq,
    cvtps2pd, cvtss2sd, cvtpd2ps, cvtsd2ss,
}

/// Comparisons by a predicate, the immediate's lower three bits.
macro_rules! compares {
    ($($name:ident $with:ident,)*) => {$(
        fn $with<const PREDICATE: u8>(x: Input) -> Output {
            let (mut result, source) = (vector(x.a), vector(x.b));
            let mut words = words(x.mxcsr);
            // SAFETY: as of the instructions above.
            unsafe {
                asm!(
                    "ldmxcsr [{words}]",
                    concat!(stringify!($name), " {result}, {source}, {predicate}"),
                    "stmxcsr [{words}]",
                    "ldmxcsr [{words} + 4]",
                    words = in(reg) &mut words,
                    result = inout(xmm_reg) result,
                    source = in(xmm_reg) source,
                    predicate = const PREDICATE,
                    options(nostack, preserves_flags),
                );
            }
            Output::new(value(result), words[0], x.mxcsr)
        }

        pub(super) fn $name(x: Input) -> Output {
            match x.imm & 7 {
                0 => $with::<0>(x),
                1 => $with::<1>(x),
                2 => $with::<2>(x),
                3 => $with::<3>(x),
                4 => $with::<4>(x),
                5 => $with::<5>(x),
                6 => $with::<6>(x),
                _ => $with::<7>(x),
            }
        }
    )*};
}

compares! {
    cmpps cmpps_with, cmpss cmpss_with, cmppd cmppd_with, cmpsd cmpsd_with,
}

/// Instructions from a vector to a general register.
macro_rules! to_register {
    ($($name:ident $text:literal $width:ty,)*) => {$(
        pub(super) fn $name(x: Input) -> Output {
            let source = vector(x.b);
            let result: $width;
            let mut words = words(x.mxcsr);
            // SAFETY: as of the instructions above.
            unsafe {
                asm!(
                    "ldmxcsr [{words}]",
                    $text,
                    "stmxcsr [{words}]",
                    "ldmxcsr [{words} + 4]",
                    words = in(reg) &mut words,
                    result = out(reg) result,
                    source = in(xmm_reg) source,
                    options(nostack, preserves_flags),
                );
            }
            Output::new(result.into(), words[0], x.mxcsr)
        }
    )*};
}

to_register! {
    cvtss2si_32 "cvtss2si {result:e}, {source}" u32,
    cvtss2si_64 "cvtss2si {result:r}, {source}" u64,
    cvttss2si_32 "cvttss2si {result:e}, {source}" u32,
    cvttss2si_64 "cvttss2si {result:r}, {source}" u64,
    cvtsd2si_32 "cvtsd2si {result:e}, {source}" u32,
    cvtsd2si_64 "cvtsd2si {result:r}, {source}" u64,
    cvttsd2si_32 "cvttsd2si {result:e}, {source}" u32,
    cvttsd2si_64 "cvttsd2si {result:r}, {source}" u64,
}

/// Instructions from an integer, which is in the source's lowest 64 bits.
macro_rules! from_register {
    ($($name:ident $text:literal,)*) => {$(
        pub(super) fn $name(x: Input) -> Output {
            let mut result = vector(x.a);
            let [source, _] = split64(x.b);
            let mut words = words(x.mxcsr);
            // SAFETY: as of the instructions above.
            unsafe {
                asm!(
                    "ldmxcsr [{words}]",
                    $text,
                    "stmxcsr [{words}]",
                    "ldmxcsr [{words} + 4]",
                    words = in(reg) &mut words,
                    result = inout(xmm_reg) result,
                    source = in(reg) source,
                    options(nostack, preserves_flags),
                );
            }
            Output::new(value(result), words[0], x.mxcsr)
        }
    )*};
}

from_register! {
    cvtsi2ss_32 "cvtsi2ss {result}, {source:e}",
    cvtsi2ss_64 "cvtsi2ss {result}, {source:r}",
    cvtsi2sd_32 "cvtsi2sd {result}, {source:e}",
    cvtsi2sd_64 "cvtsi2sd {result}, {source:r}",
}

/// Comparisons into flags: the result is CF, PF and ZF at their places in rflags.
macro_rules! to_flags {
    ($($name:ident,)*) => {$(
        pub(super) fn $name(x: Input) -> Output {
            let (first, second) = (vector(x.a), vector(x.b));
            let flags: u64;
            let mut words = words(x.mxcsr);
            // SAFETY: as of the instructions above, and what is pushed is taken back.
            unsafe {
                asm!(
                    "ldmxcsr [{words}]",
                    concat!(stringify!($name), " {first}, {second}"),
                    "stmxcsr [{words}]",
                    "ldmxcsr [{words} + 4]",
                    "pushfq",
                    "pop {flags}",
                    words = in(reg) &mut words,
                    first = in(xmm_reg) first,
                    second = in(xmm_reg) second,
                    flags = out(reg) flags,
                );
            }
            Output::new((flags & 0x45).into(), words[0], x.mxcsr)
        }
    )*};
}

to_flags! {
    comiss, ucomiss, comisd, ucomisd,
}

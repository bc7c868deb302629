//! SSE instructions on floating-point values: what is not one instruction of the host's SSE2 is
//! put together of some, or rounded by hand.

mod range;
mod round;

use std::array;

use iced_x86::{Code, Mnemonic};

use super::{
    native_sse as native,
    vector::lanes::{join32, join64, split32, split64},
};

/// What such an instruction is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input {
    /// The destination's old value; 0 where it is a general register.
    pub(super) a: u128,
    /// The source.
    pub(super) b: u128,
    /// The immediate byte, or 0.
    pub(super) imm: u8,
    /// Control and status.
    pub(super) mxcsr: u32,
}

/// What comes of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    /// The destination's new value, or flags.
    pub(super) value: u128,
    /// Exceptions, as bits of mxcsr.
    pub(super) raised: u32,
}

/// The exceptions' flags in mxcsr; their masks are seven bits higher.
const FLAGS: u32 = 0x3f;

/// Exceptions found before a result is made: invalid, denormal, divide by zero. One of them that
/// is not masked leaves the others unlooked for.
const BEFORE_RESULT: u32 = 0x7;

impl Output {
    /// What comes of one operation that raised these exceptions while all were masked.
    pub(super) fn new(value: u128, raised: u32, mxcsr: u32) -> Output {
        let found = if raised & BEFORE_RESULT & !(mxcsr >> 7) == 0 { FLAGS } else { BEFORE_RESULT };
        Output { value, raised: raised & found }
    }
}

/// What an instruction does to values.
pub(super) type Float = fn(Input) -> Output;

/// The function of an instruction whose result goes to its first operand.
#[expect(clippy::wildcard_enum_match_arm, reason = "thousands of other instructions")]
pub(super) fn of(mnemonic: Mnemonic) -> Option<Float> {
    use Mnemonic as M;
    Some(match mnemonic {
        M::Addps => range::addps,
        M::Addss => range::addss,
        M::Addpd => range::addpd,
        M::Addsd => range::addsd,
        M::Subps => range::subps,
        M::Subss => range::subss,
        M::Subpd => range::subpd,
        M::Subsd => range::subsd,
        M::Mulps => range::mulps,
        M::Mulss => range::mulss,
        M::Mulpd => range::mulpd,
        M::Mulsd => range::mulsd,
        M::Divps => range::divps,
        M::Divss => range::divss,
        M::Divpd => range::divpd,
        M::Divsd => range::divsd,
        M::Minps => native::minps,
        M::Minss => native::minss,
        M::Minpd => native::minpd,
        M::Minsd => native::minsd,
        M::Maxps => native::maxps,
        M::Maxss => native::maxss,
        M::Maxpd => native::maxpd,
        M::Maxsd => native::maxsd,
        M::Sqrtps => native::sqrtps,
        M::Sqrtss => native::sqrtss,
        M::Sqrtpd => native::sqrtpd,
        M::Sqrtsd => native::sqrtsd,
        M::Rcpps => native::rcpps,
        M::Rcpss => native::rcpss,
        M::Rsqrtps => native::rsqrtps,
        M::Rsqrtss => native::rsqrtss,
        M::Cmpps => native::cmpps,
        M::Cmpss => native::cmpss,
        M::Cmppd => native::cmppd,
        M::Cmpsd => native::cmpsd,
        M::Cvtdq2ps => native::cvtdq2ps,
        M::Cvtps2dq => native::cvtps2dq,
        M::Cvttps2dq => native::cvttps2dq,
        M::Cvtdq2pd | M::Cvtpi2pd => native::cvtdq2pd,
        M::Cvtpd2dq | M::Cvtpd2pi => native::cvtpd2dq,
        M::Cvttpd2dq | M::Cvttpd2pi => native::cvttpd2dq,
        M::Cvtps2pd => native::cvtps2pd,
        M::Cvtss2sd => native::cvtss2sd,
        M::Cvtpd2ps => range::cvtpd2ps,
        M::Cvtsd2ss => range::cvtsd2ss,
        M::Cvtpi2ps => |x| {
            let output = native::cvtdq2ps(Input { b: x.b & LOW, ..x });
            Output { value: x.a & !LOW | output.value & LOW, ..output }
        },
        M::Cvtps2pi => |x| native::cvtps2dq(Input { b: x.b & LOW, ..x }),
        M::Cvttps2pi => |x| native::cvttps2dq(Input { b: x.b & LOW, ..x }),
        M::Addsubps => addsubps,
        M::Addsubpd => addsubpd,
        M::Haddps => |x| range::addps(pairs32(x)),
        M::Hsubps => |x| range::subps(pairs32(x)),
        M::Haddpd => |x| range::addpd(pairs64(x)),
        M::Hsubpd => |x| range::subpd(pairs64(x)),
        M::Dpps => dpps,
        M::Dppd => dppd,
        M::Roundps => round::roundps,
        M::Roundss => round::roundss,
        M::Roundpd => round::roundpd,
        M::Roundsd => round::roundsd,
        _ => return None,
    })
}

/// The function of a conversion from or to a general register.
#[expect(clippy::wildcard_enum_match_arm, reason = "thousands of other instructions")]
pub(super) fn with_register(code: Code) -> Option<Float> {
    Some(match code {
        Code::Cvtss2si_r32_xmmm32 => native::cvtss2si_32,
        Code::Cvtss2si_r64_xmmm32 => native::cvtss2si_64,
        Code::Cvttss2si_r32_xmmm32 => native::cvttss2si_32,
        Code::Cvttss2si_r64_xmmm32 => native::cvttss2si_64,
        Code::Cvtsd2si_r32_xmmm64 => native::cvtsd2si_32,
        Code::Cvtsd2si_r64_xmmm64 => native::cvtsd2si_64,
        Code::Cvttsd2si_r32_xmmm64 => native::cvttsd2si_32,
        Code::Cvttsd2si_r64_xmmm64 => native::cvttsd2si_64,
        Code::Cvtsi2ss_xmm_rm32 => native::cvtsi2ss_32,
        Code::Cvtsi2ss_xmm_rm64 => native::cvtsi2ss_64,
        Code::Cvtsi2sd_xmm_rm32 => native::cvtsi2sd_32,
        Code::Cvtsi2sd_xmm_rm64 => native::cvtsi2sd_64,
        _ => return None,
    })
}

/// The function of a comparison into rflags.
#[expect(clippy::wildcard_enum_match_arm, reason = "thousands of other instructions")]
pub(super) fn to_flags(mnemonic: Mnemonic) -> Option<Float> {
    match mnemonic {
        Mnemonic::Comiss => Some(native::comiss),
        Mnemonic::Ucomiss => Some(native::ucomiss),
        Mnemonic::Comisd => Some(native::comisd),
        Mnemonic::Ucomisd => Some(native::ucomisd),
        _ => None,
    }
}

const LOW: u128 = u64::MAX as u128;

/// Lanes that `addsubps` subtracts: the even ones. Lanes of zeros raise nothing.
const EVEN: u128 = 0x0000_0000_ffff_ffff_0000_0000_ffff_ffff;

fn addsubps(x: Input) -> Output {
    let difference = range::subps(Input { a: x.a & EVEN, b: x.b & EVEN, ..x });
    let sum = range::addps(Input { a: x.a & !EVEN, b: x.b & !EVEN, ..x });
    joined(difference, sum, EVEN, x.mxcsr)
}

fn addsubpd(x: Input) -> Output {
    let difference = range::subpd(Input { a: x.a & LOW, b: x.b & LOW, ..x });
    let sum = range::addpd(Input { a: x.a & !LOW, b: x.b & !LOW, ..x });
    joined(difference, sum, LOW, x.mxcsr)
}

fn joined(even: Output, odd: Output, mask: u128, mxcsr: u32) -> Output {
    let value = even.value & mask | odd.value & !mask;
    Output::new(value, even.raised | odd.raised, mxcsr)
}

/// The even lanes of destination and source, and the odd ones beside them.
fn pairs32(x: Input) -> Input {
    let (a, b) = (split32(x.a), split32(x.b));
    Input { a: join32([a[0], a[2], b[0], b[2]]), b: join32([a[1], a[3], b[1], b[3]]), ..x }
}

fn pairs64(x: Input) -> Input {
    let (a, b) = (split64(x.a), split64(x.b));
    Input { a: join64([a[0], b[0]]), b: join64([a[1], b[1]]), ..x }
}

/// Products of the lanes that the immediate's upper half chooses, summed in pairs, in the lanes
/// that its lower half chooses. Each step finds its exceptions by itself; what comes after an exception that is not masked is not done.
fn dpps(x: Input) -> Output {
    let chosen = |vector| {
        let lanes = split32(vector);
        join32(array::from_fn(|n| if x.imm >> (4 + n) & 1 == 1 { lanes[n] } else { 0 }))
    };
    let mut raised = 0;
    let mut step = |f: Float, a: [u32; 4], b: [u32; 4]| {
        if raised & !(x.mxcsr >> 7) != 0 {
            return [0; 4];
        }
        let output = f(Input { a: join32(a), b: join32(b), ..x });
        raised |= output.raised;
        split32(output.value)
    };
    let [p0, p1, p2, p3] = step(range::mulps, split32(chosen(x.a)), split32(chosen(x.b)));
    let [low, high, ..] = step(range::addps, [p0, p2, 0, 0], [p1, p3, 0, 0]);
    let [sum, ..] = step(range::addss, [low, 0, 0, 0], [high, 0, 0, 0]);
    let value = join32(array::from_fn(|n| if x.imm >> n & 1 == 1 { sum } else { 0 }));
    Output { value, raised }
}

fn dppd(x: Input) -> Output {
    let chosen = |vector| {
        let lanes = split64(vector);
        join64(array::from_fn(|n| if x.imm >> (4 + n) & 1 == 1 { lanes[n] } else { 0 }))
    };
    let products = range::mulpd(Input { a: chosen(x.a), b: chosen(x.b), ..x });
    if products.raised & !(x.mxcsr >> 7) != 0 {
        return products;
    }
    let [low, high] = split64(products.value);
    let sum = range::addsd(Input { a: low.into(), b: high.into(), ..x });
    let [lane, _] = split64(sum.value);
    let value = join64(array::from_fn(|n| if x.imm >> n & 1 == 1 { lane } else { 0 }));
    Output { value, raised: products.raised | sum.raised }
}

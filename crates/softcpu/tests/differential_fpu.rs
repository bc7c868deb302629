//! Floating-point instructions against the host's own processor, every register, flag and byte.
//!
//! `SOFTCPU_CASES` sets how many cases, `SOFTCPU_SEED` where they begin; a failure prints the case
//! so that it can be kept in `native/regressions.rs`.

#[path = "native/encodings.rs"]
mod encodings;
#[path = "native/fpu_case.rs"]
mod fpu_case;
#[path = "native/fpu_leeway.rs"]
mod fpu_leeway;
#[path = "native/host.rs"]
mod host;
#[path = "native/model.rs"]
mod model;
#[path = "native/random.rs"]
mod random;
#[path = "native/regressions.rs"]
mod regressions;

use encodings::Family;
use fpu_case::check_random;
use host::Host;
use testkit::need;

/// How many cases of each family without `SOFTCPU_CASES`: some ten for each encoding.
const CASES: usize = 8_000;

fn setting(name: &str) -> Option<usize> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn check(family: Family) {
    let host = Host::new();
    if !need::ptrace(host.is_ok()) {
        return;
    }
    let seed = setting("SOFTCPU_SEED").unwrap_or(1) as u64;
    let cases = setting("SOFTCPU_CASES").unwrap_or(CASES);
    check_random(&mut host.expect("a child to trace"), family, seed, cases);
}

#[test]
fn x87_does_what_the_host_does() {
    check(Family::X87);
}

#[test]
fn mmx_and_sse2_do_what_the_host_does() {
    check(Family::Sse);
}

#[test]
fn ssse3_and_sse4_do_what_the_host_does() {
    check(Family::Later);
}

#[test]
fn what_was_found_before_stays_right() {
    let host = Host::new();
    if !need::ptrace(host.is_ok()) {
        return;
    }
    let mut host = host.expect("a child to trace");
    for found in regressions::FOUND {
        if let Err(difference) = fpu_case::check(&mut host, &found.case()) {
            panic!("{}: {difference}", found.why);
        }
    }
}

#[test]
fn every_instruction_of_x87_to_sse42_is_there() {
    let encodings = encodings::all();
    let missing: Vec<_> = encodings
        .iter()
        .filter(|encoding| {
            let bytes = encoding.random(&mut random::Random::new(1));
            !encodings::decode(64, &bytes).is_some_and(|found| softcpu::fpu::handles(&found))
        })
        .map(|encoding| encoding.code)
        .collect();
    assert!(encodings.len() > 700, "only {} encodings found", encodings.len());
    assert!(missing.is_empty(), "{missing:?}");
}

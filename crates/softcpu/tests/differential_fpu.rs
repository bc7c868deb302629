//! Floating-point instructions against the host's own processor, every register, flag and byte.
//!
//! `SOFTCPU_CASES` sets how many cases, `SOFTCPU_SEED` where they begin; a failure prints the case
//! so that it can be kept in `native/regressions.rs`.

#[path = "native/fpu_case.rs"]
mod fpu_case;
#[path = "native/host.rs"]
mod host;
#[path = "native/random.rs"]
mod random;

use fpu_case::{Family, check_random};
use host::Host;
use testkit::need;

/// How many cases of each family without `SOFTCPU_CASES`.
const CASES: u64 = 4_000;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn check(family: Family) {
    let host = Host::new();
    if !need::ptrace(host.is_ok()) {
        return;
    }
    let (seed, cases) = (setting("SOFTCPU_SEED", 1), setting("SOFTCPU_CASES", CASES));
    check_random(&mut host.expect("a child to trace"), family, seed, cases);
}

#[test]
fn x87_does_what_the_host_does() {
    check(Family::X87);
}

#[test]
fn sse_does_what_the_host_does() {
    check(Family::Sse);
}

#[test]
fn ssse3_and_sse4_do_what_the_host_does() {
    check(Family::Map38);
    check(Family::Map3a);
}

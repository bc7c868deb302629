//! Verdicts on recorded measurements, and on this host.

use super::*;

const ALL: [Trial; 7] = [
    Trial::Sse,
    Trial::Int3,
    Trial::Syscall,
    Trial::Cpuid,
    Trial::Popcnt,
    Trial::Cmpxchg16b,
    Trial::Xsave,
];

fn good() -> Run {
    Run {
        nested: false,
        model: Model::V3,
        rate: Some(3_400_000_000),
        exit_ns: Some(1_450),
        trials: ALL.map(|trial| (trial, Outcome::Works)).to_vec(),
    }
}

fn sentence(run: Run) -> String {
    let finding = judge(&Measured::Ran(run));
    assert!(!finding.is_usable());
    finding.to_string()
}

#[test]
fn a_good_host_is_used() {
    let finding = judge(&Measured::Ran(good()));
    assert!(finding.is_usable());
    let words = "/dev/kvm is usable: x86-64-v3, 3400 million instructions a second, 1.4 µs an exit";
    assert_eq!(finding.to_string(), words);
    // Nested on real hardware: exits are dear, and all works.
    let nested = Run { nested: true, exit_ns: Some(35_000), ..good() };
    assert!(judge(&Measured::Ran(nested)).is_usable());
}

#[test]
fn one_that_is_not_there_is_not() {
    let closed = |kind| judge(&Measured::Closed(kind));
    assert_eq!(closed(io::ErrorKind::NotFound).to_string(), "there is no /dev/kvm");
    let forbidden = closed(io::ErrorKind::PermissionDenied);
    assert!(!forbidden.is_usable());
    assert!(forbidden.to_string().contains("may not open it"));
    let other = closed(io::ErrorKind::ResourceBusy);
    assert_eq!(other.to_string(), "/dev/kvm is there, but makes no guest: resource busy");
    let failed = judge(&Measured::Failed("create the interrupt chips: no".to_owned()));
    assert!(failed.to_string().ends_with("makes no guest: create the interrupt chips: no"));
}

#[test]
fn one_that_breaks_instructions_is_refused_by_name() {
    let mut run = Run { nested: true, rate: Some(3_200_000), exit_ns: Some(8_000), ..good() };
    for (trial, outcome) in &mut run.trials {
        *outcome = match trial {
            Trial::Syscall | Trial::Cpuid => Outcome::Wrong,
            Trial::Int3 => Outcome::Hangs,
            Trial::Popcnt => Outcome::Faults(6),
            Trial::Sse => Outcome::Dies,
            Trial::Cmpxchg16b | Trial::Xsave => Outcome::Works,
        }
    }
    let words = "/dev/kvm is there, but it is a nested hypervisor that cannot be used: SSE and \
                 popcnt do not work; a system call from ring 3 and cpuid go wrong; int3 hangs; it \
                 carries out 3.2 million instructions a second";
    assert_eq!(sentence(run), words);
}

#[test]
fn one_that_is_slow_is_refused() {
    let slow = sentence(Run { rate: Some(RATE_MIN - 1), ..good() });
    assert!(slow.ends_with("cannot be used: it carries out 199 million instructions a second"));
    let dear = sentence(Run { exit_ns: Some(EXIT_NS_MAX + 1), ..good() });
    assert!(dear.ends_with("an exit takes 200.0 µs"));
    let stuck = sentence(Run { rate: None, exit_ns: None, ..good() });
    assert!(stuck.ends_with("a loop does not end; it never comes back"));
}

/// Whatever this machine has, the verdict follows from what was measured, and the guest saw to it
/// that every trial has an outcome.
#[test]
#[allow(clippy::print_stderr, reason = "says what this machine has")]
fn the_verdict_on_this_machine_follows_from_what_was_measured() {
    let started = std::time::Instant::now();
    let measured = measure();
    let took = started.elapsed();
    let finding = judge(&measured);
    eprintln!("{finding}\n{measured:?}, measured in {took:?}");
    let Measured::Ran(run) = &measured else {
        assert!(!finding.is_usable());
        return;
    };
    let works = run.trials.iter().all(|(_, outcome)| *outcome == Outcome::Works);
    let fast = run.rate.is_some_and(|rate| rate >= RATE_MIN);
    let cheap = run.exit_ns.is_some_and(|exit_ns| exit_ns <= EXIT_NS_MAX);
    assert_eq!(finding.is_usable(), works && fast && cheap);
    // xsave belongs to level 3.
    let least = ALL.len() - 1;
    let hangs = run.trials.iter().any(|(_, outcome)| *outcome == Outcome::Hangs);
    assert!(hangs || run.trials.len() >= least, "every trial has an outcome");
}

//! The suite under the host's own KVM, where this process can open it.
#![allow(clippy::print_stderr, reason = "a test that cannot run says so")]

use hv::{kvm::Kvm, suite::CASES};

/// The host's KVM, or a loud word that there is none.
fn kvm() -> Option<Kvm> {
    match Kvm::open() {
        Ok(kvm) => Some(kvm),
        Err(error) => {
            eprintln!("NOT TESTED: KVM cannot be used here: {error}");
            None
        }
    }
}

#[test]
fn the_suite_passes() {
    let Some(kvm) = kvm() else { return };
    for case in CASES {
        if case.sound {
            continue;
        }
        let started = std::time::Instant::now();
        (case.test)(&kvm);
        eprintln!("{}: {:?}", case.what, started.elapsed());
    }
}

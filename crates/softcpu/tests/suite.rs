//! What every backend has to do: the suite of `hv`, with its own guest, on the software processor;
//! and moves between it and the host's KVM, where there is one.
#![allow(clippy::print_stderr, reason = "a test that cannot run says so")]

use hv::{
    kvm::Kvm,
    probe::probe,
    suite::{CASES, chips_alike, moves_between},
};
use softcpu::Soft;

#[test]
fn the_suite_passes() {
    for case in CASES {
        eprintln!("{}", case.what);
        (case.test)(&Soft);
    }
}

#[test]
fn a_guest_moves_between_kvm_and_the_software_processor() {
    let kvm = match Kvm::open() {
        Ok(kvm) => kvm,
        Err(error) => {
            eprintln!("NOT TESTED: KVM cannot be used here: {error}");
            return;
        }
    };
    moves_between(&Soft, &kvm);
    moves_between(&kvm, &Soft);
}

/// The kernel's chips are the referee for ours.
#[test]
fn chips_do_what_kvms_do() {
    let Ok(kvm) = Kvm::open() else {
        eprintln!("NOT TESTED: KVM cannot be used here");
        return;
    };
    let sound = probe().is_usable();
    for seed in 0..4 {
        chips_alike(&kvm, &Soft, seed, 20, sound);
    }
}

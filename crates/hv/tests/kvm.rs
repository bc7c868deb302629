//! The suite under the host's own KVM, where this process can open it.
#![allow(clippy::print_stderr, reason = "a test that cannot run says so")]

use hv::{GuestMemory, Hypervisor as _, Model, Shape, kvm::Kvm, probe::probe, suite::CASES};

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
    let finding = probe();
    for case in CASES {
        if case.sound && !finding.is_usable() {
            eprintln!("NOT TESTED: {}: {finding}", case.what);
            continue;
        }
        eprintln!("{}", case.what);
        (case.test)(&kvm);
    }
}

#[test]
fn a_model_that_the_host_cannot_be_is_refused_by_what_it_lacks() {
    let Some(kvm) = kvm() else { return };
    for model in [Model::V1, Model::V2, Model::V3] {
        let memory = GuestMemory::new(1 << 20).unwrap();
        let made = kvm.create(memory, &Shape { vcpus: 1, model });
        let lacks = kvm.lacks(model).unwrap();
        match made {
            Ok(_) => assert_eq!(lacks, [""; 0]),
            Err(error) => {
                let words = format!("cannot be an {model}: it lacks {}", lacks.join(", "));
                assert!(error.to_string().ends_with(&words), "{error}");
            }
        }
    }
    let memory = GuestMemory::new(1 << 20).unwrap();
    assert!(kvm.create(memory, &Shape { vcpus: 0, model: Model::V1 }).is_err());
}

#[test]
fn memory_above_the_hole_is_watched_too() {
    let Some(kvm) = kvm() else { return };
    let memory = GuestMemory::new((3 << 30) + (4 << 20)).unwrap();
    let vm = kvm.create(memory.clone(), &Shape { vcpus: 1, model: Model::V1 }).unwrap();
    vm.log_dirty().unwrap();
    vm.log_dirty().unwrap();
    assert_eq!(memory.dirty().take(), [0usize; 0]);
    // What devices write is marked by the memory itself.
    memory.store(hv::memory::HOLE_END + (4 << 20) - 1, 1u8).unwrap();
    vm.log_dirty().unwrap();
    assert_eq!(memory.dirty().take(), [(3 << 18) + (4 << 8) - 1]);
}

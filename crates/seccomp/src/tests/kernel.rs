//! The kernel's own judgement of compiled filters. Needs no root: a filter may be loaded by
//! whoever gives up new privileges, and holds for the loading thread and its children only.

use std::{process::Command, thread};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketType, socket},
};
use sys::seccomp::{SockFilter, load};
use workload::{SeccompAction, SeccompPolicy, SeccompRule};

use super::default_capabilities;
use crate::{Arch, FilterFlags, Host, KernelVersion, Profile, compile};

/// Runs something under a policy, in a thread of its own.
fn under<T: Send>(policy: &SeccompPolicy, body: impl FnOnce() -> T + Send) -> T {
    let native = Arch::native().expect("tests run where the calls are known");
    let program: Vec<SockFilter> = compile(policy, native)
        .unwrap()
        .iter()
        .map(|i| SockFilter { code: i.code, jt: i.jt, jf: i.jf, k: i.k })
        .collect();
    let flags = FilterFlags::of(policy).unwrap().0;
    thread::scope(|scope| {
        let inside = scope.spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            let listener = load(&program, flags).unwrap();
            assert_eq!(listener.is_some(), flags & FilterFlags::NEW_LISTENER != 0);
            // A call would wait for a supervisor as long as there is one.
            drop(listener);
            body()
        });
        inside.join().unwrap()
    })
}

fn default_policy() -> SeccompPolicy {
    let capabilities = default_capabilities();
    let kernel = KernelVersion { major: 5, minor: 0 };
    let arch = Arch::native().expect("tests run where the calls are known");
    Profile::default_rules().resolve(Host { capabilities: &capabilities, arch, kernel })
}

#[test]
fn programs_run_under_the_default_rules() {
    under(&default_policy(), || {
        assert!(Command::new("/bin/true").status().unwrap().success());
        let output = Command::new("/bin/sh").args(["-c", "ls / | head -n 1; id"]).output().unwrap();
        assert!(output.status.success());
    });
}

#[test]
fn refused_calls_get_eperm() {
    // Without the filter these fail otherwise: the descriptor is no namespace, and a socket of
    // an unknown kind has a protocol that does not exist.
    let file = std::fs::File::open("/").unwrap();
    let vsock = || socket(AddressFamily::VSOCK, SocketType::from_raw(77), None).unwrap_err();
    let setns = || {
        let kind = rustix::thread::LinkNameSpaceType::Network;
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(kind))
            .unwrap_err()
    };
    assert_eq!(setns(), Errno::INVAL);
    assert_ne!(vsock(), Errno::PERM);
    under(&default_policy(), || {
        assert_eq!(setns(), Errno::PERM);
        assert_eq!(vsock(), Errno::PERM);
    });
}

#[test]
fn all_flags_are_taken() {
    let policy = SeccompPolicy {
        default_action: SeccompAction::Allow,
        architectures: Vec::new(),
        flags: vec!["SECCOMP_FILTER_FLAG_LOG".into(), "SECCOMP_FILTER_FLAG_SPEC_ALLOW".into()],
        rules: vec![SeccompRule {
            names: vec!["mkdir".into(), "mkdirat".into()],
            action: SeccompAction::Notify,
            args: Vec::new(),
        }],
    };
    // Where nobody listens any more the call is not there.
    let made = under(&policy, || std::fs::create_dir("/proc/nothing").unwrap_err());
    assert_eq!(made.raw_os_error(), Some(Errno::NOSYS.raw_os_error()));
}

#[test]
fn a_killed_call_ends_the_process() {
    use std::os::unix::process::ExitStatusExt;
    let policy = SeccompPolicy {
        default_action: SeccompAction::Allow,
        architectures: Vec::new(),
        flags: Vec::new(),
        rules: vec![SeccompRule {
            names: vec!["mkdir".into(), "mkdirat".into()],
            action: SeccompAction::KillProcess,
            args: Vec::new(),
        }],
    };
    let status = under(&policy, || Command::new("mkdir").arg("/proc/nothing").status().unwrap());
    assert_eq!(status.signal(), Some(31), "SIGSYS");
}

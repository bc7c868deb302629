//! What comes from clients, bundles, shims and the disk.

use seccomp::{Arch, Host, KernelVersion, Profile};
use wire::frame::{Decoder, Step};

/// Most instructions the kernel takes. Source: `BPF_MAXINSNS`, linux/bpf_common.h.
const INSTRUCTIONS_MAX: usize = 4096;

/// An OCI bundle's configuration.
pub(crate) fn oci_config(bytes: &[u8]) {
    linux::oci::fuzzing::config(bytes);
}

/// A seccomp profile, through to the program that the kernel would get.
pub(crate) fn seccomp(bytes: &[u8]) {
    let Ok(profile) = Profile::parse(bytes) else { return };
    let capabilities = [0, 21].into();
    let kernel = KernelVersion { major: 6, minor: 1 };
    let host = Host { capabilities: &capabilities, arch: Arch::X86_64, kernel };
    if let Ok(program) = seccomp::compile(&profile.resolve(host), Arch::X86_64) {
        assert!(!program.is_empty(), "a filter of no instructions");
        assert!(program.len() <= INSTRUCTIONS_MAX, "a filter that the kernel refuses");
    }
}

/// A shim's stream: the first byte says in which pieces the rest arrives.
pub(crate) fn frame(bytes: &[u8]) {
    let Some((piece, mut rest)) = bytes.split_first() else { return };
    let mut decoder = Decoder::default();
    loop {
        let space = decoder.space();
        let count = space.len().min(rest.len()).min(usize::from(*piece) + 1);
        let Some((now, later)) = rest.split_at_checked(count) else { return };
        space.iter_mut().zip(now).for_each(|(place, byte)| *place = *byte);
        rest = later;
        match decoder.received(count, Vec::new()) {
            Ok(Step::More) => {}
            Ok(Step::Frame(frame)) => message(&frame.body),
            Ok(Step::End) | Err(_) => return,
        }
    }
}

fn message(body: &[u8]) {
    let _ = serde_json::from_slice::<shim::protocol::Hello>(body);
    let _ = serde_json::from_slice::<shim::protocol::Welcome>(body);
    let _ = serde_json::from_slice::<shim::protocol::Call>(body);
    let _ = serde_json::from_slice::<shim::protocol::Answer>(body);
    let _ = serde_json::from_slice::<api::Request>(body);
    let _ = serde_json::from_slice::<api::Reply>(body);
}

/// What a registry says that it wants to see.
pub(crate) fn challenge(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for challenge in registry::challenge::parse(text) {
        if let registry::challenge::Challenge::Bearer { realm, .. } = challenge {
            assert!(!realm.is_empty() && realm.len() <= text.len(), "a realm out of nothing");
        }
    }
}

/// A journal of records.
pub(crate) fn journal(bytes: &[u8]) {
    engine::fuzzing::journal(bytes);
}

/// A stored record.
pub(crate) fn record(bytes: &[u8]) {
    engine::fuzzing::record(bytes);
}

/// A request of Docker's clients to make a container, and one to change it.
pub(crate) fn docker_create(bytes: &[u8]) {
    docker::fuzzing::create(bytes);
}

/// What a client sends over a WebSocket.
pub(crate) fn websocket(bytes: &[u8]) {
    docker::fuzzing::websocket(bytes);
}

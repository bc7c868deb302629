//! What a fuzzer calls.

use std::{os::fd::OwnedFd, time::Duration};

use super::{
    Export, Limits, Server,
    wire::{Op, Request},
};

/// Most bytes that a request may have the host allocate or copy.
const BYTES_MAX: u64 = 1 << 20;

/// Requests of a guest's, each with a byte before it that says how long it is, to a server of this
/// directory.
pub fn requests(root: OwnedFd, bytes: &[u8]) {
    let limits = Limits { inodes: 50, descriptors: 10, handles: 10 };
    let valid = Duration::ZERO;
    let export = Export { root, only: None, read_only: false, valid, limits, watch: true };
    let Ok(mut server) = Server::new(export) else { return };
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first() {
        let (request, after) = after.split_at(usize::from(*length).min(after.len()));
        let room = usize::from(*length) * 16;
        rest = after;
        if is_costly(request) {
            continue;
        }
        if let Some(answer) = server.handle(request, room) {
            assert!(answer.len() <= room, "an answer that has no room");
        }
    }
    server.changes();
    let saved = server.save();
    server.reset();
    server.restore(&saved);
}

/// Whether a request would fill the disk of whoever fuzzes, which is right and not of interest.
fn is_costly(request: &[u8]) -> bool {
    let Some((asked, mut args)) = Request::parse(request) else { return false };
    let at = match Op::from_number(asked.number) {
        Some(Op::FAllocate) => 16,
        Some(Op::CopyFileRange) => 40,
        _ => return matches!(Op::from_number(asked.number), Some(Op::SyncFs)),
    };
    args.bytes(at).and_then(|_| args.u64()).is_ok_and(|bytes| bytes > BYTES_MAX)
}

/// A script of a hostile driver's, over a directory that it cannot change: see
/// [`crate::fuzzing::device`].
pub fn device(root: OwnedFd, script: &[u8]) {
    let limits = Limits { inodes: 50, descriptors: 10, handles: 10 };
    let valid = Duration::ZERO;
    let export = Export { root, only: None, read_only: true, valid, limits, watch: false };
    let Ok(server) = Server::new(export) else { return };
    let Ok(device) = super::Fs::new("volume", Box::new(server)) else { return };
    crate::fuzzing::device(device, script);
}

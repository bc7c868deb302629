//! What a fuzzer calls.

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, socketpair};

use super::{
    Net, Options,
    filter::{Command, Filter},
    header::{HEADER_BYTES, Header},
};

/// A header before a frame of some length, under some features; then commands for the filter, each
/// with its length before it.
pub fn headers(bytes: &[u8]) {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return };
    let Some(([low, high, features @ ..], rest)) = rest.split_first_chunk::<10>() else { return };
    let frame = usize::from(u16::from_le_bytes([*low, *high]));
    let features = u64::from_le_bytes(*features);
    if let Ok(sent) = Header::parse(*header).for_host(features, frame) {
        assert!(sent.fits(frame), "{sent:?} before {frame} bytes");
    }
    let mut filter = Filter::default();
    let mut own = [2, 0, 0, 0, 0, 1];
    let mut rest = rest;
    while let Some(([length], after)) = rest.split_first_chunk::<1>() {
        let (command, after) = after.split_at(usize::from(*length).min(after.len()));
        if let Some(Command::Address(address)) = filter.command(command) {
            own = address;
        }
        filter.wants(own, command);
        rest = after;
    }
}

/// A device whose link leads nowhere, if the host has sockets and timers.
pub fn unplugged() -> Option<Net> {
    let made = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::NONBLOCK, None);
    Net::over(made.ok()?.0, false, Options::default()).ok()
}

/// A script of a hostile driver's: see [`crate::fuzzing::device`]. Frames wait for it.
pub fn device(script: &[u8]) {
    let made = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::NONBLOCK, None);
    let Ok((near, far)) = made else { return };
    let Ok(device) = Net::over(near, false, Options::default()) else { return };
    for bytes in [80, 3000, 9000] {
        // A socket that takes no more leaves fewer.
        let _ = rustix::net::send(&far, &vec![2; bytes], SendFlags::DONTWAIT);
    }
    crate::fuzzing::device(device, script);
}

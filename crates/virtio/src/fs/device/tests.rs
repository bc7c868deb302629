//! The device as a driver sees it.

use std::fs;

use super::*;
use crate::{
    fs::{
        Export, Limits, Server, VALID,
        tests::{args, request, u32_at, u64_at},
    },
    testing::{Buffer, Rig},
};

fn rig(dir: &tempfile::TempDir) -> Rig<Fs> {
    let root = fs::File::open(dir.path()).unwrap().into();
    let limits = Limits::default();
    let export = Export { root, only: None, read_only: false, valid: VALID, limits, watch: false };
    Rig::new(Fs::new("volume", Box::new(Server::new(export).unwrap())).unwrap(), 0)
}

fn begin(rig: &mut Rig<Fs>) {
    let init = request(26, 0, 0, 0, &args().u32(7).u32(36).u32(0).u32(0).0);
    let used = rig.request(1, &[Buffer::Read(&init), Buffer::Write(80)]).unwrap();
    assert_eq!((used.written, u32_at(&used.bytes, 4)), (80, 0));
}

#[test]
fn a_file_is_read_through_the_queue() {
    let dir = tempfile::tempdir().unwrap();
    let text: Vec<u8> = (0..100_000u32).map(|n| (n % 253) as u8).collect();
    fs::write(dir.path().join("file"), &text).unwrap();
    let mut rig = rig(&dir);
    let tag: Vec<u8> = (0..10).flat_map(|n| rig.get(0x100 + 4 * n).to_le_bytes()).collect();
    assert_eq!(tag, [&b"volume"[..], &[0; 30], &[1, 0, 0, 0]].concat());
    begin(&mut rig);
    let lookup = request(1, 1, 0, 0, &args().text("file").0);
    // As Linux cuts it: the header, the arguments, room for a header, room for the rest.
    let buffers = [
        Buffer::Read(&lookup[..40]),
        Buffer::Read(&lookup[40..]),
        Buffer::Write(16),
        Buffer::Write(128),
    ];
    let found = rig.request(1, &buffers).unwrap();
    assert_eq!((found.written, u32_at(&found.bytes, 4)), (144, 0));
    let node = u64_at(&found.bytes, 16);
    let open = request(14, node, 0, 0, &args().u64(0).0);
    let opened = rig.request(1, &[Buffer::Read(&open), Buffer::Write(32)]).unwrap();
    let handle = u64_at(&opened.bytes, 16);
    let read = args().u64(handle).u64(1000).u32(1 << 16).u32(0).u64(0).u64(0);
    let read = request(15, node, 0, 0, &read.0);
    let mut buffers = vec![Buffer::Read(&read), Buffer::Write(16)];
    buffers.extend([Buffer::Write(4096); 16]);
    let answer = rig.request(1, &buffers).unwrap();
    assert_eq!(answer.written, 16 + (1 << 16));
    assert!(answer.bytes[16..] == text[1000..1000 + (1 << 16)]);
    // What it forgets is not answered, and comes back.
    let forget = request(2, node, 0, 0, &args().u64(1).0);
    assert_eq!(rig.request(0, &[Buffer::Read(&forget)]).unwrap().written, 0);
    // An answer that has no room is none.
    let used = rig.request(1, &[Buffer::Read(&lookup), Buffer::Write(15)]).unwrap();
    assert_eq!(used.written, 0);
    assert_eq!(rig.request(1, &[Buffer::Read(&[1, 2, 3]), Buffer::Write(100)]).unwrap().written, 0);
}

#[test]
fn a_mounted_directory_survives_a_save() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "text").unwrap();
    let mut first = rig(&dir);
    begin(&mut first);
    let lookup = request(1, 1, 0, 0, &args().text("file").0);
    let found = first.request(1, &[Buffer::Read(&lookup), Buffer::Write(144)]).unwrap();
    let saved = first.with(|device, _| device.save());
    let mut second = rig(&dir);
    second.with(|device, _| device.restore(saved)).unwrap();
    let ask = request(3, u64_at(&found.bytes, 16), 0, 0, &args().u64(0).u64(0).0);
    let at = second.request(1, &[Buffer::Read(&ask), Buffer::Write(120)]).unwrap();
    assert_eq!((u32_at(&at.bytes, 4), u64_at(&at.bytes, 16 + 16 + 8)), (0, 4));
    // The driver begins anew: nothing is known.
    second.set(0x70, 0);
    second.renew(&SIZES);
    second.negotiate(1 << 32);
    let at = second.request(1, &[Buffer::Read(&ask), Buffer::Write(120)]).unwrap();
    assert_eq!(u32_at(&at.bytes, 4).cast_signed(), -5);
}

#[test]
fn requests_that_are_too_long_break_the_queue() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = rig(&dir);
    // The same memory many times: a megabyte needs no megabyte.
    let ring = &mut rig.rings[1];
    let at = ring.room(64 << 10);
    for n in 0..17 {
        ring.descriptor(n, at, 64 << 10, u16::from(n < 16), n + 1);
    }
    ring.offer(0);
    assert_eq!(rig.mmio.process(1), Err(QueueError::TooLarge));
}

#[test]
fn tags_that_cannot_be_mounted_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let long = "x".repeat(37);
    for tag in ["", "a\0b", &long] {
        let root = fs::File::open(dir.path()).unwrap().into();
        let limits = Limits::default();
        let export =
            Export { root, only: None, read_only: false, valid: VALID, limits, watch: false };
        assert!(Fs::new(tag, Box::new(Server::new(export).unwrap())).is_err());
    }
}

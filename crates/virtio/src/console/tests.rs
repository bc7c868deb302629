//! A console between a driver and a socket.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
};

use super::*;
use crate::testing::{Buffer, Rig};

fn console() -> (UnixStream, Rig<Console>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let input = theirs.try_clone().unwrap().into();
    (ours, Rig::new(Console::new(Some(input), Some(theirs.into())).unwrap(), F_SIZE))
}

#[test]
fn bytes_go_both_ways() {
    let (mut ours, mut rig) = console();
    assert_eq!(rig.request(0, &[Buffer::Write(3)]), None, "nobody typed anything");
    let used = rig.request(1, &[Buffer::Read(b"login"), Buffer::Read(b": ")]).unwrap();
    assert_eq!(used.written, 0);
    let mut bytes = [0; 100];
    assert_eq!(ours.read(&mut bytes).unwrap(), 7);
    assert_eq!(&bytes[..7], b"login: ");
    ours.write_all(b"root\n").unwrap();
    assert_eq!(rig.mmio.ready(INPUT).unwrap(), Default::default());
    let used = rig.rings[0].used().unwrap();
    assert_eq!((used.written, used.bytes.as_slice()), (3, b"roo".as_slice()));
    let used = rig.request(0, &[Buffer::Write(9)]).unwrap();
    assert_eq!((used.written, &used.bytes[..2]), (2, b"t\n".as_slice()));
}

#[test]
fn a_host_that_does_not_read_makes_the_guest_wait() {
    let (mut ours, mut rig) = console();
    let pattern: Vec<u8> = (0..900_000u32).map(|n| n.to_le_bytes()[n as usize % 4]).collect();
    assert_eq!(rig.request(1, &[Buffer::Read(&pattern)]), None);
    // It goes on where it was, before and after it was saved.
    let saved = rig.mmio.save().unwrap();
    let mut got: Vec<u8> = Vec::new();
    let mut bytes = vec![0; 1 << 16];
    let mut waited = 0;
    while got.len() < pattern.len() {
        match ours.read(&mut bytes) {
            Ok(came) => got.extend(&bytes[..came]),
            Err(_) => {
                waited += 1;
                if waited == 1 {
                    rig.with(|console, _| console.state.taken = 0);
                    rig.mmio.restore(saved.clone()).unwrap();
                }
                let _ = rig.mmio.ready(OUTPUT).unwrap();
            }
        }
    }
    assert!(waited > 1 && got == pattern, "{waited}");
    assert!(rig.rings[1].used().is_some());
    assert_eq!(rig.rings[1].used(), None);
}

#[test]
fn a_guest_that_does_not_read_makes_the_host_wait() {
    let (mut ours, mut rig) = console();
    let mut went = 0;
    while let Ok(bytes) = ours.write(&[b'x'; 1000]) {
        let _ = rig.mmio.ready(INPUT).unwrap();
        went += bytes;
    }
    let mut came = 0;
    while let Some(used) = rig.request(0, &[Buffer::Write(5000)]) {
        came += used.written as usize;
    }
    assert_eq!(came, went);
}

#[test]
fn a_host_that_is_gone_stops_nobody() {
    let (ours, mut rig) = console();
    drop(ours);
    assert!(rig.request(1, &[Buffer::Read(&[1; 100_000])]).is_some());
    assert_eq!(rig.request(0, &[Buffer::Write(3)]), None);
    let mut rig = Rig::new(Console::new(None, None).unwrap(), 0);
    assert!(rig.request(1, &[Buffer::Read(b"x")]).is_some());
    assert_eq!(rig.request(0, &[Buffer::Write(3)]), None);
    rig.mmio.sources(|source| panic!("{source:?}"));
}

#[test]
fn files_take_all_and_are_not_waited_for() {
    let file = tempfile::tempfile().unwrap();
    let log = file.try_clone().unwrap();
    let mut rig = Rig::new(Console::new(None, Some(log.into())).unwrap(), 0);
    assert!(rig.request(1, &[Buffer::Read(&[b'a'; 10_000])]).is_some());
    assert_eq!(file.metadata().unwrap().len(), 10_000);
    rig.mmio.sources(|source| panic!("{source:?}"));
    rig.mmio.write(0x108, b"!\0\0\0").unwrap();
    assert_eq!(file.metadata().unwrap().len(), 10_001, "a byte in an emergency");
}

#[test]
fn the_driver_hears_of_another_size() {
    let (_ours, rig) = console();
    rig.with(|console, queues| console.resize(80, 24, queues));
    assert_eq!([rig.get(0x60), rig.get(0xfc), rig.get(0x100)], [2, 1, 24 << 16 | 80]);
    assert_eq!(rig.get(0x104), 1);
    let mut tokens = Vec::new();
    rig.mmio.sources(|source| tokens.push((source.token, source.wake)));
    assert_eq!(tokens, [(INPUT, Wake::Edge), (OUTPUT, Wake::Edge)]);
}

#[test]
fn buffers_of_nothing_are_given_back() {
    let (mut ours, mut rig) = console();
    ours.write_all(b"x").unwrap();
    assert_eq!(rig.request(0, &[Buffer::Read(b"no room")]).unwrap().written, 0);
    assert_eq!(rig.request(0, &[Buffer::Write(1)]).unwrap().bytes, b"x");
    assert_eq!(rig.request(1, &[Buffer::Write(4)]).unwrap().written, 0);
}

//! The device as a driver sees it.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
};

use super::{
    super::{HOST_CID, Op},
    *,
};
use crate::testing::{Buffer, Rig};

const CID: u64 = 42;

fn rig() -> Rig<Vsock> {
    let config = Config { cid: CID, listener: None, path: None };
    Rig::new(Vsock::new(config).unwrap(), 0)
}

fn packet(host_port: u32, op: Op, bytes: u32) -> Vec<u8> {
    let header = Header {
        source_cid: CID,
        target_cid: HOST_CID,
        source_port: 5,
        target_port: host_port,
        bytes,
        kind: 1,
        op: Some(op),
        flags: 0,
        buffer_bytes: 1 << 16,
        forwarded: 0,
    };
    header.encode().to_vec()
}

/// What the event loop does when a socket is ready.
fn wake(rig: &Rig<Vsock>) {
    let again = rig.mmio.ready(SOCKETS).unwrap();
    assert_eq!(again, crate::device::Again::default());
}

/// Offers the device room, and gives what it put there.
fn receive(rig: &mut Rig<Vsock>) -> Option<(Header, Vec<u8>)> {
    wake(rig);
    // As Linux does it: a buffer for the header, and one of a page.
    let used = rig.request(RECEIVE, &[Buffer::Write(44), Buffer::Write(4096)])?;
    let header = Header::parse(used.bytes[..44].try_into().unwrap());
    assert_eq!(used.written, 44 + header.bytes);
    Some((header, used.bytes[44..used.written as usize].to_vec()))
}

#[test]
fn a_stream_goes_through_the_queues() {
    let mut rig = rig();
    assert_eq!((rig.get(0x100), rig.get(0x104)), (42, 0));
    let (mut near, far) = UnixStream::pair().unwrap();
    rig.with(|device, _| device.host()).connect(5, far.into()).unwrap();
    let (request, _) = receive(&mut rig).unwrap();
    assert_eq!((request.op, request.target_port), (Some(Op::Request), 5));
    let port = request.source_port;
    rig.request(TRANSMIT, &[Buffer::Read(&packet(port, Op::Response, 0))]).unwrap();
    let mut data = packet(port, Op::Data, 5);
    data.extend(b"hello, and what is not of it");
    rig.request(TRANSMIT, &[Buffer::Read(&data[..20]), Buffer::Read(&data[20..])]).unwrap();
    let mut hello = [0; 5];
    near.read_exact(&mut hello).unwrap();
    assert_eq!(&hello, b"hello");
    near.write_all(&[7; 5000]).unwrap();
    let (first, bytes) = receive(&mut rig).unwrap();
    assert_eq!((first.op, bytes), (Some(Op::Data), vec![7; 4096]));
    // The rest waits for room, and comes when there is some.
    let (_, rest) = receive(&mut rig).unwrap();
    assert_eq!(rest, [7; 904]);
    assert!(receive(&mut rig).is_none());
}

#[test]
fn a_buffer_that_was_not_needed_is_still_there() {
    let mut rig = rig();
    let (near, far) = UnixStream::pair().unwrap();
    rig.with(|device, _| device.host()).connect(5, far.into()).unwrap();
    let (request, _) = receive(&mut rig).unwrap();
    rig.request(TRANSMIT, &[Buffer::Read(&packet(request.source_port, Op::Response, 0))]).unwrap();
    for _ in 0..3 {
        assert!(rig.request(RECEIVE, &[Buffer::Write(100)]).is_none());
    }
    (&near).write_all(b"x").unwrap();
    wake(&rig);
    let used: Vec<_> = std::iter::from_fn(|| rig.rings[0].used()).collect();
    assert_eq!(used.len(), 1);
    assert_eq!((used[0].head, used[0].bytes[44]), (2, b'x'));
}

#[test]
fn packets_that_are_none_break_the_queue() {
    for (bytes, error) in [
        (vec![0; 43], QueueError::Missing("a packet's header")),
        (packet(1, Op::Data, 1), QueueError::Missing("a packet's bytes")),
        (packet(1, Op::Data, u32::MAX), QueueError::Missing("a packet's bytes")),
    ] {
        let mut rig = rig();
        rig.rings[1].send(&[Buffer::Read(&bytes)]);
        assert_eq!(rig.mmio.process(TRANSMIT), Err(error));
    }
}

#[test]
fn a_guest_that_takes_no_refusals_is_not_listened_to() {
    let mut rig = rig();
    for _ in 0..200 {
        rig.rings[1].send(&[Buffer::Read(&packet(1, Op::Request, 0))]);
    }
    rig.process(TRANSMIT);
    assert_eq!(std::iter::from_fn(|| rig.rings[1].used()).count(), 128);
    for _ in 0..200 {
        let (refusal, _) = receive(&mut rig).unwrap();
        assert_eq!(refusal.op, Some(Op::Reset));
    }
    assert_eq!(std::iter::from_fn(|| rig.rings[1].used()).count(), 72);
}

/// A device that is restored from where it had a connection; gives the port of that one.
fn restored_with_a_connection() -> (Rig<Vsock>, u32) {
    let mut rig = rig();
    let (mut near, far) = UnixStream::pair().unwrap();
    rig.with(|device, _| device.host()).connect(5, far.into()).unwrap();
    let (request, _) = receive(&mut rig).unwrap();
    rig.rings[2].send(&[Buffer::Write(4)]);
    rig.rings[2].send(&[Buffer::Write(4)]);
    rig.process(EVENT);
    assert!(rig.rings[2].used().is_none());
    rig.with(|device, _| {
        let saved = device.save();
        device.restore(saved).unwrap();
        assert!(device.restore(serde_json::json!({ "version": 9 })).is_err());
    });
    assert_eq!(near.read(&mut [0; 9]).unwrap(), 0);
    (rig, request.source_port)
}

#[test]
fn a_restored_guest_hears_that_its_connections_are_gone() {
    let (mut rig, _) = restored_with_a_connection();
    wake(&rig);
    let used = rig.rings[2].used().unwrap();
    assert_eq!((used.written, used.bytes), (4, vec![0; 4]));
    assert!(rig.rings[2].used().is_none(), "it hears it once");
}

#[test]
fn nothing_comes_to_a_restored_guest_before_it_has_ended_what_is_gone() {
    let (mut rig, before) = restored_with_a_connection();
    let (_near, far) = UnixStream::pair().unwrap();
    rig.with(|device, _| device.host()).connect(5, far.into()).unwrap();
    assert!(receive(&mut rig).is_none());
    rig.rings[2].used().unwrap();
    // It may ring for whatever reason; what counts is the buffer that it offers again.
    rig.process(EVENT);
    rig.request(TRANSMIT, &[Buffer::Read(&packet(before, Op::Data, 0))]).unwrap();
    assert!(rig.rings[0].used().is_none());
    rig.rings[2].send(&[Buffer::Write(4)]);
    rig.process(EVENT);
    let (reset, _) = {
        let used = rig.rings[0].used().unwrap();
        (Header::parse(used.bytes[..44].try_into().unwrap()), used)
    };
    assert_eq!((reset.op, reset.source_port), (Some(Op::Reset), before));
    let (request, _) = receive(&mut rig).unwrap();
    assert_eq!(request.op, Some(Op::Request));
    assert_ne!(request.source_port, before, "the guest may still know the port of what is gone");
}

#[test]
fn a_guest_that_was_not_told_yet_is_told_when_it_is_restored_again() {
    let (mut rig, _) = restored_with_a_connection();
    rig.with(|device, _| {
        let saved = device.save();
        device.restore(saved).unwrap();
    });
    wake(&rig);
    assert!(rig.rings[2].used().is_some());
}

//! The device as a driver sees it, over a pair of sockets; and two of them between the kernels of
//! two network namespaces.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::Command,
    thread,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
};

use super::{header::*, *};
use crate::{
    device::Again,
    testing::{Buffer, Rig},
};

const MAC: Mac = [2, 0, 0, 0, 0, 1];

fn options() -> Options {
    Options { mac: MAC, mtu: Some(1450), ..Options::default() }
}

/// A device, and the other end of its cable.
fn rig_with(options: Options, features: u64) -> (Rig<Net>, OwnedFd) {
    let (near, far) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::NONBLOCK, None)
            .unwrap();
    (Rig::new(Net::over(near, false, options).unwrap(), features), far)
}

fn rig(features: u64) -> (Rig<Net>, OwnedFd) {
    rig_with(options(), features)
}

fn frame(header: [u8; 12], bytes: usize) -> Vec<u8> {
    let mut frame = header.to_vec();
    frame.extend(MAC);
    frame.extend((0..=250u8).cycle().take(bytes.saturating_sub(6)));
    frame
}

/// What has come out of the far end.
fn heard(far: &OwnedFd) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 70_000];
    let read = read(far, &mut bytes[..]).ok()?;
    bytes.truncate(read);
    Some(bytes)
}

fn wake(rig: &mut Rig<Net>, token: u32) {
    let Again(mut again) = rig.mmio.ready(token).unwrap();
    while let Some(queue) = again.pop() {
        again.extend(rig.mmio.process(queue).unwrap().0);
    }
}

fn counters(rig: &Rig<Net>) -> Counters {
    rig.with(|device, _| device.counters())
}

#[test]
fn what_it_is() {
    let (rig, _far) = rig(F_MAC | F_MTU | F_STATUS);
    let mac = [rig.get(0x100), rig.get(0x104)];
    assert_eq!(mac[0].to_le_bytes(), MAC[..4]);
    assert_eq!(mac[1].to_le_bytes(), [0, 1, 1, 0]);
    assert_eq!(rig.get(0x108).to_le_bytes(), [1, 0, 0xaa, 5]);
    let times = rig.wire.times();
    rig.with(|device, queues| device.set_link(false, queues));
    assert_eq!((rig.get(0x104) >> 16, rig.wire.times()), (0, times + 1));
}

#[test]
fn a_driver_waits_for_what_it_orders_and_for_no_frame() {
    let (rig, _far) = rig(0);
    let awaited = [RECEIVE, TRANSMIT, CONTROL].map(|queue| rig.mmio.is_awaited(queue));
    assert_eq!(awaited, [false, false, true]);
}

#[test]
fn frames_go_both_ways() {
    let (mut rig, far) = rig(F_MRG_RXBUF);
    let out = frame([0; 12], 60);
    rig.request(1, &[Buffer::Read(&out[..5]), Buffer::Read(&out[5..])]).unwrap();
    assert_eq!(heard(&far).unwrap(), out);
    write(&far, &out).unwrap();
    rig.rings[0].send(&[Buffer::Write(2000)]);
    wake(&mut rig, TAP);
    let used = rig.rings[0].used().unwrap();
    let mut want = out.clone();
    want[10] = 1;
    assert_eq!((used.written, &used.bytes[..72]), (72, &want[..]));
    let want = Counters {
        received: 1,
        received_bytes: 60,
        sent: 1,
        sent_bytes: 60,
        ..Counters::default()
    };
    assert_eq!(counters(&rig), want);
}

#[test]
fn a_large_frame_is_put_into_many_buffers_or_waits() {
    let (mut rig, far) = rig(F_MRG_RXBUF | F_GUEST_CSUM | F_GUEST_TSO4);
    let header = Header {
        flags: NEEDS_CHECKSUM,
        segments: SEGMENT_TCP4,
        header_bytes: 54,
        segment_bytes: 1396,
        checksum_start: 34,
        checksum_offset: 16,
        buffers: 0,
    };
    let large = frame(header.encode(), 9000);
    write(&far, &large).unwrap();
    for _ in 0..2 {
        rig.rings[0].send(&[Buffer::Write(4096)]);
    }
    wake(&mut rig, TAP);
    assert!(rig.rings[0].used().is_none(), "two buffers are too few");
    rig.request(0, &[Buffer::Write(4096)]).unwrap();
    let rest: Vec<_> = std::iter::from_fn(|| rig.rings[0].used()).collect();
    assert_eq!(rest.iter().map(|used| used.written).collect::<Vec<_>>(), [4096, 820]);
    // The order is that in which they were offered, and the first says how many there are.
    let first = rig.memory.clone();
    let mut bytes = vec![0; 4096];
    first.read(rig.memory.load(rig.rings[0].layout.descriptors).unwrap(), &mut bytes).unwrap();
    let whole = [&bytes[..], &rest[0].bytes, &rest[1].bytes[..820]].concat();
    assert_eq!(Header::parse(*whole.first_chunk().unwrap()), Header { buffers: 3, ..header });
    assert!(whole[12..] == large[12..]);
}

#[test]
fn a_driver_with_one_buffer_for_a_frame_loses_larger_ones() {
    let (mut rig, far) = rig(0);
    write(&far, &frame([0; 12], 3000)).unwrap();
    write(&far, &frame([0; 12], 100)).unwrap();
    for _ in 0..3 {
        rig.rings[0].send(&[Buffer::Write(1526)]);
    }
    wake(&mut rig, TAP);
    let used: Vec<_> = std::iter::from_fn(|| rig.rings[0].used()).collect();
    assert_eq!((used.len(), used[0].head, used[0].written), (1, 0, 112));
    assert_eq!(counters(&rig).received_dropped, 1);
    // Flags of a device that were not agreed on say nothing.
    write(&far, &frame([3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 9], 100)).unwrap();
    wake(&mut rig, TAP);
    let used = rig.rings[0].used().unwrap();
    assert_eq!(used.bytes[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
}

#[test]
fn frames_that_are_wrong_go_nowhere() {
    let (mut rig, far) = rig(F_CSUM);
    let tso = [1, 1, 54, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0];
    for wrong in [
        frame(tso, 3000),
        frame([0; 12], 0)[..15].to_vec(),
        frame([1, 0, 0, 0, 0, 0, 59, 0, 16, 0, 0, 0], 60),
    ] {
        assert_eq!(rig.request(1, &[Buffer::Read(&wrong)]).unwrap().written, 0);
    }
    let large = vec![0; 65_600];
    rig.request(1, &[Buffer::Read(&large)]).unwrap();
    assert_eq!(heard(&far), None);
    assert_eq!(counters(&rig).sent_dropped, 4);
    rig.with(|device, queues| device.set_link(false, queues));
    rig.request(1, &[Buffer::Read(&frame([0; 12], 60))]).unwrap();
    assert_eq!(heard(&far), None);
    rig.rings[1].send(&[Buffer::Read(&[0; 11])]);
    assert_eq!(rig.mmio.process(1), Err(QueueError::Missing("a frame's header")));
}

#[test]
fn the_driver_says_what_it_wants() {
    let (mut rig, far) = rig(OFFERED);
    let say = |rig: &mut Rig<Net>, command: &[u8]| {
        let used = rig.request(2, &[Buffer::Read(command), Buffer::Write(1)]).unwrap();
        used.bytes[0] == OK
    };
    assert!(say(&mut rig, &[0, 0, 0]));
    assert!(say(&mut rig, &[1, 1, 2, 0, 0, 0, 0, 9]));
    assert!(!say(&mut rig, &[1, 1, 3, 0, 0, 0, 0, 9]), "an address of a group is nobody's");
    assert_eq!(rig.get(0x104).to_le_bytes()[..2], [0, 9]);
    for _ in 0..4 {
        rig.rings[0].send(&[Buffer::Write(100)]);
    }
    write(&far, &frame([0; 12], 60)).unwrap();
    wake(&mut rig, TAP);
    assert!(rig.rings[0].used().is_none());
    assert_eq!(counters(&rig).received_dropped, 1);
    assert!(say(&mut rig, &[1, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0]));
    write(&far, &frame([0; 12], 60)).unwrap();
    wake(&mut rig, TAP);
    assert!(rig.rings[0].used().is_some());
    assert!(say(&mut rig, &[5, 0, 0x82, 0, 0, 0, 0, 0, 0, 0]));
    assert!(!say(&mut rig, &[5, 0, 0, 4, 0, 0, 0, 0, 0, 0]), "none of those that were agreed on");
    assert!(!say(&mut rig, &[4, 0, 1, 0]));
    rig.rings[2].send(&[Buffer::Read(&[0, 0, 0])]);
    assert_eq!(rig.mmio.process(2), Err(QueueError::Missing("room for an answer")));
}

#[test]
fn limits_make_frames_wait() {
    let limit = Limits { frames: Some(Rate { per_second: 100, burst: 2 }), bytes: None };
    let options = Options { sent: limit, received: limit, ..options() };
    let (mut rig, far) = rig_with(options, 0);
    for _ in 0..4 {
        rig.rings[1].send(&[Buffer::Read(&frame([0; 12], 60))]);
        rig.rings[0].send(&[Buffer::Write(100)]);
        write(&far, &frame([0; 12], 60)).unwrap();
    }
    rig.process(1);
    wake(&mut rig, TAP);
    let sent = std::iter::from_fn(|| heard(&far)).count();
    assert_eq!((sent, counters(&rig).sent, counters(&rig).received), (2, 2, 2));
    while counters(&rig).sent < 4 || counters(&rig).received < 4 {
        rig.mmio.sources(|source| {
            if source.token == TIMER {
                poll(&mut [PollFd::from_borrowed_fd(source.fd, PollFlags::IN)], None).unwrap();
            }
        });
        wake(&mut rig, TIMER);
    }
    assert_eq!(std::iter::from_fn(|| heard(&far)).count(), 2);
}

#[test]
fn a_restored_machine_announces_itself() {
    let (first, _far) = rig(OFFERED);
    first.with(|device, _| assert!(device.command(&[1, 1, 2, 0, 0, 0, 0, 9])));
    let saved = first.with(|device, _| device.save());
    let (mut second, _far) = rig(OFFERED);
    second.with(|device, _| device.restore(saved)).unwrap();
    let times = second.wire.times();
    wake(&mut second, TIMER);
    assert_eq!(second.wire.times(), times + 1);
    assert_eq!(second.get(0x104).to_le_bytes(), [0, 9, 3, 0]);
    second.request(2, &[Buffer::Read(&[3, 0]), Buffer::Write(1)]).unwrap();
    assert_eq!(second.get(0x104).to_le_bytes(), [0, 9, 1, 0]);
    second.set(0x70, 0);
    assert_eq!(second.get(0x104).to_le_bytes(), [0, 1, 1, 0], "a new driver finds the old address");
}

/// A network namespace with a tap device, and a device of ours over it.
fn side(octet: u8) -> (OwnedFd, Rig<Net>) {
    let (namespace, tap) = sys::netns::create(|| {
        let tap = sys::tap::open("tap0")?;
        for words in [format!("addr add 10.9.0.{octet}/24 dev tap0"), "link set tap0 up".to_owned()]
        {
            assert!(Command::new("ip").args(words.split(' ')).status()?.success());
        }
        Ok(tap)
    })
    .unwrap();
    let mut rig = Rig::new(Net::new(tap, options()).unwrap(), OFFERED);
    for _ in 0..BUFFERS {
        rig.rings[0].send(&[Buffer::Write(4000)]);
    }
    rig.process(0);
    (namespace, rig)
}

/// Buffers that a driver has offered at a time.
const BUFFERS: usize = 200;

/// Carries what one side's driver has received to the other side's; gives the largest frame.
fn carry(from: &mut Rig<Net>, to: &mut Rig<Net>) -> usize {
    wake(from, TAP);
    let mut largest = 0;
    while let Some(first) = from.rings[0].used() {
        let buffers = Header::parse(*first.bytes.first_chunk().unwrap()).buffers;
        let mut frame = first.bytes[..first.written as usize].to_vec();
        for _ in 1..buffers {
            let next = from.rings[0].used().expect("all buffers of a frame are used at once");
            frame.extend(&next.bytes[..next.written as usize]);
        }
        for _ in 0..buffers {
            from.rings[0].send(&[Buffer::Write(4000)]);
        }
        frame[10..12].fill(0);
        largest = largest.max(frame.len() - 12);
        to.request(1, &[Buffer::Read(&frame)]).unwrap();
    }
    from.process(0);
    largest
}

#[test]
fn two_kernels_talk_through_two_devices() {
    if !testkit::need::root() || testkit::need::tool("ip").is_none() {
        return;
    }
    let (left, mut left_rig) = side(1);
    let (right, mut right_rig) = side(2);
    let bytes: Vec<u8> = (0..4_000_000u32).map(|n| (n % 251) as u8).collect();
    let listener =
        sys::netns::run(right.as_fd(), || TcpListener::bind((Ipv4Addr::new(10, 9, 0, 2), 7000)))
            .unwrap();
    let largest = thread::scope(|scope| {
        // Everything there and back again: each is both sender and receiver.
        let server = scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut all = vec![0; bytes.len()];
            stream.read_exact(&mut all).unwrap();
            stream.write_all(&all).unwrap();
        });
        let client = scope.spawn(|| {
            let connect = || TcpStream::connect((Ipv4Addr::new(10, 9, 0, 2), 7000));
            let mut stream = sys::netns::run(left.as_fd(), connect).unwrap();
            stream.write_all(&bytes).unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            assert!(all == bytes);
        });
        let mut largest = [0; 2];
        while !client.is_finished() {
            largest[0] = carry(&mut left_rig, &mut right_rig).max(largest[0]);
            largest[1] = carry(&mut right_rig, &mut left_rig).max(largest[1]);
            thread::yield_now();
        }
        server.join().unwrap();
        client.join().unwrap();
        largest
    });
    assert!(largest.iter().all(|bytes| *bytes > 20_000), "segments were left to us: {largest:?}");
    for rig in [&left_rig, &right_rig] {
        let counters = counters(rig);
        assert!(counters.sent > 0 && counters.sent_dropped == 0, "{counters:?}");
    }
}

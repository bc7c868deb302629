//! Queues of good and of bad drivers.

use proptest::prelude::*;

use super::*;
use crate::testing::{Buffer, Ring, descriptor};

const EVENTS: RingFeatures = RingFeatures { event_index: true, indirect: true };
const PLAIN: RingFeatures = RingFeatures { event_index: false, indirect: false };
const MEMORY: u64 = 1 << 17;

fn ring(size: u16) -> (GuestMemory, Ring) {
    let memory = GuestMemory::new(MEMORY).unwrap();
    let ring = Ring::new(&memory, 4096, MEMORY, size);
    (memory, ring)
}

#[test]
fn a_chain_is_read_answered_and_used() {
    let (_memory, mut ring) = ring(8);
    let mut queue = ring.queue(EVENTS).unwrap();
    assert!(queue.pop().unwrap().is_none());
    let buffers = [Buffer::Read(b"he"), Buffer::Read(b"llo"), Buffer::Write(2), Buffer::Write(9)];
    let head = ring.send(&buffers);
    let Chain { head: popped, mut reader, mut writer } = queue.pop().unwrap().unwrap();
    assert_eq!((reader.left(), writer.left()), (5, 11));
    let mut bytes = [0; 9];
    assert_eq!(reader.read(&mut bytes), 5);
    assert_eq!(&bytes, b"hello\0\0\0\0");
    let mut first = writer.take(3);
    assert_eq!((first.write(b"abcdef"), first.written()), (3, 3));
    assert_eq!((writer.write(b"gh"), writer.fill(7, 100), writer.left()), (2, 6, 0));
    queue.push(popped, first.written() + writer.written());
    assert!(queue.wants_interrupt());
    assert!(!queue.wants_interrupt(), "once is enough");
    let used = ring.used().unwrap();
    assert_eq!((used.head, used.written), (head, 11));
    assert_eq!(used.bytes, b"abcgh\x07\x07\x07\x07\x07\x07");
    assert_eq!(ring.used(), None);
}

#[test]
fn what_was_put_back_comes_again() {
    let (_memory, mut ring) = ring(4);
    let mut queue = ring.queue(PLAIN).unwrap();
    ring.send(&[Buffer::Read(b"one")]);
    ring.send(&[Buffer::Read(b"two")]);
    let first = queue.pop().unwrap().unwrap();
    queue.put_back(first);
    let mut again = queue.pop().unwrap().unwrap();
    assert_eq!(again.reader.array(), Some(*b"one"));
    assert_eq!(again.reader.array::<1>(), None);
}

#[test]
fn rings_go_round_and_indices_over_their_end() {
    let (_memory, mut ring) = ring(4);
    let mut queue = ring.queue(EVENTS).unwrap();
    for n in 0..66_000u32 {
        ring.send(&[Buffer::Read(&n.to_le_bytes()), Buffer::Write(4)]);
        queue.begin();
        let mut chain = queue.pop().unwrap().unwrap();
        chain.writer.write(&chain.reader.array::<4>().unwrap());
        queue.push(chain.head, 4);
        assert!(queue.wants_interrupt());
        assert_eq!(ring.used().unwrap().bytes, n.to_le_bytes());
    }
}

#[test]
fn a_turn_ends_and_says_so() {
    let (memory, mut ring) = ring(512);
    let mut queue = ring.queue(EVENTS).unwrap();
    for _ in 0..300 {
        ring.send(&[Buffer::Read(b"x")]);
    }
    let event = ring.layout.used + 4 + 8 * 512;
    queue.begin();
    assert_eq!(std::iter::from_fn(|| queue.pop().unwrap()).count(), usize::from(TURN));
    assert!(queue.has_more());
    assert_eq!(memory.load::<u16>(event), Ok(0), "nobody needs to ring for what is there");
    queue.begin();
    assert_eq!(std::iter::from_fn(|| queue.pop().unwrap()).count(), 44);
    assert!(!queue.has_more());
    assert_eq!(memory.load::<u16>(event), Ok(300));
}

#[test]
fn interrupts_come_when_the_driver_wants_them() {
    let (memory, mut ring) = ring(8);
    let mut queue = ring.queue(EVENTS).unwrap();
    let event = ring.layout.available + 4 + 2 * 8;
    memory.store(event, 2u16).unwrap();
    let mut wants = Vec::new();
    for _ in 0..5 {
        ring.send(&[Buffer::Write(1)]);
        let chain = queue.pop().unwrap().unwrap();
        queue.push(chain.head, 0);
        wants.push(queue.wants_interrupt());
    }
    assert_eq!(wants, [false, false, true, false, false]);
    let mut queue = ring.queue(PLAIN).unwrap();
    for (flags, wanted) in [(1u16, false), (0, true)] {
        memory.store(ring.layout.available, flags).unwrap();
        let chain = queue.pop().unwrap().unwrap();
        queue.push(chain.head, 0);
        assert_eq!(queue.wants_interrupt(), wanted);
    }
}

#[test]
fn an_event_is_passed_once() {
    assert!(passed(5, 5, 6) && !passed(5, 6, 7) && !passed(5, 4, 5));
    assert!(passed(u16::MAX, u16::MAX, 0) && passed(0, 65_530, 5) && !passed(5, 65_530, 5));
}

#[test]
fn a_queue_is_where_memory_is() {
    let (memory, ring) = ring(8);
    let made = |change: fn(&mut Layout)| {
        let mut layout = ring.layout;
        change(&mut layout);
        Queue::new(memory.clone(), layout, 8, EVENTS).unwrap_err()
    };
    assert_eq!(made(|at| at.size = 0), QueueError::Size { size: 0, max: 8 });
    assert_eq!(made(|at| at.size = 6), QueueError::Size { size: 6, max: 8 });
    assert_eq!(made(|at| at.size = 16), QueueError::Size { size: 16, max: 8 });
    let unaligned = QueueError::Unaligned { part: "used ring", guest: 4098 };
    assert_eq!(made(|at| at.used = 4098), unaligned);
    let outside =
        QueueError::NotMemory { part: "available ring", guest: MEMORY - 20, bytes: 6 + 16 };
    assert_eq!(made(|at| at.available = MEMORY - 20), outside);
    let outside = QueueError::NotMemory { part: "descriptor table", guest: 1 << 63, bytes: 128 };
    assert_eq!(made(|at| at.descriptors = 1 << 63), outside);
}

/// What a queue of four entries says to one head after `prepare` has written its descriptors.
fn refused(features: RingFeatures, prepare: impl FnOnce(&GuestMemory, &Ring)) -> QueueError {
    let (memory, mut ring) = ring(4);
    let mut queue = ring.queue(features).unwrap();
    prepare(&memory, &ring);
    ring.offer(0);
    let error = queue.pop().unwrap_err();
    assert_eq!(queue.broken(), Some(error));
    assert!(queue.pop().unwrap().is_none(), "it stays quiet");
    queue.push(Head::for_tests(0), 1);
    assert_eq!((ring.used(), queue.wants_interrupt()), (None, false));
    error
}

#[test]
fn chains_that_cannot_be_break_the_queue() {
    let circle = refused(PLAIN, |_, ring| {
        ring.descriptor(0, 4096, 1, 1, 1);
        ring.descriptor(1, 4096, 1, 1, 0);
    });
    assert_eq!(circle, QueueError::TooLong { limit: 4 });
    let beyond = refused(PLAIN, |_, ring| ring.descriptor(0, 4096, 1, 1, 4));
    assert_eq!(beyond, QueueError::NoDescriptor { index: 4, size: 4 });
    let outside = refused(PLAIN, |_, ring| ring.descriptor(0, MEMORY - 1, 2, 0, 0));
    assert_eq!(outside, QueueError::NotMemory { part: "buffer", guest: MEMORY - 1, bytes: 2 });
    let around = refused(PLAIN, |_, ring| ring.descriptor(0, u64::MAX, u32::MAX, 2, 0));
    let bytes = u32::MAX as usize;
    assert_eq!(around, QueueError::NotMemory { part: "buffer", guest: u64::MAX, bytes });
    let order = refused(PLAIN, |_, ring| {
        ring.descriptor(0, 4096, 1, 1 | 2, 1);
        ring.descriptor(1, 4096, 1, 0, 0);
    });
    assert_eq!(order, QueueError::Order);
    assert_eq!(
        refused(PLAIN, |_, ring| ring.descriptor(0, 4096, 16, 4, 0)),
        QueueError::Indirect,
        "nobody agreed on it"
    );
}

#[test]
fn indirect_tables_are_one_deep_and_whole() {
    assert_eq!(
        refused(EVENTS, |_, ring| ring.descriptor(0, 4096, 16, 4 | 1, 1)),
        QueueError::Indirect,
    );
    assert_eq!(
        refused(EVENTS, |_, ring| ring.descriptor(0, 4096, 24, 4, 0)),
        QueueError::Table { bytes: 24 },
    );
    assert_eq!(
        refused(EVENTS, |_, ring| ring.descriptor(0, 4096, 0, 4, 0)),
        QueueError::Table { bytes: 0 },
    );
    let outside = refused(EVENTS, |_, ring| ring.descriptor(0, MEMORY, 16, 4, 0));
    assert_eq!(outside, QueueError::NotMemory { part: "indirect table", guest: MEMORY, bytes: 16 });
    let nested = refused(EVENTS, |memory, ring| {
        ring.descriptor(0, 0x8000, 16, 4, 0);
        descriptor(memory, 0x8000, 0x8000, 16, 4, 0);
    });
    assert_eq!(nested, QueueError::Indirect);
    let circle = refused(EVENTS, |memory, ring| {
        ring.descriptor(0, 0x8000, 32, 4, 0);
        descriptor(memory, 0x8000, 4096, 1, 1, 1);
        descriptor(memory, 0x8010, 4096, 1, 1, 0);
    });
    assert_eq!(circle, QueueError::TooLong { limit: CHAIN_MAX });
    let large = refused(EVENTS, |memory, ring| {
        ring.descriptor(0, 0x8000, 16 * 5000, 4, 0);
        for n in 0..5000u16 {
            descriptor(memory, 0x8000 + 16 * u64::from(n), 0, 1, 1, n + 1);
        }
    });
    assert_eq!(large, QueueError::TooLong { limit: CHAIN_MAX });
}

#[test]
fn a_table_may_follow_descriptors_and_be_longer_than_the_queue() {
    let (memory, mut ring) = ring(4);
    let mut queue = ring.queue(EVENTS).unwrap();
    memory.write(0x9000, b"abcdefghijklmnop").unwrap();
    ring.descriptor(0, 0x9000, 2, 1, 3);
    ring.descriptor(3, 0x8000, 16 * 6, 4, 0);
    for n in 0..6u16 {
        let next = if n < 5 { 1 } else { 0 };
        descriptor(&memory, 0x8000 + 16 * u64::from(n), 0x9002, n.into(), next, n + 1);
    }
    ring.offer(0);
    let mut chain = queue.pop().unwrap().unwrap();
    let mut bytes = [0; 17];
    assert_eq!(chain.reader.read(&mut bytes), 17);
    assert_eq!(&bytes, b"abccdcdecdefcdefg");
}

#[test]
fn an_index_does_not_jump() {
    let (memory, ring) = ring(8);
    let mut queue = ring.queue(EVENTS).unwrap();
    memory.store(ring.layout.available + 2, 9u16).unwrap();
    assert_eq!(queue.pop().unwrap_err(), QueueError::Jumped { available: 9, size: 8 });
}

#[test]
fn files_are_read_and_written_over_many_buffers() {
    use std::os::fd::AsFd as _;
    let (_memory, mut ring) = ring(8);
    let mut queue = ring.queue(EVENTS).unwrap();
    let file = tempfile::tempfile().unwrap();
    ring.send(&[Buffer::Read(b"abc"), Buffer::Read(b"defgh"), Buffer::Write(4), Buffer::Write(9)]);
    let Chain { mut reader, mut writer, .. } = queue.pop().unwrap().unwrap();
    reader.write_to(file.as_fd(), 100, 7).unwrap();
    assert_eq!((reader.left(), file.metadata().unwrap().len()), (1, 107));
    let long = reader.write_to(file.as_fd(), 0, 2).unwrap_err();
    assert_eq!(long.kind(), std::io::ErrorKind::WriteZero);
    writer.read_from(file.as_fd(), 101, 6).unwrap();
    assert_eq!((writer.written(), writer.left()), (6, 7));
    let short = writer.read_from(file.as_fd(), 105, 5).unwrap_err();
    assert_eq!(short.kind(), std::io::ErrorKind::UnexpectedEof);
}

/// Descriptors as a driver out of its mind writes them: mostly within memory, so that chains get
/// somewhere.
fn wild() -> impl Strategy<Value = (u64, u32, u16, u16)> {
    let guest = prop_oneof![4 => 0..MEMORY, 1 => any::<u64>()];
    let bytes = prop_oneof![4 => 0u32..5000, 1 => any::<u32>()];
    let flags = prop_oneof![4 => 0u16..8, 1 => any::<u16>()];
    (guest, bytes, flags, 0u16..20)
}

proptest! {
    /// Whatever stands in the rings: nothing panics, and nothing is written but the used ring and
    /// what the descriptors had marked as writable.
    #[test]
    fn nothing_is_written_but_where_the_driver_allows(
        table in proptest::collection::vec(wild(), 16),
        inner in proptest::collection::vec(wild(), 16),
        heads in proptest::collection::vec(0u16..18, 1..20),
        features in (any::<bool>(), any::<bool>()),
    ) {
        let (memory, mut ring) = ring(16);
        for (index, (guest, bytes, flags, next)) in (0..).zip(table) {
            ring.descriptor(index, guest, bytes, flags, next);
        }
        for (index, (guest, bytes, flags, next)) in (0..).zip(inner) {
            descriptor(&memory, 0x8000 + 16 * index, guest, bytes, flags, next);
        }
        let features = RingFeatures { event_index: features.0, indirect: features.1 };
        let mut queue = ring.queue(features).unwrap();
        let mut before = vec![0; memory.bytes()];
        for head in heads {
            ring.offer(head);
            memory.read(0, &mut before).unwrap();
            let Ok(Some(Chain { head, reader, mut writer })) = queue.pop() else { break };
            prop_assert!(reader.segments().count() + writer.segments().count() <= 1024);
            let mut allowed: Vec<(u64, u64)> = writer
                .segments()
                .map(|at| (at.guest, at.guest + u64::from(at.bytes)))
                .collect();
            let room = writer.left();
            prop_assert_eq!(writer.fill(0xee, room + 5), room);
            queue.push(head, writer.written());
            queue.wants_interrupt();
            let used = ring.layout.used;
            allowed.push((used, used + 6 + 8 * 16));
            let mut after = vec![0; memory.bytes()];
            memory.read(0, &mut after).unwrap();
            for (at, (was, is)) in (0u64..).zip(before.iter().zip(&after)) {
                if was != is {
                    let free = allowed.iter().any(|(from, to)| (*from..*to).contains(&at));
                    prop_assert!(free, "{at:#x} was written");
                }
            }
        }
    }
}

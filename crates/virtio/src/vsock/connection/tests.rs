use proptest::prelude::*;

use super::*;
use crate::vsock::packet::{HOST_CID, Ports, TYPE_STREAM};

fn packet(op: Op) -> Header {
    Header {
        source_cid: 3,
        target_cid: HOST_CID,
        source_port: 1,
        target_port: 2,
        bytes: 0,
        kind: TYPE_STREAM,
        op: Some(op),
        flags: 0,
        buffer_bytes: 1000,
        forwarded: 0,
    }
}

fn stamp(connection: &mut Connection) -> Header {
    let mut header = Header::to_guest(3, Ports { guest: 1, host: 2 }, Op::Data);
    connection.stamp(&mut header);
    header
}

/// One that is open, with nothing left to be said.
fn open() -> Connection {
    let mut connection = Connection::grant(&packet(Op::Request));
    assert_eq!(connection.say(), Some((Op::Response, 0)));
    connection
}

#[test]
fn what_the_host_asks_for_is_open_when_the_guest_says_so() {
    let mut connection = Connection::ask();
    assert_eq!(connection.window(), 0);
    // It cannot answer what it was not asked yet.
    let mut early = Connection::ask();
    assert_eq!(early.receive(&packet(Op::Response), &[]), Err(Violation::Unexpected));
    assert_eq!(connection.say(), Some((Op::Request, 0)));
    assert_eq!(connection.say(), None);
    assert_eq!(connection.receive(&packet(Op::Response), &[]), Ok(Change::Opened));
    assert_eq!(connection.window(), 1000);
    assert_eq!(connection.receive(&packet(Op::Response), &[]), Err(Violation::Unexpected));
}

#[test]
fn bytes_go_before_the_answer_nowhere() {
    let mut connection = Connection::ask();
    connection.say();
    assert_eq!(connection.receive(&packet(Op::Data), b"x"), Err(Violation::Unexpected));
}

#[test]
fn the_guest_gets_no_more_than_it_has_room_for() {
    let mut connection = open();
    connection.send(600);
    assert_eq!(connection.window(), 400);
    connection.send(400);
    connection.stalled();
    connection.stalled();
    assert_eq!(connection.say(), Some((Op::CreditRequest, 0)));
    assert_eq!(connection.say(), None);
    let update = Header { forwarded: 700, ..packet(Op::CreditUpdate) };
    assert_eq!(connection.receive(&update, &[]), Ok(Change::None));
    assert_eq!(connection.window(), 700);
    // It says it took out more than there was: that leaves no room, and not four gigabytes.
    let lie = Header { forwarded: 1001, ..packet(Op::CreditUpdate) };
    assert_eq!(connection.receive(&lie, &[]), Ok(Change::None));
    assert_eq!(connection.window(), 0);
}

#[test]
fn counts_go_round() {
    let mut connection = open();
    connection.sent = u32::MAX - 9;
    let update = Header { forwarded: u32::MAX - 9, ..packet(Op::CreditUpdate) };
    connection.receive(&update, &[]).unwrap();
    connection.send(20);
    assert_eq!(connection.window(), 980);
    let update = Header { forwarded: 10, ..packet(Op::CreditUpdate) };
    connection.receive(&update, &[]).unwrap();
    assert_eq!(connection.window(), 1000);
}

#[test]
fn the_guest_is_told_of_room_when_half_is_used_up() {
    let mut connection = open();
    stamp(&mut connection);
    let part = vec![1; BUFFER_BYTES as usize / 2];
    assert_eq!(connection.receive(&packet(Op::Data), &part), Ok(Change::Passed));
    connection.passed(part.len());
    assert_eq!(connection.say(), None);
    assert_eq!(connection.receive(&packet(Op::Data), b"x"), Ok(Change::Passed));
    connection.passed(1);
    assert_eq!(connection.say(), Some((Op::CreditUpdate, 0)));
    let header = stamp(&mut connection);
    assert_eq!((header.buffer_bytes, header.forwarded), (BUFFER_BYTES, BUFFER_BYTES / 2 + 1));
}

#[test]
fn a_guest_that_sends_more_than_it_may_is_cut_off() {
    let mut connection = open();
    let all = vec![1; BUFFER_BYTES as usize];
    assert_eq!(connection.receive(&packet(Op::Data), &all), Ok(Change::Passed));
    assert_eq!(connection.receive(&packet(Op::Data), b"x"), Err(Violation::TooMuch));
    let mut connection = open();
    let no_more = Header { flags: NO_MORE_SENT, ..packet(Op::Shutdown) };
    connection.receive(&no_more, &[]).unwrap();
    assert_eq!(connection.receive(&packet(Op::Data), b"x"), Err(Violation::TooMuch));
}

#[test]
fn half_of_it_may_be_closed() {
    let mut connection = open();
    let no_more = Header { flags: NO_MORE_SENT, ..packet(Op::Shutdown) };
    connection.receive(&packet(Op::Data), b"last").unwrap();
    connection.receive(&no_more, &[]).unwrap();
    assert!(!connection.passed_all());
    connection.passed(4);
    assert!(connection.passed_all() && !connection.given_up());
    assert_eq!(connection.window(), 1000);
    connection.host_stopped_sending();
    assert_eq!(connection.say(), Some((Op::Shutdown, NO_MORE_SENT)));
    assert!(!connection.finished());
    connection.host_stopped_receiving();
    assert_eq!(connection.say(), Some((Op::Shutdown, NO_MORE_SENT | NO_MORE_RECEIVED)));
    assert!(connection.finished());
}

#[test]
fn what_a_guest_sent_before_it_vanished_is_still_there() {
    let mut connection = open();
    connection.receive(&packet(Op::Data), b"last words").unwrap();
    assert_eq!(connection.receive(&packet(Op::Reset), &[]), Ok(Change::Over));
    assert_eq!(connection.held().0, b"last words");
    assert!(connection.forgotten() && !connection.passed_all());
    connection.host_stopped_sending();
    assert_eq!(connection.say(), None);
    connection.passed(10);
    assert!(connection.passed_all());
}

#[derive(Clone, Debug)]
enum Step {
    Packet(u16, u32, u32, u32, usize),
    Passed(usize),
    Send(u32),
    Stalled,
    HostDone(bool),
    Say,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u16..9, any::<u32>(), any::<u32>(), 0u32..8, 0usize..70_000)
            .prop_map(|(op, a, b, flags, bytes)| Step::Packet(op, a, b, flags, bytes)),
        (0usize..100_000).prop_map(Step::Passed),
        any::<u32>().prop_map(Step::Send),
        Just(Step::Stalled),
        any::<bool>().prop_map(Step::HostDone),
        Just(Step::Say),
    ]
}

proptest! {
    #[test]
    fn no_guest_makes_it_hold_more_than_its_buffer(asked: bool, steps in prop::collection::vec(step(), 0..60)) {
        let mut connection = if asked { Connection::ask() } else { open() };
        for step in steps {
            match step {
                Step::Packet(op, buffer_bytes, forwarded, flags, bytes) => {
                    let mut raw = packet(Op::Data).encode();
                    raw[30..32].copy_from_slice(&op.to_le_bytes());
                    let header = Header { buffer_bytes, forwarded, flags, ..Header::parse(&raw) };
                    let over = connection.forgotten();
                    let answer = connection.receive(&header, &vec![0; bytes]);
                    prop_assert!(!over || answer == Err(Violation::Unexpected));
                }
                Step::Passed(bytes) => connection.passed(bytes),
                Step::Send(bytes) => {
                    let window = connection.window();
                    connection.send(bytes.min(window));
                }
                Step::Stalled => connection.stalled(),
                Step::HostDone(true) => connection.host_stopped_sending(),
                Step::HostDone(false) => connection.host_stopped_receiving(),
                Step::Say => {
                    let said = connection.say();
                    prop_assert!(said.is_none() || !connection.forgotten());
                }
            }
            let held = connection.held();
            prop_assert!(held.0.len() + held.1.len() <= BUFFER_BYTES as usize);
        }
    }
}

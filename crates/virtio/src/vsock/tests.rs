//! All of it but the queues: a guest made of packets, and programs of the host with sockets.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    sync::{Arc, Mutex},
};

use proptest::prelude::*;

use super::{
    packet::{NO_MORE_RECEIVED, NO_MORE_SENT, Ports, TYPE_STREAM},
    *,
};

const CID: u64 = 7;
const BUFFER: u32 = 10_000;

/// The guest's side of one connection.
#[derive(Debug, Default)]
struct Peer {
    received: Vec<u8>,
    host_buffer: u32,
    host_forwarded: u32,
    sent: u32,
    shutdown: u32,
    open: bool,
    reset: bool,
}

/// A guest that keeps the rules.
#[derive(Debug)]
struct Guest {
    mux: Mux,
    peers: HashMap<Ports, Peer>,
    accepts: bool,
}

impl Guest {
    fn new() -> Guest {
        Guest::with(Config { cid: CID, listener: None, path: None })
    }

    fn with(config: Config) -> Guest {
        Guest { mux: Mux::new(config).unwrap(), peers: HashMap::new(), accepts: true }
    }

    fn packet(&self, ports: Ports, op: Op) -> Header {
        let forwarded = self.peers.get(&ports).map_or(0, |peer| peer.received.len());
        Header {
            source_cid: CID,
            target_cid: HOST_CID,
            source_port: ports.guest,
            target_port: ports.host,
            bytes: 0,
            kind: TYPE_STREAM,
            op: Some(op),
            flags: 0,
            buffer_bytes: BUFFER,
            forwarded: u32::try_from(forwarded).unwrap(),
        }
    }

    fn say(&mut self, ports: Ports, op: Op) {
        let packet = self.packet(ports, op);
        self.mux.take(&packet, &[]);
    }

    fn connect(&mut self, ports: Ports) {
        self.peers.insert(ports, Peer::default());
        self.say(ports, Op::Request);
    }

    fn shutdown(&mut self, ports: Ports, flags: u32) {
        let packet = Header { flags, ..self.packet(ports, Op::Shutdown) };
        self.mux.take(&packet, &[]);
    }

    /// Sends what there is room for.
    fn send(&mut self, ports: Ports, bytes: &[u8]) -> usize {
        let peer = &self.peers[&ports];
        let room = peer.host_buffer - peer.sent.wrapping_sub(peer.host_forwarded);
        let bytes = &bytes[..bytes.len().min(room as usize).min(4096)];
        if bytes.is_empty() {
            return 0;
        }
        let length = u32::try_from(bytes.len()).unwrap();
        let packet = Header { bytes: length, ..self.packet(ports, Op::Data) };
        self.mux.take(&packet, bytes);
        self.peers.get_mut(&ports).unwrap().sent += length;
        bytes.len()
    }

    /// Takes everything that the host has for it.
    fn run(&mut self) -> Vec<(Op, Ports)> {
        let mut said = Vec::new();
        loop {
            self.mux.serve();
            let mut payload = [0; 4096];
            let Some(header) = self.mux.next(&mut payload) else { break };
            assert_eq!((header.source_cid, header.target_cid), (HOST_CID, CID));
            let ports = Ports { guest: header.target_port, host: header.source_port };
            let op = header.op.unwrap();
            said.push((op, ports));
            let peer = self.peers.entry(ports).or_default();
            (peer.host_buffer, peer.host_forwarded) = (header.buffer_bytes, header.forwarded);
            match op {
                Op::Request if self.accepts => {
                    peer.open = true;
                    self.say(ports, Op::Response);
                }
                Op::Request => self.say(ports, Op::Reset),
                Op::Response => peer.open = true,
                Op::Reset => peer.reset = true,
                Op::Shutdown => peer.shutdown |= header.flags,
                Op::Data => {
                    peer.received.extend(&payload[..header.bytes as usize]);
                    // Takes it out at once, and says so.
                    self.say(ports, Op::CreditUpdate);
                }
                Op::CreditUpdate => {}
                Op::CreditRequest => self.say(ports, Op::CreditUpdate),
            }
        }
        said
    }

    fn only(&self) -> Ports {
        assert_eq!(self.peers.len(), 1);
        *self.peers.keys().next().unwrap()
    }
}

fn nonblocking() -> (UnixStream, OwnedFd) {
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    (near, far.into())
}

/// A guest, a connection from the host to its port 5, and the host's end of it.
fn connected() -> (Guest, Ports, UnixStream) {
    let mut guest = Guest::new();
    let (near, far) = nonblocking();
    guest.mux.host().connect(5, far).unwrap();
    guest.run();
    let ports = guest.only();
    assert!(guest.peers[&ports].open);
    (guest, ports, near)
}

#[test]
fn a_stream_that_is_handed_in_reaches_the_guest() {
    let (mut guest, ports, mut near) = connected();
    assert_eq!(ports.guest, 5);
    near.write_all(b"hello").unwrap();
    guest.run();
    assert_eq!(guest.peers[&ports].received, b"hello");
    guest.send(ports, b"welcome");
    let mut got = [0; 16];
    assert_eq!(near.read(&mut got).unwrap(), 7);
    assert_eq!(&got[..7], b"welcome");
    // The host closes: the guest hears that nothing comes and nothing is read.
    drop(near);
    guest.run();
    assert_eq!(guest.peers[&ports].shutdown, NO_MORE_RECEIVED | NO_MORE_SENT);
    assert!(guest.mux.streams_is_empty());
    // What it says afterwards is about a connection that there is none.
    guest.say(ports, Op::Reset);
    assert_eq!(guest.run(), []);
    guest.send(ports, b"anybody?");
    assert_eq!(guest.run(), [(Op::Reset, ports)]);
}

#[test]
fn who_nobody_listens_to_in_the_guest_sees_it_closed() {
    let mut guest = Guest::new();
    guest.accepts = false;
    let (mut near, far) = nonblocking();
    guest.mux.host().connect(5, far).unwrap();
    guest.run();
    assert_eq!(near.read(&mut [0; 9]).unwrap(), 0);
    assert!(guest.mux.streams_is_empty());
}

#[test]
fn many_bytes_go_both_ways_however_slow_the_host_is() {
    let (mut guest, ports, mut near) = connected();
    let bytes: Vec<u8> =
        (0..1_000_000u32).map(|n| n.to_le_bytes()[usize::from(n % 3 == 0)]).collect();
    let (mut out, mut back) = (0, Vec::<u8>::new());
    let (mut written, mut turns) = (0, 0);
    while back.len() < bytes.len() || guest.peers[&ports].received.len() < bytes.len() {
        turns += 1;
        assert!(turns < 100_000, "it has stopped");
        while out < bytes.len() {
            match guest.send(ports, &bytes[out..]) {
                0 => break,
                sent => out += sent,
            }
        }
        written += near.write(&bytes[written..]).unwrap_or(0);
        guest.run();
        // A slow reader: a little each time, and nothing most of the time.
        let mut some = [0; 30_000];
        if turns % 5 == 0 {
            let read = near.read(&mut some).unwrap_or(0);
            back.extend(&some[..read]);
        }
        guest.run();
    }
    assert!(back == bytes && guest.peers[&ports].received == bytes);
    assert_eq!(guest.mux.counters().broken, 0);
}

#[test]
fn the_end_comes_after_the_last_byte() {
    let (mut guest, ports, mut near) = connected();
    near.write_all(&[1; 30_000]).unwrap();
    near.shutdown(std::net::Shutdown::Write).unwrap();
    guest.run();
    let peer = &guest.peers[&ports];
    assert_eq!((peer.received.len(), peer.shutdown), (30_000, NO_MORE_SENT));
    // The other way it is as open as before.
    guest.send(ports, b"answer");
    guest.shutdown(ports, NO_MORE_SENT);
    let mut answer = Vec::new();
    near.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"answer");
    guest.run();
    drop(near);
    guest.run();
    assert!(guest.mux.streams_is_empty());
}

#[test]
fn what_the_guest_sent_arrives_although_it_closed_and_forgot() {
    for reset in [false, true] {
        let (mut guest, ports, mut near) = connected();
        let mut sent = 0;
        // More than the socket takes.
        loop {
            match guest.send(ports, &[3; 4096]) {
                0 => {
                    if guest.run().is_empty() {
                        break;
                    }
                }
                bytes => sent += bytes,
            }
        }
        guest.shutdown(ports, NO_MORE_SENT | NO_MORE_RECEIVED);
        if reset {
            guest.say(ports, Op::Reset);
            // The same ports are free for the guest at once.
            guest.run();
            assert!(!guest.peers[&ports].reset);
        }
        let mut got = 0;
        loop {
            match near.read(&mut [0; 50_000]) {
                Ok(0) => break,
                Ok(bytes) => got += bytes,
                Err(_) => drop(guest.run()),
            }
        }
        guest.run();
        assert_eq!(got, sent);
        assert_eq!(guest.peers[&ports].reset, !reset);
        assert!(guest.mux.streams_is_empty());
    }
}

#[test]
fn a_listener_in_the_process_gets_what_the_guest_connects() {
    let mut guest = Guest::new();
    let got = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&got);
    guest.mux.host().listen(9, Box::new(move |stream| into.lock().unwrap().push(stream)));
    let ports = Ports { guest: 1000, host: 9 };
    guest.connect(ports);
    assert_eq!(guest.run(), [(Op::Response, ports)]);
    let mut stream = UnixStream::from(got.lock().unwrap().pop().unwrap());
    guest.send(ports, b"ready");
    let mut text = [0; 5];
    stream.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"ready");
    guest.mux.host().unlisten(9);
    let other = Ports { guest: 1001, host: 9 };
    guest.connect(other);
    assert_eq!(guest.run(), [(Op::Reset, other)]);
    assert_eq!(guest.mux.counters(), Counters { opened: 1, refused: 1, broken: 0, foreign: 0 });
}

#[test]
fn programs_of_the_host_ask_by_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vsock");
    let listener = UnixListener::bind(&path).unwrap();
    let config = Config { cid: CID, listener: Some(listener), path: Some(path.clone()) };
    let mut guest = Guest::with(config);
    let mut near = UnixStream::connect(&path).unwrap();
    near.write_all(b"CONN").unwrap();
    guest.run();
    assert!(guest.peers.is_empty());
    near.write_all(b"ECT 1234\nand more").unwrap();
    guest.run();
    let ports = guest.only();
    assert_eq!((ports.guest, &*guest.peers[&ports].received), (1234, &b"and more"[..]));
    let mut line = [0; 14];
    near.read_exact(&mut line).unwrap();
    assert_eq!(std::str::from_utf8(&line).unwrap(), format!("OK {}\n", ports.host));
    for wrong in
        ["CONNECT\n", "CONNECT x\n", "CONNECT +1\n", "CONNECT 4294967296\n", &"A".repeat(40)]
    {
        let mut near = UnixStream::connect(&path).unwrap();
        near.write_all(wrong.as_bytes()).unwrap();
        guest.run();
        assert_eq!(near.read(&mut [0; 9]).unwrap_or(0), 0, "{wrong}");
    }
    assert_eq!(guest.peers.len(), 1);
    // And the other way round.
    let listener = UnixListener::bind(dir.path().join("vsock_77")).unwrap();
    let ports = Ports { guest: 4000, host: 77 };
    guest.connect(ports);
    assert_eq!(guest.run(), [(Op::Response, ports)]);
    guest.send(ports, b"out");
    let (mut far, _) = listener.accept().unwrap();
    let mut text = [0; 3];
    far.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"out");
    let nobody = Ports { guest: 4000, host: 78 };
    guest.connect(nobody);
    assert_eq!(guest.run(), [(Op::Reset, nobody)]);
}

#[test]
fn there_is_an_end_to_connections_and_to_refusals() {
    let mut guest = Guest::new();
    let ends = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&ends);
    guest.mux.host().listen(1, Box::new(move |stream| into.lock().unwrap().push(stream)));
    for guest_port in 0..u32::try_from(CONNECTIONS_MAX).unwrap() + 10 {
        guest.connect(Ports { guest: guest_port, host: 1 });
    }
    assert_eq!(guest.mux.counters().refused, 10);
    let said = guest.run();
    assert_eq!(said.iter().filter(|(op, _)| *op == Op::Reset).count(), 10);
    assert!(!guest.mux.is_full());
    for guest_port in 0..128 {
        guest.say(Ports { guest: guest_port, host: 2 }, Op::Data);
    }
    assert!(guest.mux.is_full());
    guest.run();
    assert!(!guest.mux.is_full());
}

#[test]
fn packets_of_others_are_counted_and_nothing_else() {
    let (mut guest, ports, _near) = connected();
    let packet = guest.packet(ports, Op::Reset);
    guest.mux.take(&Header { source_cid: 8, ..packet }, &[]);
    guest.mux.take(&Header { target_cid: 3, ..packet }, &[]);
    guest.mux.take(&Header { source_cid: CID | 1 << 32, ..packet }, &[]);
    assert_eq!(guest.mux.counters().foreign, 3);
    assert_eq!(guest.run(), []);
    // A type of socket that is not spoken is refused.
    let seqpacket = Header { kind: 2, ..guest.packet(Ports { guest: 1, host: 1 }, Op::Request) };
    guest.mux.take(&seqpacket, &[]);
    assert_eq!(guest.run(), [(Op::Reset, Ports { guest: 1, host: 1 })]);
}

#[test]
fn a_guest_that_breaks_the_rules_loses_that_connection_alone() {
    let (mut guest, ports, mut near) = connected();
    let (_other_near, far) = nonblocking();
    guest.mux.host().connect(6, far).unwrap();
    guest.run();
    guest.say(ports, Op::Request);
    assert_eq!(guest.run(), [(Op::Reset, ports)]);
    assert_eq!(near.read(&mut [0; 9]).unwrap(), 0);
    assert_eq!(guest.mux.counters().broken, 1);
    assert!(!guest.mux.streams_is_empty());
}

#[test]
fn who_gives_up_before_the_guest_answered_leaves_nothing() {
    let mut guest = Guest::new();
    let (near, far) = nonblocking();
    guest.mux.host().connect(5, far).unwrap();
    guest.mux.serve();
    drop(near);
    guest.mux.serve();
    assert!(guest.mux.streams_is_empty());
    assert_eq!(guest.run(), []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn no_packets_do_harm(
        packets in prop::collection::vec((0u32..4, 0u32..4, 0u16..9, 0u32..4, any::<u32>(), any::<u32>(), 0usize..70_000), 0..80),
    ) {
        let mut guest = Guest::new();
        let ends = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&ends);
        guest.mux.host().listen(1, Box::new(move |stream| into.lock().unwrap().push(stream)));
        for (source_port, target_port, op, flags, buffer_bytes, forwarded, bytes) in packets {
            let ports = Ports { guest: source_port, host: target_port };
            let mut raw = guest.packet(ports, Op::Data).encode();
            raw[30..32].copy_from_slice(&op.to_le_bytes());
            let header = Header { flags, buffer_bytes, forwarded, ..Header::parse(&raw) };
            guest.mux.take(&header, &vec![0; bytes]);
            guest.mux.serve();
            let mut payload = [0; 100];
            if bytes % 2 == 0 && let Some(header) = guest.mux.next(&mut payload) {
                prop_assert!(header.bytes <= 100);
            }
        }
        let mut left = 0;
        while guest.mux.next(&mut [0; 100]).is_some() {
            left += 1;
            prop_assert!(left < 10_000);
        }
    }
}

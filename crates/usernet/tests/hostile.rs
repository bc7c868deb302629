//! A guest that is up to no good: frames put together by hand, over a socket pair, on the loopback.
#![allow(clippy::unwrap_used, reason = "helpers of tests are not marked as tests")]

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    thread::{self, JoinHandle},
    time::Duration,
};

use proptest::prelude::*;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair, sockopt,
};
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
        IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket,
    },
};
use usernet::{Addresses, Config, Counters, Discard, Framing, Link, Stack};

const CARD: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// Bytes of Ethernet's and of IPv4's header.
const HEADERS: usize = 14 + 20;
/// What no test waits for longer than: it says that one hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// The guest's end of a stack whose gateway is this machine's loopback.
struct Guest {
    link: OwnedFd,
    framing: Framing,
    stack: JoinHandle<Counters>,
}

impl Guest {
    fn new(framing: Framing) -> Guest {
        Guest::with(framing, |_| ())
    }

    fn with(framing: Framing, prepare: impl FnOnce(&mut Stack)) -> Guest {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .unwrap();
        sockopt::set_socket_timeout(&ours, sockopt::Timeout::Recv, Some(PATIENCE)).unwrap();
        let config = Config {
            addresses: Addresses::default(),
            mtu: 1500,
            host_loopback: true,
            resolv_conf: "/nothing".into(),
        };
        let mut stack = Stack::new(Link::new(theirs, framing).unwrap(), config).unwrap();
        prepare(&mut stack);
        Guest { link: ours, framing, stack: thread::spawn(move || stack.run(None).unwrap()) }
    }

    /// Ends the link, and with it the stack.
    fn end(self) -> Counters {
        drop(self.link);
        self.stack.join().unwrap()
    }

    fn send(&self, frame: &[u8]) {
        // The header vouches for checksums.
        let header: &[u8] = match self.framing {
            Framing::Plain => &[],
            Framing::Virtio => &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            Framing::Card => &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        };
        send(&self.link, &[header, frame].concat(), SendFlags::empty()).unwrap();
    }

    fn receive(&self) -> Vec<u8> {
        let mut bytes = vec![0; 70_000];
        let (count, _) = recv(&self.link, &mut bytes[..], RecvFlags::empty()).unwrap();
        let header = match self.framing {
            Framing::Plain => 0,
            Framing::Virtio => 10,
            Framing::Card => 12,
        };
        bytes[header..count].to_vec()
    }

    fn ip(&self, protocol: IpProtocol, payload: &[u8]) {
        let header = Ipv4Repr {
            src_addr: GUEST,
            dst_addr: GATEWAY,
            next_header: protocol,
            payload_len: payload.len(),
            hop_limit: 64,
        };
        let mut bytes = vec![0; HEADERS + payload.len()];
        ethernet(&mut bytes, EthernetProtocol::Ipv4);
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes[14..]);
        header.emit(&mut packet, &ChecksumCapabilities::default());
        packet.payload_mut().copy_from_slice(payload);
        self.send(&bytes);
    }

    fn tcp(&self, repr: &TcpRepr<'_>) {
        let mut bytes = vec![0; repr.buffer_len()];
        let mut packet = TcpPacket::new_unchecked(&mut bytes[..]);
        repr.emit(&mut packet, &GUEST.into(), &GATEWAY.into(), &ChecksumCapabilities::default());
        self.ip(IpProtocol::Tcp, &bytes);
    }

    fn udp(&self, port: u16, payload: &[u8]) {
        let mut bytes = vec![0; 8 + payload.len()];
        let mut packet = UdpPacket::new_unchecked(&mut bytes[..]);
        packet.set_src_port(5000);
        packet.set_dst_port(port);
        packet.set_len(u16::try_from(8 + payload.len()).unwrap());
        packet.payload_mut().copy_from_slice(payload);
        packet.fill_checksum(&GUEST.into(), &GATEWAY.into());
        self.ip(IpProtocol::Udp, &bytes);
    }

    fn ask(&self) {
        let question = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: CARD,
            source_protocol_addr: GUEST,
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: GATEWAY,
        };
        let mut bytes = vec![0; 14 + question.buffer_len()];
        ethernet(&mut bytes, EthernetProtocol::Arp);
        question.emit(&mut ArpPacket::new_unchecked(&mut bytes[14..]));
        self.send(&bytes);
    }

    /// Passes over frames until one is the answer to a question.
    fn is_answered(&self) -> bool {
        loop {
            let bytes = self.receive();
            if EthernetFrame::new_unchecked(&bytes[..]).ethertype() == EthernetProtocol::Arp {
                return true;
            }
        }
    }

    /// Opens a connection. Gives the number of our next byte and of the other's.
    fn connect(&self, from: u16, to: u16) -> (TcpSeqNumber, TcpSeqNumber) {
        let ours = TcpSeqNumber(-3);
        self.tcp(&TcpRepr {
            control: TcpControl::Syn,
            seq_number: ours,
            max_seg_size: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            ..segment(from, to)
        });
        let bytes = self.receive();
        let packet = Ipv4Packet::new_checked(&bytes[14..]).unwrap();
        assert!(packet.verify_checksum());
        let answer = TcpPacket::new_checked(packet.payload()).unwrap();
        assert!(answer.syn() && answer.ack() && answer.ack_number() == ours + 1);
        if self.framing == Framing::Plain {
            assert!(answer.verify_checksum(&GATEWAY.into(), &GUEST.into()));
        }
        let (ours, theirs) = (ours + 1, answer.seq_number() + 1);
        self.tcp(&TcpRepr { seq_number: ours, ack_number: Some(theirs), ..segment(from, to) });
        (ours, theirs)
    }
}

fn segment<'p>(from: u16, to: u16) -> TcpRepr<'p> {
    TcpRepr {
        src_port: from,
        dst_port: to,
        control: TcpControl::None,
        seq_number: TcpSeqNumber(0),
        ack_number: None,
        window_len: 60_000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    }
}

fn ethernet(bytes: &mut [u8], kind: EthernetProtocol) {
    let mut frame = EthernetFrame::new_unchecked(bytes);
    frame.set_src_addr(CARD);
    frame.set_dst_addr(EthernetAddress::BROADCAST);
    frame.set_ethertype(kind);
}

fn serve() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[test]
fn frames_have_their_checksums_where_nobody_vouches_for_them() {
    let guest = Guest::new(Framing::Plain);
    let (listener, port) = serve();
    let (ours, theirs) = guest.connect(40_000, port);
    let (mut host, _): (TcpStream, _) = listener.accept().unwrap();
    let hello = TcpRepr { seq_number: ours, ack_number: Some(theirs), ..segment(40_000, port) };
    guest.tcp(&TcpRepr { control: TcpControl::Psh, payload: b"hello", ..hello });
    std::io::Read::read_exact(&mut host, &mut [0; 5]).unwrap();
    std::io::Write::write_all(&mut host, &[7; 4000]).unwrap();
    let mut heard = 0;
    while heard < 4000 {
        let bytes = guest.receive();
        let packet = Ipv4Packet::new_checked(&bytes[14..]).unwrap();
        assert!(bytes.len() <= 14 + 1500, "{}", bytes.len());
        let answer = TcpPacket::new_checked(packet.payload()).unwrap();
        assert!(answer.verify_checksum(&GATEWAY.into(), &GUEST.into()));
        heard += answer.payload().len();
    }
    assert_eq!(guest.end().discarded(Discard::Checksum), 0);
}

#[test]
fn what_is_not_carried_is_counted_and_the_rest_goes_on() {
    let guest = Guest::new(Framing::Plain);
    guest.send(&[1, 2, 3]);
    let mut bad = vec![0; 60];
    ethernet(&mut bad, EthernetProtocol::Ipv4);
    guest.send(&bad);
    ethernet(&mut bad, EthernetProtocol::Ipv6);
    guest.send(&bad);
    guest.ip(IpProtocol::Igmp, b"join");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    guest.udp(socket.local_addr().unwrap().port(), b"still there");
    assert_eq!(socket.recv(&mut [0; 64]).unwrap(), 11);
    guest.ask();
    assert!(guest.is_answered());
    let counters = guest.end();
    assert_eq!(counters.received, 6);
    assert_eq!(counters.discarded(Discard::Malformed), 2);
    assert_eq!(counters.discarded(Discard::Protocol), 2);
}

#[test]
fn a_guest_that_takes_nothing_holds_up_nobody_but_himself() {
    let guest = Guest::new(Framing::Plain);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    guest.udp(socket.local_addr().unwrap().port(), b"hello");
    let (_, from) = socket.recv_from(&mut [0; 64]).unwrap();
    for _ in 0..5000 {
        // What the host's own queue does not take is gone.
        let _ = socket.send_to(&[7; 1000], from);
    }
    // He takes frames again: of those that the host has kept, none is lost.
    let frames = || {
        let bytes = guest.receive();
        EthernetFrame::new_unchecked(&bytes[..]).ethertype() == EthernetProtocol::Ipv4
    };
    let taken = (0..64).take_while(|_| frames()).count();
    assert_eq!(taken, 64);
    // And he is heard, if not at once: nothing is kept for him that he has not asked for before.
    let short = Some(Duration::from_millis(100));
    sockopt::set_socket_timeout(&guest.link, sockopt::Timeout::Recv, short).unwrap();
    let mut bytes = vec![0; 70_000];
    let answered = (0..100).any(|_| {
        guest.ask();
        std::iter::from_fn(|| recv(&guest.link, &mut bytes[..], RecvFlags::empty()).ok())
            .any(|(count, _)| count < 100)
    });
    assert!(answered);
    guest.end();
}

/// Segments near what is expected, with anything in them.
/// A segment of the stack's: its ports, numbers, flags and payload.
struct Seen {
    from: u16,
    sequence: TcpSeqNumber,
    syn: bool,
    payload: Vec<u8>,
}

impl Guest {
    /// The next segment for a port.
    fn led_to(&self, port: u16) -> Seen {
        loop {
            let bytes = self.receive();
            assert_eq!(EthernetFrame::new_unchecked(&bytes[..]).dst_addr(), CARD);
            let packet = Ipv4Packet::new_checked(&bytes[14..]).unwrap();
            if packet.next_header() != IpProtocol::Tcp {
                continue;
            }
            let segment = TcpPacket::new_checked(packet.payload()).unwrap();
            assert!(segment.verify_checksum(&GATEWAY.into(), &GUEST.into()), "it is finished");
            assert_eq!((packet.src_addr(), segment.dst_port()), (GATEWAY, port));
            return Seen {
                from: segment.src_port(),
                sequence: segment.seq_number(),
                syn: segment.syn(),
                payload: segment.payload().to_vec(),
            };
        }
    }
}

#[test]
fn who_connects_to_a_published_port_is_led_to_the_guest() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let place = std::net::SocketAddrV4::new(GUEST, 22);
    let guest = Guest::with(Framing::Card, |stack| {
        stack.publish(listener, place, CARD.0).unwrap();
    });
    let connect = || {
        let client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    };
    let mut client = connect();
    std::io::Write::write_all(&mut client, b"hello").unwrap();
    let first = guest.led_to(22);
    assert!(first.syn && first.payload.is_empty());
    let ours = TcpSeqNumber(1000);
    let answer = TcpRepr {
        control: TcpControl::Syn,
        seq_number: ours,
        ack_number: Some(first.sequence + 1),
        max_seg_size: Some(1460),
        ..segment(22, first.from)
    };
    guest.tcp(&answer);
    let said = loop {
        let seen = guest.led_to(22);
        if !seen.payload.is_empty() {
            break seen;
        }
    };
    assert_eq!(said.payload, b"hello");
    guest.tcp(&TcpRepr {
        control: TcpControl::Psh,
        seq_number: ours + 1,
        ack_number: Some(said.sequence + 5),
        payload: b"world",
        ..segment(22, first.from)
    });
    let mut heard = [0; 5];
    std::io::Read::read_exact(&mut client, &mut heard).unwrap();
    assert_eq!(&heard, b"world");
    // Nobody listens: whoever connects is sent away.
    let mut other = connect();
    let second = loop {
        let seen = guest.led_to(22);
        if seen.syn {
            break seen;
        }
    };
    assert_ne!(second.from, first.from);
    guest.tcp(&TcpRepr {
        control: TcpControl::Rst,
        seq_number: TcpSeqNumber(0),
        ack_number: Some(second.sequence + 1),
        ..segment(22, second.from)
    });
    let ended = std::io::Read::read(&mut other, &mut heard);
    assert!(ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    drop(client);
    guest.end();
}

fn anything() -> impl Strategy<Value = (u8, i32, i32, u16, Vec<u8>, Vec<u8>)> {
    let near = || prop_oneof![4 => -3..4_i32, 2 => -70_000..70_000_i32, 1 => any::<i32>()];
    let options = prop::collection::vec(any::<u8>(), 0..10).prop_map(|mut words| {
        words.resize(words.len().next_multiple_of(4), 0);
        words
    });
    let payload = prop::collection::vec(any::<u8>(), 0..300);
    (any::<u8>(), near(), near(), any::<u16>(), options, payload)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn no_segment_harms_the_stack(
        segments in prop::collection::vec(anything(), 1..30),
        says: bool,
    ) {
        let guest = Guest::new(Framing::Virtio);
        let (listener, port) = serve();
        let (ours, theirs) = guest.connect(40_000, port);
        let (mut host, _) = listener.accept().unwrap();
        if says {
            let _ = std::io::Write::write_all(&mut host, &[7; 10_000]);
        }
        for (flags, at, ack, window, options, payload) in segments {
            let header = 20 + options.len();
            let mut bytes = [&vec![0; 20][..], &options, &payload].concat();
            let mut packet = TcpPacket::new_unchecked(&mut bytes[..]);
            packet.set_src_port(40_000);
            packet.set_dst_port(port);
            packet.set_seq_number(TcpSeqNumber(ours.0.wrapping_add(at)));
            packet.set_ack_number(TcpSeqNumber(theirs.0.wrapping_add(ack)));
            packet.set_window_len(window);
            packet.set_header_len(u8::try_from(header).unwrap());
            bytes[13] = flags;
            guest.ip(IpProtocol::Tcp, &bytes);
        }
        guest.ask();
        prop_assert!(guest.is_answered());
        drop(host);
        guest.end();
    }
}

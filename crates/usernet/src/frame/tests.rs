//! Frames that are read and such that are refused.

use proptest::prelude::*;
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{Icmpv4Repr, IpAddress, Ipv4Repr, TcpControl, TcpRepr, TcpSeqNumber},
};

use super::*;

const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const WORLD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const CARD: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);

/// A frame around an IPv4 payload.
fn frame(next_header: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let header = Ipv4Repr {
        src_addr: GUEST,
        dst_addr: WORLD,
        next_header,
        payload_len: payload.len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; 34 + payload.len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    frame.set_src_addr(CARD);
    frame.set_dst_addr(crate::out::MAC);
    frame.set_ethertype(EthernetProtocol::Ipv4);
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    header.emit(&mut packet, &ChecksumCapabilities::default());
    packet.payload_mut().copy_from_slice(payload);
    bytes
}

fn syn() -> Vec<u8> {
    let repr = TcpRepr {
        src_port: 40000,
        dst_port: 80,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(-2),
        ack_number: None,
        window_len: 1000,
        window_scale: Some(7),
        max_seg_size: Some(1460),
        sack_permitted: true,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let mut bytes = vec![0; repr.buffer_len()];
    let (from, to) = (IpAddress::from(GUEST), IpAddress::from(WORLD));
    let mut packet = TcpPacket::new_unchecked(&mut bytes[..]);
    repr.emit(&mut packet, &from, &to, &ChecksumCapabilities::default());
    frame(IpProtocol::Tcp, &bytes)
}

fn udp(payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 8 + payload.len()];
    let mut packet = UdpPacket::new_unchecked(&mut bytes[..]);
    packet.set_src_port(5000);
    packet.set_dst_port(53);
    packet.set_len(u16::try_from(8 + payload.len()).unwrap());
    packet.payload_mut().copy_from_slice(payload);
    packet.fill_checksum(&GUEST.into(), &WORLD.into());
    frame(IpProtocol::Udp, &bytes)
}

fn echo() -> Vec<u8> {
    let repr = Icmpv4Repr::EchoRequest { ident: 7, seq_no: 1, data: b"ping" };
    let mut bytes = vec![0; repr.buffer_len()];
    let mut packet = Icmpv4Packet::new_unchecked(&mut bytes[..]);
    repr.emit(&mut packet, &ChecksumCapabilities::default());
    frame(IpProtocol::Icmp, &bytes)
}

fn packet(bytes: &[u8]) -> Packet<'_> {
    match read(bytes, false).unwrap() {
        Frame::Packet(packet) => packet,
        Frame::Arp(question) => panic!("{question:?}"),
    }
}

/// Changes a frame and repairs the sum over its IP header.
fn changed(mut bytes: Vec<u8>, change: impl FnOnce(&mut Ipv4Packet<&mut [u8]>)) -> Vec<u8> {
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes[14..]);
    change(&mut packet);
    packet.fill_checksum();
    bytes
}

#[test]
fn a_syn_is_read() {
    let bytes = syn();
    let packet = packet(&bytes);
    assert_eq!(packet.source, SocketAddrV4::new(GUEST, 40000));
    assert_eq!(packet.destination, SocketAddrV4::new(WORLD, 80));
    let flags = Flags { syn: true, ack: false, rst: false };
    assert_eq!(packet.body, Body::Tcp { flags, sequence: u32::MAX - 1 });
    assert_eq!(packet.mac, CARD);
}

#[test]
fn padding_is_not_part_of_a_packet() {
    let mut bytes = udp(b"x");
    bytes.resize(60, 0xAA);
    let packet = packet(&bytes);
    assert_eq!((packet.bytes.len(), packet.body), (29, Body::Udp(b"x")));
}

#[test]
fn an_echo_request_is_known_by_its_identifier() {
    let bytes = echo();
    let packet = packet(&bytes);
    assert_eq!((packet.source.port(), packet.destination.port()), (7, 0));
    assert!(matches!(packet.body, Body::Echo(message) if message.ends_with(b"ping")));
}

#[test]
fn what_cannot_be_carried_is_refused_by_its_reason() {
    let refused = |bytes: &[u8], verified| read(bytes, verified).unwrap_err();
    assert_eq!(refused(&syn()[..40], false), Discard::Malformed);
    assert_eq!(refused(&[0; 13], false), Discard::Malformed);
    let mut bad = syn();
    *bad.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&bad, false), Discard::Checksum);
    // Whoever vouches for a sum may have left it to others to fill in.
    assert!(read(&bad, true).is_ok());
    let mut bad = syn();
    bad[14 + 8] ^= 1;
    assert_eq!(refused(&bad, true), Discard::Checksum);
    let piece = changed(udp(b"x"), |packet| packet.set_more_frags(true));
    assert_eq!(refused(&piece, true), Discard::Fragment);
    let piece = changed(udp(b"x"), |packet| packet.set_frag_offset(8));
    assert_eq!(refused(&piece, true), Discard::Fragment);
    let other = changed(udp(b"x"), |packet| packet.set_next_header(IpProtocol::Igmp));
    assert_eq!(refused(&other, true), Discard::Protocol);
    let mut six = syn();
    six[12..14].copy_from_slice(&[0x86, 0xdd]);
    assert_eq!(refused(&six, true), Discard::Protocol);
    let mut many = syn();
    many[6] = 0xff;
    assert_eq!(refused(&many, true), Discard::Source);
}

#[test]
fn a_datagram_need_not_have_a_checksum() {
    let mut bytes = udp(b"x");
    bytes[14 + 20 + 6..14 + 20 + 8].fill(0);
    assert_eq!(packet(&bytes).body, Body::Udp(b"x"));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), v: bool) {
        let _ = read(&bytes, v);
    }

    #[test]
    fn any_change_to_a_packet_without_a_voucher_is_noticed_or_harmless(
        at in 14_usize..54,
        bit in 0_u8..8,
    ) {
        let whole = syn();
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << bit;
        // Every bit of both headers is under a sum.
        prop_assert!(read(&bytes, false).is_err(), "bit {bit} of byte {at}");
    }

    #[test]
    fn any_piece_of_a_frame_is_refused(length in 0_usize..57) {
        prop_assert!(read(&syn()[..length], true).is_err());
    }

    #[test]
    fn what_a_frame_says_of_its_lengths_is_not_believed(
        header in 0_u8..16,
        total in any::<u16>(),
        offset in 0_u8..16,
    ) {
        let mut bytes = syn();
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes[14..]);
        packet.set_header_len(header * 4);
        packet.set_total_len(total);
        if (5..=10).contains(&header) {
            packet.fill_checksum();
        }
        bytes[14 + 20 + 12] = offset << 4;
        let _ = read(&bytes, true);
        let _ = read(&bytes, false);
    }
}

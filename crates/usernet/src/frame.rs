//! Reads a frame of the guest's. Pure, and trusts nothing.
//!
//! Source: IEEE 802.3 (Ethernet II), RFC 826 (ARP), RFC 791 (IPv4), RFC 792, RFC 768, RFC 9293.

use std::net::{Ipv4Addr, SocketAddrV4};

use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    Icmpv4Message, Icmpv4Packet, IpProtocol, Ipv4Packet, TcpPacket, UdpPacket,
};

use crate::Discard;

/// What a frame asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'f> {
    /// Who has this address?
    Arp(Question),
    /// To be carried.
    Packet(Packet<'f>),
}

/// A question for a hardware address.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) mac: EthernetAddress,
    pub(crate) asker: Ipv4Addr,
    pub(crate) wanted: Ipv4Addr,
}

/// A whole packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packet<'f> {
    /// Who sent it.
    pub(crate) mac: EthernetAddress,
    /// For an echo request the port is its identifier.
    pub(crate) source: SocketAddrV4,
    /// For an echo request the port is 0.
    pub(crate) destination: SocketAddrV4,
    /// With its IP header, without padding.
    pub(crate) bytes: &'f [u8],
    pub(crate) body: Body<'f>,
}

/// What is in a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Body<'f> {
    /// A segment, of which only this is of interest here.
    Tcp { flags: Flags, sequence: u32 },
    /// A datagram's payload.
    Udp(&'f [u8]),
    /// An echo request as it is, with its ICMP header.
    Echo(&'f [u8]),
}

/// Flags of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) syn: bool,
    pub(crate) ack: bool,
    pub(crate) rst: bool,
}

/// Reads a frame. `verified`: whoever handed it over vouches for the checksum of its transport.
pub(crate) fn read(bytes: &[u8], verified: bool) -> Result<Frame<'_>, Discard> {
    let frame = EthernetFrame::new_checked(bytes).map_err(|_| Discard::Malformed)?;
    let mac = frame.src_addr();
    if !mac.is_unicast() {
        return Err(Discard::Source);
    }
    match frame.ethertype() {
        EthernetProtocol::Arp => arp(frame.payload()).map(Frame::Arp),
        EthernetProtocol::Ipv4 => ipv4(mac, frame.payload(), verified).map(Frame::Packet),
        EthernetProtocol::Ipv6 | EthernetProtocol::Unknown(_) => Err(Discard::Protocol),
    }
}

/// Reads once more a packet that was read, which came from a hardware address.
pub(crate) fn again(mac: EthernetAddress, packet: &[u8]) -> Result<Packet<'_>, Discard> {
    ipv4(mac, packet, true)
}

fn arp(bytes: &[u8]) -> Result<Question, Discard> {
    let packet = ArpPacket::new_checked(bytes).map_err(|_| Discard::Malformed)?;
    let ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: mac,
        source_protocol_addr: asker,
        target_protocol_addr: wanted,
        ..
    } = ArpRepr::parse(&packet).map_err(|_| Discard::Malformed)?
    else {
        return Err(Discard::Protocol);
    };
    Ok(Question { mac, asker, wanted })
}

fn ipv4(mac: EthernetAddress, bytes: &[u8], verified: bool) -> Result<Packet<'_>, Discard> {
    let packet = Ipv4Packet::new_checked(bytes).map_err(|_| Discard::Malformed)?;
    if packet.version() != 4 {
        return Err(Discard::Malformed);
    }
    if !packet.verify_checksum() {
        return Err(Discard::Checksum);
    }
    if packet.more_frags() || packet.frag_offset() != 0 {
        return Err(Discard::Fragment);
    }
    let (source, destination) = (packet.src_addr(), packet.dst_addr());
    let bytes = bytes.get(..packet.total_len().into()).ok_or(Discard::Malformed)?;
    let (ports, body) = match packet.next_header() {
        IpProtocol::Tcp => tcp(&packet, verified)?,
        IpProtocol::Udp => udp(&packet, verified)?,
        IpProtocol::Icmp => echo(&packet)?,
        IpProtocol::HopByHop
        | IpProtocol::Igmp
        | IpProtocol::Ipv6Route
        | IpProtocol::Ipv6Frag
        | IpProtocol::IpSecEsp
        | IpProtocol::IpSecAh
        | IpProtocol::Icmpv6
        | IpProtocol::Ipv6NoNxt
        | IpProtocol::Ipv6Opts
        | IpProtocol::Unknown(_) => return Err(Discard::Protocol),
    };
    let source = SocketAddrV4::new(source, ports.0);
    let destination = SocketAddrV4::new(destination, ports.1);
    Ok(Packet { mac, source, destination, bytes, body })
}

type Read<'f> = Result<((u16, u16), Body<'f>), Discard>;

fn tcp<'f>(packet: &Ipv4Packet<&'f [u8]>, verified: bool) -> Read<'f> {
    let segment = TcpPacket::new_checked(packet.payload()).map_err(|_| Discard::Malformed)?;
    let ports = (segment.src_port(), segment.dst_port());
    if ports.0 == 0 || ports.1 == 0 {
        return Err(Discard::Malformed);
    }
    if !verified && !segment.verify_checksum(&packet.src_addr().into(), &packet.dst_addr().into()) {
        return Err(Discard::Checksum);
    }
    let flags = Flags { syn: segment.syn(), ack: segment.ack(), rst: segment.rst() };
    // Sequence numbers are bits here; smoltcp reads them as signed.
    let sequence = segment.seq_number().0.cast_unsigned();
    Ok((ports, Body::Tcp { flags, sequence }))
}

fn udp<'f>(packet: &Ipv4Packet<&'f [u8]>, verified: bool) -> Read<'f> {
    let datagram = UdpPacket::new_checked(packet.payload()).map_err(|_| Discard::Malformed)?;
    let ports = (datagram.src_port(), datagram.dst_port());
    // A source port of 0 is legal, for what wants no answer; no socket can have it.
    if ports.0 == 0 || ports.1 == 0 {
        return Err(Discard::Malformed);
    }
    // A checksum of 0 is none.
    let given = !verified && datagram.checksum() != 0;
    if given && !datagram.verify_checksum(&packet.src_addr().into(), &packet.dst_addr().into()) {
        return Err(Discard::Checksum);
    }
    Ok((ports, Body::Udp(datagram.payload())))
}

fn echo<'f>(packet: &Ipv4Packet<&'f [u8]>) -> Read<'f> {
    let message = Icmpv4Packet::new_checked(packet.payload()).map_err(|_| Discard::Malformed)?;
    if !message.verify_checksum() {
        return Err(Discard::Checksum);
    }
    if message.msg_type() != Icmpv4Message::EchoRequest || message.msg_code() != 0 {
        return Err(Discard::Protocol);
    }
    Ok(((message.echo_ident(), 0), Body::Echo(packet.payload())))
}

#[cfg(test)]
mod tests;

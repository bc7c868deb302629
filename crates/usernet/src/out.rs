//! Frames for the guest: those that the stack itself makes, and those of its TCP connections.

use std::net::{Ipv4Addr, SocketAddrV4};

use rustix::io::Errno;
use smoltcp::{
    phy::{
        Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, PacketMeta, RxToken,
        TxToken,
    },
    time::Instant,
    wire::{
        ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
        Icmpv4Message, Icmpv4Packet, IpProtocol, Ipv4Packet, Ipv4Repr, TcpPacket, UdpPacket,
        checksum,
    },
};

use crate::{
    Counters, Discard,
    frame::Question,
    link::{HEADER_BYTES, Link, Todo},
};

/// The stack's hardware address: locally administered, as slirp's.
pub(crate) const MAC: EthernetAddress = EthernetAddress([0x52, 0x55, 0x0a, 0x00, 0x02, 0x02]);
/// Largest packet of IPv4.
pub(crate) const PACKET_BYTES_MAX: usize = 65_535;
/// Bytes of an Ethernet header.
pub(crate) const ETHERNET_BYTES: usize = 14;
const IP_BYTES: usize = 20;
const UDP_BYTES: usize = 8;
const ICMP_BYTES: usize = 8;
const HOPS: u8 = 64;
/// Where TCP's header has its checksum (RFC 9293, 3.1).
const TCP_CHECKSUM_AT: u16 = 16;
/// What is quoted of a packet that could not be carried: its header without options and the first
/// bytes of its payload (RFC 792).
const QUOTED_BYTES: usize = IP_BYTES + 8;

/// Why something is not reached. Source: RFC 792, RFC 1812.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreachable {
    Network = 0,
    Host = 1,
    Port = 3,
    Prohibited = 13,
}

/// The way to the guest.
#[derive(Debug)]
pub(crate) struct Out {
    link: Link,
    mtu: u16,
    buffer: Box<[u8]>,
    /// A frame that the link did not take: its length in the buffer, and what is to do to it.
    waits: Option<(usize, Todo)>,
    pub(crate) counters: Counters,
    /// Set when the link is of no use any more.
    pub(crate) broken: Option<Errno>,
}

impl Out {
    pub(crate) fn new(link: Link, mtu: u16) -> Out {
        let buffer = vec![0; HEADER_BYTES + ETHERNET_BYTES + PACKET_BYTES_MAX].into_boxed_slice();
        Out { link, mtu, buffer, waits: None, counters: Counters::default(), broken: None }
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// Whether the guest has to take a frame before it gets another.
    pub(crate) fn is_blocked(&self) -> bool {
        self.waits.is_some()
    }

    /// Offers the frame that waits once more.
    pub(crate) fn retry(&mut self) {
        if let Some((length, todo)) = self.waits.take() {
            self.send(length, todo, true);
        }
    }

    /// The stack has the address that was asked for.
    pub(crate) fn arp(&mut self, question: &Question) {
        let reply = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: MAC,
            source_protocol_addr: question.wanted,
            target_hardware_addr: question.mac,
            target_protocol_addr: question.asker,
        };
        self.frame(question.mac, EthernetProtocol::Arp, reply.buffer_len(), |bytes| {
            reply.emit(&mut ArpPacket::new_unchecked(bytes));
        });
    }

    /// A datagram.
    pub(crate) fn udp(
        &mut self,
        mac: EthernetAddress,
        from: SocketAddrV4,
        to: SocketAddrV4,
        payload: &[u8],
    ) {
        let Ok(length) = u16::try_from(UDP_BYTES + payload.len()) else { return };
        self.ip(mac, (*from.ip(), *to.ip()), IpProtocol::Udp, length.into(), |bytes| {
            let mut datagram = UdpPacket::new_unchecked(bytes);
            datagram.set_src_port(from.port());
            datagram.set_dst_port(to.port());
            datagram.set_len(length);
            datagram.payload_mut().copy_from_slice(payload);
            datagram.fill_checksum(&(*from.ip()).into(), &(*to.ip()).into());
        });
    }

    /// The answer to an echo request, made of the request or of an answer to another identifier.
    pub(crate) fn echo(
        &mut self,
        mac: EthernetAddress,
        from: Ipv4Addr,
        to: SocketAddrV4,
        message: &[u8],
    ) {
        if message.len() < ICMP_BYTES {
            return;
        }
        self.ip(mac, (from, *to.ip()), IpProtocol::Icmp, message.len(), |bytes| {
            bytes.copy_from_slice(message);
            let mut reply = Icmpv4Packet::new_unchecked(bytes);
            reply.set_msg_type(Icmpv4Message::EchoReply);
            reply.set_msg_code(0);
            reply.set_echo_ident(to.port());
            reply.fill_checksum();
        });
    }

    /// Tells the guest that a packet of his did not get through. The packet need not be whole.
    pub(crate) fn unreachable(
        &mut self,
        mac: EthernetAddress,
        gateway: Ipv4Addr,
        why: Unreachable,
        packet: &[u8],
    ) {
        let Some(to) = packet.get(..IP_BYTES).map(|b| Ipv4Packet::new_unchecked(b).src_addr())
        else {
            return;
        };
        let quoted = packet.get(..QUOTED_BYTES).unwrap_or(packet);
        self.ip(mac, (gateway, to), IpProtocol::Icmp, ICMP_BYTES + quoted.len(), |bytes| {
            bytes.fill(0);
            let mut message = Icmpv4Packet::new_unchecked(bytes);
            message.set_msg_type(Icmpv4Message::DstUnreachable);
            message.set_msg_code(why as u8);
            message.data_mut().copy_from_slice(quoted);
            message.fill_checksum();
        });
    }

    fn ip(
        &mut self,
        mac: EthernetAddress,
        (from, to): (Ipv4Addr, Ipv4Addr),
        next_header: IpProtocol,
        length: usize,
        fill: impl FnOnce(&mut [u8]),
    ) {
        if IP_BYTES + length > self.mtu.into() {
            self.counters.discard(Discard::Guest);
            return;
        }
        let header = Ipv4Repr {
            src_addr: from,
            dst_addr: to,
            next_header,
            payload_len: length,
            hop_limit: HOPS,
        };
        self.frame(mac, EthernetProtocol::Ipv4, IP_BYTES + length, |bytes| {
            let mut packet = Ipv4Packet::new_unchecked(&mut *bytes);
            header.emit(&mut packet, &ChecksumCapabilities::default());
            // Routers on the guest's side may cut it.
            packet.set_dont_frag(false);
            packet.fill_checksum();
            if let Some(payload) = bytes.get_mut(IP_BYTES..) {
                fill(payload);
            }
        });
    }

    fn frame(
        &mut self,
        mac: EthernetAddress,
        kind: EthernetProtocol,
        length: usize,
        fill: impl FnOnce(&mut [u8]),
    ) {
        if self.waits.is_some() {
            self.counters.discard(Discard::Guest);
            return;
        }
        if let Some(payload) = self.prepare(mac, kind, length) {
            fill(payload);
            self.send(HEADER_BYTES + ETHERNET_BYTES + length, Todo::default(), false);
        }
    }

    /// Writes an Ethernet header and gives the room behind it.
    fn prepare(
        &mut self,
        mac: EthernetAddress,
        kind: EthernetProtocol,
        length: usize,
    ) -> Option<&mut [u8]> {
        let bytes = self.buffer.get_mut(HEADER_BYTES..HEADER_BYTES + ETHERNET_BYTES + length)?;
        let mut frame = EthernetFrame::new_unchecked(&mut *bytes);
        frame.set_src_addr(MAC);
        frame.set_dst_addr(mac);
        frame.set_ethertype(kind);
        bytes.get_mut(ETHERNET_BYTES..)
    }

    fn send(&mut self, length: usize, todo: Todo, again: bool) {
        let Some(bytes) = self.buffer.get_mut(..length) else { return };
        match self.link.send(bytes, todo) {
            Ok(()) => self.counters.sent += 1,
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => self.waits = Some((length, todo)),
            // A tap device that is down, and one that does not take such a frame.
            Err(Errno::IO | Errno::INVAL | Errno::MSGSIZE) => self.counters.discard(Discard::Guest),
            Err(error) => self.broken = Some(error),
        }
        debug_assert!(again || length >= HEADER_BYTES + ETHERNET_BYTES, "a frame has a header");
    }

    /// Hands over what TCP has put behind the Ethernet header.
    fn send_tcp(&mut self, length: usize, piece: Option<u16>) {
        let todo = match self.link.offloads() {
            false => Some(Todo::default()),
            true => self.offload(length, piece),
        };
        match todo {
            Some(todo) => self.send(HEADER_BYTES + ETHERNET_BYTES + length, todo, false),
            None => self.counters.discard(Discard::Malformed),
        }
    }

    /// Leaves the sum over the payload, and the cutting of it, to whoever takes the frame.
    fn offload(&mut self, length: usize, piece: Option<u16>) -> Option<Todo> {
        let at = HEADER_BYTES + ETHERNET_BYTES;
        let bytes = self.buffer.get_mut(at..at + length)?;
        let packet = Ipv4Packet::new_checked(&*bytes).ok()?;
        let (from, to) = (packet.src_addr(), packet.dst_addr());
        let header = usize::from(packet.header_len());
        let segment = bytes.get_mut(header..)?;
        let segment_bytes = u32::try_from(segment.len()).ok()?;
        let mut tcp = TcpPacket::new_checked(segment).ok()?;
        tcp.set_checksum(checksum::pseudo_header_v4(&from, &to, IpProtocol::Tcp, segment_bytes));
        let start = u16::try_from(ETHERNET_BYTES + header).ok()?;
        let headers = start + u16::from(tcp.header_len());
        Some(Todo {
            checksum: Some((start, TCP_CHECKSUM_AT)),
            pieces: piece.map(|piece| (headers, piece)),
        })
    }
}

/// The guest as TCP sees it: one packet of his at most, and the way to him.
pub(crate) struct Port<'p> {
    pub(crate) packet: Option<&'p [u8]>,
    pub(crate) mac: EthernetAddress,
    pub(crate) out: &'p mut Out,
}

impl Device for Port<'_> {
    type RxToken<'t>
        = Received<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Place<'t>
    where
        Self: 't;

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, Place<'_>)> {
        let packet = self.packet.take()?;
        Some((Received(packet), Place { mac: self.mac, out: self.out, piece: None }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Place<'_>> {
        let free = !self.out.is_blocked() && self.out.broken.is_none();
        free.then_some(Place { mac: self.mac, out: self.out, piece: None })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.out.mtu, self.out.link.offloads())
    }
}

/// What the way to the guest can do. Checksums of what arrives have been looked at by then.
pub(crate) fn capabilities(mtu: u16, offloads: bool) -> DeviceCapabilities {
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = mtu.into();
    capabilities.checksum.ipv4 = Checksum::Tx;
    capabilities.checksum.tcp = if offloads { Checksum::None } else { Checksum::Tx };
    if offloads {
        capabilities.segmentation.tcpv4 = std::num::NonZeroUsize::new(PACKET_BYTES_MAX);
    }
    capabilities
}

/// A packet that the guest sent.
pub(crate) struct Received<'t>(&'t [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Where a packet for the guest is put.
pub(crate) struct Place<'t> {
    mac: EthernetAddress,
    out: &'t mut Out,
    piece: Option<u16>,
}

impl TxToken for Place<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        if self.out.is_blocked() {
            // An answer to what came while the guest takes nothing; he will ask again.
            self.out.counters.discard(Discard::Guest);
            return f(&mut vec![0; length]);
        }
        match self.out.prepare(self.mac, EthernetProtocol::Ipv4, length) {
            Some(place) => {
                let made = f(place);
                self.out.send_tcp(length, self.piece);
                made
            }
            None => f(&mut vec![0; length]),
        }
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.piece = meta.segmentation_offload_size.map(std::num::NonZeroU16::get);
    }
}

//! Datagrams between the guest and one other: a connected socket of the host's for each pair, so
//! that the host's own errors come back, and nobody else's datagrams.
//!
//! UDP is carried as it is. What goes to the resolver goes to one of the host's, to the next one
//! when the guest asks again without an answer. Echo requests go through the kernel's ping sockets,
//! which `net.ipv4.ping_group_range` gives to groups of users (icmp(7)).

use std::{
    net::{SocketAddr, SocketAddrV4},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, ipproto, recv, send,
        socket_with,
    },
};
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{EthernetAddress, IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket},
};

use crate::{
    Discard,
    flow::{Key, Protocol},
    out::{Out, Unreachable},
    timers::Millis,
};

/// How long an exchange is kept that nobody has answered.
/// Source: nf_conntrack, `udp_timeout`.
const IDLE: Millis = 30_000;
/// How long one is kept that was answered. Source: nf_conntrack, `udp_timeout_stream`.
const IDLE_ANSWERED: Millis = 120_000;
/// How long a resolver may think before the same guest's next question goes to the next one.
const PATIENCE: Millis = 1000;
/// Datagrams of one exchange that are carried at a time, before others have their turn.
const BURST: usize = 32;

/// An exchange.
#[derive(Debug)]
pub(crate) struct Exchange {
    socket: OwnedFd,
    service: Service,
    last: Millis,
    answered: bool,
    /// Whether the host's end may have something for the guest.
    waits: bool,
}

/// What it is for.
#[derive(Debug)]
pub(crate) enum Service {
    Udp,
    Echo,
    /// By the number of the resolver, and since when it has a question without an answer.
    Names {
        server: usize,
        since: Option<Millis>,
    },
}

impl Exchange {
    /// A socket to one other.
    ///
    /// # Errors
    /// What socket(2) and connect(2) say; `ACCES` if this user may not send echo requests.
    pub(crate) fn open(to: SocketAddr, service: Service, now: Millis) -> Result<Exchange, Errno> {
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let protocol = match service {
            Service::Udp | Service::Names { .. } => None,
            Service::Echo => Some(ipproto::ICMP),
        };
        let socket = socket_with(family, SocketType::DGRAM, flags, protocol)?;
        connect(&socket, &to)?;
        Ok(Exchange { socket, service, last: now, answered: false, waits: false })
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// There is something for the guest.
    pub(crate) fn event(&mut self) {
        self.waits = true;
    }

    /// Whether it is to be carried again, without another event.
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// The resolver that has not answered for too long.
    pub(crate) fn silent_server(&self, now: Millis) -> Option<usize> {
        match self.service {
            Service::Names { server, since: Some(since) } if now - since >= PATIENCE => {
                Some(server)
            }
            Service::Names { .. } | Service::Udp | Service::Echo => None,
        }
    }

    /// When it may be forgotten.
    pub(crate) fn idle_at(&self) -> Millis {
        self.last + if self.answered { IDLE_ANSWERED } else { IDLE }
    }

    /// Carries a datagram of the guest's.
    pub(crate) fn outward(&mut self, payload: &[u8], now: Millis, out: &mut Out) {
        self.last = now;
        if let Service::Names { since, .. } = &mut self.service {
            since.get_or_insert(now);
        }
        let once = || send(&self.socket, payload, SendFlags::NOSIGNAL).map(drop);
        // The first tells what became of an earlier one: udp(7).
        match once().or_else(|_| once()) {
            Ok(()) => {}
            Err(_) => out.counters.discard(Discard::Host),
        }
    }

    /// Carries what came for the guest. Answers which resolver has answered.
    pub(crate) fn inward(
        &mut self,
        key: &Key,
        mac: EthernetAddress,
        buffer: &mut [u8],
        now: Millis,
        out: &mut Out,
    ) -> Option<usize> {
        let mut answered = None;
        for _ in 0..BURST {
            // What the guest does not take stays with the host, whose queue ends.
            if out.is_blocked() {
                break;
            }
            let length = match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((length, _)) => length,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {
                    self.waits = false;
                    break;
                }
                Err(error) => {
                    self.failed(key, mac, error, out);
                    continue;
                }
            };
            self.last = now;
            self.answered = true;
            if let Service::Names { server, since } = &mut self.service {
                *since = None;
                answered = Some(*server);
            }
            let payload = buffer.get(..length).unwrap_or_default();
            match key.protocol {
                Protocol::Echo => out.echo(mac, *key.remote.ip(), key.guest, payload),
                Protocol::Udp | Protocol::Tcp => out.udp(mac, key.remote, key.guest, payload),
            }
        }
        answered
    }

    /// Passes on what the host was told about an earlier datagram.
    fn failed(&mut self, key: &Key, mac: EthernetAddress, error: Errno, out: &mut Out) {
        if let Service::Names { since, .. } = &mut self.service {
            // The next question goes to the next resolver.
            *since = Some(Millis::MIN / 2);
        }
        let why = match error {
            Errno::CONNREFUSED => Unreachable::Port,
            Errno::NETUNREACH => Unreachable::Network,
            Errno::HOSTUNREACH => Unreachable::Host,
            Errno::ACCESS | Errno::PERM => Unreachable::Prohibited,
            _ => return out.counters.discard(Discard::Host),
        };
        // By whom it is told matters less than that the guest believes it: the other does.
        out.unreachable(mac, *key.remote.ip(), why, &quote(key.guest, key.remote));
    }
}

/// The beginning of a datagram as the guest has sent it.
fn quote(from: SocketAddrV4, to: SocketAddrV4) -> [u8; 28] {
    let mut bytes = [0; 28];
    let header = Ipv4Repr {
        src_addr: *from.ip(),
        dst_addr: *to.ip(),
        next_header: IpProtocol::Udp,
        payload_len: 8,
        hop_limit: 64,
    };
    let (ip, udp) = bytes.split_at_mut(20);
    let mut packet = Ipv4Packet::new_unchecked(ip);
    header.emit(&mut packet, &ChecksumCapabilities::default());
    let mut datagram = UdpPacket::new_unchecked(udp);
    datagram.set_src_port(from.port());
    datagram.set_dst_port(to.port());
    datagram.set_len(8);
    bytes
}

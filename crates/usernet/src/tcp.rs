//! One TCP connection: the guest's end is kept by smoltcp, the host's by the host.
//!
//! ```text
//!  SYN ──▶ connecting ──host connected──▶ open ──both have ended──▶ gone
//!             │ refused, unreachable        │ reset by one: the other is reset too
//!             ▼                             ▼
//!           RST, ICMP                      gone
//! ```
//!
//! The guest's SYN is answered when the host's connection is there, so that the guest sees what the
//! host would see. Two rings lie between both ends; where one is full, nothing is read, and whoever
//! sends is slowed down by his own TCP.
//!
//! Source: RFC 9293.

use std::{
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::{
    event::epoll::EventFlags,
    io::Errno,
    net::{
        AddressFamily, SendFlags, Shutdown, SocketFlags, SocketType, connect, send, shutdown,
        socket_with, sockopt,
    },
};
use smoltcp::{
    iface::{Interface, PollResult, SocketHandle, SocketSet, SocketStorage},
    socket::tcp::{Socket, SocketBuffer, State},
    time::Instant,
    wire::EthernetAddress,
};

use crate::{
    flow::Key,
    frame::Flags,
    out::{Out, Port, Unreachable},
};

/// Bytes of a ring in either direction, and up to which total of all rings a connection gets such:
/// many connections get along with less, so that few can have much.
const RINGS: [(usize, usize); 3] =
    [(512 << 10, 64 << 20), (128 << 10, 128 << 20), (16 << 10, MEMORY_MAX)];
/// Most that all rings together may take, in bytes.
pub(crate) const MEMORY_MAX: usize = 256 << 20;
/// How long a guest may be silent until he is asked whether he is there.
const KEEP_ALIVE: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(60);
/// How long he may not answer until the connection is given up.
const GONE: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(600);
/// How long he may take to answer at all, where the host's side began: until then somebody waits.
const ANSWERS_WITHIN: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(30);

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    /// Number of the guest's SYN.
    sequence: u32,
    /// What each of its rings takes.
    ring: usize,
    stage: Stage,
    ready: Ready,
}

/// What the host's end is known to be ready for.
#[derive(Debug, Default)]
struct Ready {
    read: bool,
    write: bool,
    /// Its other side sends no more.
    ended: bool,
    failed: bool,
}

#[derive(Debug)]
enum Stage {
    /// With the guest's SYN.
    Connecting(Box<[u8]>),
    Open(Box<Open>),
}

#[derive(Debug)]
struct Open {
    /// The one socket, alone in a set of its own: smoltcp goes through all of a set.
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    /// The guest sends no more.
    guest_ended: bool,
    /// The host's other side sends no more.
    host_ended: bool,
    /// The host's other side was told that the guest sends no more.
    told: bool,
}

/// What a connection needs of the stack.
pub(crate) struct Wire<'w> {
    pub(crate) interface: &'w mut Interface,
    pub(crate) out: &'w mut Out,
    pub(crate) now: Instant,
    pub(crate) mac: EthernetAddress,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Goes,
    /// It is through.
    Ends,
    /// The guest's end is gone before its time: the host's is reset.
    Breaks,
    /// The host did not get through, and this is why.
    Refused(Errno),
}

/// What is said to a guest whose connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Reset,
    Unreachable(Unreachable),
    /// He finds out by himself, or tries again.
    Silence,
}

impl Connection {
    /// Begins to connect. `used`: what the rings of all connections take.
    ///
    /// # Errors
    /// `NOBUFS` if memory is used up, and what socket(2) and connect(2) say.
    pub(crate) fn start(
        to: SocketAddr,
        sequence: u32,
        syn: &[u8],
        used: usize,
    ) -> Result<Connection, Errno> {
        let ring = ring(used).ok_or(Errno::NOBUFS)?;
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        sockopt::set_socket_keepalive(&socket, true)?;
        match connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let stage = Stage::Connecting(syn.into());
        Ok(Connection { socket, sequence, ring, stage, ready: Ready::default() })
    }

    /// The other way round: a client of the host's is led to the guest. `used`: what the rings of
    /// all connections take.
    ///
    /// # Errors
    /// `NOBUFS` if memory is used up, and what setsockopt(2) says.
    pub(crate) fn inward(
        socket: OwnedFd,
        key: &Key,
        used: usize,
        wire: &mut Wire<'_>,
    ) -> Result<Connection, Errno> {
        let ring = ring(used).ok_or(Errno::NOBUFS)?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        sockopt::set_socket_keepalive(&socket, true)?;
        let stage = Stage::Open(Box::new(Open::dial(key, ring, wire)?));
        // The guest's SYN has no number yet: one that is no answer begins another connection.
        Ok(Connection { socket, sequence: 0, ring, stage, ready: Ready::default() })
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// What its rings take, in bytes.
    pub(crate) fn memory(&self) -> usize {
        2 * self.ring
    }

    /// The guest's SYN, while it is not answered.
    pub(crate) fn syn(&self) -> Option<&[u8]> {
        match &self.stage {
            Stage::Connecting(syn) => Some(syn),
            Stage::Open(_) => None,
        }
    }

    /// Takes note of an event of the host's end.
    pub(crate) fn event(&mut self, flags: EventFlags) {
        let ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP);
        self.ready.ended |= ended;
        self.ready.read |= ended || flags.contains(EventFlags::IN);
        self.ready.write |= flags.contains(EventFlags::OUT);
        self.ready.failed |= flags.contains(EventFlags::ERR);
    }

    /// Whether a segment begins another connection between the same two ends, of a guest that has
    /// forgotten this one.
    pub(crate) fn is_replaced_by(&self, flags: Flags, sequence: u32) -> bool {
        flags.syn && !flags.ack && sequence != self.sequence
    }

    /// Takes a segment of the guest's.
    pub(crate) fn arrived(&mut self, packet: &[u8], flags: Flags, wire: &mut Wire<'_>) -> Fate {
        match &mut self.stage {
            // His SYN again needs no answer yet.
            Stage::Connecting(_) if flags.rst => Fate::Ends,
            Stage::Connecting(_) => Fate::Goes,
            Stage::Open(open) => {
                open.arrived(packet, wire);
                Fate::Goes
            }
        }
    }

    /// Carries what can be carried in both directions.
    pub(crate) fn carry(&mut self, key: &Key, wire: &mut Wire<'_>) -> Fate {
        if let Stage::Connecting(syn) = &self.stage {
            match sockopt::socket_error(&self.socket) {
                Ok(Err(error)) | Err(error) => return Fate::Refused(error),
                Ok(Ok(())) if !self.ready.write => return Fate::Goes,
                Ok(Ok(())) => {}
            }
            let mut open = Open::new(key, self.ring);
            open.arrived(syn, wire);
            self.stage = Stage::Open(Box::new(open));
        }
        let Stage::Open(open) = &mut self.stage else { return Fate::Goes };
        open.carry(self.socket.as_fd(), &mut self.ready, wire)
    }

    /// When it is to be carried again though nothing happens.
    pub(crate) fn poll_at(&mut self, wire: &mut Wire<'_>) -> Option<Instant> {
        match &self.stage {
            Stage::Connecting(_) => None,
            Stage::Open(open) => wire.interface.poll_at(wire.now, &open.sockets),
        }
    }

    /// Has the host's end reset when it is dropped.
    pub(crate) fn reset(&self) {
        // If it cannot be, it ends as if all was sent.
        let _ = sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
    }
}

/// The guest's end of a connection that is not there yet.
fn end(ring: usize) -> Socket<'static> {
    let ring = || SocketBuffer::new(vec![0; ring]);
    let mut socket = Socket::new(ring(), ring());
    // Both is done by the senders behind the rings.
    socket.set_nagle_enabled(false);
    socket.set_ack_delay(None);
    socket.set_keep_alive(Some(KEEP_ALIVE));
    socket.set_timeout(Some(GONE));
    socket
}

impl Open {
    fn new(key: &Key, ring: usize) -> Open {
        let mut socket = end(ring);
        socket.listen(key.remote).expect("ports of 0 are refused when frames are read");
        Open::of(socket)
    }

    /// One that the stack begins.
    fn dial(key: &Key, ring: usize, wire: &mut Wire<'_>) -> Result<Open, Errno> {
        let mut socket = end(ring);
        socket.set_timeout(Some(ANSWERS_WITHIN));
        socket
            .connect(wire.interface.context(), key.guest, key.remote)
            .map_err(|_| Errno::ADDRNOTAVAIL)?;
        Ok(Open::of(socket))
    }

    fn of(socket: Socket<'static>) -> Open {
        let mut sockets = SocketSet::new(vec![SocketStorage::EMPTY]);
        let handle = sockets.add(socket);
        Open { sockets, handle, guest_ended: false, host_ended: false, told: false }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    fn arrived(&mut self, packet: &[u8], wire: &mut Wire<'_>) {
        let dials = self.socket().state() == State::SynSent;
        let mut port = Port { packet: Some(packet), mac: wire.mac, out: wire.out };
        wire.interface.poll_ingress_single(wire.now, &mut port, &mut self.sockets);
        if dials {
            self.socket().set_timeout(Some(GONE));
        }
        self.guest_ended |= match self.socket().state() {
            State::CloseWait | State::LastAck | State::Closing | State::TimeWait => true,
            State::Closed
            | State::Listen
            | State::SynSent
            | State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2 => false,
        };
    }

    fn carry(&mut self, host: BorrowedFd<'_>, ready: &mut Ready, wire: &mut Wire<'_>) -> Fate {
        let carried = match ready.failed {
            true => Err(Errno::CONNRESET),
            false => self.outward(host, ready).and_then(|()| self.inward(host, ready)),
        };
        if carried.is_err() {
            self.socket().abort();
        }
        self.emit(wire);
        if carried.is_err() {
            return Fate::Ends;
        }
        let through = self.guest_ended && self.host_ended;
        match self.socket().state() {
            // What the guest has sent may be on its way to the host yet.
            State::Closed | State::TimeWait if through => match self.told {
                true => Fate::Ends,
                false => Fate::Goes,
            },
            // A guest that resets a connection which is not there yet is forgotten.
            State::Closed | State::Listen => Fate::Breaks,
            State::TimeWait
            | State::SynSent
            | State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck => Fate::Goes,
        }
    }

    fn outward(&mut self, host: BorrowedFd<'_>, ready: &mut Ready) -> Result<(), Errno> {
        while ready.write && self.socket().can_recv() {
            let sent = self.socket().recv(|data| match send(host, data, SendFlags::NOSIGNAL) {
                Ok(count) => (count, Ok(())),
                Err(error) => (0, Err(error)),
            });
            match sent {
                Ok(Err(Errno::AGAIN)) => ready.write = false,
                Ok(Err(Errno::INTR) | Ok(())) => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => break,
            }
        }
        if self.guest_ended && !self.told && self.socket().recv_queue() == 0 {
            self.told = true;
            match shutdown(host, Shutdown::Write) {
                // It has been reset, which reading tells.
                Ok(()) | Err(Errno::NOTCONN) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn inward(&mut self, host: BorrowedFd<'_>, ready: &mut Ready) -> Result<(), Errno> {
        while ready.read && !self.host_ended && self.socket().can_send() {
            let mut room = 0;
            let read = self.socket().send(|place| {
                room = place.len();
                match rustix::io::read(host, place) {
                    Ok(count) => (count, Ok(count)),
                    Err(error) => (0, Err(error)),
                }
            });
            match read {
                Ok(Ok(0)) => {
                    self.host_ended = true;
                    self.socket().close();
                }
                // Less than there was room for is all there is: epoll(7). The end comes after it.
                Ok(Ok(count)) => ready.read = ready.ended || count == room,
                Ok(Err(Errno::AGAIN)) => ready.read = false,
                Ok(Err(Errno::INTR)) => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => break,
            }
        }
        Ok(())
    }

    fn emit(&mut self, wire: &mut Wire<'_>) {
        loop {
            let mut port = Port { packet: None, mac: wire.mac, out: wire.out };
            let polled = wire.interface.poll_egress(wire.now, &mut port, &mut self.sockets);
            match polled {
                PollResult::None => return,
                PollResult::SocketStateChanged => {}
            }
        }
    }
}

/// The ring of one more connection, or none if there is no memory left.
fn ring(used: usize) -> Option<usize> {
    RINGS.into_iter().find(|(ring, most)| used + 2 * ring <= *most).map(|(ring, _)| ring)
}

/// What a guest is told when the host could not connect.
pub(crate) fn refusal(error: Errno) -> Refusal {
    match error {
        Errno::CONNREFUSED | Errno::CONNRESET => Refusal::Reset,
        Errno::NETUNREACH | Errno::NETDOWN | Errno::AFNOSUPPORT => {
            Refusal::Unreachable(Unreachable::Network)
        }
        Errno::HOSTUNREACH | Errno::HOSTDOWN | Errno::ADDRNOTAVAIL => {
            Refusal::Unreachable(Unreachable::Host)
        }
        Errno::ACCESS | Errno::PERM => Refusal::Unreachable(Unreachable::Prohibited),
        _ => Refusal::Silence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_connections_have_much_and_many_have_little() {
        assert_eq!(ring(0), Some(512 << 10));
        assert_eq!(ring(64 << 20), Some(128 << 10));
        assert_eq!(ring(128 << 20), Some(16 << 10));
        assert_eq!(ring(MEMORY_MAX), None);
        // As many as may be there all get one.
        let mut used = 0;
        for _ in 0..crate::flow::CONNECTIONS_MAX {
            used += 2 * ring(used).unwrap();
        }
        assert!(used <= MEMORY_MAX, "{used}");
    }

    #[test]
    fn the_guest_is_told_what_the_host_was_told() {
        assert_eq!(refusal(Errno::CONNREFUSED), Refusal::Reset);
        assert_eq!(refusal(Errno::HOSTUNREACH), Refusal::Unreachable(Unreachable::Host));
        assert_eq!(refusal(Errno::NETUNREACH), Refusal::Unreachable(Unreachable::Network));
        assert_eq!(refusal(Errno::TIMEDOUT), Refusal::Silence);
        assert_eq!(refusal(Errno::MFILE), Refusal::Silence);
    }
}

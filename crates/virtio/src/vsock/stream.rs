//! A connection with its socket of the host.

use std::{io, os::fd::OwnedFd};

use rustix::{
    event::epoll::EventFlags,
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown},
};

use super::{
    connection::{Change, Connection, Violation},
    packet::{Header, Op, Ports},
};

/// A connection and its socket. The socket is watched edge by edge: what it was last seen to be
/// ready for holds until it refuses.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) connection: Connection,
    pub(super) ports: Ports,
    socket: OwnedFd,
    /// Its program of the host asked by name and waits for `OK`.
    greet: bool,
    readable: bool,
    writable: bool,
    /// Its writing end was closed.
    closed: bool,
    /// It is in the line of those that may have something for the guest.
    pub(super) queued: bool,
}

/// What becomes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on.
    Stays,
    /// It goes, and the guest is told.
    Reset,
    /// It goes, and the guest knows.
    Gone,
}

impl Stream {
    pub(super) fn new(
        connection: Connection,
        ports: Ports,
        socket: OwnedFd,
        greet: bool,
    ) -> Stream {
        Stream {
            connection,
            ports,
            socket,
            greet,
            readable: true,
            writable: true,
            closed: false,
            queued: false,
        }
    }

    /// What epoll says of the socket.
    pub(super) fn ready(&mut self, events: EventFlags) -> Fate {
        if events.intersects(EventFlags::HUP | EventFlags::ERR) {
            if self.connection.is_asked() {
                return if self.connection.is_known() { Fate::Reset } else { Fate::Gone };
            }
            // The reader is gone; what it wrote before may be there still.
            self.connection.host_stopped_receiving();
            self.readable = true;
        }
        self.readable |= events.intersects(EventFlags::IN | EventFlags::RDHUP);
        self.writable |= events.contains(EventFlags::OUT);
        self.pass()
    }

    /// Takes a packet of the guest's.
    pub(super) fn receive(&mut self, header: &Header, payload: &[u8]) -> Fate {
        match self.connection.receive(header, payload) {
            Err(Violation::Unexpected | Violation::TooMuch) => Fate::Reset,
            Ok(Change::None) => Fate::Stays,
            Ok(Change::Opened) => {
                if self.greet && !self.answer() {
                    Fate::Reset
                } else {
                    Fate::Stays
                }
            }
            Ok(Change::Passed | Change::Over) => self.pass(),
        }
    }

    /// Tells the program of the host that the call was taken. Nothing was written before, so the
    /// socket has room for it.
    fn answer(&self) -> bool {
        let line = format!("OK {}\n", self.ports.host);
        let sent = send(&self.socket, line.as_bytes(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        sent == Ok(line.len())
    }

    /// Gives the socket what is held, as far as it takes it.
    pub(super) fn pass(&mut self) -> Fate {
        while self.writable {
            let (held, _) = self.connection.held();
            if held.is_empty() {
                break;
            }
            match send(&self.socket, held, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(bytes) => self.connection.passed(bytes),
                Err(Errno::AGAIN) => self.writable = false,
                Err(Errno::INTR) => {}
                Err(_) => self.connection.host_stopped_receiving(),
            }
        }
        self.close()
    }

    /// Closes what the guest has closed.
    fn close(&mut self) -> Fate {
        if self.connection.passed_all() {
            if self.connection.forgotten() {
                return Fate::Gone;
            }
            if self.connection.given_up() {
                return Fate::Reset;
            }
            if !std::mem::replace(&mut self.closed, true) {
                // The other end may be gone already.
                let _ = shutdown(&self.socket, Shutdown::Write);
            }
        } else if !self.connection.guest_receives() && !self.connection.forgotten() {
            let _ = shutdown(&self.socket, Shutdown::Read);
        }
        Fate::Stays
    }

    /// The next packet for the guest, with its bytes in `payload`; then whether the stream goes.
    pub(super) fn next(&mut self, cid: u64, payload: &mut [u8]) -> (Option<Header>, Fate) {
        // What could not be read may be something to be said: its end, or that there is no room.
        let packet = self.said(cid).or_else(|| self.data(cid, payload)).or_else(|| self.said(cid));
        let Some(mut header) = packet else {
            return (None, Fate::Stays);
        };
        self.connection.stamp(&mut header);
        let over = self.connection.finished();
        (Some(header), if over { Fate::Gone } else { Fate::Stays })
    }

    fn data(&mut self, cid: u64, payload: &mut [u8]) -> Option<Header> {
        if !self.readable || self.connection.is_asked() || !self.connection.guest_receives() {
            return None;
        }
        let window = usize::try_from(self.connection.window()).unwrap_or(usize::MAX);
        let room = payload.len().min(window);
        if room == 0 {
            if !payload.is_empty() && self.has_bytes() {
                self.connection.stalled();
            }
            return None;
        }
        let bytes = self.read(&mut payload[..room])?;
        self.connection.send(bytes);
        Some(Header { bytes, ..Header::to_guest(cid, self.ports, Op::Data) })
    }

    fn said(&mut self, cid: u64) -> Option<Header> {
        let (op, flags) = self.connection.say()?;
        Some(Header { flags, ..Header::to_guest(cid, self.ports, op) })
    }

    /// Whether there are bytes that wait for room. An end is found here too, for it needs no room.
    fn has_bytes(&mut self) -> bool {
        match recv(&self.socket, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((1.., _)) => true,
            Err(Errno::AGAIN) => {
                self.readable = false;
                false
            }
            Err(Errno::INTR) => true,
            Ok(_) | Err(_) => {
                self.ended();
                false
            }
        }
    }

    fn read(&mut self, into: &mut [u8]) -> Option<u32> {
        loop {
            match recv(&self.socket, &mut *into, RecvFlags::DONTWAIT) {
                Ok((bytes, _)) if bytes > 0 => return u32::try_from(bytes).ok(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.readable = false;
                    return None;
                }
                Ok(_) | Err(_) => {
                    self.ended();
                    return None;
                }
            }
        }
    }

    fn ended(&mut self) {
        self.readable = false;
        self.connection.host_stopped_sending();
    }

    /// Watches its socket, edge by edge, under this number.
    pub(super) fn watch(&self, epoll: &OwnedFd, id: u64) -> io::Result<()> {
        use rustix::event::epoll::{self, EventData};
        rustix::io::ioctl_fionbio(&self.socket, true)?;
        let edges = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(epoll, &self.socket, EventData::new_u64(id), edges)?)
    }
}

//! All connections of a device: packets on one side, sockets on the other.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::PathBuf,
};

use rustix::{
    event::epoll::{self, EventData, EventFlags},
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, connect,
        recv, socket_with, socketpair,
    },
};

use super::{
    connection::Connection,
    host::{Host, Offer},
    packet::{HOST_CID, Header, Op, Ports, TYPE_STREAM},
    stream::{Fate, Stream},
};

/// Most connections of a guest at a time, those that are being passed on still among them.
pub const CONNECTIONS_MAX: usize = 512;

/// Most programs of the host that have not said yet where they want to go; a further one takes the
/// place of the one that has been silent for longest.
const GREETERS_MAX: usize = 64;

/// Longest line with which such a program begins: `CONNECT 4294967295\n` and some room.
const GREETING_BYTES_MAX: usize = 32;

/// Refusals that wait for the guest to take them. While there are so many, nothing that it sends
/// is looked at.
const RESETS_MAX: usize = 128;

/// Events that are taken from the kernel at once.
const EVENTS: usize = 64;

/// How often that is done before the queues get their turn.
const ROUNDS_MAX: usize = 8;

/// The first port of the host's that a connection to the guest comes from.
const FIRST_PORT: u32 = 1 << 30;

/// Numbers of what is watched; connections and greeters have those after them.
const WATCH_HOST: u64 = 0;
const WATCH_LISTENER: u64 = 1;
const FIRST_ID: u64 = 2;

/// What a mux is made of.
#[derive(Debug)]
pub struct Config {
    /// The guest's context id, at least [`super::GUEST_CID_MIN`].
    pub cid: u64,
    /// Where programs of the host ask for ports of the guest.
    pub listener: Option<UnixListener>,
    /// Its path; behind it and `_N` are the sockets of those who listen at port N of the host.
    pub path: Option<PathBuf>,
}

/// What has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections that were made, by either side.
    pub opened: u64,
    /// Connections that the guest asked for and did not get.
    pub refused: u64,
    /// Connections that were ended because the guest broke the rules.
    pub broken: u64,
    /// Packets with context ids that are not theirs.
    pub foreign: u64,
}

/// The connections of one guest.
#[derive(Debug)]
pub struct Mux {
    cid: u64,
    path: Option<PathBuf>,
    listener: Option<UnixListener>,
    host: Host,
    epoll: OwnedFd,
    streams: BTreeMap<u64, Stream>,
    /// Those of the streams that the guest knows.
    by_ports: HashMap<Ports, u64>,
    greeters: BTreeMap<u64, OwnedFd>,
    /// Those that may have something for the guest, in turn.
    line: VecDeque<u64>,
    resets: VecDeque<Ports>,
    next_id: u64,
    next_port: u32,
    counters: Counters,
}

impl Mux {
    /// One without connections.
    ///
    /// # Errors
    /// If the host has no descriptor left.
    pub fn new(config: Config) -> io::Result<Mux> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let host = Host::new()?;
        epoll::add(&epoll, &host, EventData::new_u64(WATCH_HOST), EventFlags::IN)?;
        if let Some(listener) = &config.listener {
            listener.set_nonblocking(true)?;
            let edges = EventFlags::IN | EventFlags::ET;
            epoll::add(&epoll, listener, EventData::new_u64(WATCH_LISTENER), edges)?;
        }
        Ok(Mux {
            cid: config.cid,
            path: config.path,
            listener: config.listener,
            host,
            epoll,
            streams: BTreeMap::new(),
            by_ports: HashMap::new(),
            greeters: BTreeMap::new(),
            line: VecDeque::new(),
            resets: VecDeque::new(),
            next_id: FIRST_ID,
            next_port: FIRST_PORT,
            counters: Counters::default(),
        })
    }

    /// For who wants to connect and to listen in this process.
    pub fn host(&self) -> Host {
        self.host.clone()
    }

    /// The guest's context id.
    pub fn cid(&self) -> u64 {
        self.cid
    }

    /// What has happened.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Ends all connections without a word to the guest: it has begun anew, or has been told.
    pub fn forget(&mut self) {
        self.streams.clear();
        self.by_ports.clear();
        self.line.clear();
        self.resets.clear();
    }

    /// Whether there is no connection, and nothing to be said of one.
    pub fn is_idle(&self) -> bool {
        self.streams.is_empty() && self.resets.is_empty()
    }

    /// The host's port from which the next connection to the guest comes.
    pub(super) fn next_port(&self) -> u32 {
        self.next_port
    }

    /// Has the next connection to the guest come from this port, if it is one for that.
    pub(super) fn go_on_from(&mut self, port: u32) {
        if (FIRST_PORT..u32::MAX).contains(&port) {
            self.next_port = port;
        }
    }

    /// Whether so much waits for the guest that nothing more may be taken from it.
    pub fn is_full(&self) -> bool {
        self.resets.len() >= RESETS_MAX
    }

    /// Whether there may be a packet for the guest.
    pub fn has_next(&self) -> bool {
        !self.resets.is_empty() || !self.line.is_empty()
    }

    /// The next packet for the guest: its header, and its bytes in `payload`.
    pub fn next(&mut self, payload: &mut [u8]) -> Option<Header> {
        if let Some(ports) = self.resets.pop_front() {
            return Some(Header::to_guest(self.cid, ports, Op::Reset));
        }
        while let Some(id) = self.line.pop_front() {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            stream.queued = false;
            let (header, fate) = stream.next(self.cid, payload);
            if header.is_some() {
                self.queue(id);
            }
            self.settle(id, fate);
            if header.is_some() {
                return header;
            }
        }
        None
    }

    /// Takes a packet of the guest's.
    pub fn take(&mut self, header: &Header, payload: &[u8]) {
        if header.source_cid != self.cid || header.target_cid != HOST_CID {
            self.counters.foreign += 1;
            return;
        }
        let ports = header.ports();
        if header.kind != TYPE_STREAM {
            return self.refuse(header);
        }
        if let Some(&id) = self.by_ports.get(&ports) {
            let Some(stream) = self.streams.get_mut(&id) else { return };
            let fate = stream.receive(header, payload);
            if stream.connection.forgotten() {
                self.by_ports.remove(&ports);
            }
            let told = stream.connection.given_up();
            self.counters.broken += u64::from(fate == Fate::Reset && !told);
            self.queue(id);
            self.settle(id, fate);
        } else if header.op == Some(Op::Request) {
            self.granted(header);
        } else {
            self.refuse(header);
        }
    }

    /// Does what the host's descriptors are ready for.
    pub fn serve(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut events = Vec::with_capacity(EVENTS);
            let none = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
            let room = rustix::buffer::spare_capacity(&mut events);
            if epoll::wait(&self.epoll, room, Some(&none)).is_err() || events.is_empty() {
                return;
            }
            for event in events {
                let epoll::Event { data, flags, .. } = event;
                self.event(data.u64(), flags);
            }
        }
    }

    fn event(&mut self, id: u64, flags: EventFlags) {
        match id {
            WATCH_HOST => {
                for (port, stream) in self.host.take_waiting() {
                    self.ask(port, stream, false);
                }
            }
            WATCH_LISTENER => self.accept(),
            _ if self.greeters.contains_key(&id) => self.greeting(id),
            _ => {
                let Some(stream) = self.streams.get_mut(&id) else { return };
                let fate = stream.ready(flags);
                self.queue(id);
                self.settle(id, fate);
            }
        }
    }

    /// Takes all who knock. The listener is watched edge by edge: who cannot be taken, for want of
    /// descriptors, waits until the next one knocks.
    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while let Some(listener) = &self.listener
            && let Ok(socket) = accept_with(listener, flags)
        {
            if self.greeters.len() >= GREETERS_MAX {
                self.greeters.pop_first();
            }
            let id = self.new_id();
            let edges = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
            if epoll::add(&self.epoll, &socket, EventData::new_u64(id), edges).is_ok() {
                self.greeters.insert(id, socket);
            }
        }
    }

    /// Reads the line with which a program of the host begins, and not a byte more; what stands
    /// behind it is for the guest.
    fn greeting(&mut self, id: u64) {
        let Some(socket) = self.greeters.remove(&id) else { return };
        let mut line = [0; GREETING_BYTES_MAX];
        let seen = match recv(&socket, &mut line, RecvFlags::PEEK) {
            Ok((seen @ 1.., _)) => seen,
            Err(Errno::AGAIN | Errno::INTR) => return drop(self.greeters.insert(id, socket)),
            Ok(_) | Err(_) => return,
        };
        let Some(end) = line[..seen].iter().position(|byte| *byte == b'\n') else {
            if seen < line.len() {
                self.greeters.insert(id, socket);
            }
            return;
        };
        let whole = recv(&socket, &mut line[..=end], RecvFlags::empty());
        if whole != Ok((end + 1, end + 1)) || epoll::delete(&self.epoll, &socket).is_err() {
            return;
        }
        if let Some(port) = asked_port(&line[..end]) {
            self.ask(port, socket, true);
        }
    }

    /// Asks the guest for a connection.
    fn ask(&mut self, port: u32, socket: OwnedFd, greet: bool) {
        if self.streams.len() < CONNECTIONS_MAX
            && let Some(host) = self.free_port(port)
        {
            let ports = Ports { guest: port, host };
            self.add(Stream::new(Connection::ask(), ports, socket, greet));
        }
    }

    /// A port of the host's from which nobody has a connection to this one of the guest's. There
    /// are more ports than connections.
    fn free_port(&mut self, guest: u32) -> Option<u32> {
        for _ in 0..=CONNECTIONS_MAX {
            let host = self.next_port;
            // The last of all numbers means "any port" (vsock(7)).
            let next = host.checked_add(1).filter(|port| *port != u32::MAX);
            self.next_port = next.unwrap_or(FIRST_PORT);
            if !self.by_ports.contains_key(&Ports { guest, host }) {
                return Some(host);
            }
        }
        None
    }

    /// Gives the guest the connection that it asks for, or refuses it.
    fn granted(&mut self, request: &Header) {
        let ports = request.ports();
        let socket =
            if self.streams.len() < CONNECTIONS_MAX { self.reach(ports.host) } else { None };
        match socket {
            Some(socket) => {
                self.add(Stream::new(Connection::grant(request), ports, socket, false));
            }
            None => {
                self.counters.refused += 1;
                self.refuse(request);
            }
        }
    }

    /// A stream to whoever listens at a port of the host.
    fn reach(&self, port: u32) -> Option<OwnedFd> {
        let mut ours = None;
        let offer = self.host.offer(port, || {
            let flags = SocketFlags::CLOEXEC;
            let (near, far) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            ours = Some(near);
            Ok(far)
        });
        match offer {
            Offer::Taken => ours,
            Offer::Failed => None,
            Offer::Nobody => {
                let mut path = OsString::from(self.path.as_ref()?);
                path.push(format!("_{port}"));
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                let socket =
                    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
                connect(&socket, &SocketAddrUnix::new(PathBuf::from(path)).ok()?).ok()?;
                Some(socket)
            }
        }
    }

    fn add(&mut self, stream: Stream) {
        let id = self.new_id();
        if stream.watch(&self.epoll, id).is_err() {
            if stream.connection.is_asked() {
                return;
            }
            return self.resets.push_back(stream.ports);
        }
        self.counters.opened += 1;
        self.by_ports.insert(stream.ports, id);
        self.streams.insert(id, stream);
        self.queue(id);
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Puts a stream into the line, if it is not in it.
    fn queue(&mut self, id: u64) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !std::mem::replace(&mut stream.queued, true)
        {
            self.line.push_back(id);
        }
    }

    /// Lets a stream go whose fate it is.
    fn settle(&mut self, id: u64, fate: Fate) {
        if fate == Fate::Stays {
            return;
        }
        let Some(stream) = self.streams.remove(&id) else { return };
        if self.by_ports.get(&stream.ports) == Some(&id) {
            self.by_ports.remove(&stream.ports);
        }
        if fate == Fate::Reset && !stream.connection.forgotten() {
            self.resets.push_back(stream.ports);
        }
    }

    /// Tells the guest that there is no such connection. A reset is not answered by one.
    fn refuse(&mut self, header: &Header) {
        if header.op != Some(Op::Reset) {
            self.resets.push_back(header.ports());
        }
    }
}

#[cfg(test)]
impl Mux {
    pub(super) fn streams_is_empty(&self) -> bool {
        self.streams.is_empty() && self.by_ports.is_empty()
    }
}

impl AsFd for Mux {
    /// Readable when [`Mux::serve`] has something to do.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// The port in `CONNECT <port>`.
fn asked_port(line: &[u8]) -> Option<u32> {
    let line = std::str::from_utf8(line).ok()?;
    let port = line.strip_suffix('\r').unwrap_or(line).strip_prefix("CONNECT ")?;
    port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())?
}

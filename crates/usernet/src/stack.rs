//! The stack: waits for the guest and for sockets of the host, and carries between them.

mod lease;
mod publish;

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::{BorrowedFd, OwnedFd},
    path::PathBuf,
    time,
};

use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, EventData, EventFlags},
    },
    io::Errno,
    rand::{GetRandomFlags, getrandom},
};
use smoltcp::{
    iface::{self, Interface, SocketSet},
    time::Instant,
    wire::{EthernetAddress, HardwareAddress, IpCidr},
};

use crate::{
    Addresses, Counters, Discard, Link,
    datagram::{Exchange, Service},
    flow::{Flow, Flows, Key, Kind, Protocol},
    frame::{self, Body, Flags, Frame, Packet},
    link::HEADER_BYTES,
    out::{ETHERNET_BYTES, Out, PACKET_BYTES_MAX, Port, Unreachable},
    plan::Way,
    resolver::Resolver,
    tcp::{self, Connection, Fate, Refusal, Wire},
    timers::{Millis, Timers},
};

pub use publish::PUBLISHED_MAX;
use publish::Published;

/// How a stack is to be.
#[derive(Clone, Debug)]
pub struct Config {
    /// The guest's network.
    pub addresses: Addresses,
    /// The largest packet that the guest's interface takes, in bytes; at least 576 (RFC 791).
    pub mtu: u16,
    /// Whether the gateway's address leads to the host's loopback.
    pub host_loopback: bool,
    /// The file that names the host's resolvers, looked at again while the stack runs.
    pub resolv_conf: PathBuf,
}

/// Why a stack could not be made, or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// The kernel refused what a stack waits with.
    #[error("cannot set up what waits for the network")]
    Start(#[source] io::Error),
    /// Waiting failed.
    #[error("cannot wait for the network")]
    Wait(#[source] io::Error),
    /// Frames neither come nor go.
    #[error("cannot reach the interface")]
    Link(#[source] io::Error),
}

/// Frames that are read before flows have their turn. Their answers go together.
const BURST: usize = 64;
/// Events that are taken at a time.
const EVENTS: usize = 256;
/// Smallest packet that every host takes. Source: RFC 791, 3.1.
const MTU_MIN: u16 = 576;
/// Room for a frame that is longer than it should be, so that it is seen to be.
const SPARE_BYTES: usize = 64;

/// What there is to hear of a datagram's socket, and of a connection's.
const IN: EventFlags = EventFlags::IN;
const BOTH: EventFlags = EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP);

const LINK: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;

/// A stack. Dropped, all of its connections end.
pub struct Stack {
    config: Config,
    epoll: OwnedFd,
    began: time::Instant,
    interface: Interface,
    out: Out,
    flows: Flows,
    /// What the rings of all connections take, in bytes.
    memory: usize,
    retries: Timers,
    idle: Timers,
    resolver: Resolver,
    /// Flows that are to be carried.
    list: Vec<usize>,
    /// Where a datagram of the host's is read to.
    datagram: Box<[u8]>,
    /// Whether epoll tells when the guest takes frames again.
    watches_room: bool,
    /// Ports of the host's that lead to the guest, and the gateway's port of the last connection.
    published: Vec<Published>,
    last_port: u16,
    /// The address that a guest who asks for one gets.
    lease: Option<Ipv4Addr>,
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counters = &self.out.counters;
        f.debug_struct("Stack").field("config", &self.config).field("counters", counters).finish()
    }
}

impl Stack {
    /// A stack that serves one link.
    ///
    /// # Errors
    /// [`StackError::Start`].
    pub fn new(link: Link, config: Config) -> Result<Stack, StackError> {
        let start = |error: Errno| StackError::Start(error.into());
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(start)?;
        epoll::add(&epoll, link.fd(), EventData::new_u64(LINK), EventFlags::IN).map_err(start)?;
        let mut seed = [0; 8];
        getrandom(&mut seed, GetRandomFlags::empty()).map_err(start)?;
        let config = Config { mtu: config.mtu.max(MTU_MIN), ..config };
        let mut out = Out::new(link, config.mtu);
        let mut own = iface::Config::new(HardwareAddress::Ip);
        own.random_seed = u64::from_ne_bytes(seed);
        let mut port = Port { packet: None, mac: crate::out::MAC, out: &mut out };
        let mut interface = Interface::new(own, &mut port, Instant::ZERO);
        // A connection is made for every address that the guest asks for.
        interface.set_any_ip(true);
        let (gateway, prefix) = (config.addresses.gateway(), config.addresses.prefix());
        interface.update_ip_addrs(|all| {
            // There is room for two.
            let _ = all.push(IpCidr::new(gateway.into(), prefix));
        });
        Ok(Stack {
            resolver: Resolver::new(config.resolv_conf.clone()),
            config,
            epoll,
            began: base::clock::monotonic(),
            interface,
            out,
            flows: Flows::default(),
            memory: 0,
            retries: Timers::default(),
            idle: Timers::default(),
            list: Vec::new(),
            datagram: vec![0; PACKET_BYTES_MAX].into_boxed_slice(),
            watches_room: false,
            published: Vec::new(),
            last_port: 0,
            lease: None,
        })
    }

    /// Serves the link until it is gone, or until `stop` can be read from. Answers what was done.
    ///
    /// # Errors
    /// [`StackError::Wait`] and [`StackError::Link`].
    pub fn run(mut self, stop: Option<BorrowedFd<'_>>) -> Result<Counters, StackError> {
        if let Some(stop) = stop {
            epoll::add(&self.epoll, stop, EventData::new_u64(STOP), EventFlags::IN)
                .map_err(|error| StackError::Start(error.into()))?;
        }
        let length = HEADER_BYTES + ETHERNET_BYTES + PACKET_BYTES_MAX + SPARE_BYTES;
        let mut buffer = vec![0; length].into_boxed_slice();
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), self.patience().as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(StackError::Wait(error.into())),
            }
            for event in &events {
                match event.data.u64() {
                    STOP => return Ok(self.out.counters),
                    LINK => {
                        let more = self.link(event.flags, &mut buffer);
                        if !more.map_err(|error| StackError::Link(error.into()))? {
                            return Ok(self.out.counters);
                        }
                    }
                    token if publish::TOKENS.contains(&token) => self.accept(token),
                    token => self.event(token, event.flags),
                }
            }
            self.expire();
            self.carry();
            match self.out.broken {
                None => {}
                // As when there is nothing more to read.
                Some(Errno::PIPE | Errno::CONNRESET | Errno::BADFD) => {
                    return Ok(self.out.counters);
                }
                Some(error) => return Err(StackError::Link(error.into())),
            }
            self.watch_room();
        }
    }

    fn millis(&self) -> Millis {
        Millis::try_from(self.began.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    /// How long to wait at most.
    fn patience(&self) -> Option<Timespec> {
        if !self.list.is_empty() {
            return Some(Timespec { tv_sec: 0, tv_nsec: 0 });
        }
        let next = [self.retries.next(), self.idle.next()].into_iter().flatten().min()?;
        // One more: what is due within a millisecond is not due yet.
        let left = next.saturating_sub(self.millis()).max(0) + 1;
        Some(Timespec { tv_sec: left / 1000, tv_nsec: left % 1000 * 1_000_000 })
    }

    /// Reads frames. Answers whether there may be more, ever.
    fn link(&mut self, flags: EventFlags, buffer: &mut [u8]) -> Result<bool, Errno> {
        if flags.contains(EventFlags::OUT) {
            self.out.retry();
            if !self.out.is_blocked() {
                for slot in self.flows.all().collect::<Vec<_>>() {
                    self.enlist(slot);
                }
            }
        }
        for _ in 0..BURST {
            match self.out.link().receive(buffer) {
                Ok(([], _)) => return Ok(false),
                Ok((bytes, verified)) => {
                    self.out.counters.received += 1;
                    let taken = frame::read(bytes, verified).and_then(|frame| self.take(&frame));
                    if let Err(why) = taken {
                        self.out.counters.discard(why);
                    }
                }
                Err(Errno::AGAIN) => return Ok(true),
                Err(Errno::INTR) => {}
                // The device was removed, or the other end is gone.
                Err(Errno::BADFD | Errno::CONNRESET) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn take(&mut self, frame: &Frame<'_>) -> Result<(), Discard> {
        match frame {
            Frame::Arp(question) if self.config.addresses.is_ours(question.wanted) => {
                self.out.arp(question);
                Ok(())
            }
            // For another of the guest's addresses, or one of nobody's.
            Frame::Arp(_) => Err(Discard::Destination),
            Frame::Packet(packet) if self.ask_lease(packet) => Ok(()),
            Frame::Packet(packet) if !self.config.addresses.is_guest(*packet.source.ip()) => {
                Err(Discard::Source)
            }
            Frame::Packet(packet) => match packet.body {
                Body::Tcp { flags, sequence } => self.segment(packet, flags, sequence),
                Body::Udp(payload) => self.datagram(packet, Protocol::Udp, payload),
                Body::Echo(message) => self.datagram(packet, Protocol::Echo, message),
            },
        }
    }

    fn segment(&mut self, packet: &Packet<'_>, flags: Flags, sequence: u32) -> Result<(), Discard> {
        let key = key(Protocol::Tcp, packet);
        let opens = flags.syn && !flags.ack && !flags.rst;
        if let Some(slot) = self.flows.find(&key) {
            let fate = {
                let now = self.instant();
                let Some(flow) = self.flows.get(slot) else { return Ok(()) };
                let Kind::Tcp(connection) = &mut flow.kind else { return Ok(()) };
                if connection.is_replaced_by(flags, sequence) {
                    Fate::Breaks
                } else {
                    flow.mac = packet.mac;
                    let (interface, out) = (&mut self.interface, &mut self.out);
                    let mut wire = Wire { interface, out, now, mac: packet.mac };
                    connection.arrived(packet.bytes, flags, &mut wire)
                }
            };
            self.decide(slot, fate);
            if fate != Fate::Breaks {
                self.enlist(slot);
                return Ok(());
            }
        }
        match opens {
            true => self.connect(key, packet, sequence),
            false => {
                self.stray(packet);
                Ok(())
            }
        }
    }

    /// A segment of no connection: smoltcp answers it with a reset, unless it is one.
    fn stray(&mut self, packet: &Packet<'_>) {
        let now = self.instant();
        let mut port = Port { packet: Some(packet.bytes), mac: packet.mac, out: &mut self.out };
        let mut none = SocketSet::new(Vec::new());
        self.interface.poll_ingress_single(now, &mut port, &mut none);
    }

    fn connect(&mut self, key: Key, packet: &Packet<'_>, sequence: u32) -> Result<(), Discard> {
        let to = match self.config.addresses.way(key.remote, self.config.host_loopback) {
            Way::Host(to) => to,
            Way::Resolver => self.resolver.first(self.millis()).1,
            Way::Stack => {
                self.stray(packet);
                return Ok(());
            }
            Way::Nowhere => {
                self.unreachable(packet, Unreachable::Host);
                return Ok(());
            }
            Way::Silence => return Err(Discard::Destination),
        };
        if !self.flows.has_room(Protocol::Tcp) {
            return Err(Discard::Full);
        }
        match Connection::start(to, sequence, packet.bytes, self.memory) {
            Ok(connection) => {
                self.memory += connection.memory();
                self.insert(key, packet.mac, Kind::Tcp(connection)).map(drop)
            }
            Err(Errno::NOBUFS | Errno::MFILE | Errno::NFILE | Errno::NOMEM) => Err(Discard::Full),
            Err(error) => {
                self.refuse(packet, tcp::refusal(error));
                Ok(())
            }
        }
    }

    fn refuse(&mut self, packet: &Packet<'_>, refusal: Refusal) {
        match refusal {
            Refusal::Reset => self.stray(packet),
            Refusal::Unreachable(why) => self.unreachable(packet, why),
            Refusal::Silence => {}
        }
    }

    fn unreachable(&mut self, packet: &Packet<'_>, why: Unreachable) {
        self.out.unreachable(packet.mac, self.config.addresses.gateway(), why, packet.bytes);
    }

    fn datagram(
        &mut self,
        packet: &Packet<'_>,
        protocol: Protocol,
        payload: &[u8],
    ) -> Result<(), Discard> {
        let key = key(protocol, packet);
        let now = self.millis();
        let slot = match self.flows.find(&key) {
            Some(slot) => slot,
            None => match self.exchange(key, packet, payload, now)? {
                Some(slot) => slot,
                None => return Ok(()),
            },
        };
        self.next_server(slot, now);
        let Some(flow) = self.flows.get(slot) else { return Ok(()) };
        flow.mac = packet.mac;
        let Kind::Datagrams(exchange) = &mut flow.kind else { return Ok(()) };
        exchange.outward(payload, now, &mut self.out);
        Ok(())
    }

    /// Opens an exchange, or answers in its place.
    fn exchange(
        &mut self,
        key: Key,
        packet: &Packet<'_>,
        payload: &[u8],
        now: Millis,
    ) -> Result<Option<usize>, Discard> {
        let echo = key.protocol == Protocol::Echo;
        let plain = if echo { Service::Echo } else { Service::Udp };
        let (to, service) = match self.config.addresses.way(key.remote, self.config.host_loopback) {
            // The gateway is there, whatever stands behind it.
            Way::Host(_) | Way::Stack
                if echo && self.config.addresses.is_ours(*key.remote.ip()) =>
            {
                self.out.echo(packet.mac, *key.remote.ip(), key.guest, payload);
                return Ok(None);
            }
            Way::Host(to) => (to, plain),
            Way::Resolver => {
                let (server, to) = self.resolver.first(now);
                (to, Service::Names { server, since: None })
            }
            Way::Stack => {
                self.unreachable(packet, Unreachable::Port);
                return Ok(None);
            }
            Way::Nowhere => {
                self.unreachable(packet, Unreachable::Host);
                return Ok(None);
            }
            Way::Silence => return Err(Discard::Destination),
        };
        if !self.flows.has_room(key.protocol)
            && let Some(longest) = self.idle.first()
        {
            self.remove(longest);
        }
        match self.open_exchange(to, service, now) {
            Ok(exchange) => {
                let at = exchange.idle_at();
                let slot = self.insert(key, packet.mac, Kind::Datagrams(exchange))?;
                if let Some(flow) = self.flows.get(slot) {
                    self.idle.set(slot, &mut flow.deadline, Some(at));
                }
                Ok(Some(slot))
            }
            Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => Err(Discard::Full),
            // Echo requests are not this user's to send.
            Err(_) if echo => Err(Discard::Host),
            Err(error) => {
                match tcp::refusal(error) {
                    Refusal::Unreachable(why) => self.unreachable(packet, why),
                    Refusal::Reset | Refusal::Silence => return Err(Discard::Host),
                }
                Ok(None)
            }
        }
    }

    /// A resolver that cannot even be asked is passed over, once.
    fn open_exchange(
        &self,
        to: SocketAddr,
        service: Service,
        now: Millis,
    ) -> Result<Exchange, Errno> {
        let next = match service {
            Service::Names { server, .. } => Some(self.resolver.after(server)),
            Service::Udp | Service::Echo => None,
        };
        match (Exchange::open(to, service, now), next) {
            (Err(_), Some((server, to))) => {
                Exchange::open(to, Service::Names { server, since: None }, now)
            }
            (opened, _) => opened,
        }
    }

    /// Has a guest who asks again without an answer ask the next resolver.
    fn next_server(&mut self, slot: usize, now: Millis) {
        let token = self.flows.token(slot);
        let Some(flow) = self.flows.get(slot) else { return };
        let Kind::Datagrams(exchange) = &mut flow.kind else { return };
        let Some(silent) = exchange.silent_server(now) else { return };
        let (server, to) = self.resolver.after(silent);
        // Where that cannot be, the one that is there is asked again.
        let service = Service::Names { server, since: None };
        if let Ok(next) = Exchange::open(to, service, now)
            && watch(&self.epoll, next.socket(), token, IN).is_ok()
        {
            *exchange = next;
        }
    }

    fn insert(&mut self, key: Key, mac: EthernetAddress, kind: Kind) -> Result<usize, Discard> {
        let flow = Flow { key, mac, deadline: None, listed: false, kind };
        let slot = self.flows.insert(flow);
        let token = self.flows.token(slot);
        let watched = match self.flows.get(slot).map(|flow| &flow.kind) {
            Some(Kind::Tcp(connection)) => watch(&self.epoll, connection.socket(), token, BOTH),
            Some(Kind::Datagrams(exchange)) => watch(&self.epoll, exchange.socket(), token, IN),
            None => Ok(()),
        };
        if watched.is_err() {
            self.remove(slot);
            return Err(Discard::Full);
        }
        self.out.counters.flows += 1;
        Ok(slot)
    }

    fn remove(&mut self, slot: usize) {
        let Some(mut flow) = self.flows.remove(slot) else { return };
        match &flow.kind {
            Kind::Tcp(connection) => {
                self.memory -= connection.memory();
                self.retries.clear(slot, &mut flow.deadline);
            }
            Kind::Datagrams(_) => self.idle.clear(slot, &mut flow.deadline),
        }
    }

    fn enlist(&mut self, slot: usize) {
        let Some(flow) = self.flows.get(slot) else { return };
        if !flow.listed {
            flow.listed = true;
            self.list.push(slot);
        }
    }

    fn event(&mut self, token: u64, flags: EventFlags) {
        let Some(slot) = self.flows.by_token(token) else { return };
        match self.flows.get(slot).map(|flow| &mut flow.kind) {
            Some(Kind::Tcp(connection)) => connection.event(flags),
            Some(Kind::Datagrams(exchange)) => exchange.event(),
            None => {}
        }
        self.enlist(slot);
    }

    /// Lists what is due, and forgets what is idle.
    fn expire(&mut self) {
        let now = self.millis();
        while let Some(slot) = self.retries.due(now) {
            let Some(flow) = self.flows.get(slot) else { break };
            self.retries.clear(slot, &mut flow.deadline);
            self.enlist(slot);
        }
        while let Some(slot) = self.idle.due(now) {
            let Some(flow) = self.flows.get(slot) else { break };
            let Kind::Datagrams(exchange) = &flow.kind else { break };
            let at = exchange.idle_at();
            self.idle.clear(slot, &mut flow.deadline);
            match at > now {
                true => self.idle.set(slot, &mut flow.deadline, Some(at)),
                false => self.remove(slot),
            }
        }
    }

    fn carry(&mut self) {
        for slot in std::mem::take(&mut self.list) {
            let now = self.instant();
            let millis = self.millis();
            let Some(flow) = self.flows.get(slot) else { continue };
            // A slot that was given to another flow meanwhile is listed twice: harmless.
            flow.listed = false;
            match &mut flow.kind {
                Kind::Tcp(connection) => {
                    let (interface, out) = (&mut self.interface, &mut self.out);
                    let mut wire = Wire { interface, out, now, mac: flow.mac };
                    let fate = connection.carry(&flow.key, &mut wire);
                    if fate == Fate::Goes {
                        // What cannot be sent is looked at when it can.
                        let at = if wire.out.is_blocked() {
                            None
                        } else {
                            connection.poll_at(&mut wire)
                        };
                        let at = at.map(|at| at.total_millis().max(millis + 1));
                        self.retries.set(slot, &mut flow.deadline, at);
                    }
                    self.decide(slot, fate);
                }
                Kind::Datagrams(exchange) => {
                    let (buffer, out) = (&mut self.datagram, &mut self.out);
                    let answered = exchange.inward(&flow.key, flow.mac, buffer, millis, out);
                    // When the guest takes frames again, all are listed.
                    let again = exchange.waits() && !self.out.is_blocked();
                    if let Some(server) = answered {
                        self.resolver.answered(server);
                    }
                    if again {
                        self.enlist(slot);
                    }
                }
            }
        }
    }

    fn decide(&mut self, slot: usize, fate: Fate) {
        let Some(flow) = self.flows.get(slot) else { return };
        let Kind::Tcp(connection) = &flow.kind else { return };
        match fate {
            Fate::Goes => return,
            Fate::Ends => {}
            Fate::Breaks => connection.reset(),
            Fate::Refused(error) => {
                let mac = flow.mac;
                let syn = connection.syn().unwrap_or_default().to_vec();
                if let Ok(packet) = frame::again(mac, &syn) {
                    self.refuse(&packet, tcp::refusal(error));
                }
            }
        }
        self.remove(slot);
    }

    /// Has epoll tell when the guest takes frames, as long as one waits for that.
    fn watch_room(&mut self) {
        let blocked = self.out.is_blocked();
        if blocked == self.watches_room {
            return;
        }
        let flags = if blocked { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        let link = self.out.link().fd();
        if epoll::modify(&self.epoll, link, EventData::new_u64(LINK), flags).is_ok() {
            self.watches_room = blocked;
        }
    }

    fn instant(&self) -> Instant {
        let micros = i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX);
        Instant::from_micros(micros)
    }
}

/// Has epoll tell of every change of a socket: one that waits for the guest is not told of again.
fn watch(
    epoll: &OwnedFd,
    socket: BorrowedFd<'_>,
    token: u64,
    changes: EventFlags,
) -> Result<(), Errno> {
    epoll::add(epoll, socket, EventData::new_u64(token), changes | EventFlags::ET)
}

fn key(protocol: Protocol, packet: &Packet<'_>) -> Key {
    Key { protocol, guest: packet.source, remote: packet.destination }
}

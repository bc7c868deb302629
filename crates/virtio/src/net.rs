//! The network device: frames of a tap device of the host's.
//!
//! ```text
//! guest ══ queues ══ device ── header ── frames ──▶ tap ══ bridge
//!                       └──── filter, what the guest wants to hear of
//! ```
//!
//! Checksums and segments are left to whoever does them last: a guest that agrees sends TCP
//! segments as large as a packet and receives such ones. Where it does not, the host's kernel does
//! them before it hands a frame over. A frame larger than one of the guest's buffers is put into as
//! many as it takes, if the guest agrees to that.
//!
//! One pair of queues. Source: virtio 1.2, 5.1.

mod filter;
#[doc(hidden)]
pub mod fuzzing;
pub(crate) mod header;
#[cfg(test)]
mod tests;

use std::{
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixDatagram,
    },
    time::Duration,
};

use rustix::io::{Errno, read, write};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Device, QueueError,
    device::{self, Kind, Queues, RestoreError, Source, Wake},
    queue::{Chain, Queue},
    rate::{Bucket, Rate},
    timer::{Timer, monotonic},
};
pub use filter::Mac;
use filter::{Command, Filter};
use header::{HEADER_BYTES, Header};

/// Queues: frames for the guest, frames of the guest's, what it says about them.
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
const CONTROL: u16 = 2;
const SIZES: [u16; 3] = [256, 256, 64];

/// Longest frame: an IP packet, its Ethernet header, and two tags of VLANs.
const FRAME_BYTES_MAX: usize = 65_535 + header::ETHERNET_BYTES + 8;

/// Longest command: two tables of addresses with more than are kept.
const COMMAND_BYTES_MAX: usize = 4096;

/// Frames that nobody wants, or that are too large, in one turn; then others have theirs.
const DROPPED_MAX: u32 = 256;

/// Least and most of an Ethernet device. Source: RFC 791; virtio 1.2, 5.1.4.1.
const MTU_MIN: u16 = 68;

pub(crate) const F_CSUM: u64 = 1;
pub(crate) const F_GUEST_CSUM: u64 = 1 << 1;
const F_CTRL_GUEST_OFFLOADS: u64 = 1 << 2;
const F_MTU: u64 = 1 << 3;
const F_MAC: u64 = 1 << 5;
const F_GUEST_TSO4: u64 = 1 << 7;
const F_GUEST_TSO6: u64 = 1 << 8;
const F_GUEST_ECN: u64 = 1 << 9;
pub(crate) const F_HOST_TSO4: u64 = 1 << 11;
pub(crate) const F_HOST_TSO6: u64 = 1 << 12;
pub(crate) const F_HOST_ECN: u64 = 1 << 13;
const F_MRG_RXBUF: u64 = 1 << 15;
const F_STATUS: u64 = 1 << 16;
const F_CTRL_VQ: u64 = 1 << 17;
const F_CTRL_RX: u64 = 1 << 18;
const F_CTRL_RX_EXTRA: u64 = 1 << 20;
const F_GUEST_ANNOUNCE: u64 = 1 << 21;
const F_CTRL_MAC_ADDR: u64 = 1 << 23;

/// What the guest does by itself with frames that it receives.
const GUEST_OFFLOADS: u64 = F_GUEST_CSUM | F_GUEST_TSO4 | F_GUEST_TSO6 | F_GUEST_ECN;

const OFFERED: u64 = GUEST_OFFLOADS
    | F_CSUM
    | F_CTRL_GUEST_OFFLOADS
    | F_MAC
    | F_HOST_TSO4
    | F_HOST_TSO6
    | F_HOST_ECN
    | F_MRG_RXBUF
    | F_STATUS
    | F_CTRL_VQ
    | F_CTRL_RX
    | F_CTRL_RX_EXTRA
    | F_GUEST_ANNOUNCE
    | F_CTRL_MAC_ADDR;

/// What a card offers whose frames go to another program: that one takes them large and without
/// checksums, and gives them finished.
const OFFERED_TO_PROGRAM: u64 =
    OFFERED & !(F_GUEST_TSO4 | F_GUEST_TSO6 | F_GUEST_ECN | F_CTRL_GUEST_OFFLOADS | F_HOST_TSO6);

/// Bits of the status.
const LINK_UP: u16 = 1;
const ANNOUNCE: u16 = 2;

/// Descriptors.
const TAP: u32 = 0;
const TIMER: u32 = 1;

/// Answers to commands.
const OK: u8 = 0;
const ERROR: u8 = 1;

/// The version of what is saved.
const VERSION: u32 = 1;

/// What a device is beside its tap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Its address.
    pub mac: Mac,
    /// The largest packet that its network carries; the driver's own default, if there is none.
    pub mtu: Option<u16>,
    /// Limits of what the guest sends, and of what it receives.
    pub sent: Limits,
    /// See `sent`.
    pub received: Limits,
}

/// Limits of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of frames in a second.
    pub bytes: Option<Rate>,
    /// Frames in a second.
    pub frames: Option<Rate>,
}

/// What a device has done since the machine began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Frames that the guest received.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Frames for the guest that it had no use or no room for.
    pub received_dropped: u64,
    /// Frames that the guest sent.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Frames of the guest's that were wrong, or that the host did not take.
    pub sent_dropped: u64,
}

/// The limits of one direction, at work.
#[derive(Debug)]
struct Limiter {
    bytes: Option<Bucket>,
    frames: Option<Bucket>,
}

impl Limiter {
    fn new(limits: Limits) -> Limiter {
        Limiter { bytes: limits.bytes.map(Bucket::new), frames: limits.frames.map(Bucket::new) }
    }

    /// How long a frame has to wait.
    fn wait(&mut self, bytes: usize) -> Option<Duration> {
        if self.bytes.is_none() && self.frames.is_none() {
            return None;
        }
        let now = monotonic();
        let wait = |bucket: &mut Option<Bucket>, tokens| bucket.as_mut()?.wait(now, tokens);
        wait(&mut self.bytes, bytes as u64).max(wait(&mut self.frames, 1))
    }

    fn take(&mut self, bytes: usize) {
        self.bytes.iter_mut().for_each(|bucket| bucket.take(bytes as u64));
        self.frames.iter_mut().for_each(|bucket| bucket.take(1));
    }
}

/// What a driver has changed, and what is counted: all that is saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    mac: Mac,
    filter: Filter,
    offloads: u64,
    up: bool,
    announce: bool,
    counters: Counters,
}

/// A network device.
#[derive(Debug)]
pub struct Net {
    tap: OwnedFd,
    /// Whether the descriptor is a tap device, and can be told of offloads.
    is_tap: bool,
    offered: u64,
    options: Options,
    features: u64,
    state: State,
    sent: Limiter,
    received: Limiter,
    timer: Timer,
    /// A header and a frame of the guest's.
    outgoing: Vec<u8>,
    /// A header and a frame for the guest; how much of it there is, if it waits for room.
    incoming: Vec<u8>,
    waiting: Option<usize>,
    /// What the tap was last seen to be ready for.
    readable: bool,
    /// The driver has to hear that the configuration is another.
    changed: bool,
}

impl Net {
    /// The guest's end of a tap device (`IFF_TAP | IFF_NO_PI | IFF_VNET_HDR`, little-endian), which
    /// nobody else reads.
    ///
    /// # Errors
    /// If the descriptor is no such device; if the host has no timer.
    pub fn new(tap: OwnedFd, options: Options) -> io::Result<Net> {
        sys::tap::set_header_bytes(tap.as_fd(), HEADER_BYTES)?;
        sys::tap::set_offload(tap.as_fd(), sys::tap::Offload::default())?;
        Net::over(tap, true, options)
    }

    /// One without a cable: a place for an interface of a machine that is saved, and restored with
    /// one that has.
    ///
    /// # Errors
    /// If the host has no descriptors left.
    pub fn unplugged(options: Options) -> io::Result<Net> {
        let (link, _) = UnixDatagram::pair()?;
        let mut net = Net::over(link.into(), false, options)?;
        net.state.up = false;
        Ok(net)
    }

    /// The guest's end of a socket that keeps bounds. Whoever has the other end reads frames behind
    /// headers of 12 bytes, of TCP over IPv4 as large as a packet and without checksums, and writes
    /// frames behind such headers of zeros.
    ///
    /// # Errors
    /// If the host has no timer, or the socket cannot be made not to block.
    pub fn to_program(socket: OwnedFd, options: Options) -> io::Result<Net> {
        Ok(Net { offered: OFFERED_TO_PROGRAM, ..Net::over(socket, false, options)? })
    }

    /// The guest's end of anything that carries frames with headers of 12 bytes.
    fn over(link: OwnedFd, is_tap: bool, options: Options) -> io::Result<Net> {
        rustix::io::ioctl_fionbio(&link, true)?;
        let state = State {
            mac: options.mac,
            filter: Filter::default(),
            offloads: 0,
            up: true,
            announce: false,
            counters: Counters::default(),
        };
        Ok(Net {
            tap: link,
            is_tap,
            offered: OFFERED,
            features: 0,
            state,
            sent: Limiter::new(options.sent),
            received: Limiter::new(options.received),
            options: Options { mtu: options.mtu.map(|mtu| mtu.max(MTU_MIN)), ..options },
            timer: Timer::new()?,
            outgoing: Vec::new(),
            incoming: Vec::new(),
            waiting: None,
            readable: true,
            changed: false,
        })
    }

    /// What it has done.
    pub fn counters(&self) -> Counters {
        self.state.counters
    }

    /// Its address, which the driver may have changed.
    pub fn mac(&self) -> Mac {
        self.state.mac
    }

    /// Other limits from now on, of what the guest sends and what it receives.
    pub fn set_limits(&mut self, sent: Limits, received: Limits) {
        (self.sent, self.received) = (Limiter::new(sent), Limiter::new(received));
        self.timer.set(Duration::ZERO);
    }

    /// Plugs the cable in or pulls it, and tells the driver.
    pub fn set_link(&mut self, up: bool, queues: &Queues) {
        if std::mem::replace(&mut self.state.up, up) != up {
            queues.config_changed();
        }
    }

    /// Has the driver tell its neighbours where it is, after it was moved.
    pub fn announce(&mut self) {
        self.state.announce = self.features & F_GUEST_ANNOUNCE != 0;
        self.changed |= self.state.announce;
        self.timer.set(Duration::ZERO);
    }

    fn config(&self) -> [u8; 12] {
        let mut config = [0; 12];
        let up = if self.state.up { LINK_UP } else { 0 };
        let announce = if self.state.announce { ANNOUNCE } else { 0 };
        config[..6].copy_from_slice(&self.state.mac);
        config[6..8].copy_from_slice(&(up | announce).to_le_bytes());
        config[8..10].copy_from_slice(&1u16.to_le_bytes());
        config[10..].copy_from_slice(&self.options.mtu.unwrap_or(0).to_le_bytes());
        config
    }

    /// Tells the host's kernel what the guest does by itself. A tap that does not take it has its
    /// frames finished by the kernel, which is right for every guest.
    fn offload(&self) {
        let has = |feature| self.state.offloads & feature != 0;
        let offload = sys::tap::Offload {
            checksums: has(F_GUEST_CSUM),
            tcp4: has(F_GUEST_TSO4),
            tcp6: has(F_GUEST_TSO6),
            congestion: has(F_GUEST_ECN),
        };
        if self.is_tap && sys::tap::set_offload(self.tap.as_fd(), offload).is_err() {
            let _ = sys::tap::set_offload(self.tap.as_fd(), sys::tap::Offload::default());
        }
    }

    /// Sends what the guest has to send.
    fn transmit(&mut self, queues: &mut Queues) -> Result<(), QueueError> {
        let Some(queue) = queues.get(TRANSMIT) else { return Ok(()) };
        while let Some(mut chain) = queue.pop()? {
            let bytes = chain.reader.left();
            if bytes < HEADER_BYTES {
                return Err(queue.break_with(QueueError::Missing("a frame's header")));
            }
            let frame = bytes - HEADER_BYTES;
            if let Some(wait) = self.sent.wait(frame) {
                queue.put_back(chain);
                self.timer.set(wait);
                break;
            }
            let taken = frame <= FRAME_BYTES_MAX && self.take(&mut chain, bytes);
            let sent = taken && self.state.up && self.send();
            if sent {
                self.sent.take(frame);
                self.state.counters.sent += 1;
                self.state.counters.sent_bytes += frame as u64;
            } else {
                self.state.counters.sent_dropped += 1;
            }
            queue.push(chain.head, 0);
        }
        Ok(())
    }

    /// Takes a frame of the guest's out of its buffers; false if it is none that can be sent.
    fn take(&mut self, chain: &mut Chain, bytes: usize) -> bool {
        let Some(header) = chain.reader.array() else { return false };
        let Ok(header) = Header::parse(header).for_host(self.features, bytes - HEADER_BYTES) else {
            return false;
        };
        self.outgoing.resize(bytes, 0);
        self.outgoing[..HEADER_BYTES].copy_from_slice(&header.encode());
        chain.reader.read(&mut self.outgoing[HEADER_BYTES..]);
        true
    }

    /// Gives the host the frame; one that it does not take is lost, as on any network.
    fn send(&self) -> bool {
        loop {
            match write(&self.tap, &self.outgoing) {
                Err(Errno::INTR) => {}
                answer => return answer.is_ok(),
            }
        }
    }

    /// Gives the guest what there is for it.
    fn receive(&mut self, queues: &mut Queues) -> Result<(), QueueError> {
        let Some(queue) = queues.get(RECEIVE) else { return Ok(()) };
        let mut dropped = 0;
        while let Some(bytes) = self.waiting.or_else(|| self.fetch()) {
            self.waiting = Some(bytes);
            let frame = bytes.saturating_sub(HEADER_BYTES);
            if let Some(wait) = self.received.wait(frame) {
                self.timer.set(wait);
                return Ok(());
            }
            let wanted = self.state.up
                && self.state.filter.wants(self.state.mac, &self.incoming[HEADER_BYTES..bytes]);
            match if wanted { self.put(queue, bytes)? } else { Put::Dropped } {
                Put::NoRoom => return Ok(()),
                Put::Done => {
                    self.received.take(frame);
                    self.state.counters.received += 1;
                    self.state.counters.received_bytes += frame as u64;
                }
                Put::Dropped => {
                    self.state.counters.received_dropped += 1;
                    dropped += 1;
                }
            }
            self.waiting = None;
            if dropped >= DROPPED_MAX {
                self.timer.set(Duration::ZERO);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads a frame from the host, if there is one.
    fn fetch(&mut self) -> Option<usize> {
        self.incoming.resize(HEADER_BYTES + FRAME_BYTES_MAX, 0);
        while self.readable {
            match read(&self.tap, &mut self.incoming[..]) {
                Ok(bytes) if bytes >= HEADER_BYTES => return Some(bytes),
                Err(Errno::INTR) => {}
                // The device may be gone, or down: what comes next wakes us.
                Ok(_) | Err(_) => self.readable = false,
            }
        }
        None
    }

    /// Puts the frame into as many of the guest's chains as it takes.
    fn put(&mut self, queue: &mut Queue, bytes: usize) -> Result<Put, QueueError> {
        let merge = self.features & F_MRG_RXBUF != 0;
        let (mut chains, mut room) = (Vec::new(), 0);
        while room < bytes {
            let chain = match queue.pop()? {
                Some(chain) if chains.is_empty() || merge => chain,
                other => {
                    other.into_iter().for_each(|chain| queue.put_back(chain));
                    // One buffer is all that there is for a frame, and it is too small.
                    let too_large = !merge && !chains.is_empty();
                    chains.into_iter().rev().for_each(|chain| queue.put_back(chain));
                    return Ok(if too_large { Put::Dropped } else { Put::NoRoom });
                }
            };
            room += chain.writer.left();
            chains.push(chain);
        }
        let count = u16::try_from(chains.len()).unwrap_or(u16::MAX);
        let header = self.incoming.first_chunk().copied().unwrap_or_default();
        let header = Header::parse(header).for_guest(self.features, count).encode();
        self.incoming[..HEADER_BYTES].copy_from_slice(&header);
        let mut rest = &self.incoming[..bytes];
        let used = chains.into_iter().map(|mut chain| {
            rest = &rest[chain.writer.write(rest)..];
            (chain.head, chain.writer.written())
        });
        // The driver looks for all of them as soon as it sees the first.
        queue.push_all(used);
        Ok(Put::Done)
    }

    /// Carries out what the driver says.
    fn control(&mut self, queues: &mut Queues) -> Result<(), QueueError> {
        let Some(queue) = queues.get(CONTROL) else { return Ok(()) };
        while let Some(mut chain) = queue.pop()? {
            let mut command = vec![0; chain.reader.left().min(COMMAND_BYTES_MAX)];
            chain.reader.read(&mut command);
            let done = self.command(&command);
            if chain.writer.write(&[if done { OK } else { ERROR }]) == 0 {
                return Err(queue.break_with(QueueError::Missing("room for an answer")));
            }
            queue.push(chain.head, chain.writer.written());
        }
        Ok(())
    }

    fn command(&mut self, command: &[u8]) -> bool {
        match self.state.filter.command(command) {
            None => false,
            Some(Command::Done) => true,
            Some(Command::Address(mac)) => {
                let possible = mac[0] & 1 == 0;
                if possible {
                    self.state.mac = mac;
                }
                possible
            }
            Some(Command::Announced) => {
                self.state.announce = false;
                true
            }
            Some(Command::Offloads(offloads)) => {
                let possible = offloads & !(self.features & GUEST_OFFLOADS) == 0;
                if possible {
                    self.state.offloads = offloads;
                    self.offload();
                }
                possible
            }
        }
    }
}

/// What became of a frame for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Put {
    /// It is in the guest's buffers.
    Done,
    /// It waits for the guest to make room.
    NoRoom,
    /// It will never have room, or nobody wants it.
    Dropped,
}

impl Device for Net {
    fn kind(&self) -> Kind {
        Kind::Net
    }

    fn features(&self) -> u64 {
        self.offered | if self.options.mtu.is_some() { F_MTU } else { 0 }
    }

    fn queue_sizes(&self) -> &[u16] {
        &SIZES
    }

    fn read_config(&self, offset: u64, to: &mut [u8]) {
        device::read_bytes(&self.config(), offset, to);
    }

    fn write_config(&mut self, _offset: u64, _from: &[u8]) {}

    fn activate(&mut self, features: u64) {
        self.features = features;
        self.state.offloads = features & GUEST_OFFLOADS;
        self.offload();
    }

    fn process(&mut self, queue: u16, queues: &mut Queues) -> Result<(), QueueError> {
        match queue {
            RECEIVE => self.receive(queues),
            TRANSMIT => self.transmit(queues),
            _ => self.control(queues),
        }
    }

    fn is_awaited(&self, queue: u16) -> bool {
        queue == CONTROL
    }

    fn sources(&self) -> Vec<Source<'_>> {
        vec![
            Source { token: TAP, fd: self.tap.as_fd(), wake: Wake::Edge },
            Source { token: TIMER, fd: self.timer.as_fd(), wake: Wake::Level },
        ]
    }

    fn ready(&mut self, token: u32, queues: &mut Queues) -> Result<(), QueueError> {
        if token == TAP {
            self.readable = true;
            return self.receive(queues);
        }
        self.timer.clear();
        if std::mem::take(&mut self.changed) {
            queues.config_changed();
        }
        self.receive(queues)?;
        self.transmit(queues)
    }

    fn reset(&mut self) {
        self.features = 0;
        self.waiting = None;
        self.changed = false;
        let State { up, counters, .. } = self.state;
        let (mac, filter) = (self.options.mac, Filter::default());
        self.state = State { mac, filter, offloads: 0, up, announce: false, counters };
        self.offload();
    }

    fn save(&self) -> Value {
        device::save(VERSION, &self.state)
    }

    /// The address stays the one that the driver knows; who wants another sets it in the guest.
    /// Wherever the machine is, its neighbours hear of it.
    fn restore(&mut self, saved: Value) -> Result<(), RestoreError> {
        let up = self.state.up;
        self.state = device::restore("network device", VERSION, saved)?;
        // Whether there is a cable is a matter of this host.
        self.changed = self.state.up != up;
        self.state.up = up;
        self.state.offloads &= self.features & GUEST_OFFLOADS;
        self.offload();
        self.announce();
        Ok(())
    }
}

//! The block device: a disk image for the guest.
//!
//! One queue, one request after the other: the file is read and written by whoever calls the
//! device, straight from and to the guest's memory.
//!
//! Source: virtio 1.2, 5.2.

pub mod chain;
mod image;
pub mod qcow2;
mod raw;
mod request;
mod sink;
#[cfg(test)]
mod tests;

use std::{io, os::fd::AsFd as _};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Device, QueueError,
    device::{self, Kind, Queues, RestoreError, Source, Wake},
    queue::{Chain, Queue},
    rate::{Bucket, Rate},
    timer::{Timer, monotonic},
};
pub use image::Image;
pub use qcow2::Qcow2;
pub use raw::Raw;
use request::{Request, Status};

/// Bytes of a sector, the unit of addresses and lengths.
pub const SECTOR: u64 = 512;

/// Requests in the queue.
const QUEUE_SIZE: u16 = 256;

/// Most buffers of a request beside its header and its status, so that it fits in the queue
/// without an indirect table.
const SEGMENTS_MAX: u32 = QUEUE_SIZE as u32 - 2;

/// Most sectors that one piece of a discard or a zeroing has: 1 GiB.
const ZERO_SECTORS_MAX: u32 = 1 << 21;

/// Most pieces of a discard or a zeroing.
const ZERO_SEGMENTS_MAX: u32 = 32;

/// Bytes of an identity.
const ID_BYTES: usize = 20;

const F_SEG_MAX: u64 = 1 << 2;
const F_READ_ONLY: u64 = 1 << 5;
const F_BLK_SIZE: u64 = 1 << 6;
const F_FLUSH: u64 = 1 << 9;
const F_DISCARD: u64 = 1 << 13;
const F_WRITE_ZEROES: u64 = 1 << 14;

/// The version of what is saved.
const VERSION: u32 = 1;

/// The token of the timer.
const TIMER: u32 = 0;

/// What a disk is beside its image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What the guest sees as `/sys/block/*/serial`; cut at 20 bytes.
    pub id: String,
    /// The guest may not write.
    pub read_only: bool,
    /// It is a place for disks, into which others can be put while a driver has it:
    /// [`Blk::put`]. Whether it can be written is found out by trying, for of the next it may be
    /// otherwise.
    pub place: bool,
    /// Bytes read and written in a second.
    pub bytes: Option<Rate>,
    /// Requests in a second.
    pub requests: Option<Rate>,
}

/// What a disk has done since the machine began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Requests to read.
    pub reads: u64,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Requests to write.
    pub writes: u64,
    /// Bytes that were written.
    pub written_bytes: u64,
    /// Requests that failed, whoever was to blame.
    pub failed: u64,
}

/// A disk.
#[derive(Debug)]
pub struct Blk {
    image: Image,
    id: [u8; ID_BYTES],
    read_only: bool,
    place: bool,
    bytes: Option<Bucket>,
    requests: Option<Bucket>,
    timer: Timer,
    /// The driver flushes when it wants to be sure; else every write is on the disk when it ends.
    write_back: bool,
    counters: Counters,
    error: Option<io::Error>,
    /// The driver has to hear that the size is another.
    changed: bool,
}

#[derive(Serialize, Deserialize)]
struct State {
    sectors: u64,
    read_only: bool,
    counters: Counters,
}

impl Blk {
    /// A disk of this image.
    ///
    /// # Errors
    /// If the host has no timer for it.
    pub fn new(image: Image, options: &Options) -> io::Result<Blk> {
        Ok(Blk {
            read_only: options.read_only || image.is_read_only(),
            place: options.place,
            image,
            id: identity(&options.id),
            bytes: options.bytes.map(Bucket::new),
            requests: options.requests.map(Bucket::new),
            timer: Timer::new()?,
            write_back: false,
            counters: Counters::default(),
            error: None,
            changed: false,
        })
    }

    /// What it has done.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The last error of the host since this was last asked, which the guest saw as an I/O error.
    pub fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    /// Other limits from now on.
    pub fn set_limits(&mut self, bytes: Option<Rate>, requests: Option<Rate>) {
        self.bytes = bytes.map(Bucket::new);
        self.requests = requests.map(Bucket::new);
        // Whatever waits looks again.
        self.timer.set(std::time::Duration::ZERO);
    }

    /// Has everything that the guest wrote on the host's disk, and the image's file whole: before
    /// anybody else reads it, and before the machine ends.
    ///
    /// # Errors
    /// Those of the host.
    pub fn flush(&mut self) -> io::Result<()> {
        self.image.flush()
    }

    /// Looks at the image's size again, after it was grown, and tells the driver.
    ///
    /// # Errors
    /// If the host cannot tell; if the image is one that does not change its size.
    pub fn resize(&mut self, queues: &Queues) -> io::Result<()> {
        self.image.resize()?;
        queues.config_changed();
        Ok(())
    }

    /// Puts another image into this place, under another identity, and tells the driver. What it
    /// wrote to the one before is on the host's disk.
    ///
    /// # Errors
    /// Those of the host, and if this is no place ([`Options::place`]); then the image before
    /// stays.
    pub fn put(
        &mut self,
        image: Image,
        id: &str,
        read_only: bool,
        queues: &Queues,
    ) -> io::Result<()> {
        if !self.place {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "this disk is no place"));
        }
        if !self.read_only {
            self.image.flush()?;
        }
        self.read_only = read_only || image.is_read_only();
        (self.image, self.id) = (image, identity(id));
        queues.config_changed();
        Ok(())
    }

    /// Whether there is nothing in it.
    pub fn is_vacant(&self) -> bool {
        self.capacity() == 0
    }

    /// In sectors.
    fn capacity(&self) -> u64 {
        self.image.bytes().div_ceil(SECTOR)
    }

    fn config(&self) -> [u8; 60] {
        let mut config = [0; 60];
        let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.capacity().to_le_bytes());
        put(12, &SEGMENTS_MAX.to_le_bytes());
        put(20, &(512u32).to_le_bytes());
        put(34, &1u16.to_le_bytes());
        put(36, &ZERO_SECTORS_MAX.to_le_bytes());
        put(40, &ZERO_SEGMENTS_MAX.to_le_bytes());
        put(44, &self.image.discard_sectors().to_le_bytes());
        put(48, &ZERO_SECTORS_MAX.to_le_bytes());
        put(52, &ZERO_SEGMENTS_MAX.to_le_bytes());
        put(56, &[1]);
        config
    }

    fn drain(&mut self, queue: u16, queues: &mut Queues) -> Result<(), QueueError> {
        while let Some(ring) = queues.get(queue) {
            let Some(chain) = ring.pop()? else { break };
            if let Some(wait) = self.limited(&chain) {
                ring.put_back(chain);
                self.timer.set(wait);
                break;
            }
            self.answer(ring, chain)?;
            // The next may take long.
            queues.tell(queue);
        }
        Ok(())
    }

    /// How long the limits want a request to wait; takes their tokens if not at all.
    fn limited(&mut self, chain: &Chain) -> Option<std::time::Duration> {
        if self.bytes.is_none() && self.requests.is_none() {
            return None;
        }
        // The header and the status are some bytes more, which nobody minds.
        let bytes = (chain.reader.left() + chain.writer.left()) as u64;
        let now = monotonic();
        let wait = |bucket: &mut Option<Bucket>, tokens| bucket.as_mut()?.wait(now, tokens);
        let longest = wait(&mut self.bytes, bytes).max(wait(&mut self.requests, 1));
        if longest.is_none() {
            self.bytes.iter_mut().for_each(|bucket| bucket.take(bytes));
            self.requests.iter_mut().for_each(|bucket| bucket.take(1));
        }
        longest
    }

    /// Carries out one request.
    fn answer(&mut self, queue: &mut Queue, chain: Chain) -> Result<(), QueueError> {
        let Chain { head, mut reader, mut writer } = chain;
        let missing = |what| QueueError::Missing(what);
        let room = writer.left().checked_sub(1);
        let room = room.ok_or_else(|| queue.break_with(missing("a status")))?;
        let mut data = writer.take(room);
        let request = Request::read(&mut reader);
        let request = request.ok_or_else(|| queue.break_with(missing("a header")))?;
        let status = request.carry_out(self, &mut reader, &mut data);
        if status != Status::Ok {
            self.counters.failed += 1;
        }
        writer.write(&[status as u8]);
        queue.push(head, data.written() + writer.written());
        Ok(())
    }
}

/// An identity as the guest reads it.
fn identity(text: &str) -> [u8; ID_BYTES] {
    let mut id = [0; ID_BYTES];
    for (to, from) in id.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    id
}

impl Device for Blk {
    fn kind(&self) -> Kind {
        Kind::Block
    }

    fn features(&self) -> u64 {
        let always = F_SEG_MAX | F_BLK_SIZE | F_FLUSH;
        let read_only = self.read_only && !self.place;
        always | if read_only { F_READ_ONLY } else { F_DISCARD | F_WRITE_ZEROES }
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE]
    }

    fn read_config(&self, offset: u64, to: &mut [u8]) {
        device::read_bytes(&self.config(), offset, to);
    }

    fn write_config(&mut self, _offset: u64, _from: &[u8]) {}

    fn activate(&mut self, features: u64) {
        self.write_back = features & F_FLUSH != 0;
    }

    fn process(&mut self, queue: u16, queues: &mut Queues) -> Result<(), QueueError> {
        self.drain(queue, queues)
    }

    fn sources(&self) -> Vec<Source<'_>> {
        vec![Source { token: TIMER, fd: self.timer.as_fd(), wake: Wake::Level }]
    }

    fn ready(&mut self, _token: u32, queues: &mut Queues) -> Result<(), QueueError> {
        self.timer.clear();
        if std::mem::take(&mut self.changed) {
            queues.config_changed();
        }
        self.drain(0, queues)
    }

    fn reset(&mut self) {
        self.write_back = false;
    }

    fn settle(&mut self) -> io::Result<()> {
        self.image.flush()
    }

    fn save(&self) -> Value {
        let (sectors, read_only, counters) = (self.capacity(), self.read_only, self.counters);
        device::save(VERSION, &State { sectors, read_only, counters })
    }

    /// Where there was no disk, any may be put in; the driver hears of its size.
    fn restore(&mut self, saved: Value) -> Result<(), RestoreError> {
        let state: State = device::restore("disk", VERSION, saved)?;
        let vacant = state.sectors == 0 && (self.place || state.read_only == self.read_only);
        if vacant && self.capacity() != 0 {
            self.changed = true;
            self.timer.set(std::time::Duration::ZERO);
        } else if (state.sectors, state.read_only) != (self.capacity(), self.read_only) {
            let what = format!("a disk of {} sectors", state.sectors);
            return Err(RestoreError::Another(what));
        }
        self.counters = state.counters;
        Ok(())
    }
}

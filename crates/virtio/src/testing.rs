//! The driver's side of a queue and of the registers, for tests and fuzz targets.
//!
//! Not part of what the crate offers.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use hv::GuestMemory;

use crate::{
    Device, Line, Mmio, Queue, QueueError,
    device::{Again, Queues},
    queue::{Layout, RingFeatures},
};

/// A line that remembers how it is, and how often it was raised.
#[derive(Debug, Default)]
pub struct Wire {
    raised: AtomicBool,
    times: AtomicU32,
}

impl Wire {
    /// Whether it is raised.
    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::SeqCst)
    }

    /// How often it was.
    pub fn times(&self) -> u32 {
        self.times.load(Ordering::SeqCst)
    }
}

impl Line for Wire {
    fn set(&self, raised: bool) {
        self.raised.store(raised, Ordering::SeqCst);
        self.times.fetch_add(u32::from(raised), Ordering::SeqCst);
    }
}

/// A buffer that a driver offers.
#[derive(Clone, Copy, Debug)]
pub enum Buffer<'a> {
    /// To be read by the device.
    Read(&'a [u8]),
    /// To be written by the device: so many bytes of room.
    Write(usize),
}

/// A chain that was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// The head of the chain.
    pub head: u16,
    /// How many bytes the device says that it has written.
    pub written: u32,
    /// All bytes of the chain's writable buffers.
    pub bytes: Vec<u8>,
}

/// A queue from the driver's side: rings, and a place for buffers behind them.
#[derive(Debug)]
pub struct Ring {
    memory: GuestMemory,
    /// Where its parts are.
    pub layout: Layout,
    buffers: u64,
    next_buffer: u64,
    end: u64,
    next_descriptor: u16,
    available: u16,
    used: u16,
    writable: Vec<Vec<(u64, usize)>>,
}

impl Ring {
    /// A ring with its parts and its buffers between two addresses.
    pub fn new(memory: &GuestMemory, from: u64, to: u64, size: u16) -> Ring {
        let entries = u64::from(size);
        let available = from + 16 * entries;
        let used = (available + 6 + 2 * entries).next_multiple_of(4);
        let buffers = (used + 6 + 8 * entries).next_multiple_of(16);
        let layout = Layout { size, descriptors: from, available, used, ..Layout::default() };
        Ring {
            memory: memory.clone(),
            layout,
            buffers,
            next_buffer: buffers,
            end: to,
            next_descriptor: 0,
            available: 0,
            used: 0,
            writable: vec![Vec::new(); usize::from(size)],
        }
    }

    /// The device's side of it.
    ///
    /// # Errors
    /// As [`Queue::new`].
    pub fn queue(&self, features: RingFeatures) -> Result<Queue, QueueError> {
        Queue::new(self.memory.clone(), self.layout, self.layout.size, features)
    }

    /// Room for a buffer; the place begins anew when it is full.
    pub fn room(&mut self, bytes: usize) -> u64 {
        let bytes = bytes as u64;
        if self.next_buffer + bytes > self.end {
            self.next_buffer = self.buffers;
        }
        let at = self.next_buffer;
        self.next_buffer = (at + bytes).next_multiple_of(16);
        at
    }

    /// Writes a descriptor.
    pub fn descriptor(&self, index: u16, guest: u64, bytes: u32, flags: u16, next: u16) {
        let at = self.layout.descriptors + 16 * u64::from(index);
        descriptor(&self.memory, at, guest, bytes, flags, next);
    }

    /// Makes a head available.
    pub fn offer(&mut self, head: u16) {
        let slot = u64::from(self.available % self.layout.size);
        let (ring, index) = (self.layout.available + 4 + 2 * slot, self.layout.available + 2);
        self.memory.store(ring, head).expect("the ring is in memory");
        self.available = self.available.wrapping_add(1);
        self.memory.store(index, self.available).expect("the ring is in memory");
    }

    /// Makes a chain of buffers available; gives its head.
    pub fn send(&mut self, buffers: &[Buffer<'_>]) -> u16 {
        let head = self.next_descriptor;
        let size = self.layout.size;
        self.writable[usize::from(head)].clear();
        for (n, buffer) in buffers.iter().enumerate() {
            let index = self.next_descriptor;
            self.next_descriptor = (index + 1) % size;
            let (guest, bytes, write) = match buffer {
                Buffer::Read(bytes) => {
                    let at = self.room(bytes.len());
                    self.memory.write(at, bytes).expect("the ring's buffers are in memory");
                    (at, bytes.len(), 0)
                }
                Buffer::Write(bytes) => {
                    let at = self.room(*bytes);
                    self.writable[usize::from(head)].push((at, *bytes));
                    (at, *bytes, 2)
                }
            };
            let next = u16::from(n + 1 < buffers.len());
            let bytes = u32::try_from(bytes).expect("a test's buffers are small");
            self.descriptor(index, guest, bytes, write | next, self.next_descriptor);
        }
        self.offer(head);
        head
    }

    /// The next chain that the device has used.
    pub fn used(&mut self) -> Option<Used> {
        let at = self.layout.used;
        let index: u16 = self.memory.load(at + 2).expect("the ring is in memory");
        if index == self.used {
            return None;
        }
        let entry = at + 4 + 8 * u64::from(self.used % self.layout.size);
        let head: u32 = self.memory.load(entry).expect("the ring is in memory");
        let written = self.memory.load(entry + 4).expect("the ring is in memory");
        self.used = self.used.wrapping_add(1);
        // The next one is wanted too.
        let event = self.layout.available + 4 + 2 * u64::from(self.layout.size);
        self.memory.store(event, self.used).expect("the ring is in memory");
        let head = u16::try_from(head).expect("a head is below the queue's size");
        let mut bytes = Vec::new();
        for (guest, length) in &self.writable[usize::from(head)] {
            let mut piece = vec![0; *length];
            self.memory.read(*guest, &mut piece).expect("the buffers are in memory");
            bytes.append(&mut piece);
        }
        Some(Used { head, written, bytes })
    }
}

/// Writes a descriptor to where it belongs, in a table of the queue's or an indirect one.
pub fn descriptor(memory: &GuestMemory, at: u64, guest: u64, bytes: u32, flags: u16, next: u16) {
    memory.store(at, guest).expect("the table is in memory");
    memory.store(at + 8, bytes).expect("the table is in memory");
    memory.store(at + 12, flags).expect("the table is in memory");
    memory.store(at + 14, next).expect("the table is in memory");
}

/// A device with a driver that has set it up.
#[derive(Debug)]
pub struct Rig<D: Device> {
    /// The device behind its registers.
    pub mmio: Arc<Mmio<D>>,
    /// The guest's memory.
    pub memory: GuestMemory,
    /// Its line.
    pub wire: Arc<Wire>,
    /// The driver's side of its queues.
    pub rings: Vec<Ring>,
}

/// How much memory each queue of a rig has.
const RING_BYTES: u64 = 1 << 20;

impl<D: Device> Rig<D> {
    /// A device that is not set up, with memory for its queues.
    pub fn bare(device: D) -> Rig<D> {
        let sizes = device.queue_sizes().to_vec();
        let bytes = RING_BYTES * (sizes.len() as u64 + 1);
        let memory = GuestMemory::new(bytes).expect("a test has a few MiB");
        let wire = Arc::new(Wire::default());
        let mmio = Arc::new(Mmio::new(device, memory.clone(), wire.clone()));
        let mut rig = Rig { mmio, memory, wire, rings: Vec::new() };
        rig.renew(&sizes);
        rig
    }

    /// Empty rings of these sizes: a driver begins anew.
    pub fn renew(&mut self, sizes: &[u16]) {
        let ring = |(n, size): (u64, &u16)| {
            let (from, to) = (RING_BYTES * (n + 1), RING_BYTES * (n + 2));
            self.memory.fill(from, 0, 1 << 16).expect("a rig has memory for its rings");
            Ring::new(&self.memory, from, to, *size)
        };
        self.rings = (0..).zip(sizes).map(ring).collect();
    }

    /// Does something with the device from the host's side, of which nothing is left to be done.
    ///
    /// # Panics
    /// If there is.
    pub fn with<R>(&self, act: impl FnOnce(&mut D, &mut Queues) -> R) -> R {
        let done = self.mmio.with(|device, queues| Ok(act(device, queues)));
        let (done, again) = done.expect("the queues are not broken by the host");
        assert_eq!(again, Again::default(), "something is left to be done");
        done
    }

    /// A device whose driver wants these features, beside those of the rings.
    pub fn new(device: D, features: u64) -> Rig<D> {
        let rig = Rig::bare(device);
        rig.negotiate(features | 1 << 28 | 1 << 29 | 1 << 32);
        rig
    }

    /// Reads a register.
    pub fn get(&self, offset: u64) -> u32 {
        let mut word = [0xa5; 4];
        self.mmio.read(offset, &mut word);
        u32::from_le_bytes(word)
    }

    /// Writes a register.
    pub fn set(&self, offset: u64, value: u32) {
        let _ = self.mmio.write(offset, &value.to_le_bytes());
    }

    /// What a driver does from reset on; gives the status that the device ends in.
    pub fn negotiate(&self, features: u64) -> u32 {
        self.set(0x70, 0);
        self.set(0x70, 1 | 2);
        for (select, half) in (0..).zip(halves(features)) {
            self.set(0x24, select);
            self.set(0x20, half);
        }
        self.set(0x70, 1 | 2 | 8);
        for (index, ring) in (0..).zip(&self.rings) {
            self.set(0x30, index);
            self.set(0x38, ring.layout.size.into());
            let parts = [ring.layout.descriptors, ring.layout.available, ring.layout.used];
            for (offset, guest) in [0x80, 0x90, 0xa0].into_iter().zip(parts) {
                let [low, high] = halves(guest);
                self.set(offset, low);
                self.set(offset + 4, high);
            }
            self.set(0x44, 1);
        }
        self.set(0x70, 1 | 2 | 8 | 4);
        self.get(0x70)
    }

    /// Sends a chain and has the device process the queue until there is no more.
    ///
    /// # Panics
    /// If the device finds something wrong.
    pub fn request(&mut self, queue: u16, buffers: &[Buffer<'_>]) -> Option<Used> {
        self.rings[usize::from(queue)].send(buffers);
        self.process(queue);
        self.rings[usize::from(queue)].used()
    }

    /// Has the device process a queue until there is no more.
    ///
    /// # Panics
    /// If the device finds something wrong.
    pub fn process(&mut self, queue: u16) {
        let mut turn = self.mmio.process(queue).expect("the driver makes no mistakes");
        while let Some(queue) = turn.0.pop() {
            let Again(more) = self.mmio.process(queue).expect("the driver makes no mistakes");
            turn.0.extend(more);
        }
    }
}

/// The lower and the upper half.
fn halves(value: u64) -> [u32; 2] {
    let half = |value: u64| u32::try_from(value & 0xffff_ffff).expect("it is 32 bits");
    [half(value), half(value >> 32)]
}

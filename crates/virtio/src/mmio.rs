//! The MMIO transport: a page of registers through which a driver finds, sets up and rings a
//! device.
//!
//! ```text
//! processor ──read, write──▶ Registers ──▶ Device ◀──process, ready── event loop
//!                               Signal ◀──────┘
//! ```
//!
//! It knows no bus: whoever owns the address hands reads and writes in. A processor waits for a
//! working device only where it changes the device itself (its status, its configuration); what a
//! driver does all the time, acknowledging and ringing, does not.
//!
//! Source: virtio 1.2, 4.2.

mod registers;
#[cfg(test)]
mod tests;

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hv::{Doorbell, GuestMemory, Place};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    device::{Again, Device, Kind, Queues, RestoreError, Source},
    queue::{Layout, Queue, QueueError, SIZE_MAX, TURN},
    signal::{Line, Pending, Signal},
};
use registers::{Change, Offer, Register, Registers};

/// How many bytes of addresses a device takes.
pub const BYTES: u64 = 0x200;

/// Where the configuration begins.
const CONFIG: u64 = 0x100;

/// Where a driver rings.
const NOTIFY: u64 = 0x50;

/// The version of [`Saved`].
const VERSION: u32 = 1;

/// A device behind its registers. Owners keep an `Arc<Mmio<Console>>` to get at the device, and
/// give an `Arc<Mmio<dyn Device>>` of it to whoever runs it.
#[derive(Debug)]
pub struct Mmio<D: Device + ?Sized> {
    memory: GuestMemory,
    signal: Arc<Signal>,
    offer: Offer,
    registers: Mutex<Registers>,
    // Locked after the registers, where both are.
    inner: Mutex<Inner<D>>,
}

#[derive(Debug)]
struct Inner<D: Device + ?Sized> {
    queues: Queues,
    device: D,
}

/// All that is saved of a device and its transport.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {
    version: u32,
    kind: Kind,
    registers: Registers,
    pending: Pending,
    queues: Vec<Option<Layout>>,
    device: Value,
}

impl<D: Device> Mmio<D> {
    /// A device that no driver has found yet.
    pub fn new(device: D, memory: GuestMemory, line: Arc<dyn Line>) -> Mmio<D> {
        let signal = Arc::new(Signal::new(line));
        let offer = Offer::of(&device);
        let registers = Mutex::new(Registers::new(&offer));
        let queues = Queues::new(signal.clone(), offer.queues.len());
        Mmio { memory, signal, offer, registers, inner: Mutex::new(Inner { queues, device }) }
    }
}

impl<D: Device + ?Sized> Mmio<D> {
    fn inner(&self) -> MutexGuard<'_, Inner<D>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn registers(&self) -> MutexGuard<'_, Registers> {
        self.registers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which device it is.
    pub fn kind(&self) -> Kind {
        self.offer.kind
    }

    /// Whether who rings for this queue is to be answered at once: [`Device::is_awaited`].
    pub fn is_awaited(&self, queue: u16) -> bool {
        self.inner().device.is_awaited(queue)
    }

    /// The doorbell of each queue, for registers at this guest-physical address. Whoever arranges
    /// for them calls [`Mmio::process`] when they ring.
    pub fn doorbells(&self, base: u64) -> Vec<(u16, Doorbell)> {
        let doorbell = |index: u16| Doorbell {
            place: Place::Memory(base + NOTIFY),
            bytes: 4,
            value: Some(u64::from(index)),
        };
        (0..).zip(&self.offer.queues).map(|(index, _)| (index, doorbell(index))).collect()
    }

    /// The guest reads at an offset from the registers' address.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(offset) = offset.checked_sub(CONFIG) {
            return self.inner().device.read_config(offset, data);
        }
        let Ok(word) = <&mut [u8; 4]>::try_from(data) else { return };
        let Some(register) = Register::at(offset) else { return };
        *word = self.registers().read(register, &self.offer, self.signal.pending()).to_le_bytes();
    }

    /// The guest writes at an offset from the registers' address. Gives the queue that it has
    /// rung for, if that is what it did, and no doorbell caught it before.
    ///
    /// # Errors
    /// [`QueueError`] if the driver set up a queue that is none: the device needs a reset.
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<Option<u16>, QueueError> {
        if let Some(offset) = offset.checked_sub(CONFIG) {
            self.inner().device.write_config(offset, data);
            return Ok(None);
        }
        let (Ok(word), Some(register)) = (<[u8; 4]>::try_from(data), Register::at(offset)) else {
            return Ok(None);
        };
        let value = u32::from_le_bytes(word);
        if register == Register::QueueNotify {
            let queue = u16::try_from(value).ok();
            return Ok(queue.filter(|queue| usize::from(*queue) < self.offer.queues.len()));
        }
        if register == Register::InterruptAck {
            self.signal.acknowledge(value);
            return Ok(None);
        }
        let mut registers = self.registers();
        if let Some(change) = registers.write(register, value, &self.offer) {
            self.carry_out(change, &registers)?;
        }
        Ok(None)
    }

    /// Does to the device what a write to the registers means.
    fn carry_out(&self, change: Change, registers: &Registers) -> Result<(), QueueError> {
        let mut inner = self.inner();
        if change != Change::Reset && self.signal.pending().needs_reset {
            return Ok(());
        }
        match change {
            Change::Reset => {
                inner.queues.clear();
                inner.device.reset();
                self.signal.reset();
            }
            Change::Activate => {
                for index in 0..self.offer.queues.len() {
                    self.set_up(&mut inner.queues, index, registers)?;
                }
                inner.device.activate(registers.features());
                drop(inner);
                return self.catch_up();
            }
            Change::QueueReady(index) => self.set_up(&mut inner.queues, index, registers)?,
            Change::QueueGone(index) => inner.queues.set(index, None),
        }
        Ok(())
    }

    /// Gives each queue its first turns. Drivers ring before they say that they are ready (Linux
    /// does for a balloon's statistics), and a doorbell that rang then was not heard.
    fn catch_up(&self) -> Result<(), QueueError> {
        let mut waiting: Vec<u16> = (0..).take(self.offer.queues.len()).collect();
        // A full queue needs so many turns; one that is filled meanwhile has rung.
        for _ in 0..=SIZE_MAX / TURN {
            let mut again = Vec::new();
            for queue in waiting {
                again.extend(self.process(queue)?.0);
            }
            waiting = again;
        }
        Ok(())
    }

    fn set_up(
        &self,
        queues: &mut Queues,
        index: usize,
        registers: &Registers,
    ) -> Result<(), QueueError> {
        let Some(layout) = registers.layout(index) else { return Ok(()) };
        match self.queue(index, layout, registers) {
            Ok(queue) => queues.set(index, Some(queue)),
            Err(error) => {
                queues.clear();
                self.signal.needs_reset();
                return Err(error);
            }
        }
        Ok(())
    }

    fn queue(&self, index: usize, at: Layout, set: &Registers) -> Result<Queue, QueueError> {
        let max = self.offer.queues.get(index).copied().unwrap_or_default();
        Queue::new(self.memory.clone(), at, max, set.ring_features())
    }

    /// The driver has rung for a queue. Does nothing before it is ready, and nothing after it
    /// broke the device.
    ///
    /// # Errors
    /// What the guest did wrong, once: the device needs a reset.
    pub fn process(&self, queue: u16) -> Result<Again, QueueError> {
        self.turn(|device, queues| match queues.get(queue) {
            Some(_) => device.process(queue, queues),
            None => Ok(()),
        })
    }

    /// Every queue gets a turn, as if the driver had rung for each: when a machine goes on whose
    /// doorbells were lost.
    ///
    /// # Errors
    /// As [`Mmio::process`].
    pub fn process_all(&self) -> Result<Again, QueueError> {
        let mut all = Again::default();
        for index in (0..).take(self.offer.queues.len()) {
            all.0.extend(self.process(index)?.0);
        }
        Ok(all)
    }

    /// A descriptor of the device's is ready.
    ///
    /// # Errors
    /// As [`Mmio::process`].
    pub fn ready(&self, token: u32) -> Result<Again, QueueError> {
        self.turn(|device, queues| device.ready(token, queues))
    }

    /// Does something with the device from the host's side.
    ///
    /// # Errors
    /// As [`Mmio::process`].
    pub fn with<R>(
        &self,
        act: impl FnOnce(&mut D, &mut Queues) -> Result<R, QueueError>,
    ) -> Result<(R, Again), QueueError> {
        let mut inner = self.inner();
        let Inner { queues, device } = &mut *inner;
        queues.begin();
        let done = act(device, queues);
        let again = queues.end();
        match done {
            Ok(done) => Ok((done, again)),
            Err(error) => {
                // Nothing more comes out of queues that may be half done.
                queues.clear();
                self.signal.needs_reset();
                Err(error)
            }
        }
    }

    fn turn(
        &self,
        act: impl FnOnce(&mut D, &mut Queues) -> Result<(), QueueError>,
    ) -> Result<Again, QueueError> {
        self.with(act).map(|((), again)| again)
    }

    /// Calls `each` with every descriptor to wait for; a token belongs to [`Mmio::ready`].
    pub fn sources(&self, mut each: impl FnMut(Source<'_>)) {
        self.inner().device.sources().into_iter().for_each(&mut each);
    }

    /// What is saved. Nothing may run meanwhile: no processor, and nobody who calls
    /// [`Mmio::process`] or [`Mmio::ready`].
    ///
    /// # Errors
    /// Those of [`Device::settle`].
    pub fn save(&self) -> io::Result<Saved> {
        let registers = self.registers();
        let mut inner = self.inner();
        inner.device.settle()?;
        let layout = |queue: &Option<Queue>| queue.as_ref().map(Queue::layout);
        Ok(Saved {
            version: VERSION,
            kind: self.offer.kind,
            registers: registers.clone(),
            pending: self.signal.pending(),
            queues: inner.queues.all().iter().map(layout).collect(),
            device: inner.device.save(),
        })
    }

    /// Takes over what was saved, on a device that no driver has found yet. When the machine goes
    /// on, [`Mmio::process_all`] has to be called.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn restore(&self, saved: Saved) -> Result<(), RestoreError> {
        if saved.version != VERSION {
            let (found, known) = (u64::from(saved.version), VERSION);
            return Err(RestoreError::Version { device: "transport", found, known });
        }
        if saved.kind != self.offer.kind || saved.queues.len() != self.offer.queues.len() {
            return Err(RestoreError::Another(format!("{:?}", saved.kind)));
        }
        let mut registers = self.registers();
        let mut inner = self.inner();
        *registers = saved.registers.checked(&self.offer)?;
        for (index, layout) in saved.queues.into_iter().enumerate() {
            let Some(layout) = layout else { continue };
            let queue = self.queue(index, layout, &registers);
            let queue = queue.map_err(|source| RestoreError::Queue { index, source })?;
            inner.queues.set(index, Some(queue));
        }
        if registers.is_active() {
            inner.device.activate(registers.features());
        }
        inner.device.restore(saved.device)?;
        self.signal.restore(saved.pending);
        Ok(())
    }
}

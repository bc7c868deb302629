//! What a device is: a plain value that is handed its queues.
//!
//! A device has no thread, waits for nothing and knows no bus. Whoever owns it calls it when the
//! guest has rung a queue's doorbell and when one of its descriptors is ready.

use std::{fmt::Debug, io, os::fd::BorrowedFd, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    queue::{Queue, QueueError},
    signal::Signal,
};

/// Which device it is.
///
/// Source: virtio 1.2, 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[repr(u32)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Kind {
    Net = 1,
    Block = 2,
    Console = 3,
    Entropy = 4,
    Balloon = 5,
    Vsock = 19,
    Fs = 26,
}

/// A descriptor that a device waits for.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// What [`Device::ready`] is told; the device's own numbers.
    pub token: u32,
    /// What to wait for.
    pub fd: BorrowedFd<'a>,
    /// When to wake the device.
    pub wake: Wake,
}

/// When a device is woken for a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// As long as it is readable (`EPOLLIN`): eventfds and timers that the device reads empty, an
    /// epoll descriptor of its own if what it waits for comes and goes.
    Level,
    /// When it becomes readable or writable (`EPOLLIN | EPOLLOUT | EPOLLET`): the device goes on
    /// until it would block, or remembers that it did not.
    Edge,
}

/// A device.
///
/// What happens to it, in this order: [`activate`](Device::activate) when the driver is ready,
/// [`restore`](Device::restore) if there is a saved state, then any number of
/// [`process`](Device::process) and [`ready`](Device::ready), then [`reset`](Device::reset), from
/// where it may begin again. `ready` and `write_config` also come before the driver is ready;
/// there are no queues then.
pub trait Device: Debug + Send {
    /// Which one it is.
    fn kind(&self) -> Kind;

    /// The features that it offers, without those of rings and transport (bits 24 to 40).
    fn features(&self) -> u64;

    /// How many queues it has, and how many entries each has at most: powers of two.
    fn queue_sizes(&self) -> &[u16];

    /// Reads the configuration from an offset on; what lies beyond its end is left as it is, zero.
    fn read_config(&self, offset: u64, to: &mut [u8]);

    /// Writes to the configuration. What cannot be written is ignored.
    fn write_config(&mut self, offset: u64, from: &[u8]);

    /// The driver is ready and wants these of the features.
    fn activate(&mut self, features: u64);

    /// The driver has rung for a queue. The device pops until there is nothing, or leaves chains
    /// where they are and comes back to them by itself.
    ///
    /// # Errors
    /// [`QueueError`] when the guest broke a rule that the device cannot answer within its
    /// protocol; the device is not called again until the driver has reset it.
    fn process(&mut self, queue: u16, queues: &mut Queues) -> Result<(), QueueError>;

    /// Whether a driver that has rung for this queue does nothing else until it is answered. Then it
    /// is answered where its instructions are carried out, before the next of them: a driver that
    /// waits for another thread in a loop costs more than what it waits for, so
    /// [`Device::process`] must not take long for such a queue.
    fn is_awaited(&self, _queue: u16) -> bool {
        false
    }

    /// The descriptors to wait for: the same as long as the device lives.
    fn sources(&self) -> Vec<Source<'_>>;

    /// One of them is ready.
    ///
    /// # Errors
    /// As [`Device::process`].
    fn ready(&mut self, token: u32, queues: &mut Queues) -> Result<(), QueueError>;

    /// The driver is gone: back to the beginning. What the host side has set stays.
    fn reset(&mut self);

    /// Before it is saved: what it holds back that a restored device would look for outside of the
    /// machine, such as in a disk's file, goes there.
    ///
    /// # Errors
    /// If it does not; then there is nothing to be restored.
    fn settle(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// What a restored device has to know beyond the features and the rings: see
    /// [`save`](crate::device::save).
    fn save(&self) -> Value;

    /// Takes over what was saved.
    ///
    /// # Errors
    /// [`RestoreError`]; the device is not to be used then.
    fn restore(&mut self, saved: Value) -> Result<(), RestoreError>;
}

/// Why a saved state was not taken over.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It is not what this device saves.
    #[error("a saved {device} that cannot be read")]
    Unreadable {
        /// Which device.
        device: &'static str,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A later version of Wythe has saved it, or it is none of its versions.
    #[error("a saved {device} of version {found}; known is {known}")]
    Version {
        /// Which device.
        device: &'static str,
        /// What was found.
        found: u64,
        /// What is known.
        known: u32,
    },
    /// It was saved by another device, or one that was set up otherwise.
    #[error("a saved device that is another: {0}")]
    Another(String),
    /// A saved queue is none.
    #[error("saved queue {index}")]
    Queue {
        /// Which.
        index: usize,
        /// What is wrong with it.
        #[source]
        source: QueueError,
    },
}

/// A device's state as a value, with its version.
pub fn save(version: u32, state: &impl Serialize) -> Value {
    let state = serde_json::to_value(state).expect("a device's state is plain data");
    serde_json::json!({ "version": version, "state": state })
}

/// The state that [`save`] made a value of.
///
/// # Errors
/// [`RestoreError::Version`] or [`RestoreError::Unreadable`].
pub fn restore<T: DeserializeOwned>(
    device: &'static str,
    known: u32,
    mut saved: Value,
) -> Result<T, RestoreError> {
    let found = saved.get("version").and_then(Value::as_u64).unwrap_or(0);
    if found != u64::from(known) {
        return Err(RestoreError::Version { device, found, known });
    }
    let state = saved.get_mut("state").map(Value::take).unwrap_or_default();
    serde_json::from_value(state).map_err(|source| RestoreError::Unreadable { device, source })
}

/// Reads from a configuration's bytes: for [`Device::read_config`].
pub fn read_bytes(config: &[u8], offset: u64, to: &mut [u8]) {
    let from = usize::try_from(offset).ok().and_then(|offset| config.get(offset..));
    let from = from.unwrap_or_default();
    let bytes = from.len().min(to.len());
    to[..bytes].copy_from_slice(&from[..bytes]);
}

/// The queues of one device, and its way to interrupt the driver.
#[derive(Debug)]
pub struct Queues {
    queues: Vec<Option<Queue>>,
    signal: Arc<Signal>,
}

impl Queues {
    pub(crate) fn new(signal: Arc<Signal>, count: usize) -> Queues {
        Queues { queues: (0..count).map(|_| None).collect(), signal }
    }

    /// A queue, if the driver has set it up.
    pub fn get(&mut self, index: u16) -> Option<&mut Queue> {
        self.queues.get_mut(usize::from(index))?.as_mut()
    }

    /// Interrupts the driver if chains of this queue were pushed and it wants to hear of them.
    /// What was pushed when a device's turn ends is told anyway; this is for turns that take long.
    pub fn tell(&mut self, index: u16) {
        if self.get(index).is_some_and(Queue::wants_interrupt) {
            self.signal.used();
        }
    }

    /// Tells the driver that the configuration is another.
    pub fn config_changed(&self) {
        self.signal.config();
    }

    pub(crate) fn set(&mut self, index: usize, queue: Option<Queue>) {
        if let Some(slot) = self.queues.get_mut(index) {
            *slot = queue;
        }
    }

    pub(crate) fn clear(&mut self) {
        self.queues.fill_with(|| None);
    }

    pub(crate) fn all(&self) -> &[Option<Queue>] {
        &self.queues
    }

    pub(crate) fn begin(&mut self) {
        self.queues.iter_mut().flatten().for_each(Queue::begin);
    }

    /// Tells the driver of all that was pushed; gives the queues that need another turn.
    pub(crate) fn end(&mut self) -> Again {
        let mut again = Again(Vec::new());
        for (index, queue) in (0..).zip(&mut self.queues) {
            let Some(queue) = queue else { continue };
            if queue.wants_interrupt() {
                self.signal.used();
            }
            if queue.has_more() {
                again.0.push(index);
            }
        }
        again
    }
}

/// The queues of which there is more to do: to be processed again, after the others had their
/// turn, as if the driver had rung.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "nobody rings for these queues"]
pub struct Again(pub Vec<u16>);

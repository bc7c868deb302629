//! A split virtqueue, as a device sees it.
//!
//! ```text
//! descriptors   available ring (the driver's)      used ring (ours)
//! ┌─────────┐   flags idx [head, …] used_event     flags idx [(head, written), …] avail_event
//! │ address │          │                                  ▲
//! │ length  │◀─────────┘ pop ──▶ Chain ──▶ device ──▶ push┘──▶ wants_interrupt?
//! └─────────┘
//! ```
//!
//! All of it lies in the guest's memory, and every field is what the guest pleases at the moment it
//! is read: each is read once, checked, and only the copy is used. A queue that broke the rules is
//! broken until the driver resets the device: it gives nothing out any more and is not written to.
//!
//! Source: virtio 1.2, 2.6 and 2.7.

mod buffers;
mod chain;
#[cfg(test)]
mod tests;

use std::sync::atomic::{Ordering, fence};

use hv::GuestMemory;
use serde::{Deserialize, Serialize};

pub use buffers::{Reader, Segment, Writer};
pub use chain::{CHAIN_MAX, Chain, Head};

/// Largest queue: the virtio limit. Sizes are powers of two.
///
/// Source: virtio 1.2, 2.7.
pub const SIZE_MAX: u16 = 1 << 15;

/// How many chains a device may pop in one turn, so that a driver that never stops keeps nobody
/// else from theirs.
pub const TURN: u16 = 256;

/// Bytes of a descriptor.
const DESCRIPTOR: usize = 16;

/// Bytes of an entry of the used ring.
const USED: usize = 8;

/// The driver asks for no interrupts; only heeded where there is no event index.
const NO_INTERRUPT: u16 = 1;

/// What the guest did wrong with a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// A size that is zero, no power of two, or larger than the device's.
    #[error("a queue of {size} entries, of at most {max}")]
    Size {
        /// What the driver set.
        size: u16,
        /// What the device allows.
        max: u16,
    },
    /// One of the three parts is not aligned.
    #[error("the {part} at {guest:#x} is not aligned")]
    Unaligned {
        /// Which.
        part: &'static str,
        /// Where it is said to be.
        guest: u64,
    },
    /// One of the three parts, an indirect table or a buffer is not memory.
    #[error("the {part} of {bytes} bytes at {guest:#x} is not in memory")]
    NotMemory {
        /// Which.
        part: &'static str,
        /// Where it is said to be.
        guest: u64,
        /// How long it is.
        bytes: usize,
    },
    /// More chains are said to be available than there are descriptors.
    #[error("{available} chains available in a queue of {size}")]
    Jumped {
        /// How many.
        available: u16,
        /// The queue's size.
        size: u16,
    },
    /// A chain goes on to a descriptor that there is none.
    #[error("descriptor {index} of {size}")]
    NoDescriptor {
        /// Which.
        index: u16,
        /// How many there are.
        size: u32,
    },
    /// A chain that goes in a circle, or that is too long.
    #[error("a chain of more than {limit} descriptors")]
    TooLong {
        /// How many there may be.
        limit: u32,
    },
    /// The buffers of a chain are 4 GiB or more together.
    #[error("a chain of 4 GiB or more")]
    TooLarge,
    /// A buffer to read from follows one to write to.
    #[error("a readable buffer after a writable one")]
    Order,
    /// An indirect table within an indirect table, or where none was agreed on, or with a
    /// descriptor after it.
    #[error("an indirect table where none may be")]
    Indirect,
    /// An indirect table of no descriptors, or of a part of one.
    #[error("an indirect table of {bytes} bytes")]
    Table {
        /// Its length.
        bytes: u32,
    },
    /// A chain lacks buffers that the device's protocol says it has.
    #[error("a chain without {0}")]
    Missing(&'static str),
}

/// What the driver said about a queue, and where both sides are: all that is saved of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// How many entries.
    pub size: u16,
    /// Guest address of the descriptor table.
    pub descriptors: u64,
    /// Guest address of the available ring.
    pub available: u64,
    /// Guest address of the used ring.
    pub used: u64,
    /// The available entry that is taken next.
    pub next_available: u16,
    /// The used entry that is written next.
    pub next_used: u16,
}

/// A queue that the driver has set up.
#[derive(Debug)]
pub struct Queue {
    memory: GuestMemory,
    layout: Layout,
    /// Offsets in the mapping, checked once for the whole of each part.
    descriptors: usize,
    available: usize,
    used: usize,
    event_index: bool,
    indirect: bool,
    /// Up to which used entry the driver was told.
    told: u16,
    /// How many chains may be popped in this turn, and whether there was one more.
    budget: u16,
    more: bool,
    broken: Option<QueueError>,
}

/// Which of the ring's own features were agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingFeatures {
    /// `VIRTIO_F_EVENT_IDX`.
    pub event_index: bool,
    /// `VIRTIO_F_INDIRECT_DESC`.
    pub indirect: bool,
}

impl Queue {
    /// The queue that the driver describes; `max` is the largest that the device has said.
    ///
    /// # Errors
    /// [`QueueError::Size`], [`QueueError::Unaligned`] or [`QueueError::NotMemory`].
    ///
    /// Source: virtio 1.2, 2.7: alignments 16, 2 and 4.
    pub fn new(
        memory: GuestMemory,
        layout: Layout,
        max: u16,
        features: RingFeatures,
    ) -> Result<Queue, QueueError> {
        let size = layout.size;
        if size == 0 || !size.is_power_of_two() || size > max.min(SIZE_MAX) {
            return Err(QueueError::Size { size, max });
        }
        let entries = usize::from(size);
        let place = |part, guest: u64, align: u64, bytes| {
            if !guest.is_multiple_of(align) {
                return Err(QueueError::Unaligned { part, guest });
            }
            memory.offset(guest, bytes).ok_or(QueueError::NotMemory { part, guest, bytes })
        };
        let table = place("descriptor table", layout.descriptors, 16, DESCRIPTOR * entries)?;
        // Flags, index and the event are two bytes each.
        let available = place("available ring", layout.available, 2, 6 + 2 * entries)?;
        let used = place("used ring", layout.used, 4, 6 + USED * entries)?;
        Ok(Queue {
            memory,
            layout,
            descriptors: table,
            available,
            used,
            event_index: features.event_index,
            indirect: features.indirect,
            told: layout.next_used,
            budget: TURN,
            more: false,
            broken: None,
        })
    }

    /// What is saved of it.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The memory that it lies in.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// What is wrong with it, if it is broken.
    pub fn broken(&self) -> Option<QueueError> {
        self.broken
    }

    /// Breaks it: the guest has put something into it that no driver may.
    pub fn break_with(&mut self, error: QueueError) -> QueueError {
        *self.broken.get_or_insert(error)
    }

    /// Begins a turn.
    pub(crate) fn begin(&mut self) {
        (self.budget, self.more) = (TURN, false);
    }

    /// Whether a turn ended before the chains did, and so the next one begins without a doorbell.
    pub(crate) fn has_more(&self) -> bool {
        self.more && self.broken.is_none()
    }

    /// The next chain that the driver has made available. When there is none, the driver is asked
    /// to ring the doorbell for the next; after [`TURN`] chains there is none either, and the
    /// device gets another turn.
    ///
    /// # Errors
    /// [`QueueError`]; the queue is broken then and gives nothing out any more.
    pub fn pop(&mut self) -> Result<Option<Chain>, QueueError> {
        if self.broken.is_some() || !self.has_available()? {
            return Ok(None);
        }
        let Some(budget) = self.budget.checked_sub(1) else {
            self.more = true;
            return Ok(None);
        };
        self.budget = budget;
        let next = self.layout.next_available;
        let head: u16 = self.memory.get(self.available + 4 + 2 * self.slot(next));
        match chain::walk(self, head) {
            Ok(chain) => {
                self.layout.next_available = next.wrapping_add(1);
                Ok(Some(chain))
            }
            Err(error) => Err(self.break_with(error)),
        }
    }

    /// Whether the driver has made a chain available, and if not, asks for the doorbell.
    fn has_available(&mut self) -> Result<bool, QueueError> {
        if self.available_count()? > 0 {
            return Ok(true);
        }
        if self.event_index {
            self.ask(self.layout.next_available);
            return Ok(self.available_count()? > 0);
        }
        Ok(false)
    }

    /// How many chains the driver has made available since it set the queue up, modulo 2^16.
    ///
    /// # Errors
    /// As [`Queue::pop`].
    pub fn offered(&mut self) -> Result<u16, QueueError> {
        Ok(self.layout.next_available.wrapping_add(self.available_count()?))
    }

    /// Whether the driver has made one available since it had made so many. If not, it is asked to
    /// ring the doorbell for the next.
    ///
    /// # Errors
    /// As [`Queue::pop`].
    pub fn offers_more_than(&mut self, chains: u16) -> Result<bool, QueueError> {
        if self.event_index {
            self.ask(chains);
        }
        Ok(self.offered()? != chains)
    }

    /// Asks the driver to ring the doorbell when it makes available the chain of this number.
    fn ask(&self, number: u16) {
        let event = self.used + 4 + USED * usize::from(self.layout.size);
        self.set(event, number);
        // The driver writes its index and then reads the event; we write the event and then
        // read the index. Without a full fence on either side both could miss the other.
        fence(Ordering::SeqCst);
    }

    fn available_count(&mut self) -> Result<u16, QueueError> {
        let index: u16 = self.memory.get(self.available + 2);
        // What the index says is there is read after it.
        fence(Ordering::Acquire);
        let (available, size) = (index.wrapping_sub(self.layout.next_available), self.layout.size);
        if available > size {
            return Err(self.break_with(QueueError::Jumped { available, size }));
        }
        Ok(available)
    }

    /// Gives the chain that was popped last back, so that the next pop gives it again.
    pub fn put_back(&mut self, chain: Chain) {
        drop(chain);
        self.layout.next_available = self.layout.next_available.wrapping_sub(1);
    }

    /// Tells the driver that a chain was used and how many bytes were written to it. It is
    /// interrupted only when [`Queue::wants_interrupt`] is asked and says so.
    pub fn push(&mut self, head: Head, written: u32) {
        self.push_all([(head, written)]);
    }

    /// The same for several chains, which the driver sees at once or not at all: what it finds in
    /// the first speaks of the others.
    pub fn push_all(&mut self, used: impl IntoIterator<Item = (Head, u32)>) {
        if self.broken.is_some() {
            return;
        }
        for (head, written) in used {
            let next = self.layout.next_used;
            let entry = self.used + 4 + USED * self.slot(next);
            self.set(entry, u32::from(head.index()));
            self.set(entry + 4, written);
            self.layout.next_used = next.wrapping_add(1);
        }
        // The entries, and what is in the buffers, are there before the index says so.
        fence(Ordering::Release);
        self.set(self.used + 2, self.layout.next_used);
    }

    /// Whether the driver wants to hear of the chains that were pushed since this was last asked.
    ///
    /// Source: virtio 1.2, 2.7.7.
    pub fn wants_interrupt(&mut self) -> bool {
        let now = self.layout.next_used;
        if self.broken.is_some() || self.told == now {
            return false;
        }
        // Our index is written before we look what the driver wants; the driver writes what it
        // wants before it looks at our index.
        fence(Ordering::SeqCst);
        let told = std::mem::replace(&mut self.told, now);
        if !self.event_index {
            let flags: u16 = self.memory.get(self.available);
            return flags & NO_INTERRUPT == 0;
        }
        let event_at = self.available + 4 + 2 * usize::from(self.layout.size);
        let event: u16 = self.memory.get(event_at);
        passed(event, told, now)
    }

    fn slot(&self, index: u16) -> usize {
        usize::from(index & (self.layout.size - 1))
    }

    fn set<T: hv::memory::Scalar>(&self, offset: usize, value: T) {
        self.memory.set(offset, value);
        self.memory.dirty().mark(offset, size_of::<T>());
    }
}

/// Whether the index went over the event on its way from `before` to `now`.
///
/// Source: virtio 1.2, 2.7.7.1, `vring_need_event`.
fn passed(event: u16, before: u16, now: u16) -> bool {
    now.wrapping_sub(event).wrapping_sub(1) < now.wrapping_sub(before)
}

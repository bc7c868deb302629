//! From a head to the buffers of its chain.

use hv::GuestMemory;
use serde::{Deserialize, Serialize};

use super::{DESCRIPTOR, Queue, QueueError, Reader, Segment, Writer};

/// Most descriptors of a chain with an indirect table, which may be longer than its queue: drivers
/// size it by what the device allows, and no device of ours allows more.
pub const CHAIN_MAX: u32 = 1024;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// Which chain it is, to be given back once. A device that holds one over a save saves it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head(u16);

impl Head {
    pub(super) fn index(&self) -> u16 {
        self.0
    }

    #[cfg(test)]
    pub(super) fn for_tests(index: u16) -> Head {
        Head(index)
    }
}

/// What the driver has made available at once: buffers to read from, and buffers to write to.
#[derive(Debug)]
pub struct Chain {
    /// To give it back with.
    pub head: Head,
    /// What the driver says.
    pub reader: Reader,
    /// Where the answer goes.
    pub writer: Writer,
}

/// A descriptor as it was when it was read.
struct Descriptor {
    guest: u64,
    bytes: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    fn read(memory: &GuestMemory, offset: usize) -> Descriptor {
        Descriptor {
            guest: memory.get(offset),
            bytes: memory.get(offset + 8),
            flags: memory.get(offset + 12),
            next: memory.get(offset + 14),
        }
    }
}

/// The descriptor table itself, or an indirect one.
struct Table {
    offset: usize,
    size: u32,
    indirect: bool,
}

/// Follows a chain from its head on.
pub(super) fn walk(queue: &Queue, head: u16) -> Result<Chain, QueueError> {
    let memory = &queue.memory;
    let size = u32::from(queue.layout.size);
    let mut table = Table { offset: queue.descriptors, size, indirect: false };
    let (mut readable, mut writable) = (Vec::new(), Vec::new());
    let (mut index, mut total) = (head, 0u32);
    let limit = if queue.indirect { CHAIN_MAX.max(size) } else { size };
    for _ in 0..=limit {
        if u32::from(index) >= table.size {
            return Err(QueueError::NoDescriptor { index, size: table.size });
        }
        let descriptor = Descriptor::read(memory, table.offset + DESCRIPTOR * usize::from(index));
        if descriptor.flags & INDIRECT != 0 {
            table = indirect(queue, &table, &descriptor)?;
            index = 0;
            continue;
        }
        let segment = segment(memory, &descriptor)?;
        total = total.checked_add(segment.bytes).ok_or(QueueError::TooLarge)?;
        if descriptor.flags & WRITE != 0 {
            writable.push(segment);
        } else if writable.is_empty() {
            readable.push(segment);
        } else {
            return Err(QueueError::Order);
        }
        if descriptor.flags & NEXT == 0 {
            return Ok(Chain {
                head: Head(head),
                reader: Reader::new(memory.clone(), readable),
                writer: Writer::new(memory.clone(), writable),
            });
        }
        if readable.len() + writable.len() == limit as usize {
            break;
        }
        index = descriptor.next;
    }
    Err(QueueError::TooLong { limit })
}

/// The table that a descriptor refers to.
///
/// Source: virtio 1.2, 2.7.5.3.
fn indirect(queue: &Queue, from: &Table, at: &Descriptor) -> Result<Table, QueueError> {
    if from.indirect || !queue.indirect || at.flags & NEXT != 0 {
        return Err(QueueError::Indirect);
    }
    let bytes = at.bytes as usize;
    if bytes == 0 || !bytes.is_multiple_of(DESCRIPTOR) {
        return Err(QueueError::Table { bytes: at.bytes });
    }
    let missing = QueueError::NotMemory { part: "indirect table", guest: at.guest, bytes };
    let offset = queue.memory.offset(at.guest, bytes).ok_or(missing)?;
    Ok(Table { offset, size: at.bytes / 16, indirect: true })
}

fn segment(memory: &GuestMemory, at: &Descriptor) -> Result<Segment, QueueError> {
    let (guest, bytes) = (at.guest, at.bytes);
    // A buffer of nothing may be anywhere.
    if bytes > 0 && memory.offset(guest, bytes as usize).is_none() {
        let bytes = bytes as usize;
        return Err(QueueError::NotMemory { part: "buffer", guest, bytes });
    }
    Ok(Segment { guest, bytes })
}

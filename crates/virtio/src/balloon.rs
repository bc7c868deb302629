//! The balloon: memory that the guest gives back to the host.
//!
//! Three ways: pages that the host asks for (inflating, up to the target), pages that the guest
//! reports as free while it has them (free-page reporting), and what the guest says of its memory
//! (statistics). All pages come back by being touched; what stood in them is gone.
//!
//! Source: virtio 1.2, 5.5.

#[cfg(test)]
mod tests;

use hv::{GuestMemory, memory::PAGE};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Device, QueueError,
    device::{self, Kind, Queues, RestoreError, Source},
    queue::{Head, Queue, Reader},
};

/// Pages that the guest gives.
const INFLATE: u16 = 0;

/// Pages that it takes back.
const DEFLATE: u16 = 1;

/// `VIRTIO_BALLOON_F_STATS_VQ`.
const F_STATISTICS: u64 = 1 << 1;

/// `VIRTIO_BALLOON_F_DEFLATE_ON_OOM`: a guest takes pages back rather than kill.
const F_DEFLATE_ON_OOM: u64 = 1 << 2;

/// `VIRTIO_BALLOON_F_PAGE_REPORTING`.
const F_REPORTING: u64 = 1 << 5;

/// Most pages of one request that are looked at; drivers send 256.
const PAGES_MAX: usize = 4096;

/// Most statistics of one report that are looked at.
const STATISTICS_MAX: usize = 64;

/// Where the configuration has how many pages the guest has given.
const ACTUAL: u64 = 4;

/// The version of what is saved.
const VERSION: u32 = 1;

/// What a guest says of its memory, as far as it says it; sizes in bytes, the rest counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Swapped in since boot.
    pub swap_in: Option<u64>,
    /// Swapped out since boot.
    pub swap_out: Option<u64>,
    /// Faults that needed a disk.
    pub major_faults: Option<u64>,
    /// Faults that did not.
    pub minor_faults: Option<u64>,
    /// Not used for anything.
    pub free: Option<u64>,
    /// All that it manages.
    pub total: Option<u64>,
    /// What programs could still have without swapping.
    pub available: Option<u64>,
    /// What files have in caches.
    pub caches: Option<u64>,
}

/// A balloon.
#[derive(Debug)]
pub struct Balloon {
    memory: GuestMemory,
    features: u64,
    state: State,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    target: u32,
    actual: u32,
    statistics: Statistics,
    /// The driver's buffer for statistics, to be given back when they are wanted.
    buffer: Option<Head>,
    /// How many pages went back to the host, of both kinds.
    returned: u64,
}

impl Balloon {
    /// An empty balloon in this memory.
    pub fn new(memory: GuestMemory) -> Balloon {
        Balloon { memory, features: 0, state: State::default() }
    }

    /// How much the guest shall give, in bytes; it gives as much as it can spare.
    pub fn set_target(&mut self, bytes: u64, queues: &Queues) {
        let most = (self.memory.bytes() / PAGE) as u64;
        let pages = (bytes / PAGE as u64).min(most);
        self.state.target = u32::try_from(pages).unwrap_or(u32::MAX);
        queues.config_changed();
    }

    /// How much it shall give, in bytes.
    pub fn target(&self) -> u64 {
        u64::from(self.state.target) * PAGE as u64
    }

    /// How much it says that it has given, in bytes.
    pub fn actual(&self) -> u64 {
        u64::from(self.state.actual) * PAGE as u64
    }

    /// How much went back to the host so far, in bytes; what the guest touched again counts too.
    pub fn returned(&self) -> u64 {
        self.state.returned.saturating_mul(PAGE as u64)
    }

    /// What the guest has last said of its memory.
    pub fn statistics(&self) -> Statistics {
        self.state.statistics
    }

    /// Asks for new statistics, which come some time later.
    pub fn ask_statistics(&mut self, queues: &mut Queues) {
        let Some(queue) = self.statistics_queue() else { return };
        let Some(ring) = queues.get(queue) else { return };
        if let Some(head) = self.state.buffer.take() {
            ring.push(head, 0);
        }
    }

    /// Which queue the statistics have: queues of features that were not agreed on are none, and
    /// those after them move up.
    fn statistics_queue(&self) -> Option<u16> {
        (self.features & F_STATISTICS != 0).then_some(2)
    }

    fn reporting_queue(&self) -> Option<u16> {
        let queue = if self.features & F_STATISTICS != 0 { 3 } else { 2 };
        (self.features & F_REPORTING != 0).then_some(queue)
    }

    fn inflate(&mut self, ring: &mut Queue) -> Result<(), QueueError> {
        while let Some(mut chain) = ring.pop()? {
            for (first, pages) in runs(&mut chain.reader) {
                self.discard(first * PAGE as u64, pages * PAGE);
            }
            ring.push(chain.head, 0);
        }
        Ok(())
    }

    fn deflate(ring: &mut Queue) -> Result<(), QueueError> {
        while let Some(chain) = ring.pop()? {
            ring.push(chain.head, 0);
        }
        Ok(())
    }

    fn report(&mut self, ring: &mut Queue) -> Result<(), QueueError> {
        while let Some(chain) = ring.pop()? {
            for free in chain.writer.segments() {
                self.discard(free.guest, free.bytes as usize);
            }
            ring.push(chain.head, 0);
        }
        Ok(())
    }

    /// Gives pages back. What is no memory, or what the host does not take, stays as it is.
    fn discard(&mut self, guest: u64, bytes: usize) {
        if self.memory.discard(guest, bytes).is_ok() {
            self.state.returned += (bytes / PAGE) as u64;
        }
    }

    /// Reads a report and keeps its buffer; of several, the last.
    fn listen(&mut self, ring: &mut Queue) -> Result<(), QueueError> {
        while let Some(mut chain) = ring.pop()? {
            self.state.statistics = Statistics::read(&mut chain.reader);
            if let Some(before) = self.state.buffer.replace(chain.head) {
                ring.push(before, 0);
            }
        }
        Ok(())
    }
}

impl Statistics {
    /// Source: virtio 1.2, 5.5.6.4.
    fn read(reader: &mut Reader) -> Statistics {
        let mut said = Statistics::default();
        for _ in 0..STATISTICS_MAX {
            let Some([t0, t1, value @ ..]) = reader.array::<10>() else { break };
            let value = Some(u64::from_le_bytes(value));
            match u16::from_le_bytes([t0, t1]) {
                0 => said.swap_in = value,
                1 => said.swap_out = value,
                2 => said.major_faults = value,
                3 => said.minor_faults = value,
                4 => said.free = value,
                5 => said.total = value,
                6 => said.available = value,
                7 => said.caches = value,
                // Huge pages, and what later drivers say.
                _ => {}
            }
        }
        said
    }
}

/// The pages of a request as runs of neighbours: page number and how many.
fn runs(reader: &mut Reader) -> Vec<(u64, usize)> {
    let pages = std::iter::from_fn(|| reader.array()).map(u32::from_le_bytes);
    let mut pages: Vec<u32> = pages.take(PAGES_MAX).collect();
    pages.sort_unstable();
    pages.dedup();
    let mut runs: Vec<(u64, usize)> = Vec::new();
    for page in pages.into_iter().map(u64::from) {
        match runs.last_mut() {
            Some((first, pages)) if *first + *pages as u64 == page => *pages += 1,
            _ => runs.push((page, 1)),
        }
    }
    runs
}

impl Device for Balloon {
    fn kind(&self) -> Kind {
        Kind::Balloon
    }

    fn features(&self) -> u64 {
        F_STATISTICS | F_DEFLATE_ON_OOM | F_REPORTING
    }

    fn queue_sizes(&self) -> &[u16] {
        &[64, 64, 64, 64]
    }

    fn read_config(&self, offset: u64, to: &mut [u8]) {
        let [t0, t1, t2, t3] = self.state.target.to_le_bytes();
        let [a0, a1, a2, a3] = self.state.actual.to_le_bytes();
        device::read_bytes(&[t0, t1, t2, t3, a0, a1, a2, a3], offset, to);
    }

    fn write_config(&mut self, offset: u64, from: &[u8]) {
        if let (ACTUAL, Ok(actual)) = (offset, from.try_into()) {
            self.state.actual = u32::from_le_bytes(actual);
        }
    }

    fn activate(&mut self, features: u64) {
        self.features = features;
    }

    fn process(&mut self, queue: u16, queues: &mut Queues) -> Result<(), QueueError> {
        let Some(ring) = queues.get(queue) else { return Ok(()) };
        match queue {
            INFLATE => self.inflate(ring),
            DEFLATE => Balloon::deflate(ring),
            _ if Some(queue) == self.statistics_queue() => self.listen(ring),
            _ if Some(queue) == self.reporting_queue() => self.report(ring),
            _ => Ok(()),
        }
    }

    fn sources(&self) -> Vec<Source<'_>> {
        Vec::new()
    }

    fn ready(&mut self, _token: u32, _queues: &mut Queues) -> Result<(), QueueError> {
        Ok(())
    }

    fn reset(&mut self) {
        self.features = 0;
        self.state =
            State { target: self.state.target, returned: self.state.returned, ..State::default() };
    }

    fn save(&self) -> Value {
        device::save(VERSION, &self.state)
    }

    fn restore(&mut self, saved: Value) -> Result<(), RestoreError> {
        self.state = device::restore("balloon", VERSION, saved)?;
        Ok(())
    }
}

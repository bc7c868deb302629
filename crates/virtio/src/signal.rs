//! How a device tells its driver that something happened.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

/// `VIRTIO_MMIO_INT_VRING`: chains were used.
const USED: u32 = 1;

/// `VIRTIO_MMIO_INT_CONFIG`: the configuration changed, or the device needs a reset.
const CONFIG: u32 = 2;

/// An interrupt line, as a device has it: level-triggered, raised until the driver has
/// acknowledged everything.
pub trait Line: Debug + Send + Sync {
    /// Raises or lowers it. Called only when it changes, and for an instant when something new is
    /// to be seen.
    fn set(&self, raised: bool);
}

/// What is pending, and the line that says so. Its lock is held only for a moment and never while
/// a device works, so a processor that acknowledges does not wait for a disk.
#[derive(Debug)]
pub(crate) struct Signal {
    line: Arc<dyn Line>,
    pending: Mutex<Pending>,
}

/// What is saved of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pending {
    /// The bits of the interrupt status.
    pub(crate) status: u32,
    /// Counts changes of the configuration.
    pub(crate) generation: u32,
    /// The device needs a reset.
    pub(crate) needs_reset: bool,
}

impl Signal {
    pub(crate) fn new(line: Arc<dyn Line>) -> Signal {
        Signal { line, pending: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is pending, and the line with it, in one step for all who look.
    fn change(&self, change: impl FnOnce(&mut Pending)) {
        let mut pending = self.lock();
        let before = pending.status != 0;
        change(&mut pending);
        let now = pending.status != 0;
        if now != before {
            self.line.set(now);
        }
    }

    pub(crate) fn pending(&self) -> Pending {
        *self.lock()
    }

    /// Chains were used.
    pub(crate) fn used(&self) {
        self.change(|pending| pending.status |= USED);
    }

    /// The configuration changed.
    pub(crate) fn config(&self) {
        self.change(|pending| {
            pending.status |= CONFIG;
            pending.generation = pending.generation.wrapping_add(1);
        });
    }

    /// The device cannot go on.
    pub(crate) fn needs_reset(&self) {
        self.change(|pending| {
            pending.status |= CONFIG;
            pending.needs_reset = true;
        });
    }

    /// The driver has seen these. What it has not seen yet raises the line anew, for a driver that
    /// is told of its rise alone, as one without ACPI may be.
    pub(crate) fn acknowledge(&self, bits: u32) {
        let mut pending = self.lock();
        let seen = pending.status & bits != 0;
        pending.status &= !bits;
        if seen {
            self.line.set(false);
        }
        if seen && pending.status != 0 {
            self.line.set(true);
        }
    }

    /// Everything but the generation, which goes on counting, begins anew.
    pub(crate) fn reset(&self) {
        self.change(|pending| {
            *pending = Pending { generation: pending.generation, ..Pending::default() };
        });
    }

    pub(crate) fn restore(&self, saved: Pending) {
        // Bits that there are none could never be acknowledged away.
        let status = saved.status & (USED | CONFIG);
        self.change(|pending| *pending = Pending { status, ..saved });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Log(Mutex<Vec<bool>>);

    impl Line for Log {
        fn set(&self, raised: bool) {
            self.0.lock().unwrap().push(raised);
        }
    }

    #[test]
    fn what_the_driver_has_not_seen_raises_the_line_anew() {
        let log = Arc::new(Log::default());
        let signal = Signal::new(log.clone());
        signal.used();
        signal.used();
        signal.config();
        signal.acknowledge(USED);
        signal.acknowledge(USED);
        signal.acknowledge(CONFIG);
        assert_eq!(*log.0.lock().unwrap(), [true, false, true, false]);
    }
}

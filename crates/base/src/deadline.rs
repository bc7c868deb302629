//! By when something must be done.

use std::time::{Duration, Instant};

use crate::clock;

/// The moment after which a caller no longer waits for an answer.
///
/// It is handed from first to last unchanged, so that the time already spent counts; on a wire
/// it travels as [`Deadline::remaining`] and is re-anchored by the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// A deadline this far from now. Durations beyond thirty years count as thirty years.
    pub fn after(duration: Duration) -> Deadline {
        const FAR: Duration = Duration::from_secs(30 * 365 * 86_400);
        Deadline(clock::monotonic() + duration.min(FAR))
    }

    /// Time left, zero when it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(clock::monotonic())
    }

    /// Whether it has passed.
    pub fn passed(self) -> bool {
        self.remaining().is_zero()
    }

    /// The instant itself, for timers that take one.
    pub fn instant(self) -> Instant {
        self.0
    }
}

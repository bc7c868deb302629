//! Streams that stand in for descriptors, where none can come along with a call: each says its
//! number first, and a call names the number of the one it means.

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base::Deadline;
use tokio::sync::Notify;
use workload::DriverError;

/// Most streams that nobody has asked for yet; further ones are closed.
const WAITING_MAX: usize = 1024;

/// How long a call waits for its stream at most: it was sent before the call.
const PATIENCE: Duration = Duration::from_secs(10);

/// Streams that have come and were not asked for yet.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    waiting: Mutex<HashMap<u64, OwnedFd>>,
    came: Notify,
}

impl Tickets {
    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, OwnedFd>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One has come. A number that is taken is nobody's any more: neither stream can be trusted to
    /// be the one that is meant.
    pub(super) fn put(&self, ticket: u64, stream: OwnedFd) {
        let mut waiting = self.waiting();
        if waiting.len() >= WAITING_MAX {
            tracing::warn!(ticket, "too many streams wait; one is closed");
            return;
        }
        if waiting.insert(ticket, stream).is_some() {
            tracing::warn!(ticket, "two streams have the same number; both are closed");
            waiting.remove(&ticket);
        }
        drop(waiting);
        self.came.notify_waiters();
    }

    /// The one with this number, when it is there.
    pub(super) async fn take(&self, ticket: u64, by: Deadline) -> Result<OwnedFd, DriverError> {
        let by = by.min(Deadline::after(PATIENCE));
        loop {
            let came = self.came.notified();
            tokio::pin!(came);
            came.as_mut().enable();
            if let Some(stream) = self.waiting().remove(&ticket) {
                return Ok(stream);
            }
            if tokio::time::timeout_at(by.instant().into(), came).await.is_err() {
                let doing = format!("waiting for stream {ticket}");
                return Err(DriverError::DeadlinePassed { doing });
            }
        }
    }
}

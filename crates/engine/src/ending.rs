//! How a container will have ended.

use tokio::sync::watch;
use workload::{Exit, ExitStatus};

use crate::{
    EngineError, WaitFor,
    registry::{Entry, Snapshot},
};

/// A container's end, looked out for since this was made: whatever comes after is not missed, and
/// not even if it removes the container.
#[derive(Debug)]
pub struct Ending {
    snapshots: watch::Receiver<Snapshot>,
    closing: watch::Receiver<bool>,
    until: WaitFor,
    /// How often it had ended before.
    ends: u64,
}

impl Ending {
    pub(crate) fn of(entry: &Entry, until: WaitFor, closing: &watch::Sender<bool>) -> Ending {
        let mut snapshots = entry.snapshot.subscribe();
        let ends = snapshots.borrow_and_update().ends;
        Ending { snapshots, closing: closing.subscribe(), until, ends }
    }

    /// Waits, and tells how it ended; one that never ran ended with code 0.
    ///
    /// # Errors
    /// [`EngineError::Closed`].
    pub async fn exit(mut self) -> Result<Exit, EngineError> {
        let done = |snapshot: &Snapshot| match self.until {
            // One that is started again has not run in between.
            WaitFor::NotRunning => !snapshot.alive || snapshot.ends > self.ends || snapshot.gone,
            WaitFor::NextExit => snapshot.ends > self.ends || snapshot.gone,
            WaitFor::Removed => snapshot.gone,
        };
        tokio::select! {
            biased;
            reached = self.snapshots.wait_for(done) => {
                let snapshot = reached.map_err(|_| EngineError::Closed)?;
                let container = &snapshot.container;
                let never =
                    Exit { status: ExitStatus::Code(0), out_of_memory: false, at: container.created };
                Ok(snapshot.exit.unwrap_or(never))
            }
            _ = self.closing.wait_for(|closing| *closing) => Err(EngineError::Closed),
        }
    }
}

//! A new daemon finds its containers again.

use std::time::Duration;

use base::{Deadline, ProcessId};
use tokio::sync::oneshot;
use tracing::{error, info};

use super::{Actor, effects};
use crate::{
    error::chain,
    record::Stage,
    registry::Live,
    step::{Event, Found},
};

/// How long a sandbox is looked for.
const RECOVER_WAIT: Duration = Duration::from_secs(10);

impl Actor {
    /// Finds what the records say of this container, and goes on from there.
    pub(crate) async fn recover(mut self, ready: oneshot::Sender<()>) {
        let found = match self.record.stage {
            Stage::Running | Stage::Pausing | Stage::Paused | Stage::Resuming => {
                self.find_process().await
            }
            Stage::Making | Stage::Idle | Stage::Starting | Stage::Clearing | Stage::Removing => {
                Found::NotSought
            }
        };
        if let Found::Process(Some(pid)) = &found {
            self.resume_names(*pid).await;
        }
        let last = self.fact(Event::Recovered(found));
        // Whoever opens the engine need not wait for what is given back.
        ready.send(()).ok();
        match last {
            Some(last) => {
                let mut closing = self.shared.closing.subscribe();
                self.finish(last, &mut closing).await;
            }
            None => self.run().await,
        }
    }

    async fn find_process(&mut self) -> Found {
        let (Some(handle), Some(driver)) = (self.handle.clone(), self.driver()) else {
            return Found::Nothing(None);
        };
        let by = Deadline::after(RECOVER_WAIT);
        let recovered = effects::within(by, "finding the sandbox", driver.recover(handle, by));
        let sandbox = match recovered.await {
            Ok(Some(sandbox)) => sandbox,
            Ok(None) => return Found::Nothing(None),
            Err(failure) => {
                error!(container = %self.entry.id, error = chain(&failure), "it is lost");
                return Found::Nothing(Some(failure));
            }
        };
        let process = sandbox.process(&ProcessId::main()).await;
        self.entry.set_live(Live { sandbox: Some(sandbox), process: process.clone() });
        let Some(process) = process else { return Found::Nothing(None) };
        self.find_execs().await;
        info!(container = %self.entry.id, "a running container is found again");
        Found::Process(process.host_pid())
    }
}

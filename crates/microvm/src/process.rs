//! A process in a machine.

use std::{io, sync::Arc, time::Duration};

use base::{ProcessId, clock::Timestamp};
use shim::protocol::{Reply, Request};
use stdio::Keeper;
use tokio::{sync::watch, task::JoinHandle};
use workload::{Attachment, DriverError, Exit, ExitStatus, Pending, Process, Signal, TerminalSize};

use crate::sandbox::{Running, done};

/// How long the last of a process's output may be on its way.
const LAST_OUTPUT: Duration = Duration::from_secs(5);

/// How long a machine that does not answer any more may take to say how it ended.
const LAST_WORD: Duration = Duration::from_secs(1);

/// A process, running or ended.
#[derive(Debug)]
pub(crate) struct VmProcess {
    id: ProcessId,
    running: Arc<Running>,
    keeper: Arc<Keeper>,
    exit: watch::Receiver<Option<Exit>>,
    watching: JoinHandle<()>,
}

impl VmProcess {
    /// One that was just started; `carrying` ends with its output.
    pub(crate) fn watch(
        id: ProcessId,
        running: Arc<Running>,
        keeper: Keeper,
        carrying: JoinHandle<io::Result<()>>,
    ) -> VmProcess {
        let keeper = Arc::new(keeper);
        let (ended, exit) = watch::channel(None);
        let watching = tokio::spawn({
            let (id, running, keeper) = (id.clone(), Arc::clone(&running), Arc::clone(&keeper));
            async move {
                let exit = exit_of(&running, id).await;
                // What it said comes by another way than its end.
                let _ = tokio::time::timeout(LAST_OUTPUT, carrying).await;
                keeper.finish().await;
                ended.send_replace(Some(exit));
            }
        });
        VmProcess { id, running, keeper, exit, watching }
    }

    /// How it will have ended.
    pub(crate) fn end(&self) -> watch::Receiver<Option<Exit>> {
        self.exit.clone()
    }

    fn check_running(&self) -> Result<(), DriverError> {
        if self.exit.borrow().is_none() {
            return Ok(());
        }
        let what = format!("process {}", self.id);
        Err(DriverError::State { what, state: "not running".to_owned() })
    }

    async fn ask(&self, request: Request) -> Result<(), DriverError> {
        self.check_running()?;
        done(&self.running.call(request).await?)
    }
}

/// How it ended, or how the machine did under it.
async fn exit_of(running: &Running, process: ProcessId) -> Exit {
    let waiting = running.agent.call(Request::Wait { process: process.clone() }, None, None);
    let (status, why) = tokio::select! {
        answer = waiting => match answer {
            Ok(Reply::Exit(exit)) => return exit,
            Ok(other) => (ExitStatus::Lost, format!("the agent answered nonsense: {other:?}")),
            // Most often it is the machine that has ended, which is heard a moment later.
            Err(error) => match tokio::time::timeout(LAST_WORD, running.link.ended()).await {
                Ok((end, more)) => (ExitStatus::Machine(end), more),
                Err(_) => (ExitStatus::Lost, error.to_string()),
            },
        },
        (end, more) = running.link.ended() => (ExitStatus::Machine(end), more),
    };
    tracing::warn!(%process, ?status, why, "a machine has ended under a process");
    Exit { status, out_of_memory: false, at: Timestamp::now() }
}

impl Drop for VmProcess {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl Process for VmProcess {
    fn id(&self) -> &ProcessId {
        &self.id
    }

    fn host_pid(&self) -> Option<u32> {
        None
    }

    fn signal(&self, signal: Signal) -> Pending<'_, Result<(), DriverError>> {
        Box::pin(self.ask(Request::Signal { process: self.id.clone(), signal }))
    }

    fn resize(&self, size: TerminalSize) -> Pending<'_, Result<(), DriverError>> {
        Box::pin(self.ask(Request::Resize { process: self.id.clone(), size }))
    }

    fn attach(
        &self,
        attachment: Attachment,
    ) -> Pending<'_, Result<Option<Timestamp>, DriverError>> {
        Box::pin(async move {
            self.check_running()?;
            Ok(self.keeper.attach(attachment).await?)
        })
    }

    fn wait(&self) -> Pending<'_, Exit> {
        let mut exit = self.exit.clone();
        Box::pin(async move {
            let lost =
                Exit { status: ExitStatus::Lost, out_of_memory: false, at: Timestamp::now() };
            let ended = exit.wait_for(Option::is_some).await;
            ended.ok().and_then(|exit| *exit).unwrap_or(lost)
        })
    }
}

//! What is asked of execs.

use std::{os::fd::OwnedFd, time::Duration};

use base::{ContainerId, Deadline, clock::Timestamp};
use tokio::time::timeout;
use workload::{Exit, TerminalSize};

use super::{Engine, containers::random};
use crate::{
    EngineError, ExecCreate, ExecView,
    actor::{Message, within},
    execs::{ExecState, SHORT_WAIT},
    plan::invalid,
};

/// How long the end of a process is waited for that may not have ended, where only the machine that
/// it is in knows.
const UNSEEN_WAIT: Duration = Duration::from_millis(300);

impl Engine {
    /// Notes a process to be started in a running container, and answers with its id.
    ///
    /// # Errors
    /// [`EngineError::NotRunning`], [`EngineError::Paused`].
    pub async fn exec_create(&self, who: &str, exec: ExecCreate) -> Result<String, EngineError> {
        let entry = self.find(who)?;
        if exec.command.is_empty() {
            return Err(invalid("exec", "No exec command specified".to_owned()));
        }
        self.send(&entry, |reply| Message::MayExec { reply }).await?;
        let id = String::from(ContainerId::from_random(random()?));
        let shared = &self.inner.shared;
        let exec = shared.execs.note(id.clone(), entry.id.clone(), exec, Timestamp::now())?;
        let action = exec.action("exec_create");
        shared.events.container(&entry.container(), action, &[("execID", &id)]);
        Ok(id)
    }

    /// Starts it, with a socket attached from its first byte on.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn exec_start(&self, exec: &str, attach: Option<OwnedFd>) -> Result<(), EngineError> {
        let exec = self.inner.shared.execs.find(exec)?;
        let entry = self.find(exec.container.as_str())?;
        self.send(&entry, |reply| Message::Exec { exec, attach, reply }).await
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// [`EngineError::NoSuchExec`]; why it could not be started, if it could not.
    pub async fn exec_wait(&self, exec: &str) -> Result<Exit, EngineError> {
        let exec = self.inner.shared.execs.find(exec)?;
        let mut states = exec.state.subscribe();
        let done = |state: &ExecState| matches!(state, ExecState::Ended(_) | ExecState::Failed(..));
        let mut closing = self.inner.shared.closing.subscribe();
        tokio::select! {
            biased;
            state = states.wait_for(done) => match &*state.map_err(|_| EngineError::Closed)? {
                ExecState::Ended(exit) => Ok(*exit),
                ExecState::Failed(_, failure) => Err(failure.clone()),
                ExecState::Noted(_) | ExecState::Starting | ExecState::Running(_) => {
                    Err(EngineError::Closed)
                }
            },
            _ = closing.wait_for(|closing| *closing) => Err(EngineError::Closed),
        }
    }

    /// Gives its terminal another size.
    ///
    /// # Errors
    /// [`EngineError::NotRunning`].
    pub async fn exec_resize(&self, exec: &str, size: TerminalSize) -> Result<(), EngineError> {
        let process = self.inner.shared.execs.find(exec)?.process()?;
        let by = Deadline::after(SHORT_WAIT);
        within(by, "resizing its terminal", process.resize(size)).await
    }

    /// An exec as it is now. The end of one whose process has ended is waited for: whoever saw its
    /// streams end finds its exit code.
    ///
    /// # Errors
    /// [`EngineError::NoSuchExec`].
    pub async fn exec_settled(&self, exec: &str) -> Result<ExecView, EngineError> {
        let exec = self.inner.shared.execs.find(exec)?;
        // One that is being started may have ended before that was heard of.
        let mut states = exec.state.subscribe();
        let started = states.wait_for(|state| !matches!(state, ExecState::Starting));
        timeout(SHORT_WAIT, started).await.ok();
        let view = exec.view();
        let Ok(process) = exec.process() else { return Ok(view) };
        if view.pid.is_none() {
            // No driver can tell of one that is in a machine, so that it may be waited for in vain.
            timeout(UNSEEN_WAIT, self.exec_wait(&exec.id)).await.ok();
            return self.exec_inspect(&exec.id);
        }
        let sandbox = self.find(exec.container.as_str())?.live().sandbox;
        // Its driver knows before the engine has heard of it.
        let runs = match sandbox {
            Some(sandbox) => sandbox.process(process.id()).await.and_then(|now| now.host_pid()),
            None => None,
        };
        if runs.is_some() {
            return Ok(view);
        }
        timeout(SHORT_WAIT, self.exec_wait(&exec.id)).await.ok();
        self.exec_inspect(&exec.id)
    }

    /// An exec as it is now.
    ///
    /// # Errors
    /// [`EngineError::NoSuchExec`].
    pub fn exec_inspect(&self, exec: &str) -> Result<ExecView, EngineError> {
        Ok(self.inner.shared.execs.find(exec)?.view())
    }
}

//! Further processes in running containers.
//!
//! An exec is noted, started once, and remembered for a while after it has ended, so that its
//! exit code can be asked for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base::{ContainerId, ErrorKind, clock::Timestamp};
use tokio::sync::watch;
use workload::{Exit, ExitStatus, Process};

use crate::{EngineError, ExecCreate, ExecView};

/// Most execs that are remembered, running ones included.
const EXECS_MAX: usize = 4096;
/// How long one that has ended, or was never started, is remembered. Source: moby,
/// `execCommandGC` (five minutes after it was last looked at).
const REMEMBERED: Duration = Duration::from_secs(300);

/// How long a driver may take to resize a terminal.
pub(crate) const SHORT_WAIT: Duration = Duration::from_secs(10);

/// One exec.
#[derive(Debug)]
pub(crate) struct Exec {
    pub(crate) id: String,
    pub(crate) container: ContainerId,
    pub(crate) config: ExecCreate,
    pub(crate) state: watch::Sender<ExecState>,
}

/// Where an exec stands.
#[derive(Clone, Debug)]
pub(crate) enum ExecState {
    /// Noted, at this time.
    Noted(Timestamp),
    /// Being started.
    Starting,
    /// It runs.
    Running(Arc<dyn Process>),
    /// It has ended.
    Ended(Exit),
    /// It could not be started.
    Failed(Timestamp, EngineError),
}

/// What shells say of a command that could not be run: 127 if it is not there, else 126.
fn never_ran(at: Timestamp, failure: &EngineError) -> Exit {
    let code = if failure.kind() == ErrorKind::CommandNotFound { 127 } else { 126 };
    Exit { status: ExitStatus::Code(code), out_of_memory: false, at }
}

impl Exec {
    /// Marks it as being started.
    ///
    /// # Errors
    /// [`EngineError::ExecRan`] if it was started before.
    pub(crate) fn begin(&self) -> Result<(), EngineError> {
        let begun = self.state.send_if_modified(|state| {
            let fresh = matches!(state, ExecState::Noted(_));
            if fresh {
                *state = ExecState::Starting;
            }
            fresh
        });
        if begun { Ok(()) } else { Err(EngineError::ExecRan(self.id.clone())) }
    }

    /// An event's action about it: `exec_start: sh -c true`, as Docker writes it.
    pub(crate) fn action(&self, word: &str) -> String {
        format!("{word}: {}", self.config.command.join(" "))
    }

    pub(crate) fn view(&self) -> ExecView {
        let state = self.state.borrow();
        let (running, pid, exit) = match &*state {
            ExecState::Noted(_) | ExecState::Starting => (false, None, None),
            ExecState::Failed(at, failure) => (false, None, Some(never_ran(*at, failure))),
            ExecState::Running(process) => (true, process.host_pid(), None),
            ExecState::Ended(exit) => (false, None, Some(*exit)),
        };
        ExecView {
            id: self.id.clone(),
            container: self.container.clone(),
            config: self.config.clone(),
            running,
            pid,
            exit,
        }
    }

    /// Its process, while it runs.
    ///
    /// # Errors
    /// [`EngineError::NotRunning`].
    pub(crate) fn process(&self) -> Result<Arc<dyn Process>, EngineError> {
        match &*self.state.borrow() {
            ExecState::Running(process) => Ok(Arc::clone(process)),
            ExecState::Noted(_)
            | ExecState::Starting
            | ExecState::Ended(_)
            | ExecState::Failed(..) => Err(EngineError::NotRunning(self.id.clone())),
        }
    }

    /// Since when nothing happens with it, if nothing does.
    fn idle_since(&self) -> Option<Timestamp> {
        match &*self.state.borrow() {
            ExecState::Noted(at) | ExecState::Failed(at, _) => Some(*at),
            ExecState::Ended(exit) => Some(exit.at),
            ExecState::Starting | ExecState::Running(_) => None,
        }
    }
}

/// Every exec that is remembered.
#[derive(Debug, Default)]
pub(crate) struct Execs {
    by_id: Mutex<BTreeMap<String, Arc<Exec>>>,
}

impl Execs {
    /// Notes an exec, and forgets those whose time is over.
    ///
    /// # Errors
    /// [`EngineError::TooMany`].
    pub(crate) fn note(
        &self,
        id: String,
        container: ContainerId,
        config: ExecCreate,
        now: Timestamp,
    ) -> Result<Arc<Exec>, EngineError> {
        let mut execs = self.lock();
        execs.retain(|_, exec| {
            let idle = exec.idle_since().map_or(Duration::ZERO, |since| {
                Duration::from_nanos(now.0.saturating_sub(since.0))
            });
            idle < REMEMBERED
        });
        if execs.len() >= EXECS_MAX {
            return Err(EngineError::TooMany { what: "execs", most: EXECS_MAX });
        }
        let state = watch::Sender::new(ExecState::Noted(now));
        let exec = Arc::new(Exec { id: id.clone(), container, config, state });
        execs.insert(id, Arc::clone(&exec));
        Ok(exec)
    }

    /// The exec of this id, or of the only one that begins like it.
    ///
    /// # Errors
    /// [`EngineError::NoSuchExec`].
    pub(crate) fn find(&self, id: &str) -> Result<Arc<Exec>, EngineError> {
        let execs = self.lock();
        let mut found = execs.range(id.to_owned()..).take_while(|(key, _)| key.starts_with(id));
        match (found.next(), found.next()) {
            (Some((_, exec)), None) if !id.is_empty() => Ok(Arc::clone(exec)),
            (Some((key, exec)), Some(_)) if key == id => Ok(Arc::clone(exec)),
            _ => Err(EngineError::NoSuchExec(id.to_owned())),
        }
    }

    /// Forgets those of a container that is gone.
    pub(crate) fn forget(&self, container: &ContainerId) {
        self.lock().retain(|_, exec| exec.container != *container);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Exec>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use workload::ExitStatus;

    use super::*;

    #[test]
    fn an_exec_runs_once_and_is_forgotten_some_time_after_it_ended() {
        let execs = Execs::default();
        let container = ContainerId::from_random([1; 32]);
        let note = |id: &str, at| {
            execs.note(id.to_owned(), container.clone(), ExecCreate::default(), Timestamp(at))
        };
        let exec = note("aa", 0).unwrap();
        exec.begin().unwrap();
        assert!(matches!(exec.begin(), Err(EngineError::ExecRan(_))));
        let late = u64::try_from(REMEMBERED.as_nanos()).unwrap() + 1;
        note("ab", late).unwrap();
        assert!(execs.find("aa").is_ok(), "one that runs is remembered");
        assert!(matches!(execs.find("a"), Err(EngineError::NoSuchExec(_))), "two begin like this");
        let exit = Exit { status: ExitStatus::Code(0), out_of_memory: false, at: Timestamp(late) };
        exec.state.send_replace(ExecState::Ended(exit));
        note("ac", late + 1).unwrap();
        assert!(execs.find("aa").is_ok(), "one that has just ended is remembered");
        note("ad", 3 * late).unwrap();
        assert!(execs.find("aa").is_err());
        execs.forget(&container);
        assert!(execs.find("ad").is_err());
    }
}

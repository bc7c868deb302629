//! Keeps the standard streams of one process.
//!
//! ```text
//!              ┌──────────────── Keeper's task ────────────────┐
//! process ─────┤ out, err or terminal ─┬─▶ log                 │
//!              │                       └─▶ attached sockets ───┼─▶ clients
//! process ◀────┤ in ◀── one buffer ◀──── attached sockets ◀────┼── clients
//!              └───────────────────────────────────────────────┘
//! ```
//!
//! * Output goes to the log first, then to everybody attached. One who does not read holds the
//!   process back: no more is read from the process while [`ATTACHED_BYTES_MAX`] wait for anybody.
//! * One who has gone is dropped, and what waited for them with them.
//! * Input of everybody attached goes to standard input, in the order of arrival, piece by piece.
//!   With [`StreamSpec::stdin_once`] it ends when somebody shuts down their writing side, or
//!   leaves: the first one who gives input, or anybody who wrote something. A terminal's input
//!   never ends; nobody attached can close it (as in Docker).
//! * [`Keeper::finish`] ends it all after the process has ended.
//!
//! The task runs on the tokio runtime in which the keeper is opened, of either kind.

mod attached;
mod pipe;
mod sink;
mod syslog;
mod task;

use std::{io, os::fd::OwnedFd};

use base::{ErrorKind, clock::Timestamp};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use workload::{Attachment, DriverError, LogSpec, ProcessSpec};

pub use attached::{ATTACHED_BYTES_MAX, ATTACHED_MAX};
use sink::Sink;
use task::{Command, Task};

use crate::log::LogError;

/// Requests to the task that may wait.
const COMMANDS_MAX: usize = 8;

/// Which streams a process has. A process without a log and nobody attached writes to nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamSpec {
    /// A terminal, or three pipes.
    pub terminal: bool,
    /// Whether standard input stays open for those who attach; otherwise it reads as empty.
    pub stdin: bool,
    /// Whether standard input ends with the first one attached who gives any, or with anybody who
    /// wrote to it.
    pub stdin_once: bool,
    /// Where output is recorded.
    pub log: Option<LogSpec>,
}

impl From<&ProcessSpec> for StreamSpec {
    fn from(spec: &ProcessSpec) -> StreamSpec {
        StreamSpec {
            terminal: spec.terminal.is_some(),
            stdin: spec.stdin,
            stdin_once: spec.stdin_once,
            log: spec.log.clone(),
        }
    }
}

/// The process's side of its streams. All descriptors are close-on-exec.
#[derive(Debug)]
pub enum ChildStreams {
    /// A pseudo-terminal is to be opened where the process lives, and its master handed to
    /// [`Keeper::terminal`].
    Terminal,
    /// Descriptors 0, 1 and 2. The pipes belong to this process's user; whoever starts the process
    /// as another may want to fchown(2) them, so that it can reopen `/dev/stdout`.
    Pipes {
        /// Standard input; `/dev/null` if it is not kept open.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
}

/// Why a keeper did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The kernel said no.
    #[error("cannot {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Only stream sockets can be attached.
    #[error("what is to be attached is not a stream socket")]
    NotASocket,
    /// Too many are attached.
    #[error("{ATTACHED_MAX} are attached already")]
    Full,
    /// [`Keeper::finish`] was called.
    #[error("the process has ended")]
    Ended,
}

impl KeeperError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            KeeperError::Log(error) => error.kind(),
            KeeperError::Io { .. } => ErrorKind::Internal,
            KeeperError::NotASocket => ErrorKind::InvalidInput,
            KeeperError::Full => ErrorKind::Exhausted,
            KeeperError::Ended => ErrorKind::Conflict,
        }
    }
}

impl From<KeeperError> for DriverError {
    fn from(error: KeeperError) -> DriverError {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        DriverError::Invalid {
            what: "standard streams".to_owned(),
            why: format!("{error}{}", source.unwrap_or_default()),
        }
    }
}

/// Keeps the standard streams of one process, from before it starts until this is dropped.
///
/// Dropped, it closes everything at once; [`Keeper::finish`] comes before.
#[derive(Debug)]
pub struct Keeper {
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

impl Keeper {
    /// Opens the log and makes the pipes; the process's side of them is the second part.
    ///
    /// # Errors
    /// [`KeeperError::Log`], or [`KeeperError::Io`] if there are no descriptors left.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn open(spec: &StreamSpec) -> Result<(Keeper, ChildStreams), KeeperError> {
        let log = spec.log.as_ref().map(Sink::open).transpose()?;
        let (sender, receiver) = mpsc::channel(COMMANDS_MAX);
        let (task, streams) = Task::open(spec, log, receiver)
            .map_err(|source| KeeperError::Io { doing: "open standard streams", source })?;
        let task = tokio::spawn(task.run());
        Ok((Keeper { commands: sender, task }, streams))
    }

    /// Hands over the master of the process's terminal. The descriptor becomes non-blocking, as
    /// do all its copies.
    ///
    /// # Errors
    /// [`KeeperError::Ended`], or [`KeeperError::Io`] if it cannot be waited for.
    pub async fn terminal(&self, master: OwnedFd) -> Result<(), KeeperError> {
        self.ask(|answer| Command::Terminal { master, answer }).await
    }

    /// Attaches a stream socket, from now on. See [`workload::Process::attach`]: where a mark is
    /// wanted, the time up to which the log has what the socket has not.
    ///
    /// # Errors
    /// [`KeeperError::Ended`], [`KeeperError::Full`], [`KeeperError::NotASocket`].
    pub async fn attach(&self, attachment: Attachment) -> Result<Option<Timestamp>, KeeperError> {
        self.ask(|answer| Command::Attach { attachment, answer }).await
    }

    /// To be called when the process has ended, before anybody is told: takes what it has written
    /// to the log and to those attached, and closes the log and the sockets.
    ///
    /// It waits for nobody: what an attached one has not read yet is left with the kernel. Should
    /// others still hold the process's output (its children), they are not waited for either, nor
    /// do they get SIGPIPE: what they write is thrown away until the keeper is dropped. Calling
    /// it twice is calling it once.
    pub async fn finish(&self) {
        // An error says that it has finished before.
        let _ = self.ask(|answer| Command::Finish { answer }).await;
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, KeeperError>>) -> Command,
    ) -> Result<T, KeeperError> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(command(answer)).await.map_err(|_| KeeperError::Ended)?;
        answered.await.map_err(|_| KeeperError::Ended)?
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests;

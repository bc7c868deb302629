//! One attached session: a container's or exec's streams, our terminal, our signals.
//!
//! ```text
//! fd 0 ──input thread──▶ socket ──shim──▶ process
//! fd 1, 2 ◀──output thread── socket ◀──shim── process
//!                 exit code ◀── daemon;  resize, signals ──▶ daemon
//! ```
//!
//! The bytes do not pass through the daemon, so a daemon that is restarted does not disturb them.
//! The threads do nothing but blocking reads and writes; they end with the process.

mod control;
mod demux;
mod detach;
mod pump;
pub(crate) mod terminal;

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use api::ClientError;
use base::ErrorKind;
use tokio::sync::oneshot;
use workload::{Exit, TerminalSize};

pub(crate) use control::{Control, Target};
pub(crate) use demux::{Demux, Stream};
pub(crate) use detach::{DetachKeys, Watch};
use pump::Ended;
use terminal::Raw;
pub(crate) use terminal::without_echo;

use crate::error::CliError;

/// What is connected to what.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The process has a terminal.
    pub(crate) terminal: bool,
    /// Standard input goes to it.
    pub(crate) stdin: bool,
    /// Its output comes to standard output.
    pub(crate) stdout: bool,
    /// Its error output comes to standard error.
    pub(crate) stderr: bool,
    /// What is typed to leave it running.
    pub(crate) detach: DetachKeys,
    /// Our signals are its signals.
    pub(crate) signals: bool,
}

/// How a session came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The process ended.
    Exited(Exit),
    /// It was left running.
    Detached,
    /// We were told to end, by this signal.
    Interrupted(u8),
}

impl Outcome {
    /// The exit code it gives.
    pub(crate) fn code(self) -> u8 {
        match self {
            Outcome::Exited(exit) => exit.status.shell_code(),
            Outcome::Detached => 0,
            Outcome::Interrupted(signal) => 128 + signal,
        }
    }
}

/// A session whose other end waits to be handed to the daemon.
#[derive(Debug)]
pub(crate) struct Session {
    plan: Plan,
    ours: UnixStream,
}

impl Session {
    /// A session, and the daemon's end of it.
    ///
    /// # Errors
    /// If a terminal was asked for and standard input is none, or no sockets can be had.
    pub(crate) fn open(plan: Plan) -> Result<(Session, OwnedFd), CliError> {
        if plan.terminal && plan.stdin && !terminal::is_terminal() {
            return Err(CliError::NoTerminal);
        }
        let (ours, theirs) =
            UnixStream::pair().map_err(|error| CliError::io("make a socket pair", error))?;
        Ok((Session { plan, ours }, theirs.into()))
    }

    /// Our terminal's size, if the process is to have one.
    pub(crate) fn size(&self) -> Option<TerminalSize> {
        if self.plan.terminal { terminal::size() } else { None }
    }

    /// Carries the streams until `exit` answers and all output is through, or somebody leaves. If
    /// the daemon goes away meanwhile, `again` is asked at the end.
    ///
    /// # Errors
    /// Whatever `exit` or `again` answers; [`CliError::OutputClosed`] if nobody reads our output.
    pub(crate) async fn run(
        self,
        control: Control,
        exit: impl Future<Output = Result<Exit, ClientError>>,
        again: impl Future<Output = Result<Exit, CliError>>,
    ) -> Result<Outcome, CliError> {
        let Session { plan, ours } = self;
        // Put back when this returns, however it returns.
        let _raw = if plan.terminal && plan.stdin { Some(Raw::enter()?) } else { None };
        let (left, leave) = oneshot::channel();
        let copy = |socket: &UnixStream| {
            socket.try_clone().map_err(|error| CliError::io("use the session's socket", error))
        };
        if plan.stdin {
            pump::input(copy(&ours)?, plan.terminal.then(|| plan.detach.clone()), left);
        }
        let output = pump::output(ours, &plan);
        let farewell = control.again();
        let control = control.serve(plan.terminal, plan.signals);
        tokio::select! {
            biased;
            Ok(()) = leave => {
                farewell.detached().await;
                Ok(Outcome::Detached)
            }
            done = both(exit, again, output) => done.map(Outcome::Exited),
            signal = control => Ok(Outcome::Interrupted(signal)),
        }
    }
}

/// The exit, once the output is through as well.
async fn both(
    exit: impl Future<Output = Result<Exit, ClientError>>,
    again: impl Future<Output = Result<Exit, CliError>>,
    mut output: oneshot::Receiver<Ended>,
) -> Result<Exit, CliError> {
    tokio::pin!(exit);
    let exit = tokio::select! {
        biased;
        ended = &mut output => {
            written(ended)?;
            exit.await
        }
        exit = &mut exit => {
            written(output.await)?;
            exit
        }
    };
    match exit {
        Err(error) if error.kind() == ErrorKind::Unavailable => again.await,
        other => Ok(other?),
    }
}

fn written(ended: Result<Ended, oneshot::error::RecvError>) -> Result<(), CliError> {
    match ended {
        Ok(Ended::Through) | Err(_) => Ok(()),
        Ok(Ended::Unreadable(error)) => Err(CliError::io("read the container's output", error)),
        Ok(Ended::Unwritable(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Err(CliError::OutputClosed)
        }
        Ok(Ended::Unwritable(error)) => Err(CliError::io("write the container's output", error)),
    }
}

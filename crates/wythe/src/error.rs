//! What a command can fail of. `main` prints it and chooses the exit code, once.

use std::io;

use api::{ClientError, Failure};
use base::ErrorKind;
pub(crate) use base::chain;

use crate::{
    connect::ConnectError, create::FlagError, outside::OutsideError, template::TemplateError,
};

/// What a shell reports of a program that `SIGPIPE` ended.
const OUTPUT_CLOSED: u8 = 128 + 13;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// Its flags make no sense.
    #[error(transparent)]
    Flag(#[from] FlagError),
    /// The process on the host did not help an ordinary user's daemon.
    #[error(transparent)]
    Outside(#[from] OutsideError),
    /// The daemon said no.
    #[error("Error response from daemon: {}", .0.message)]
    Daemon(Failure),
    /// There is no daemon to ask.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The conversation with the daemon broke.
    #[error("{}", chain(.0))]
    Client(ClientError),
    /// A `--format` makes no sense.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A file or stream of ours failed.
    #[error("cannot {doing}")]
    Io {
        /// What was being done, with its subject.
        doing: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Nobody reads what we print.
    #[error("standard output is closed")]
    OutputClosed,
    /// A terminal was asked for, and there is none.
    #[error("the input device is not a TTY")]
    NoTerminal,
    /// What was typed makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Docker has the command and this build has not.
    #[error("{0}")]
    Unbuilt(String),
    /// Some of several things failed; what failed has been said already.
    #[error("")]
    Said,
}

impl CliError {
    /// A failed file operation.
    pub(crate) fn io(doing: impl Into<String>, source: impl Into<io::Error>) -> CliError {
        CliError::Io { doing: doing.into(), source: source.into() }
    }

    /// What would be right, in sentences.
    pub(crate) fn hints(&self) -> &[String] {
        if let CliError::Daemon(failure) = self { &failure.hints } else { &[] }
    }

    /// Whether there is anything left to say.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self, CliError::Said | CliError::OutputClosed)
    }

    /// The exit code where every failure of our own is 1.
    pub(crate) fn code(&self) -> u8 {
        match self {
            CliError::Flag(_) | CliError::Unbuilt(_) => 125,
            CliError::OutputClosed => OUTPUT_CLOSED,
            CliError::Connect(_)
            | CliError::Outside(_)
            | CliError::Daemon(_)
            | CliError::Client(_)
            | CliError::Template(_)
            | CliError::Io { .. }
            | CliError::NoTerminal
            | CliError::Usage(_)
            | CliError::Said => 1,
        }
    }

    /// The exit code of `exec`, which passes on a command's: 126 and 127 for one that cannot be run
    /// or is not there, and 1 where there is no container to run it in, as with any command.
    ///
    /// Source: docker/cli v28, `cli/command/container/exec.go`: the daemon's errors are returned
    /// as they are.
    pub(crate) fn exec_code(&self) -> u8 {
        match self.run_code() {
            code @ (126 | 127) => code,
            _ => self.code(),
        }
    }

    /// The exit code of `run`, which passes on a container's: 125 for our own failures, 126 and
    /// 127 for a command that cannot be run or is not there.
    ///
    /// Source: Docker's documentation, `docker run`, "Exit status".
    pub(crate) fn run_code(&self) -> u8 {
        let kind = if let CliError::Daemon(failure) = self { Some(failure.kind) } else { None };
        if kind == Some(ErrorKind::CommandNotFound) {
            127
        } else if kind == Some(ErrorKind::CommandNotRunnable) {
            126
        } else {
            match self {
                CliError::OutputClosed => OUTPUT_CLOSED,
                CliError::NoTerminal => 1,
                CliError::Flag(_)
                | CliError::Daemon(_)
                | CliError::Connect(_)
                | CliError::Outside(_)
                | CliError::Client(_)
                | CliError::Template(_)
                | CliError::Io { .. }
                | CliError::Usage(_)
                | CliError::Unbuilt(_)
                | CliError::Said => 125,
            }
        }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> CliError {
        if let ClientError::Refused(failure) = error {
            CliError::Daemon(failure)
        } else {
            CliError::Client(error)
        }
    }
}

//! What can go wrong behind the wall, as plain data: it crosses the shim's socket whole.

use base::ErrorKind;
use serde::{Deserialize, Serialize};

use crate::FileFault;

/// Why a driver did not do what it was asked.
///
/// Nothing half-made is left behind by an operation that answers with one of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriverError {
    /// The spec asks for something that makes no sense.
    #[error("{what}: {why}")]
    Invalid {
        /// The part of the spec.
        what: String,
        /// What is wrong with it, and what would be right.
        why: String,
    },
    /// This host cannot do it.
    #[error("this host cannot do it: {what}: {why}")]
    Unsupported {
        /// The part of the spec.
        what: String,
        /// What the host lacks.
        why: String,
    },
    /// The command is not there.
    #[error("exec: \"{command}\": {why}")]
    CommandNotFound {
        /// As it was given.
        command: String,
        /// Such as "executable file not found in $PATH".
        why: String,
    },
    /// The command is there but cannot be run.
    #[error("exec: \"{command}\": {why}")]
    CommandNotRunnable {
        /// As it was given.
        command: String,
        /// Such as "permission denied".
        why: String,
    },
    /// A step failed in the kernel.
    #[error("{step}: {}", std::io::Error::from_raw_os_error(*.errno))]
    Step {
        /// What was being done, with its subject: "mount proc on /proc".
        step: String,
        /// The error number.
        errno: i32,
    },
    /// There is a sandbox or process of that name.
    #[error("{what} exists already")]
    Exists {
        /// Which.
        what: String,
    },
    /// There is no such sandbox or process (any more).
    #[error("{what} does not exist")]
    Gone {
        /// Which.
        what: String,
    },
    /// It is in a state in which this cannot be done.
    #[error("{what} is {state}")]
    State {
        /// Which sandbox or process.
        what: String,
        /// The state it is in: "paused", "not running".
        state: String,
    },
    /// The deadline passed.
    #[error("the deadline passed while {doing}")]
    DeadlinePassed {
        /// What was not finished.
        doing: String,
    },
    /// Files could not be read or written.
    #[error(transparent)]
    File(FileFault),
    /// The process that holds the sandbox does not answer, or answers nonsense.
    #[error("the shim of the sandbox cannot be reached: {why}")]
    Unreachable {
        /// What happened.
        why: String,
    },
}

impl DriverError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            DriverError::Invalid { .. } => ErrorKind::InvalidInput,
            DriverError::Unsupported { .. } => ErrorKind::Unsupported,
            DriverError::CommandNotFound { .. } => ErrorKind::CommandNotFound,
            DriverError::CommandNotRunnable { .. } => ErrorKind::CommandNotRunnable,
            DriverError::Step { .. } => ErrorKind::Internal,
            DriverError::Exists { .. } | DriverError::State { .. } => ErrorKind::Conflict,
            DriverError::Gone { .. } => ErrorKind::NotFound,
            DriverError::File(fault) => fault.kind(),
            DriverError::DeadlinePassed { .. } => ErrorKind::DeadlineExceeded,
            DriverError::Unreachable { .. } => ErrorKind::Unavailable,
        }
    }

    /// A failed step from the kernel's answer.
    pub fn step(step: impl Into<String>, error: &std::io::Error) -> DriverError {
        /// Stands for an error that has no number.
        const EIO: i32 = 5;
        DriverError::Step { step: step.into(), errno: error.raw_os_error().unwrap_or(EIO) }
    }
}

//! What can go wrong on this command line. The words are runc's where its callers look for them.

use std::{io, path::PathBuf};

use base::IdError;
use cgroups::CgroupError;
use workload::DriverError;

use super::{args::UsageError, convert::ConvertError, hooks::HookError, status::Status};

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OciError {
    /// The command line itself.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// A flag that is known and not carried out.
    #[error("{flag} is not supported: {why}")]
    Unsupported {
        /// The flag.
        flag: &'static str,
        /// What to do instead.
        why: &'static str,
    },
    /// The container's name.
    #[error("invalid container ID format")]
    Id(#[source] IdError),
    /// Something of this name is there.
    #[error("container with given ID already exists: {id}")]
    Exists {
        /// Which.
        id: String,
    },
    /// Nothing of this name is there.
    #[error("container does not exist: {id}")]
    Missing {
        /// Which.
        id: String,
    },
    /// The container's process has ended, or was never there.
    #[error("container not running: {id}")]
    NotRunning {
        /// Which.
        id: String,
    },
    /// Only paused containers can be resumed.
    #[error("container not paused: {id}")]
    NotPaused {
        /// Which.
        id: String,
    },
    /// Only created containers can be started.
    #[error("cannot start {}", what_cannot_start(*.status))]
    CannotStart {
        /// What it is instead.
        status: Status,
    },
    /// Only stopped or created containers can be deleted without force.
    #[error("cannot delete container {id} that is not stopped: {status}")]
    CannotDelete {
        /// Which.
        id: String,
        /// What it is instead.
        status: Status,
    },
    /// Nothing can join a container in this state.
    #[error("cannot exec in a {status} container{}", exec_hint(*.status))]
    CannotExec {
        /// What it is.
        status: Status,
    },
    /// It was killed and is still there.
    #[error("container init still running: {id}")]
    StillRunning {
        /// Which.
        id: String,
    },
    /// The command's process ended before it was started.
    #[error("the container ended before its command was started: {id}")]
    Ended {
        /// Which.
        id: String,
    },
    /// A control group to exec into that is not there.
    #[error("cgroup {name} does not exist")]
    NoCgroup {
        /// Which.
        name: String,
    },
    /// A terminal without anybody to take it.
    #[error("cannot allocate tty if the runtime will detach without setting console socket")]
    NoConsole,
    /// Somebody to take a terminal, and none.
    #[error("cannot use console socket if the runtime will not detach or allocate tty")]
    UnusedConsole,
    /// No such signal.
    #[error("unknown signal \"{given}\"")]
    Signal {
        /// What was given.
        given: String,
    },
    /// Nothing to execute.
    #[error("process args cannot be empty")]
    NoArgs,
    /// A file is in the way.
    #[error("file {} exists; remove it first", .path.display())]
    FileExists {
        /// Which.
        path: PathBuf,
    },
    /// A file is larger than any sensible one.
    #[error("{} is larger than {limit} bytes", .path.display())]
    FileTooLarge {
        /// Which.
        path: PathBuf,
        /// How large it may be.
        limit: u64,
    },
    /// A file is not what it should be.
    #[error("{} cannot be read", .path.display())]
    Json {
        /// Which.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A state file of a later version.
    #[error("the state of container {id} has version {version}, and this program knows 1")]
    Version {
        /// Which.
        id: String,
        /// The version found.
        version: u32,
    },
    /// The version of the specification is not one that is carried out.
    #[error("config.json: ociVersion \"{given}\" is not supported; 1.x is")]
    SpecVersion {
        /// What was given.
        given: String,
    },
    /// The configuration.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// A hook.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The container could not be made, or its command not be executed.
    #[error("unable to start container process")]
    Start(#[source] DriverError),
    /// A control group.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A system call.
    #[error("{doing}")]
    Io {
        /// What was being done, with its subject.
        doing: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

impl OciError {
    /// A failed system call, with what it was for.
    pub(super) fn io<E: Into<io::Error>>(doing: impl Into<String>) -> impl FnOnce(E) -> OciError {
        let doing = doing.into();
        move |error| OciError::Io { doing, source: error.into() }
    }

    /// The error and its causes in one line.
    pub(super) fn chain(&self) -> String {
        let first: &dyn std::error::Error = self;
        let causes = std::iter::successors(Some(first), |error| error.source());
        causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }
}

fn what_cannot_start(status: Status) -> String {
    match status {
        Status::Stopped => "a container that has stopped".into(),
        Status::Running => "an already running container".into(),
        Status::Creating | Status::Created | Status::Paused => {
            format!("a container in the {status} state")
        }
    }
}

fn exec_hint(status: Status) -> &'static str {
    match status {
        Status::Paused => " (use --ignore-paused to override)",
        Status::Creating | Status::Created | Status::Running | Status::Stopped => "",
    }
}

//! Why the engine did not do what it was asked, in Docker's words where Docker has them.

use std::{io, path::PathBuf, sync::Arc};

pub(crate) use base::chain;
use base::{ContainerId, ContainerName, ErrorKind};
use workload::{DriverError, FileFault, Isolation};

use crate::RecordsError;

/// Why a request failed. Nothing half-made is left behind unless the text says so.
///
/// It can be cloned, because several may wait for the same thing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// No container has this name, id or beginning of an id.
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    /// Several containers have ids that begin like this.
    #[error("Multiple IDs found with provided prefix: {0}")]
    AmbiguousId(String),
    /// The name is taken.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You \
         have to remove (or rename) that container to be able to reuse that name."
    )]
    NameTaken {
        /// The name.
        name: ContainerName,
        /// Who has it.
        id: ContainerId,
    },
    /// No image has this reference or id.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// No exec has this id, or it ended long ago.
    #[error("No such exec instance: {0}")]
    NoSuchExec(String),
    /// It takes a running container.
    #[error("container {0} is not running")]
    NotRunning(String),
    /// It takes a container that is not paused.
    #[error("Container {0} is paused, unpause the container first")]
    Paused(String),
    /// It is between two runs.
    #[error("Container {0} is restarting, wait until the container is running")]
    Restarting(String),
    /// It is paused already.
    #[error("Container {0} is already paused")]
    AlreadyPaused(String),
    /// It is not paused.
    #[error("Container {0} is not paused")]
    NotPaused(String),
    /// A running container is not removed unless forced.
    #[error(
        "cannot remove container \"/{0}\": container is running: stop the container before \
         removing or force remove"
    )]
    RemoveRunning(ContainerName),
    /// Nor is one that is between two runs.
    #[error(
        "cannot remove container \"/{0}\": container is restarting: stop the container before \
         removing or force remove"
    )]
    RemoveRestarting(ContainerName),
    /// It is being removed.
    #[error("removal of container {0} is already in progress")]
    Removing(String),
    /// It is being done something else to.
    #[error("container {name} is {state}: try again when that is done")]
    Busy {
        /// Which.
        name: String,
        /// What is being done.
        state: &'static str,
    },
    /// Limits or restart policy stay as they are.
    #[error("Cannot update container {id}")]
    CannotUpdate {
        /// Which.
        id: ContainerId,
        /// Why.
        source: Arc<EngineError>,
    },
    /// The exec was started before.
    #[error("exec {0} has already run")]
    ExecRan(String),
    /// The image store refused or failed.
    #[error("{text}")]
    Image {
        /// What a caller can do about it.
        kind: ErrorKind,
        /// What it said, with all causes.
        text: String,
    },
    /// The volume store refused or failed.
    #[error("{text}")]
    Volume {
        /// What a caller can do about it.
        kind: ErrorKind,
        /// What it said, with all causes.
        text: String,
    },
    /// A network refused, or there is none.
    #[error("{text}")]
    Networking {
        /// What a caller can do about it.
        kind: ErrorKind,
        /// In Docker's words.
        text: String,
    },
    /// It uses a namespace of a container that does not run.
    #[error("cannot join namespaces of a non running container: {0}")]
    JoinsStopped(String),
    /// The request makes no sense.
    #[error("{what}: {why}")]
    Invalid {
        /// Which part of it.
        what: String,
        /// What is wrong with it, and what would be right.
        why: String,
    },
    /// This build or this host cannot do it.
    #[error("{what} is not supported: {why}")]
    Unsupported {
        /// What was asked.
        what: String,
        /// What is missing.
        why: String,
    },
    /// No driver for the isolation.
    #[error("this build has no driver for isolation {0}")]
    NoDriver(Isolation),
    /// The driver refused or failed.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// Another daemon manages the bridge of this name.
    #[error(
        "another daemon manages bridge {0} of this host: stop it, start this one with another \
         bridge, or use network host, none or container:NAME"
    )]
    NetworkClaimed(net::InterfaceName),
    /// The host's network refused.
    #[error(transparent)]
    Network(Arc<net::NetworkError>),
    /// A port cannot be published.
    #[error(transparent)]
    Port(Arc<net::ReserveError>),
    /// No address is free.
    #[error(transparent)]
    Lease(#[from] net::LeaseError),
    /// Its log driver keeps nothing that could be read.
    #[error("configured logging driver does not support reading")]
    LogUnreadable,
    /// A log cannot be read.
    #[error(transparent)]
    Log(Arc<stdio::log::LogError>),
    /// A file of the engine could not be made, read or removed.
    #[error("cannot {step} {}", path.display())]
    Files {
        /// What was being done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// What the kernel said.
        source: Arc<io::Error>,
    },
    /// Files of a container were not read or written.
    #[error("{fault}{}", in_container(.fault, .container))]
    File {
        /// Which container.
        container: String,
        /// Why.
        fault: FileFault,
    },
    /// It took longer than it may.
    #[error("the deadline passed while {doing}")]
    DeadlinePassed {
        /// What was not finished.
        doing: &'static str,
    },
    /// What is intended could not be recorded, so it was not done.
    #[error("cannot record it")]
    Records(#[from] RecordsError),
    /// The daemon was killed meanwhile.
    #[error("the daemon was killed while {doing}")]
    Interrupted {
        /// What was not finished, and is undone.
        doing: &'static str,
    },
    /// A bug: a task of the engine panicked. The container is as well cared for as can be.
    #[error("a task of the engine failed while {doing}")]
    Failed {
        /// What was being done.
        doing: &'static str,
    },
    /// A limit was reached.
    #[error("{what}: there are {most} already, and no more are kept")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        most: usize,
    },
    /// A listener read more slowly than events came.
    #[error("this listener was too slow: {missed} events were lost, so it hears no more")]
    EventsLost {
        /// How many it can no longer be told.
        missed: u64,
    },
    /// The engine is closing.
    #[error("the daemon is shutting down")]
    Closed,
}

impl EngineError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            EngineError::NoSuchContainer(_)
            | EngineError::NoSuchImage(_)
            | EngineError::NoSuchExec(_) => ErrorKind::NotFound,
            EngineError::AmbiguousId(_) | EngineError::Invalid { .. } => ErrorKind::InvalidInput,
            EngineError::NameTaken { .. }
            | EngineError::NotRunning(_)
            | EngineError::Paused(_)
            | EngineError::AlreadyPaused(_)
            | EngineError::NotPaused(_)
            | EngineError::RemoveRunning(_)
            | EngineError::Restarting(_)
            | EngineError::RemoveRestarting(_)
            | EngineError::Removing(_)
            | EngineError::Busy { .. }
            | EngineError::ExecRan(_)
            | EngineError::JoinsStopped(_)
            | EngineError::NetworkClaimed(_) => ErrorKind::Conflict,
            EngineError::Unsupported { .. }
            | EngineError::NoDriver(_)
            | EngineError::LogUnreadable => ErrorKind::Unsupported,
            EngineError::CannotUpdate { source, .. } => source.kind(),
            EngineError::Driver(error) => error.kind(),
            EngineError::File { fault, .. } => fault.kind(),
            EngineError::Image { kind, .. }
            | EngineError::Volume { kind, .. }
            | EngineError::Networking { kind, .. } => *kind,
            EngineError::Network(error) => error.kind(),
            EngineError::Port(error) => error.kind(),
            EngineError::Lease(error) => error.kind(),
            EngineError::Log(error) => error.kind(),
            EngineError::Files { .. } | EngineError::Failed { .. } => ErrorKind::Internal,
            EngineError::Records(error) => error.kind(),
            EngineError::DeadlinePassed { .. } => ErrorKind::DeadlineExceeded,
            EngineError::TooMany { .. } | EngineError::EventsLost { .. } => ErrorKind::Exhausted,
            EngineError::Interrupted { .. } => ErrorKind::Unavailable,
            EngineError::Closed => ErrorKind::Unavailable,
        }
    }
}

/// Docker's words: only what is missing is said to be missing somewhere.
fn in_container(fault: &FileFault, container: &str) -> String {
    match fault {
        FileFault::NotFound { .. } => format!(" in container {container}"),
        FileFault::NotADirectory { .. }
        | FileFault::Target
        | FileFault::OverDirectory { .. }
        | FileFault::OverOther { .. }
        | FileFault::ReadOnlyRoot
        | FileFault::ReadOnlyMount
        | FileFault::Escapes { .. }
        | FileFault::Deep { .. }
        | FileFault::Archive { .. }
        | FileFault::Stream { .. }
        | FileFault::User { .. }
        | FileFault::Kernel { .. } => String::new(),
    }
}

/// Why the engine could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon has this data root.
    #[error("data root {} is in use by another daemon", _0.display())]
    Locked(PathBuf),
    /// The records cannot be read.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The image store cannot be opened.
    #[error("cannot open the image store: {0}")]
    Images(String),
    /// The volumes cannot be opened.
    #[error("cannot open the volumes: {0}")]
    Volumes(String),
    /// A bug: opening panicked.
    #[error("opening the engine failed; the log says where: {0}")]
    Failed(String),
    /// A directory or file of the engine could not be made.
    #[error("cannot {step} {}", path.display())]
    Files {
        /// What was being done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl OpenError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            OpenError::Locked(_) => ErrorKind::Conflict,
            OpenError::Records(error) => error.kind(),
            OpenError::Files { .. }
            | OpenError::Images(_)
            | OpenError::Volumes(_)
            | OpenError::Failed(_) => ErrorKind::Internal,
        }
    }
}

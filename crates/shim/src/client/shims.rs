//! How a client comes to a shim: an old one through its socket, a new one from the fork server.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::Arc,
    time::Duration,
};

use base::{Deadline, SandboxId};
use workload::{DriverError, Isolation, SandboxHandle, Trace};

use super::{
    ShimConfig,
    connection::{CallError, Connection, handshake},
    nonsense,
};
use crate::{
    DirectoryError,
    directory::{Directory, Socket},
    protocol::{Reply, Request},
};

/// How often a fork server is started for one sandbox, should the last one have ended at once.
const STARTS_MAX: u32 = 3;

/// Between two tries to connect where too many wait already.
const PAUSE: Duration = Duration::from_millis(5);

/// Shims and their fork server, seen from a client.
#[derive(Debug)]
pub(super) struct Shims {
    directory: Arc<Directory>,
    config: ShimConfig,
    /// Held while a fork server is started or stopped.
    starting: tokio::sync::Mutex<()>,
}

impl Shims {
    pub(super) fn new(directory: Directory, config: ShimConfig) -> Shims {
        let starting = tokio::sync::Mutex::new(());
        Shims { directory: Arc::new(directory), config, starting }
    }

    /// A connection to the shim that holds this sandbox.
    pub(super) async fn connect(
        &self,
        id: &SandboxId,
        by: Deadline,
    ) -> Result<Connection, CallError> {
        let stream = self.stream(&Socket::Sandbox(id.clone()), by).await?;
        match handshake(stream, by).await {
            Ok((conn, _)) => Ok(Connection::new(conn)),
            // It ended while this client waited to be accepted. Is it gone?
            Err(CallError::Lost(why)) => match self.directory.connect(&Socket::Sandbox(id.clone()))
            {
                Err(error) if error.is_nobody() => Err(CallError::Nobody),
                Ok(_) | Err(_) => Err(CallError::Lost(why)),
            },
            Err(error) => Err(error),
        }
    }

    /// A connection to a new, empty shim of this build. Starts a fork server where none is, and
    /// replaces one of another build.
    pub(super) async fn fork(&self, by: Deadline) -> Result<Connection, DriverError> {
        let mut why = String::new();
        for _ in 0..STARTS_MAX {
            match self.try_fork(by).await {
                Ok(Forked::Shim(connection)) => return Ok(connection),
                Ok(Forked::OtherBuild(connection)) => {
                    let _starting = self.starting.lock().await;
                    leave(&connection, by).await?;
                }
                // Nothing has begun before a shim has said who it is.
                Err(CallError::Nobody) => self.start().await?,
                Err(CallError::Lost(error)) => why = error,
                Err(CallError::Driver(error)) => return Err(error),
            }
        }
        // The last start has not been tried yet.
        match self.try_fork(by).await {
            Ok(Forked::Shim(connection)) => Ok(connection),
            Ok(Forked::OtherBuild(_)) => {
                let why = "the fork server is of another build, however often it is started";
                Err(DriverError::Unreachable { why: why.to_owned() })
            }
            Err(CallError::Driver(error)) => Err(error),
            Err(CallError::Lost(why)) => Err(no_shim(&why)),
            Err(CallError::Nobody) => Err(no_shim(&why)),
        }
    }

    /// Removes what a shim that was killed has left behind.
    pub(super) async fn reclaim(
        &self,
        handle: SandboxHandle,
        by: Deadline,
    ) -> Result<(), DriverError> {
        let id = handle.sandbox.clone();
        let connection = self.fork(by).await?;
        match connection.call(Request::Reclaim { handle }, None, Some(by)).await {
            Ok(Reply::Done) => Ok(()),
            Ok(other) => Err(nonsense(&other)),
            Err(error) => Err(error.into_driver_error(&id)),
        }
    }

    /// Removes the socket of a shim that is gone, if it is there.
    pub(super) fn remove_socket(&self, id: &SandboxId) -> Result<(), DriverError> {
        let socket = Socket::Sandbox(id.clone());
        self.directory.remove(&socket).map_err(|error| error.to_driver_error())
    }

    /// What there is of shims: their sockets.
    pub(super) fn traces(&self, isolation: Isolation) -> Result<Vec<Trace>, DriverError> {
        let sandboxes = self.directory.sandboxes().map_err(|error| error.to_driver_error())?;
        let trace = |sandbox: SandboxId| Trace {
            what: format!("shim {sandbox}"),
            handle: SandboxHandle { isolation, sandbox, token: String::new() },
        };
        Ok(sandboxes.into_iter().map(trace).collect())
    }

    pub(super) async fn stop_fork_server(&self, by: Deadline) -> Result<(), DriverError> {
        let _starting = self.starting.lock().await;
        let connection = match self.try_fork(by).await {
            Ok(Forked::Shim(connection) | Forked::OtherBuild(connection)) => connection,
            Err(CallError::Nobody | CallError::Lost(_)) => return Ok(()),
            Err(CallError::Driver(error)) => return Err(error),
        };
        leave(&connection, by).await?;
        self.directory.remove(&Socket::ForkServer).map_err(|error| error.to_driver_error())
    }

    async fn try_fork(&self, by: Deadline) -> Result<Forked, CallError> {
        let stream = self.stream(&Socket::ForkServer, by).await?;
        let (conn, welcome) = handshake(stream, by).await?;
        let connection = Connection::new(conn);
        if welcome.build == self.config.build {
            Ok(Forked::Shim(connection))
        } else {
            Ok(Forked::OtherBuild(connection))
        }
    }

    async fn stream(&self, socket: &Socket, by: Deadline) -> Result<UnixStream, CallError> {
        loop {
            match self.directory.connect(socket) {
                Err(error) if error.is_crowded() && !by.passed() => {
                    tokio::time::sleep(PAUSE).await;
                }
                result => return Ok(result?),
            }
        }
    }

    /// Starts a fork server, unless somebody else has meanwhile.
    async fn start(&self) -> Result<(), DriverError> {
        let _starting = self.starting.lock().await;
        let (directory, start) = (Arc::clone(&self.directory), Arc::clone(&self.config.start));
        let started = tokio::task::spawn_blocking(move || {
            match directory.listen(&Socket::ForkServer) {
                // Who connects before it runs waits in the socket's queue.
                Ok(listener) => start(OwnedFd::from(listener)),
                Err(DirectoryError::InUse { .. }) => Ok(()),
                Err(error) => Err(io::Error::other(error)),
            }
        });
        let started = started.await.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
        started.map_err(|error| DriverError::Unreachable {
            why: format!("the fork server cannot be started: {error}"),
        })
    }
}

/// What the fork server gave.
enum Forked {
    /// A shim of this build.
    Shim(Connection),
    /// One of another build.
    OtherBuild(Connection),
}

/// Asks an empty shim to end the fork server it came from.
async fn leave(connection: &Connection, by: Deadline) -> Result<(), DriverError> {
    match connection.call(Request::Leave, None, Some(by)).await {
        Ok(_) | Err(CallError::Lost(_) | CallError::Nobody) => Ok(()),
        Err(CallError::Driver(error)) => Err(error),
    }
}

fn no_shim(why: &str) -> DriverError {
    // It cannot say why, for it talks to nobody: the kernel gave it no process.
    let hint = "has the host run out of processes or memory?";
    DriverError::Unreachable { why: format!("the fork server gives no shim ({hint}): {why}") }
}

//! A driver whose sandboxes live in shim processes.
//!
//! Sandboxes outlive the client. It keeps one connection for each, makes it again when it broke,
//! and asks again what can be asked twice. Whether a shim is alive is decided by one thing alone:
//! whether somebody listens at the sandbox's socket.

mod connection;
mod remote;
mod sandbox;
mod shims;

use std::{fmt, io, os::fd::OwnedFd, path::PathBuf, sync::Arc, time::Duration};

use base::Deadline;
use workload::{
    Capabilities, Driver, DriverError, Finding, Materials, Pending, Sandbox, SandboxHandle,
    SandboxSpec, Trace,
};

pub use self::remote::Remote;
use self::{
    connection::CallError,
    sandbox::{Abilities, ShimSandbox},
    shims::Shims,
};
use crate::{
    DirectoryError,
    directory::Directory,
    protocol::{Reply, Request},
};

/// Starts the program whose `main` calls [`crate::ForkServer::serve`], with this listening socket
/// as its standard input, and waits until it has detached.
pub type StartForkServer = dyn Fn(OwnedFd) -> io::Result<()> + Send + Sync;

/// Between two looks for a sandbox that somebody else is making or reclaiming.
const RECLAIM_PAUSE: Duration = Duration::from_millis(20);

/// What a client needs to know.
#[derive(Clone)]
pub struct ShimConfig {
    /// The directory for the shims' sockets. It is made if it is missing, and closed to others.
    pub run_dir: PathBuf,
    /// Names this build. A fork server of another build is replaced; shims of another build are
    /// understood as long as they speak the same protocol.
    pub build: String,
    /// Starts a fork server when none answers.
    pub start: Arc<StartForkServer>,
}

impl fmt::Debug for ShimConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ShimConfig { run_dir, build, start: _ } = self;
        f.debug_struct("ShimConfig").field("run_dir", run_dir).field("build", build).finish()
    }
}

/// The driver. Its methods need a tokio runtime with I/O and time, of either kind.
#[derive(Debug)]
pub struct ShimDriver {
    /// The same driver in this process: it answers what needs no shim, and never makes anything.
    local: Arc<dyn Driver>,
    shims: Arc<Shims>,
}

impl ShimDriver {
    /// A driver that does in shims what `local` would do here.
    ///
    /// # Errors
    /// [`DirectoryError`] if the sockets' directory cannot be made.
    pub fn new(local: Arc<dyn Driver>, config: ShimConfig) -> Result<ShimDriver, DirectoryError> {
        let directory = Directory::open(&config.run_dir)?;
        Ok(ShimDriver { local, shims: Arc::new(Shims::new(directory, config)) })
    }

    /// Ends the fork server, if there is one. Shims go on, and the next sandbox starts another.
    ///
    /// # Errors
    /// [`DriverError::Unreachable`] if it does not answer.
    pub async fn stop_fork_server(&self, by: Deadline) -> Result<(), DriverError> {
        self.shims.stop_fork_server(by).await
    }

    async fn create_in_shim(
        &self,
        spec: SandboxSpec,
        materials: Materials,
        by: Deadline,
    ) -> Result<Arc<dyn Sandbox>, DriverError> {
        let connection = self.shims.fork(by).await?;
        let id = spec.id.clone();
        let request = Request::Create {
            isolation: self.local.capabilities().isolation,
            spec: Box::new(spec),
            network: materials.network.is_some(),
        };
        match connection.call(request, materials.network.as_ref(), Some(by)).await {
            Ok(Reply::Sandbox { handle, pausable, files, forkable }) => {
                Ok(Arc::new(ShimSandbox::new(
                    Arc::clone(&self.shims),
                    connection,
                    handle,
                    Abilities { pausable, files, forkable },
                )))
            }
            Ok(other) => Err(nonsense(&other)),
            Err(error) => Err(error.into_driver_error(&id)),
        }
    }

    async fn recover_from_shim(
        &self,
        handle: SandboxHandle,
        by: Deadline,
    ) -> Result<Option<Arc<dyn Sandbox>>, DriverError> {
        loop {
            match self.try_recover(&handle, by).await {
                // Its maker's shim, or somebody else who reclaims it, was first: look again.
                Err(DriverError::Exists { .. }) if !by.passed() => {
                    tokio::time::sleep(RECLAIM_PAUSE).await;
                }
                result => return result,
            }
        }
    }

    async fn try_recover(
        &self,
        handle: &SandboxHandle,
        by: Deadline,
    ) -> Result<Option<Arc<dyn Sandbox>>, DriverError> {
        let found = match self.shims.connect(&handle.sandbox, by).await {
            Ok(connection) => {
                let answer = connection.call(Request::Handle, None, Some(by)).await;
                answer.map(|reply| (connection, reply))
            }
            Err(error) => Err(error),
        };
        match found {
            Ok((connection, Reply::Sandbox { handle, pausable, files, forkable })) => {
                let shims = Arc::clone(&self.shims);
                Ok(Some(Arc::new(ShimSandbox::new(
                    shims,
                    connection,
                    handle,
                    Abilities { pausable, files, forkable },
                ))))
            }
            Ok((_, other)) => Err(nonsense(&other)),
            // Its creation failed, or it is being destroyed at this moment.
            Err(CallError::Driver(DriverError::Gone { .. })) => Ok(None),
            Err(CallError::Nobody) => self.shims.reclaim(handle.clone(), by).await.map(|()| None),
            Err(error) => Err(error.into_driver_error(&handle.sandbox)),
        }
    }
}

impl Driver for ShimDriver {
    fn capabilities(&self) -> Capabilities {
        self.local.capabilities()
    }

    fn probe(&self) -> Pending<'_, Vec<Finding>> {
        self.local.probe()
    }

    /// Sockets of shims, whether somebody listens there or not, and what `local` sees.
    fn traces(&self) -> Pending<'_, Result<Vec<Trace>, DriverError>> {
        Box::pin(async {
            let isolation = self.local.capabilities().isolation;
            let mut traces = self.shims.traces(isolation)?;
            traces.extend(self.local.traces().await?);
            Ok(traces)
        })
    }

    fn create(
        &self,
        spec: SandboxSpec,
        materials: Materials,
        by: Deadline,
    ) -> Pending<'_, Result<Arc<dyn Sandbox>, DriverError>> {
        Box::pin(self.create_in_shim(spec, materials, by))
    }

    /// The token may be empty where the maker was killed before it was told: the id is enough to
    /// find a living shim.
    fn recover(
        &self,
        handle: SandboxHandle,
        by: Deadline,
    ) -> Pending<'_, Result<Option<Arc<dyn Sandbox>>, DriverError>> {
        Box::pin(self.recover_from_shim(handle, by))
    }
}

/// A shim answered something else than it was asked.
fn nonsense(reply: &Reply) -> DriverError {
    DriverError::Unreachable { why: format!("it answered nonsense: {reply:?}") }
}

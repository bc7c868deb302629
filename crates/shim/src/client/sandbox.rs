//! A sandbox and its processes, held by a shim.

use std::{
    collections::BTreeMap,
    fmt,
    os::fd::OwnedFd,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base::{Deadline, ProcessId, clock::Timestamp};
use tokio::sync::OnceCell;
use workload::{
    Attachment, DriverError, Exit, ExitStatus, FileStat, Files, Forkable, Limits, Pausable,
    Pending, Process, ProcessSpec, Sandbox, SandboxHandle, Signal, Streams, TerminalSize, Unpack,
    Usage,
};

use super::{
    connection::{CallError, Connection},
    nonsense,
    shims::Shims,
};
use crate::protocol::{Reply, Request};

/// Deadline of calls to which the contract gives none.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a call that can be asked twice is asked again after the connection broke.
const RETRIES_MAX: u32 = 3;

/// Between two tries to wait for a process while its shim does not answer.
const WAIT_PAUSE: Duration = Duration::from_millis(200);

/// How long a shim may take to end after its sandbox is destroyed.
const END: Duration = Duration::from_secs(1);

/// The way to one sandbox's shim.
struct Link {
    shims: Arc<Shims>,
    handle: SandboxHandle,
    connection: tokio::sync::Mutex<Arc<Connection>>,
    destroyed: AtomicBool,
    /// How processes ended that had not been waited for when the sandbox was destroyed.
    exits: Mutex<BTreeMap<ProcessId, Exit>>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("handle", &self.handle).finish_non_exhaustive()
    }
}

impl Link {
    /// Makes a call, again if it may be and the connection broke.
    async fn call(
        &self,
        request: Request,
        fd: Option<&OwnedFd>,
        by: Option<Deadline>,
    ) -> Result<Reply, CallError> {
        let mut retries = 0;
        loop {
            let connection = self.connection(by).await?;
            match connection.call(request.clone(), fd, by).await {
                Err(CallError::Lost(_)) if request.is_idempotent() && retries < RETRIES_MAX => {
                    retries += 1;
                }
                result => return result,
            }
        }
    }

    /// A call without a deadline of its own, its failures in the words of the contract.
    async fn ask(&self, request: Request, fd: Option<&OwnedFd>) -> Result<Reply, DriverError> {
        self.ask_by(request, fd, Deadline::after(PATIENCE)).await
    }

    async fn ask_by(
        &self,
        request: Request,
        fd: Option<&OwnedFd>,
        by: Deadline,
    ) -> Result<Reply, DriverError> {
        self.call(request, fd, Some(by)).await.map_err(|error| self.driver_error(error))
    }

    fn driver_error(&self, error: CallError) -> DriverError {
        match error {
            CallError::Nobody if self.is_destroyed() => {
                DriverError::Gone { what: format!("sandbox {}", self.handle.sandbox) }
            }
            error @ (CallError::Nobody | CallError::Lost(_) | CallError::Driver(_)) => {
                error.into_driver_error(&self.handle.sandbox)
            }
        }
    }

    fn is_destroyed(&self) -> bool {
        self.destroyed.load(Ordering::Acquire)
    }

    /// The connection, made anew if it broke.
    async fn connection(&self, by: Option<Deadline>) -> Result<Arc<Connection>, CallError> {
        if self.is_destroyed() {
            return Err(CallError::Nobody);
        }
        let mut connection = self.connection.lock().await;
        if !connection.is_open() {
            let by = by.unwrap_or_else(|| Deadline::after(PATIENCE));
            *connection = Arc::new(self.shims.connect(&self.handle.sandbox, by).await?);
        }
        Ok(Arc::clone(&connection))
    }

    /// How a process ended. If its shim was killed, nobody knows.
    async fn exit_of(&self, process: &ProcessId) -> Exit {
        loop {
            match self.call(Request::Wait { process: process.clone() }, None, None).await {
                Ok(Reply::Exit(exit)) => return exit,
                Ok(_) | Err(CallError::Nobody | CallError::Driver(DriverError::Gone { .. })) => {
                    let exits = self.exits.lock().unwrap_or_else(PoisonError::into_inner);
                    return exits.get(process).copied().unwrap_or_else(lost);
                }
                Err(CallError::Lost(_) | CallError::Driver(_)) => {
                    tokio::time::sleep(WAIT_PAUSE).await;
                }
            }
        }
    }

    async fn destroy(&self, by: Deadline) -> Result<(), DriverError> {
        if self.is_destroyed() {
            return Ok(());
        }
        let connection = self.connection.lock().await.clone();
        match self.call(Request::Destroy, None, Some(by)).await {
            Ok(Reply::Destroyed(exits)) => {
                self.exits.lock().unwrap_or_else(PoisonError::into_inner).extend(exits);
                self.destroyed.store(true, Ordering::Release);
                // Its last connection closes when it ends.
                let _ = tokio::time::timeout(END, connection.closed()).await;
                // It has removed its socket; if it could not, nobody else ever would.
                self.shims.remove_socket(&self.handle.sandbox)
            }
            Ok(other) => Err(nonsense(&other)),
            Err(CallError::Nobody) if self.is_destroyed() => Ok(()),
            Err(CallError::Nobody) => {
                self.shims.reclaim(self.handle.clone(), by).await?;
                self.destroyed.store(true, Ordering::Release);
                Ok(())
            }
            Err(error) => Err(self.driver_error(error)),
        }
    }
}

fn lost() -> Exit {
    Exit { status: ExitStatus::Lost, out_of_memory: false, at: Timestamp::now() }
}

/// An answer that says no more than that it is done.
fn done(reply: Reply) -> Result<(), DriverError> {
    if reply == Reply::Done { Ok(()) } else { Err(nonsense(&reply)) }
}

/// A sandbox held by a shim.
#[derive(Debug)]
pub(super) struct ShimSandbox {
    link: Arc<Link>,
    abilities: Abilities,
}

/// What the driver behind a shim can do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Abilities {
    pub(super) pausable: bool,
    pub(super) files: bool,
    pub(super) forkable: bool,
}

impl ShimSandbox {
    pub(super) fn new(
        shims: Arc<Shims>,
        connection: Connection,
        handle: SandboxHandle,
        abilities: Abilities,
    ) -> ShimSandbox {
        let link = Link {
            shims,
            handle,
            connection: tokio::sync::Mutex::new(Arc::new(connection)),
            destroyed: AtomicBool::new(false),
            exits: Mutex::new(BTreeMap::new()),
        };
        ShimSandbox { link: Arc::new(link), abilities }
    }

    fn new_process(&self, id: ProcessId, host_pid: Option<u32>) -> Arc<dyn Process> {
        let link = Arc::clone(&self.link);
        Arc::new(ShimProcess { link, id, host_pid, exit: OnceCell::new() })
    }
}

impl Sandbox for ShimSandbox {
    fn handle(&self) -> SandboxHandle {
        self.link.handle.clone()
    }

    fn spawn(
        &self,
        spec: ProcessSpec,
        streams: Streams,
        by: Deadline,
    ) -> Pending<'_, Result<Arc<dyn Process>, DriverError>> {
        Box::pin(async move {
            let id = spec.id.clone();
            let attached = streams.attached;
            let request = Request::Spawn {
                spec: Box::new(spec),
                attached: attached.is_some(),
                output_only: attached.as_ref().is_some_and(|attached| !attached.input),
            };
            let socket = attached.map(|attached| attached.socket);
            let reply = self.link.ask_by(request, socket.as_ref(), by).await?;
            let Reply::Process { host_pid } = reply else { return Err(nonsense(&reply)) };
            Ok(self.new_process(id, host_pid))
        })
    }

    fn process(&self, id: &ProcessId) -> Pending<'_, Option<Arc<dyn Process>>> {
        let id = id.clone();
        Box::pin(async move {
            match self.link.ask(Request::Process { process: id.clone() }, None).await {
                Ok(Reply::Process { host_pid }) => Some(self.new_process(id, host_pid)),
                Ok(_) | Err(_) => None,
            }
        })
    }

    fn forget(&self, id: &ProcessId) -> Pending<'_, ()> {
        let request = Request::Forget { process: id.clone() };
        Box::pin(async move {
            // Where there is no shim any more, there is nothing to forget.
            let _ = self.link.ask(request, None).await;
        })
    }

    fn limit(&self, limits: Limits) -> Pending<'_, Result<(), DriverError>> {
        let request = Request::Limit { limits: Box::new(limits) };
        Box::pin(async move { done(self.link.ask(request, None).await?) })
    }

    fn usage(&self) -> Pending<'_, Result<Usage, DriverError>> {
        Box::pin(async move {
            let reply = self.link.ask(Request::Usage, None).await?;
            let Reply::Usage(usage) = reply else { return Err(nonsense(&reply)) };
            Ok(*usage)
        })
    }

    fn host_pids(&self) -> Pending<'_, Result<Vec<u32>, DriverError>> {
        Box::pin(async move {
            let reply = self.link.ask(Request::HostPids, None).await?;
            let Reply::HostPids(pids) = reply else { return Err(nonsense(&reply)) };
            Ok(pids)
        })
    }

    fn destroy(&self, by: Deadline) -> Pending<'_, Result<(), DriverError>> {
        Box::pin(self.link.destroy(by))
    }

    fn pausable(&self) -> Option<&dyn Pausable> {
        self.abilities.pausable.then_some(self)
    }

    fn files(&self) -> Option<&dyn Files> {
        self.abilities.files.then_some(self)
    }

    fn forkable(&self) -> Option<&dyn Forkable> {
        self.abilities.forkable.then_some(self)
    }
}

impl ShimSandbox {
    /// A call that takes as long as an archive does.
    async fn stream(&self, request: Request, fd: OwnedFd) -> Result<(), DriverError> {
        let reply = self.link.call(request, Some(&fd), None).await;
        done(reply.map_err(|error| self.link.driver_error(error))?)
    }
}

impl Files for ShimSandbox {
    fn stat(&self, process: &ProcessId, path: &str) -> Pending<'_, Result<FileStat, DriverError>> {
        let request = Request::FileStat { process: process.clone(), path: path.to_owned() };
        Box::pin(async move {
            let reply = self.link.ask(request, None).await?;
            let Reply::FileStat(stat) = reply else { return Err(nonsense(&reply)) };
            Ok(*stat)
        })
    }

    fn read(
        &self,
        process: &ProcessId,
        path: &str,
        name: &str,
        to: OwnedFd,
    ) -> Pending<'_, Result<(), DriverError>> {
        let (path, name) = (path.to_owned(), name.to_owned());
        Box::pin(self.stream(Request::FilesRead { process: process.clone(), path, name }, to))
    }

    fn write(
        &self,
        process: &ProcessId,
        path: &str,
        from: OwnedFd,
        unpack: Unpack,
    ) -> Pending<'_, Result<(), DriverError>> {
        let path = path.to_owned();
        Box::pin(self.stream(Request::FilesWrite { process: process.clone(), path, unpack }, from))
    }
}

impl Pausable for ShimSandbox {
    fn pause(&self, by: Deadline) -> Pending<'_, Result<(), DriverError>> {
        Box::pin(async move { done(self.link.ask_by(Request::Pause, None, by).await?) })
    }

    fn resume(&self, by: Deadline) -> Pending<'_, Result<(), DriverError>> {
        Box::pin(async move { done(self.link.ask_by(Request::Resume, None, by).await?) })
    }
}

impl Forkable for ShimSandbox {
    fn save(&self, directory: &Path, by: Deadline) -> Pending<'_, Result<(), DriverError>> {
        let request = Request::Save { directory: directory.to_owned() };
        Box::pin(async move { done(self.link.ask_by(request, None, by).await?) })
    }
}

/// A process held by a shim.
#[derive(Debug)]
struct ShimProcess {
    link: Arc<Link>,
    id: ProcessId,
    host_pid: Option<u32>,
    exit: OnceCell<Exit>,
}

impl ShimProcess {
    /// Asks for something that only a running process can do.
    async fn ask(&self, request: Request) -> Result<(), DriverError> {
        done(self.call(request, None).await?)
    }

    async fn call(&self, request: Request, fd: Option<&OwnedFd>) -> Result<Reply, DriverError> {
        if self.exit.initialized() || self.link.is_destroyed() {
            return Err(self.not_running());
        }
        self.link.ask(request, fd).await
    }

    fn not_running(&self) -> DriverError {
        let what = format!("process {}", self.id);
        DriverError::State { what, state: "not running".to_owned() }
    }
}

impl Process for ShimProcess {
    fn id(&self) -> &ProcessId {
        &self.id
    }

    fn host_pid(&self) -> Option<u32> {
        self.host_pid.filter(|_| !self.exit.initialized() && !self.link.is_destroyed())
    }

    fn signal(&self, signal: Signal) -> Pending<'_, Result<(), DriverError>> {
        let request = Request::Signal { process: self.id.clone(), signal };
        Box::pin(self.ask(request))
    }

    fn resize(&self, size: TerminalSize) -> Pending<'_, Result<(), DriverError>> {
        let request = Request::Resize { process: self.id.clone(), size };
        Box::pin(self.ask(request))
    }

    fn attach(
        &self,
        attachment: Attachment,
    ) -> Pending<'_, Result<Option<Timestamp>, DriverError>> {
        let Attachment { socket, input, mark } = attachment;
        let request = Request::Attach { process: self.id.clone(), output_only: !input, mark };
        Box::pin(async move {
            let reply = self.call(request, Some(&socket)).await?;
            if let Reply::Attached { at } = reply {
                return Ok(Some(at));
            }
            done(reply).map(|()| None)
        })
    }

    fn wait(&self) -> Pending<'_, Exit> {
        Box::pin(async move { *self.exit.get_or_init(|| self.link.exit_of(&self.id)).await })
    }
}

//! The three traits. A new ability is an optional trait and a field in [`Capabilities`], never a
//! method that answers "unsupported".

use std::{fmt::Debug, future::Future, path::Path, pin::Pin, sync::Arc};

use base::{Deadline, ProcessId, SandboxId, clock::Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    Attachment, DriverError, Exit, Files, Isolation, Limits, Materials, ProcessSpec, SandboxSpec,
    Signal, Streams, TerminalSize, Usage,
};

/// An answer that takes time. Dropping it cancels the waiting, never the work half-way: an
/// operation that began either finishes or undoes itself.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The code that provides one isolation on one host.
pub trait Driver: Debug + Send + Sync {
    /// Which isolation it provides and what it can do.
    fn capabilities(&self) -> Capabilities;

    /// Looks at the host and says what works and what does not, for `doctor` and for errors.
    fn probe(&self) -> Pending<'_, Vec<Finding>>;

    /// What there is on this host of sandboxes that this driver made, whoever made it do so and
    /// whether they run, for `doctor` to find what nobody knows of.
    ///
    /// # Errors
    /// [`DriverError::Step`] if the host cannot be looked at.
    fn traces(&self) -> Pending<'_, Result<Vec<Trace>, DriverError>>;

    /// Makes a sandbox in which nothing runs yet.
    ///
    /// # Errors
    /// Any [`DriverError`]; nothing is left behind.
    fn create(
        &self,
        spec: SandboxSpec,
        materials: Materials,
        by: Deadline,
    ) -> Pending<'_, Result<Arc<dyn Sandbox>, DriverError>>;

    /// Finds a sandbox again that an earlier caller made, or `None` if nothing of it runs; then
    /// nothing of it is left either.
    ///
    /// # Errors
    /// [`DriverError::Unreachable`] if it may still run but does not answer.
    fn recover(
        &self,
        handle: SandboxHandle,
        by: Deadline,
    ) -> Pending<'_, Result<Option<Arc<dyn Sandbox>>, DriverError>>;
}

/// One isolation boundary.
pub trait Sandbox: Debug + Send + Sync {
    /// What [`Driver::recover`] needs to find it again.
    fn handle(&self) -> SandboxHandle;

    /// Starts a process. It runs when this answers: execve(2) has succeeded. In a sandbox that
    /// begins as a copy ([`SandboxSpec::taken_from`]), the process with a root of its own is there
    /// already: it is taken over with its new streams, and goes on.
    ///
    /// Every process with a root of its own is the first of a container
    /// ([`Capabilities::many_containers`]). What the sandbox's spec speaks of they have in common:
    /// network, IPC, names, ids and limits; files, mounts and process ids are each container's own,
    /// and so is its end.
    ///
    /// # Errors
    /// [`DriverError::CommandNotFound`] and [`DriverError::CommandNotRunnable`] for the command,
    /// any other for the rest; the process is gone then.
    fn spawn(
        &self,
        spec: ProcessSpec,
        streams: Streams,
        by: Deadline,
    ) -> Pending<'_, Result<Arc<dyn Process>, DriverError>>;

    /// A process that was spawned, running or ended, until [`Sandbox::forget`].
    fn process(&self, id: &ProcessId) -> Pending<'_, Option<Arc<dyn Process>>>;

    /// Lets go of what is kept of an ended process (an exec whose exit has been noted), and of a
    /// container's root with its first process.
    fn forget(&self, id: &ProcessId) -> Pending<'_, ()>;

    /// Sets new limits for the whole sandbox. Fields that are `None` stay as they are.
    ///
    /// # Errors
    /// [`DriverError::Invalid`], [`DriverError::Unsupported`] or [`DriverError::Step`]; limits
    /// before the failing one are in force.
    fn limit(&self, limits: Limits) -> Pending<'_, Result<(), DriverError>>;

    /// What it has used so far.
    ///
    /// # Errors
    /// [`DriverError::Gone`] after [`Sandbox::destroy`].
    fn usage(&self) -> Pending<'_, Result<Usage, DriverError>>;

    /// Host process ids of everything that runs inside, for `top`; empty where the host has none.
    ///
    /// # Errors
    /// [`DriverError::Gone`] after [`Sandbox::destroy`].
    fn host_pids(&self) -> Pending<'_, Result<Vec<u32>, DriverError>>;

    /// Kills what still runs and removes everything that the driver made. Doing it twice is
    /// doing it once.
    ///
    /// # Errors
    /// [`DriverError::DeadlinePassed`] or [`DriverError::Step`] if something would not go; it can
    /// be tried again.
    fn destroy(&self, by: Deadline) -> Pending<'_, Result<(), DriverError>>;

    /// Pausing, where the driver can.
    fn pausable(&self) -> Option<&dyn Pausable>;

    /// Its files, where the driver can reach them.
    fn files(&self) -> Option<&dyn Files>;

    /// Copying it while it runs, where the driver can.
    fn forkable(&self) -> Option<&dyn Forkable>;
}

/// A sandbox whose processes can be stopped in their tracks.
pub trait Pausable: Send + Sync {
    /// Stops every process; pausing what is paused changes nothing.
    ///
    /// # Errors
    /// [`DriverError::Step`], [`DriverError::DeadlinePassed`], [`DriverError::Gone`].
    fn pause(&self, by: Deadline) -> Pending<'_, Result<(), DriverError>>;

    /// Lets every process go on.
    ///
    /// # Errors
    /// As [`Pausable::pause`].
    fn resume(&self, by: Deadline) -> Pending<'_, Result<(), DriverError>>;
}

/// A sandbox of which there can be others that go on from where it is.
pub trait Forkable: Send + Sync {
    /// Saves it into an empty directory, from which any number of others begin
    /// ([`SandboxSpec::taken_from`]); it goes on. Its processes are to be paused: they are in the
    /// others too, until each has become another one, and go on there then.
    ///
    /// # Errors
    /// [`DriverError::Unsupported`] of a sandbox that has had several containers, which nothing is
    /// done to; [`DriverError::Step`], [`DriverError::DeadlinePassed`], [`DriverError::Gone`]; what
    /// is in the directory then is nothing.
    fn save(&self, directory: &Path, by: Deadline) -> Pending<'_, Result<(), DriverError>>;
}

/// A process of a sandbox, running or ended.
pub trait Process: Debug + Send + Sync {
    /// Its name.
    fn id(&self) -> &ProcessId;

    /// Its process id on the host, where it has one and still runs.
    fn host_pid(&self) -> Option<u32>;

    /// Sends a signal to it alone.
    ///
    /// # Errors
    /// [`DriverError::State`] if it has ended.
    fn signal(&self, signal: Signal) -> Pending<'_, Result<(), DriverError>>;

    /// Gives its terminal another size.
    ///
    /// # Errors
    /// [`DriverError::State`] if it has ended or has no terminal.
    fn resize(&self, size: TerminalSize) -> Pending<'_, Result<(), DriverError>>;

    /// Connects a stream socket to its standard streams, from now on.
    ///
    /// What is written to the socket goes to standard input; shutting down its writing side ends
    /// that input if [`ProcessSpec::stdin_once`]. With a terminal, output comes as it is;
    /// without, in frames of Docker's multiplexed format: one byte stream (1 output, 2 error),
    /// three zero bytes, four bytes length (big endian), payload. The socket is closed when
    /// the process has ended and its output is through. One who does not read holds the process
    /// back, and nobody else's output is lost.
    ///
    /// To one who asks for a mark it tells a time: what the log has up to then, that included, was
    /// said before, and what comes over the socket is in the log after it. No answer is that of a
    /// shim which does not know.
    ///
    /// # Errors
    /// [`DriverError::State`] if it has ended.
    fn attach(&self, attachment: Attachment)
    -> Pending<'_, Result<Option<Timestamp>, DriverError>>;

    /// Waits until it has ended. Any number may wait; each gets the same answer, at any time.
    fn wait(&self) -> Pending<'_, Exit>;
}

/// What a driver can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Which isolation it provides.
    pub isolation: Isolation,
    /// Whether [`Sandbox::pausable`] answers.
    pub pause: bool,
    /// Whether [`Sandbox::files`] answers.
    #[serde(default)]
    pub files: bool,
    /// Whether [`Sandbox::forkable`] answers.
    #[serde(default)]
    pub fork: bool,
    /// Whether processes can have containers of their own beside the first.
    pub many_containers: bool,
    /// Whether ids inside can differ from ids outside.
    pub user_map: bool,
    /// Whether it wants roots as files ([`crate::RootFs::Layers`]) instead of mounted.
    #[serde(default)]
    pub layers: bool,
}

/// One thing that was looked at on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at: "cgroup", "overlayfs".
    pub subject: String,
    /// Whether it works as needed.
    pub works: bool,
    /// What was found, in a sentence.
    pub detail: String,
    /// What would make it work, where something is missing that people want.
    #[serde(default)]
    pub mend: Option<String>,
}

/// Something of a sandbox that is on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// Whose; [`Driver::recover`] finds or clears it.
    pub handle: SandboxHandle,
    /// What it is: "shim", "control group /wythe/…".
    pub what: String,
}

/// What it takes to find a sandbox again, after its maker was killed or upgraded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxHandle {
    /// Which driver made it.
    pub isolation: Isolation,
    /// Whose sandbox it is.
    pub sandbox: SandboxId,
    /// The driver's own words.
    pub token: String,
}

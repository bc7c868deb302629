//! The process that shims are forked from.
//!
//! It is as small as it can be: it accepts connections and forks for each. It never reads a byte
//! from a client, so no client can hold it up or confuse it; the new process does the reading,
//! and becomes a shim if it is asked to. What a shim needs is in memory before the fork and
//! shared by all of them.

use std::{
    fmt, io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use base::ErrorKind;
use rustix::{
    fs::{Mode, OFlags},
    process::{Pid, PidfdFlags},
};
use sys::fork::{Children, Fork, close_from, fork, on_child_exit};
use workload::{Driver, DriverError, Isolation};

use crate::{DirectoryError, server};

/// First descriptor that is not a standard stream.
const FIRST_DESCRIPTOR: u32 = 3;

/// Between two tries to accept a connection while the host is out of something.
const PAUSE: Duration = Duration::from_millis(100);

/// Makes the driver for an isolation.
pub type MakeDriver = dyn Fn(Isolation) -> Result<Arc<dyn Driver>, DriverError> + Send + Sync;

/// What a fork server is made of.
pub struct ForkServer {
    /// The directory for the shims' sockets, the same as the clients'.
    pub run_dir: PathBuf,
    /// Names this build, the same as the clients'; one of another build is replaced.
    pub build: String,
    /// Called once in the server, when it has one thread and no descriptors but its own: makes
    /// what all shims share.
    pub prepare: Arc<dyn Fn() + Send + Sync>,
    /// Makes the driver for an isolation. It is called once in each shim, under its runtime.
    pub driver: Arc<MakeDriver>,
}

impl fmt::Debug for ForkServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ForkServer { run_dir, build, prepare: _, driver: _ } = self;
        f.debug_struct("ForkServer").field("run_dir", run_dir).field("build", build).finish()
    }
}

/// Why a fork server or a shim could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ForkServerError {
    /// The kernel said no.
    #[error("cannot {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The sockets' directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

impl ForkServerError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ForkServerError::Io { .. } => ErrorKind::Internal,
            ForkServerError::Directory(error) => error.kind(),
        }
    }
}

fn failed(doing: &'static str) -> impl Fn(io::Error) -> ForkServerError {
    move |source| ForkServerError::Io { doing, source }
}

impl ForkServer {
    /// Turns this process into the fork server: it detaches into the background and serves the
    /// listening socket that is its standard input.
    ///
    /// It returns in three kinds of processes, which all have to leave then: at once in the
    /// calling one, at the end of each shim, and never in the server itself but for an error.
    /// To be called by a process with one thread that owns no descriptors but its standard
    /// streams: all others are closed.
    ///
    /// # Errors
    /// [`ForkServerError`] if the process cannot be set up; afterwards nothing ends the server but
    /// a signal.
    pub fn serve(self) -> Result<(), ForkServerError> {
        match fork().map_err(failed("fork"))? {
            Fork::Parent(_) => Ok(()),
            Fork::Child => {
                let listener = detach()?;
                self.accept(listener)
            }
        }
    }

    fn accept(&self, listener: UnixListener) -> Result<(), ForkServerError> {
        let this = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
            .map_err(|error| failed("open a descriptor of this process")(error.into()))?;
        share_signal_table().map_err(failed("begin to wait"))?;
        (self.prepare)();
        on_child_exit(Children::Forgotten).map_err(failed("ignore children"))?;
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) => {
                    if error.kind() != io::ErrorKind::Interrupted {
                        // The host is out of descriptors or memory.
                        std::thread::sleep(PAUSE);
                    }
                    continue;
                }
            };
            match fork() {
                Ok(Fork::Child) => {
                    // Held open here, the socket would seem served after the server's death.
                    drop(listener);
                    return self.become_shim(stream, this);
                }
                // A client whose connection ends before a Welcome knows that nothing has begun.
                Ok(Fork::Parent(_)) | Err(_) => drop(stream),
            }
        }
    }

    fn become_shim(&self, stream: UnixStream, server: OwnedFd) -> Result<(), ForkServerError> {
        on_child_exit(Children::Kept).map_err(failed("wait for children"))?;
        rustix::process::setsid().map_err(|error| failed("begin a session")(error.into()))?;
        rustix::process::set_child_subreaper(Some(Pid::INIT))
            .map_err(|error| failed("adopt orphans")(error.into()))?;
        // It is only for `ps`.
        let _ = rustix::thread::set_name(c"wythe-shim");
        server::run(self, stream, server)
    }
}

/// Makes the table that tokio has of all signals, 24 KiB in every process with a runtime, once for
/// all shims. None of them listens for a signal, so nobody writes to it or to the socket in it.
fn share_signal_table() -> io::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_io().build().map(drop)
}

/// Leaves whatever the caller was part of; the listening socket.
fn detach() -> Result<UnixListener, ForkServerError> {
    let kernel = |doing| move |error: rustix::io::Errno| failed(doing)(error.into());
    close_from(FIRST_DESCRIPTOR).map_err(failed("close descriptors"))?;
    rustix::process::setsid().map_err(kernel("begin a session"))?;
    rustix::process::chdir("/").map_err(kernel("change to /"))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let listener = rustix::stdio::stdin();
    let listener =
        rustix::io::fcntl_dupfd_cloexec(listener, 3).map_err(kernel("keep the socket"))?;
    rustix::net::sockopt::socket_acceptconn(&listener)
        .map_err(kernel("use standard input as a listening socket"))?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(kernel("open /dev/null"))?;
    rustix::stdio::dup2_stdin(null.as_fd()).map_err(kernel("leave standard input"))?;
    rustix::stdio::dup2_stdout(null.as_fd()).map_err(kernel("leave standard output"))?;
    rustix::stdio::dup2_stderr(null.as_fd()).map_err(kernel("leave standard error"))?;
    let _ = rustix::thread::set_name(c"wythe-fork");
    Ok(UnixListener::from(listener))
}

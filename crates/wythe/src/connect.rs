//! Finds the daemon, or starts one.

use std::{
    fs::{DirBuilder, File},
    io::{self, Read as _},
    os::{
        fd::OwnedFd,
        unix::{fs::DirBuilderExt as _, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use api::{Client, ClientError};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};

use crate::{error::CliError, paths::Roots};

/// Whom commands talk to.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// The instance's directories.
    pub(crate) roots: Roots,
    /// A socket that was named; nobody is started there.
    pub(crate) named: Option<PathBuf>,
    /// The socket of root's daemon, which an ordinary user may use; nobody is started there.
    pub(crate) shared: Option<PathBuf>,
    /// More is told.
    pub(crate) debug: bool,
}

/// Why there is no daemon to talk to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Nobody answers at the socket, and none may be started.
    #[error(
        "cannot connect to the Wythe daemon at unix://{0}. Is the daemon running? `wythe daemon` \
         starts it, and without -H and WYTHE_HOST every command does by itself"
    )]
    Nobody(PathBuf),
    /// The socket is not for us.
    #[error(
        "permission denied while trying to connect to the Wythe daemon at unix://{0}: run the \
         command as root, become a member of the group \"wythe\", or leave -H, WYTHE_HOST and \
         WYTHE_RUN out to have a daemon of your own"
    )]
    NotAllowed(PathBuf),
    /// The directory of the socket is another's, or others may write there.
    #[error(
        "{0} is not a directory that belongs to this user alone: remove it, or set WYTHE_RUN to \
         another"
    )]
    NotOurs(PathBuf),
    /// A daemon was started and did not come up.
    #[error("the daemon could not be started: {0}")]
    Start(String),
    /// A step of starting it failed.
    #[error("cannot {doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why.
        source: io::Error,
    },
}

impl Endpoint {
    /// The daemon's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        let elsewhere = self.named.clone().or_else(|| self.shared.clone());
        elsewhere.unwrap_or_else(|| self.roots.socket())
    }

    /// Connects to the daemon, and starts it if there is none and it may.
    ///
    /// # Errors
    /// [`ConnectError`], [`ClientError::Version`].
    pub(crate) async fn connect(&self) -> Result<Client, CliError> {
        match self.connect_running().await {
            Err(CliError::Connect(ConnectError::Nobody(_)))
                if self.named.is_none() && self.shared.is_none() =>
            {
                self.start().await
            }
            other => other,
        }
    }

    /// Connects to the daemon if there is one.
    ///
    /// # Errors
    /// [`ConnectError`], [`ClientError::Version`].
    pub(crate) async fn connect_running(&self) -> Result<Client, CliError> {
        let socket = self.socket();
        if socket == self.roots.socket() {
            check_run_root(&self.roots.run)?;
        }
        match Client::connect(&socket).await {
            Ok(client) => Ok(client),
            Err(ClientError::Connect { source, .. }) => Err(unconnected(socket, source).into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Starts a daemon in the background and waits until it serves. Of several command lines that
    /// do so at once, one starts it and the others wait for that.
    async fn start(&self) -> Result<Client, CliError> {
        let _turn = self.take_turn()?;
        match self.connect_running().await {
            Err(CliError::Connect(ConnectError::Nobody(_))) => {}
            other => return other,
        }
        let ready = self.spawn()?;
        let said = read_all(ready)?;
        match said.strip_prefix("ready") {
            Some(_) => self.connect_running().await,
            None if said.is_empty() => {
                let log = self.roots.log();
                let why = format!("it ended without a word; see {}", log.display());
                Err(ConnectError::Start(why).into())
            }
            None => Err(ConnectError::Start(said.trim().to_owned()).into()),
        }
    }

    /// Waits for the others who are starting a daemon.
    fn take_turn(&self) -> Result<OwnedFd, ConnectError> {
        let path = self.roots.run.join("start.lock");
        let failed = |doing: &str| {
            let doing = format!("{doing} {}", path.display());
            move |source: io::Error| ConnectError::Io { doing: doing.clone(), source }
        };
        make_run_root(&self.roots.run).map_err(failed("make the directory of"))?;
        check_run_root(&self.roots.run)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let lock = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| failed("open")(error.into()))?;
        loop {
            match flock(&lock, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(lock),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(failed("lock")(error.into())),
            }
        }
    }

    /// Starts it; what comes back ends when it has said how it went.
    fn spawn(&self) -> Result<File, ConnectError> {
        let failed =
            |doing: &str, source: io::Error| ConnectError::Io { doing: doing.to_owned(), source };
        let (read, write) = io::pipe().map_err(|error| failed("make a pipe", error))?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("wythe");
        if self.debug {
            command.arg("--debug");
        }
        command
            .arg("--data-root")
            .arg(&self.roots.data)
            .arg("--run-root")
            .arg(&self.roots.run)
            .args(["daemon", "--background"])
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::from(write))
            .stderr(Stdio::null());
        // Not waited for: it is meant to outlive this process.
        command.spawn().map_err(|error| failed("start the daemon", error))?;
        Ok(File::from(OwnedFd::from(read)))
    }
}

/// Makes the directory of the daemon's socket: whom root's socket lets in, its directory lets
/// pass. An ordinary user's is his alone.
///
/// # Errors
/// Whatever the kernel says.
pub(crate) fn make_run_root(path: &Path) -> io::Result<()> {
    let mode = if rustix::process::geteuid().is_root() { 0o711 } else { 0o700 };
    DirBuilder::new().recursive(true).mode(mode).create(path)
}

/// Makes sure that nobody else made the directory of an ordinary user's socket: it may stand in
/// `/tmp`, where anybody can be first.
///
/// # Errors
/// [`ConnectError::NotOurs`].
pub(crate) fn check_run_root(path: &Path) -> Result<(), ConnectError> {
    let own = rustix::process::geteuid();
    let Ok(found) = rustix::fs::lstat(path) else { return Ok(()) };
    let directory =
        rustix::fs::FileType::from_raw_mode(found.st_mode) == rustix::fs::FileType::Directory;
    // What root made can be trusted by everybody.
    let owner = found.st_uid == own.as_raw() || found.st_uid == 0;
    let ours = owner && directory && found.st_mode & 0o022 == 0;
    if own.is_root() || ours { Ok(()) } else { Err(ConnectError::NotOurs(path.to_owned())) }
}

/// Why nobody was reached at the socket.
fn unconnected(socket: PathBuf, source: io::Error) -> ConnectError {
    use io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
    let kind = source.kind();
    if kind == PermissionDenied {
        ConnectError::NotAllowed(socket)
    } else if [NotFound, ConnectionRefused].contains(&kind) {
        ConnectError::Nobody(socket)
    } else {
        ConnectError::Io { doing: format!("connect to {}", socket.display()), source }
    }
}

fn read_all(mut from: File) -> Result<String, ConnectError> {
    let mut text = String::new();
    let failed = |source| ConnectError::Io { doing: "hear from the daemon".to_owned(), source };
    from.read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

//! The directory where shims' sockets are, one for each sandbox, and the fork server's.

use std::{
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use base::{ErrorKind, SandboxId};
use rustix::{
    fs::{AtFlags, FlockOperation, Mode, OFlags},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with},
};
use workload::DriverError;

/// Name of the fork server's socket. Sandboxes' sockets end in `.sock`.
const FORK_SERVER: &str = "fork-server";
/// What the name of a sandbox's socket ends with.
const SANDBOX_SUFFIX: &str = ".sock";

/// Permission bits of the directory: who gets in is root to every sandbox.
const DIRECTORY_MODE: u32 = 0o700;

/// Permission bits of the sockets.
const SOCKET_MODE: u32 = 0o600;

/// Why the directory or a socket in it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The kernel said no.
    #[error("cannot {doing} {}", .path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else answers at this socket.
    #[error("{} is in use", .path.display())]
    InUse {
        /// Which socket.
        path: PathBuf,
    },
}

impl DirectoryError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            DirectoryError::Io { .. } => ErrorKind::Internal,
            DirectoryError::InUse { .. } => ErrorKind::Conflict,
        }
    }

    /// As an answer to a client.
    pub(crate) fn to_driver_error(&self) -> DriverError {
        match self {
            DirectoryError::Io { source, .. } => DriverError::step(self.to_string(), source),
            DirectoryError::InUse { path } => {
                let what = format!("the sandbox of {}", path.display());
                DriverError::Exists { what }
            }
        }
    }

    /// Whether too many wait at a socket at this moment.
    pub(crate) fn is_crowded(&self) -> bool {
        match self {
            DirectoryError::Io { source, .. } => source.kind() == io::ErrorKind::WouldBlock,
            DirectoryError::InUse { .. } => false,
        }
    }

    /// Whether it says that nobody listens at a socket.
    pub(crate) fn is_nobody(&self) -> bool {
        match self {
            DirectoryError::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
            }
            DirectoryError::InUse { .. } => false,
        }
    }
}

/// Whose socket is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Socket {
    ForkServer,
    Sandbox(SandboxId),
}

impl Socket {
    fn name(&self) -> String {
        match self {
            Socket::ForkServer => FORK_SERVER.to_owned(),
            Socket::Sandbox(id) => format!("{id}{SANDBOX_SUFFIX}"),
        }
    }
}

/// The directory, open.
///
/// Sockets are addressed beneath its descriptor, so that its path may be longer than the 107
/// bytes of a socket's address (unix(7)).
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    fd: OwnedFd,
}

impl Directory {
    /// Opens the directory, making it first where it is missing.
    pub(crate) fn open(path: &Path) -> Result<Directory, DirectoryError> {
        let failed = |doing| {
            move |source: io::Error| DirectoryError::Io { doing, path: path.to_owned(), source }
        };
        std::fs::create_dir_all(path).map_err(failed("make directory"))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| failed("open directory")(error.into()))?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(DIRECTORY_MODE))
            .map_err(|error| failed("protect directory")(error.into()))?;
        Ok(Directory { path: path.to_owned(), fd })
    }

    /// Connects to a socket, without blocking: `WouldBlock` if too many wait there already. The
    /// stream does not block either.
    pub(crate) fn connect(&self, socket: &Socket) -> Result<UnixStream, DirectoryError> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let connect = || -> Result<OwnedFd, Errno> {
            let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            rustix::net::connect(&fd, &SocketAddrUnix::new(self.address(&socket.name()))?)?;
            Ok(fd)
        };
        let fd = connect().map_err(|error| self.failed("connect to", socket)(error.into()))?;
        Ok(UnixStream::from(fd))
    }

    /// Listens at a socket at which nobody listens; what a killed process left there is removed.
    pub(crate) fn listen(&self, socket: &Socket) -> Result<UnixListener, DirectoryError> {
        // The lock belongs to this opening of the directory and goes with it.
        let lock = self.lock().map_err(self.failed("lock", socket))?;
        match self.connect(socket) {
            Ok(_) => return Err(DirectoryError::InUse { path: self.path.join(socket.name()) }),
            Err(error) if error.is_nobody() => {}
            Err(error) => return Err(error),
        }
        // It appears in its place when it is listened at: between bind(2) and listen(2) it would
        // look like a dead one's.
        let unfinished = format!("{}.new", socket.name());
        let kernel = |doing| move |error: Errno| self.failed(doing, socket)(error.into());
        match rustix::fs::unlinkat(&self.fd, &unfinished, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(kernel("make")(error)),
        }
        let listener = UnixListener::bind(self.address(&unfinished))
            .map_err(self.failed("listen at", socket))?;
        let mode = Mode::from_raw_mode(SOCKET_MODE);
        rustix::fs::chmodat(&self.fd, &unfinished, mode, AtFlags::empty())
            .map_err(kernel("protect"))?;
        rustix::fs::renameat(&self.fd, &unfinished, &self.fd, socket.name())
            .map_err(kernel("make"))?;
        drop(lock);
        Ok(listener)
    }

    /// Removes a socket, if it is there.
    pub(crate) fn remove(&self, socket: &Socket) -> Result<(), DirectoryError> {
        match rustix::fs::unlinkat(&self.fd, socket.name(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.failed("remove", socket)(error.into())),
        }
    }

    /// The sandboxes whose sockets are here.
    pub(crate) fn sandboxes(&self) -> Result<Vec<SandboxId>, DirectoryError> {
        let failed = |error: Errno| DirectoryError::Io {
            doing: "list directory",
            path: self.path.clone(),
            source: error.into(),
        };
        let mut sandboxes = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy();
            sandboxes.extend(name.strip_suffix(SANDBOX_SUFFIX).and_then(|id| id.parse().ok()));
        }
        Ok(sandboxes)
    }

    fn address(&self, name: &str) -> PathBuf {
        format!("/proc/self/fd/{}/{name}", self.fd.as_fd().as_raw_fd()).into()
    }

    fn lock(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, ".", flags, Mode::empty())?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&fd, FlockOperation::LockExclusive))?;
        Ok(fd)
    }

    fn failed(&self, doing: &'static str, socket: &Socket) -> impl Fn(io::Error) -> DirectoryError {
        let path = self.path.join(socket.name());
        move |source| DirectoryError::Io { doing, path: path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_socket_is_listened_at_once_and_a_dead_ones_place_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        // Longer than a socket's address may be.
        let path = dir.path().join("x".repeat(120)).join("run");
        let directory = Directory::open(&path).unwrap();
        let socket = Socket::Sandbox("web".parse().unwrap());
        assert!(directory.connect(&socket).unwrap_err().is_nobody());
        let listener = directory.listen(&socket).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("web.sock"))), (0o700, 0o600));
        directory.connect(&socket).unwrap();
        let other = Directory::open(&path).unwrap();
        let error = other.listen(&socket).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        drop(listener);
        assert!(directory.connect(&socket).unwrap_err().is_nobody());
        drop(other.listen(&socket).unwrap());
        other.remove(&socket).unwrap();
        other.remove(&socket).unwrap();
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
    }

    #[test]
    fn a_sandbox_called_like_the_fork_server_is_another_socket() {
        let id = FORK_SERVER.parse().unwrap();
        assert_ne!(Socket::Sandbox(id).name(), Socket::ForkServer.name());
    }
}

//! What is asked of a machine's process, and what it answers; and the way to its sockets.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd as _,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::name::Name;

/// What a machine's process is to begin with; the machine's lock comes with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    /// Which machine.
    pub(crate) name: Name,
    /// Its directory.
    pub(crate) directory: PathBuf,
    /// Where its sockets go.
    pub(crate) run: PathBuf,
    /// The snapshot from which it goes on, if it does not boot.
    pub(crate) restore: Option<Name>,
}

/// What became of that.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Started {
    /// It runs.
    Runs,
    /// It does not, and this is why.
    Refused(String),
}

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// How it is.
    Usage,
    /// Press the power button.
    Press,
    /// End at once.
    Kill,
    /// The guest shall get along with so much memory.
    Memory { bytes: u64 },
    /// Save everything under this name; if not `full`, of the memory only what was written since
    /// the snapshot before, where that is there.
    Snapshot { name: Name, full: bool },
}

/// What is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// It is done.
    Done,
    /// It is not, and this is why.
    Refused(String),
    /// How it is.
    Usage(Usage),
}

/// What a machine that runs uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Its process.
    pub pid: u32,
    /// Memory of the host's that it takes, in bytes: that of the guest and all of the process.
    pub resident_bytes: u64,
    /// What the guest was asked to get along without, in bytes.
    pub asked_bytes: u64,
    /// What it gave of that, in bytes.
    pub given_bytes: u64,
}

/// A machine's two sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Socket {
    Control,
    Console,
}

impl Socket {
    fn file(self, name: &Name) -> String {
        let end = match self {
            Socket::Control => "sock",
            Socket::Console => "console",
        };
        format!("{name}.{end}")
    }

    /// Listens, in place of whoever did before. For whoever holds the machine's lock.
    pub(crate) fn listen(self, run: &Path, name: &Name) -> io::Result<UnixListener> {
        let file = self.file(name);
        match fs::remove_file(run.join(&file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        near(run, &file, |path| UnixListener::bind(path))
    }

    pub(crate) fn connect(self, run: &Path, name: &Name) -> io::Result<UnixStream> {
        near(run, &self.file(name), |path| UnixStream::connect(path))
    }

    /// Takes it away.
    pub(crate) fn remove(self, run: &Path, name: &Name) {
        let _ = fs::remove_file(run.join(self.file(name)));
    }
}

/// Does something with a socket by a path that is short, however long its directory's is: the path
/// of a socket has at most 107 bytes (unix(7)).
fn near<T>(
    directory: &Path,
    file: &str,
    act: impl FnOnce(&Path) -> io::Result<T>,
) -> io::Result<T> {
    let directory = File::open(directory)?;
    act(&Path::new(&format!("/proc/self/fd/{}", directory.as_raw_fd())).join(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_reached_however_long_their_path_is() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("d".repeat(200));
        fs::create_dir(&run).unwrap();
        let name: Name = "n".repeat(63).parse().unwrap();
        assert!(Socket::Control.connect(&run, &name).is_err());
        let first = Socket::Control.listen(&run, &name).unwrap();
        Socket::Control.connect(&run, &name).unwrap();
        drop(first);
        let _second = Socket::Control.listen(&run, &name).unwrap();
        Socket::Control.connect(&run, &name).unwrap();
        Socket::Control.remove(&run, &name);
        assert!(Socket::Control.connect(&run, &name).is_err());
    }
}

//! One daemon for a bridge and its tables: a lock that it holds for as long as it lives.
//!
//! It is a file where only root can be, not a name in the network namespace (an abstract socket,
//! say), which a container that shares the host's network could take first. The file bears the
//! namespace's number, as another namespace has bridges of its own.
//!
//! Source: flock(2): a lock goes with the last descriptor of its opening, however its holder ends.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use net::InterfaceName;
use rustix::{
    fs::{FlockOperation, flock, fstat},
    io::Errno,
};

/// Where the locks are, of all daemons of this host.
const DIRECTORY: &str = "/run/wythe-networks";

/// How long a lock is asked for that somebody has: whoever sweeps has each for a moment, and so has a
/// child of a daemon that was killed.
const PATIENCE: Duration = Duration::from_secs(1);

/// Between two times it is asked for.
const PAUSE: Duration = Duration::from_millis(5);

/// The lock, held.
#[derive(Debug)]
pub(super) struct Claim {
    _file: File,
    path: PathBuf,
}

impl Claim {
    /// Claims a bridge of a network namespace; none if another daemon has it.
    ///
    /// # Errors
    /// If there can be no lock.
    pub(super) fn take(
        bridge: &InterfaceName,
        namespace: Option<BorrowedFd<'_>>,
    ) -> io::Result<Option<Claim>> {
        Claim::take_in(Path::new(DIRECTORY), bridge, namespace)
    }

    fn take_in(
        directory: &Path,
        bridge: &InterfaceName,
        namespace: Option<BorrowedFd<'_>>,
    ) -> io::Result<Option<Claim>> {
        let number = match namespace {
            Some(namespace) => fstat(namespace)?.st_ino,
            None => fstat(sys::netns::current()?.as_fd())?.st_ino,
        };
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let path = directory.join(format!("{number}-{bridge}"));
        sweep(directory, &path);
        let began = Instant::now();
        loop {
            let file = lock(&path)?;
            if file.is_some() || began.elapsed() > PATIENCE {
                return Ok(file.map(|file| Claim { _file: file, path }));
            }
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for Claim {
    /// While the lock is held: nobody else can have taken it then.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The file at this path, locked; none if somebody else has the lock.
fn lock(path: &Path) -> io::Result<Option<File>> {
    loop {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
        // Its holder may have removed it between the two.
        match fs::metadata(path) {
            Ok(found) if found.ino() == file.metadata()?.ino() => return Ok(Some(file)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// Removes the locks of daemons that were killed.
fn sweep(directory: &Path, except: &Path) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()).filter(|path| path != except) {
        if let Ok(Some(_held)) = lock(&path) {
            let _ = fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_it_for_a_moment_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let take = || Claim::take_in(dir.path(), &"wythe0".parse().unwrap(), None).unwrap();
        let held = take().unwrap();
        let sweeper = thread::spawn(move || {
            thread::sleep(PAUSE * 4);
            drop(held);
        });
        assert!(take().is_some());
        sweeper.join().unwrap();
    }

    #[test]
    fn the_second_waits_for_the_first_and_the_dead_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let take = |bridge: &str| Claim::take_in(dir.path(), &bridge.parse().unwrap(), None);
        let first = take("wythe0").unwrap();
        assert!(first.is_some());
        assert!(take("wythe0").unwrap().is_none());
        let other = take("wy-other").unwrap();
        assert!(other.is_some(), "another bridge");
        fs::write(dir.path().join("1-wythe0"), "").unwrap();
        drop(first);
        assert!(take("wythe0").unwrap().is_some());
        drop(other);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

//! A container's directory.
//!
//! ```text
//! <data>/                    0700
//!   lock                     held by the daemon
//!   records.*                see records.rs
//!   content/                 images
//!   containers/<id>/         0700
//!     upper/ work/           what the container wrote, and overlayfs' scratch
//!     output output.1 …      its log
//!   trash/                   containers that are gone and not yet deleted
//!   forks/                   containers that were saved, until their copies run
//! <run>/containers/<id>/     0700
//!   hosts hostname resolv.conf   written at every start
//! ```
//!
//! The record comes before the directory and goes after it, so a directory without a record is
//! nobody's and is removed when the engine is opened. A container is gone when its directory has
//! been renamed into the trash; deleting what it wrote, which may take long, comes after that.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use base::{ContainerId, clock::Timestamp};
use tracing::warn;
use workload::RootFs;

use crate::{EngineError, LogKind, OpenError};

/// What the names of those begin with in the trash that were saved for copies.
const ABANDONED: &str = "forks-";

/// The directories of one engine.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    containers: PathBuf,
    trash: PathBuf,
    forks: PathBuf,
    run: PathBuf,
}

/// The engine's lock on its data root; let go when it is dropped, however the daemon ends.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held for its lock")] File);

/// Takes a data root for oneself.
///
/// # Errors
/// [`OpenError::Locked`] if another daemon has it.
pub(crate) fn lock(data: &Path) -> Result<Lock, OpenError> {
    let path = data.join("lock");
    let failed = |step| {
        let path = path.clone();
        move |source| OpenError::Files { step, path, source }
    };
    make_private(data).map_err(failed("make the directory of"))?;
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    let file = options.open(&path).map_err(failed("open"))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(data.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed("lock")(source)),
    }
}

/// Makes a directory, and those above it, for root alone.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

impl Files {
    pub(crate) fn open(data: &Path, run: &Path) -> Result<Files, OpenError> {
        let (containers, trash) = (data.join("containers"), data.join("trash"));
        let (forks, run) = (data.join("forks"), run.join("containers"));
        let failed = |step, path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Files { step, path, source }
        };
        make_private(&trash).map_err(failed("make", &trash))?;
        // Whoever wanted copies of what was saved there is gone.
        let abandoned = trash.join(format!("{ABANDONED}{}", Timestamp::now().0));
        gone(fs::rename(&forks, abandoned)).map_err(failed("remove", &forks))?;
        for path in [&containers, &forks, &run] {
            make_private(path).map_err(failed("make", path))?;
        }
        Ok(Files { containers, trash, forks, run })
    }

    /// Where everything of a container is.
    pub(crate) fn directory(&self, id: &ContainerId) -> PathBuf {
        self.containers.join(id.as_str())
    }

    /// The current file of a container's log.
    pub(crate) fn log(&self, id: &ContainerId, kind: LogKind) -> PathBuf {
        self.directory(id).join(match kind {
            LogKind::Local | LogKind::Syslog => "output".to_owned(),
            // Where tools that know Docker look for it.
            LogKind::JsonFile => format!("{id}-json.log"),
        })
    }

    /// Makes a container's directory. What is there of it already stays.
    ///
    /// # Errors
    /// [`EngineError::Files`]; nothing is left then.
    pub(crate) fn make(&self, id: &ContainerId) -> Result<(), EngineError> {
        let directory = self.directory(id);
        let make = |path: &Path, mode| match DirBuilder::new().mode(mode).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other.map_err(failed("make", path)),
        };
        make(&directory, 0o700)
            // The root directory's own mode, as images have it.
            .and_then(|()| make(&directory.join("upper"), 0o755))
            .and_then(|()| make(&directory.join("work"), 0o700))
            .inspect_err(|_| {
                if let Err(error) = self.discard(id) {
                    warn!(container = %id, %error, "a half-made directory is left");
                }
            })
    }

    /// Takes a container's directory away, to be deleted by [`Files::delete`].
    ///
    /// # Errors
    /// [`EngineError::Files`]; it can be tried again.
    pub(crate) fn discard(&self, id: &ContainerId) -> Result<(), EngineError> {
        let own = self.run.join(id.as_str());
        gone(fs::remove_dir_all(&own)).map_err(failed("remove", &own))?;
        let directory = self.directory(id);
        let grave = self.trash.join(id.as_str());
        gone(fs::rename(&directory, grave)).map_err(failed("remove", &directory))
    }

    /// Deletes what a discarded container wrote. Symbolic links in it are removed, never
    /// followed. What cannot be deleted now is tried again when the engine is next opened.
    pub(crate) fn delete(&self, id: &ContainerId) {
        erase(&self.trash.join(id.as_str()));
    }

    /// Removes directories that no record speaks of, and the trash.
    pub(crate) fn remove_orphans(&self, known: &BTreeSet<String>) -> io::Result<()> {
        for path in self.orphans(|| known.clone())? {
            erase(&path);
        }
        Ok(())
    }

    /// Directories that no record speaks of, and what is in the trash. `known` is asked when all
    /// has been seen, so that what is made meanwhile is not taken for nobody's.
    pub(crate) fn orphans(
        &self,
        known: impl FnOnce() -> BTreeSet<String>,
    ) -> io::Result<Vec<PathBuf>> {
        let mut seen = list(&self.containers)?;
        seen.extend(list(&self.run)?);
        let known = known();
        seen.retain(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            !name.is_some_and(|name| known.contains(name))
        });
        seen.extend(list(&self.trash)?);
        Ok(seen)
    }

    /// A container's root over these layers, top first.
    pub(crate) fn root(&self, id: &ContainerId, lower: Vec<PathBuf>) -> RootFs {
        let directory = self.directory(id);
        RootFs::Overlay { lower, upper: directory.join("upper"), work: directory.join("work") }
    }

    /// The same for a driver that wants layers as files: changes go to a disk image.
    pub(crate) fn layers(&self, id: &ContainerId, images: Vec<PathBuf>) -> RootFs {
        RootFs::Layers { images, disk: self.directory(id).join("disk.ext4") }
    }

    /// Deletes what a killed daemon had saved; whether nothing is left. A driver may be saving it still,
    /// and is not to be waited for.
    pub(crate) fn delete_abandoned(&self) -> bool {
        let entries = list(&self.trash).unwrap_or_default();
        let abandoned = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(ABANDONED))
        };
        entries.iter().filter(|path| abandoned(path)).all(|path| remove(path).is_ok())
    }

    /// An empty directory for a container that is to be saved, for as long as it is kept.
    ///
    /// # Errors
    /// [`EngineError::Files`].
    pub(crate) fn make_fork(&self, name: &str) -> Result<SavedFork, EngineError> {
        let path = self.forks.join(name);
        make_private(&path).map_err(failed("make", &path))?;
        Ok(SavedFork(path))
    }

    /// Where the files are that are put over a container's own.
    pub(crate) fn own(&self, id: &ContainerId) -> PathBuf {
        self.run.join(id.as_str())
    }

    /// Writes a file of a container and answers where it is. It is readable by all inside.
    ///
    /// # Errors
    /// [`EngineError::Files`].
    pub(crate) fn write(
        &self,
        id: &ContainerId,
        name: &str,
        text: &str,
    ) -> Result<PathBuf, EngineError> {
        let own = self.own(id);
        make_private(&own).map_err(failed("make", &own))?;
        let path = own.join(name);
        fs::write(&path, text).map_err(failed("write", &path))?;
        Ok(path)
    }
}

/// A directory with a saved container; removed when nobody needs it any more.
#[derive(Debug)]
pub(crate) struct SavedFork(PathBuf);

impl SavedFork {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SavedFork {
    fn drop(&mut self) {
        erase(&self.0);
    }
}

/// What is not there is gone.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
}

fn erase(path: &Path) {
    if let Err(error) = remove(path) {
        warn!(path = %path.display(), %error, "something that is nobody's cannot be removed");
    }
}

/// Removes a file, or a directory with all there is in it; links are removed, never followed.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    gone(match fs::symlink_metadata(path).map(|metadata| metadata.is_dir()) {
        Ok(true) => fs::remove_dir_all(path),
        Ok(false) => fs::remove_file(path),
        Err(error) => Err(error),
    })
}

/// Names what failed.
pub(crate) fn failed(
    step: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> EngineError + use<> {
    let path = path.to_owned();
    move |source| EngineError::Files { step, path, source: Arc::new(source) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn id(byte: u8) -> ContainerId {
        ContainerId::from_random([byte; 32])
    }

    #[test]
    fn removing_a_container_does_not_follow_its_links() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path(), &dir.path().join("run")).unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), "x").unwrap();
        files.make(&id(1)).unwrap();
        symlink(&outside, files.directory(&id(1)).join("upper/link")).unwrap();
        for _ in 0..2 {
            files.discard(&id(1)).unwrap();
            files.delete(&id(1));
        }
        assert_eq!(fs::read_dir(dir.path().join("trash")).unwrap().count(), 0);
        assert!(outside.join("precious").exists());
        assert!(!files.directory(&id(1)).exists());
    }

    #[test]
    fn orphans_go_and_known_ones_stay() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path(), &dir.path().join("run")).unwrap();
        for byte in 1..=3 {
            files.make(&id(byte)).unwrap();
            files.write(&id(byte), "hosts", "").unwrap();
        }
        files.discard(&id(3)).unwrap();
        files.remove_orphans(&[id(1).to_string()].into()).unwrap();
        assert!(files.directory(&id(1)).exists());
        assert!(!files.directory(&id(2)).exists() && !files.own(&id(2)).exists());
        assert_eq!(fs::read_dir(dir.path().join("trash")).unwrap().count(), 0);
        let mode = fs::metadata(files.directory(&id(1))).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn what_was_saved_goes_with_whoever_wanted_it() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Files::open(dir.path(), &dir.path().join("run")).unwrap();
        let forks = || fs::read_dir(dir.path().join("forks")).unwrap().count();
        let files = open();
        let saved = files.make_fork("1").unwrap();
        fs::write(saved.path().join("memory"), "x").unwrap();
        let forgotten = files.make_fork("2").unwrap();
        fs::write(forgotten.path().join("memory"), "x").unwrap();
        drop(saved);
        assert_eq!(forks(), 1);
        // The daemon is killed: nothing is dropped.
        std::mem::forget(forgotten);
        let files = open();
        assert_eq!(forks(), 0);
        assert!(files.delete_abandoned());
        assert_eq!(fs::read_dir(dir.path().join("trash")).unwrap().count(), 0);
    }

    #[test]
    fn a_data_root_has_one_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let lock_held = lock(dir.path()).unwrap();
        assert!(matches!(lock(dir.path()), Err(OpenError::Locked(_))));
        drop(lock_held);
        lock(dir.path()).unwrap();
    }
}

//! Making a snapshot.
//!
//! ```text
//! begin ──▶ machine stands still ──▶ take ──▶ machine runs on ──▶ finish: synced, and named
//! ```
//!
//! Until then it is `.new`, and whoever drops it removes it; what is left by a process that was
//! killed is removed when the machine begins or is saved again.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use base::clock::Timestamp;
use vm::snapshot::Files;

use super::{
    MANIFEST, Manifest, NEW, SNAPSHOTS, STATE, SaveError, VERSION, chain, known_parent, written,
};
use crate::{
    copy::copy,
    name::Name,
    record,
    spec::Spec,
    store::{private, sync},
};

/// Most snapshots of a machine.
pub(super) const SNAPSHOTS_MAX: usize = 256;

/// A snapshot that is being made. While it lives, none is removed.
pub(crate) struct Saving {
    directory: PathBuf,
    name: Name,
    manifest: Manifest,
    files: Files,
    /// Whether it has its name.
    done: bool,
    _lock: File,
}

impl Saving {
    /// Makes what is to be filled, for a machine with this directory. It goes back to `since` if
    /// that can be.
    pub(crate) fn begin(
        spec: &Spec,
        directory: &Path,
        name: &Name,
        since: Option<&Name>,
    ) -> Result<Saving, SaveError> {
        let all = directory.join(SNAPSHOTS);
        if !all.is_dir() {
            private(&all).and_then(|()| sync(directory)).map_err(other("make", &all))?;
        }
        let lock = File::open(&all).and_then(|all| all.lock().map(|()| all));
        let lock = lock.map_err(failed("lock", &all))?;
        if all.join(name.as_str()).exists() {
            return Err(SaveError::Exists(name.clone()));
        }
        if fs::read_dir(&all).map_or(0, |others| others.count()) >= SNAPSHOTS_MAX {
            return Err(SaveError::TooMany);
        }
        let new = all.join(NEW);
        clear(&new).map_err(failed("remove", &new))?;
        let parent = chain::base(since, |name| known_parent(directory, name)).cloned();
        let machine = spec.clone();
        let Timestamp(now) = Timestamp::now();
        let (created, nanosecond) = (now / 1_000_000_000, (now % 1_000_000_000) as u32);
        let manifest = Manifest { created, nanosecond, machine, parent };
        private(&new.join(STATE)).map_err(other("make", &new))?;
        let (directory, name) = (directory.to_owned(), name.clone());
        let files = Files::create(&new.join(STATE))?;
        Ok(Saving { directory, name, manifest, files, done: false, _lock: lock })
    }

    /// Fills it: `write` has the machine, which stands still, write itself to the files, as what
    /// was written since the snapshot at a path if one is named. Its disks follow.
    pub(crate) fn take(
        &self,
        write: impl FnOnce(&Files, Option<&Path>) -> Result<(), SaveError>,
    ) -> Result<(), SaveError> {
        let name_of = |parent: &Name| Path::new("../..").join(parent.as_str()).join(STATE);
        // The devices have what they hold back on the disks when their state is taken.
        write(&self.files, self.manifest.parent.as_ref().map(name_of).as_deref())?;
        for (index, disk) in written(&self.manifest.machine) {
            let path = disk.path(&self.directory);
            if !path.metadata().map_err(failed("find", &path))?.is_file() {
                return Err(SaveError::Device(path));
            }
            copy(&path, &self.staging().join(index.to_string())).map_err(failed("copy", &path))?;
        }
        Ok(())
    }

    /// Gives it its name, when all of it is on the disk.
    pub(crate) fn finish(mut self) -> Result<(), SaveError> {
        let (all, new) = (self.directory.join(SNAPSHOTS), self.staging());
        let to = all.join(self.name.as_str());
        Files::publish(&new.join(STATE))?;
        record::write(&new.join(MANIFEST), VERSION, &self.manifest)
            .and_then(|()| settle(&new))
            .map_err(failed("write", &new))?;
        fs::rename(&new, &to).map_err(failed("make", &to))?;
        self.done = true;
        File::open(&all).and_then(|all| all.sync_all()).map_err(failed("write", &all))
    }

    fn staging(&self) -> PathBuf {
        self.directory.join(SNAPSHOTS).join(NEW)
    }
}

impl Drop for Saving {
    fn drop(&mut self) {
        if !self.done {
            // What stays is removed by the next one.
            let _ = clear(&self.staging());
        }
    }
}

/// Removes what was left by those who were killed while they made or removed a snapshot. For
/// whoever holds the machine's lock.
pub(crate) fn sweep(directory: &Path) {
    let entries = fs::read_dir(directory.join(SNAPSHOTS)).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')) {
        let _ = fs::remove_dir_all(entry.path());
    }
}

/// Removes a directory, if it is there.
fn clear(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Has all files beneath a directory on the disk, and then the directory.
fn settle(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => settle(&entry.path())?,
            false => File::open(entry.path())?.sync_all()?,
        }
    }
    File::open(directory)?.sync_all()
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SaveError {
    let path = path.to_owned();
    move |source| SaveError::Host { doing, path, source }
}

fn other<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    doing: &'static str,
    path: &Path,
) -> impl FnOnce(E) -> SaveError {
    let failed = failed(doing, path);
    |error| failed(io::Error::other(error))
}

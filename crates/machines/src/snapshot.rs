//! Snapshots of machines that run, and the way back.
//!
//! ```text
//! snapshots/NAME/
//!     snapshot.json   when, and what the machine was made of; written when all else is whole
//!     state/          memory, processors and devices, as the crate `vm` has them
//!     0, 1, …         copies of the disks that the machine writes to, by their place
//! ```
//!
//! A disk that the machine only reads is not copied. While a restore puts disks back, `restoring`
//! in the machine's directory names the snapshot: if that is cut off, the machine does not boot
//! from disks of two times, and wants to be restored again.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use base::clock::Timestamp;
use serde::{Deserialize, Serialize};
use vm::{Machine, PauseError, snapshot::SnapshotError};

use crate::{
    copy::copy,
    disk::{Disk, Place},
    name::Name,
    record::{self, RecordError},
    spec::{self, Spec},
    store::{Kept, MACHINE, private},
};

/// The version of the manifest, and of the note about a restore.
const VERSION: u32 = 1;

/// Most snapshots of a machine.
const SNAPSHOTS_MAX: usize = 256;

/// Names.
const SNAPSHOTS: &str = "snapshots";
const MANIFEST: &str = "snapshot.json";
const STATE: &str = "state";
const NEW: &str = ".new";
const RESTORING: &str = "restoring";

/// What a snapshot is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// What the machine was.
    pub machine: Spec,
}

/// A snapshot.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What it is called.
    pub name: Name,
    /// What it is of.
    pub manifest: Manifest,
    /// Room that it takes on the host's disk, in bytes; shared blocks count too.
    pub bytes: u64,
}

/// Why a machine was not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// It did not stand still.
    #[error(transparent)]
    Pause(#[from] PauseError),
    /// There is one of this name.
    #[error("there is a snapshot {0} already")]
    Exists(Name),
    /// Too many.
    #[error("a machine has at most {SNAPSHOTS_MAX} snapshots")]
    TooMany,
    /// What is on a device is the host's.
    #[error("{} is a device of the host's, which is not copied", .0.display())]
    Device(PathBuf),
    /// Its state was not written.
    #[error(transparent)]
    State(#[from] SnapshotError),
    /// A disk was not copied, or the manifest not written.
    #[error("cannot {doing} {}", path.display())]
    Host {
        /// What was to be done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why snapshots were not found, removed or gone back to.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is none of this name, or none at all.
    #[error("machine {machine} has no such snapshot: {name}")]
    NotFound {
        /// Of which machine.
        machine: Name,
        /// What it was called.
        name: String,
    },
    /// It cannot be read.
    #[error("snapshot {name} is damaged")]
    Damaged {
        /// Which.
        name: Name,
        /// Why.
        #[source]
        why: RecordError,
    },
    /// A restore was cut off.
    #[error("going back to snapshot {0} was cut off: restore it again")]
    Unfinished(Name),
    /// A disk was not put back.
    #[error("cannot {doing} {}", path.display())]
    Host {
        /// What was to be done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Where the state of a snapshot is, of the machine with this directory.
pub(crate) fn state_of(directory: &Path, name: &Name) -> PathBuf {
    directory.join(SNAPSHOTS).join(name.as_str()).join(STATE)
}

/// Saves a machine that is paused, whole or not at all.
pub(crate) fn save(
    machine: &Machine,
    spec: &Spec,
    directory: &Path,
    name: &Name,
) -> Result<(), SaveError> {
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| SaveError::Host { doing, path, source }
    };
    let all = directory.join(SNAPSHOTS);
    let (to, new) = (all.join(name.as_str()), all.join(NEW));
    if to.exists() {
        return Err(SaveError::Exists(name.clone()));
    }
    let others = fs::read_dir(&all).map_or(0, |others| others.count());
    if others >= SNAPSHOTS_MAX {
        return Err(SaveError::TooMany);
    }
    // What another has left that was cut off: who saves holds the machine's lock.
    match fs::remove_dir_all(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", &new)(error));
        }
        _ => {}
    }
    private(&new).map_err(|error| failed("make", &new)(io::Error::other(error)))?;
    // The devices have what they hold back on the disks when their state is taken.
    machine.snapshot(&new.join(STATE))?;
    for (index, disk) in written(spec) {
        let path = disk.path(directory);
        if !path.metadata().map_err(failed("find", &path))?.is_file() {
            return Err(SaveError::Device(path));
        }
        copy(&path, &new.join(index.to_string())).map_err(failed("copy", &path))?;
    }
    let manifest = Manifest { created: Timestamp::now().seconds(), machine: spec.clone() };
    record::write(&new.join(MANIFEST), VERSION, &manifest).map_err(failed("write", &new))?;
    sync_files(&new.join(STATE)).map_err(failed("write", &new))?;
    fs::rename(&new, &to).map_err(failed("make", &to))?;
    fs::File::open(&all).and_then(|all| all.sync_all()).map_err(failed("write", &all))
}

/// The disks that a snapshot has copies of, with their places.
fn written(spec: &Spec) -> impl Iterator<Item = (usize, &Disk)> {
    spec.disks.iter().enumerate().filter(|(_, disk)| disk.is_written())
}

fn sync_files(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        fs::File::open(entry?.path())?.sync_all()?;
    }
    fs::File::open(directory)?.sync_all()
}

/// Whether a restore was cut off.
pub(crate) fn unfinished(directory: &Path) -> Result<(), RestoreError> {
    let path = directory.join(RESTORING);
    match record::find::<Name>(&path, VERSION) {
        Ok(None) => Ok(()),
        Ok(Some(name)) => Err(RestoreError::Unfinished(name)),
        Err(why) => Err(RestoreError::Host { doing: "read", path, source: io::Error::other(why) }),
    }
}

impl Kept {
    /// Its snapshots, the oldest first.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn snapshots(&self) -> Result<Vec<Snapshot>, RestoreError> {
        let entries = fs::read_dir(self.directory.join(SNAPSHOTS)).into_iter().flatten().flatten();
        let name = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<Name>().ok();
        let found: Result<Vec<_>, _> =
            entries.filter_map(name).map(|name| self.snapshot(&name)).collect();
        let mut found = found?;
        found.sort_by(|a, b| (a.manifest.created, &a.name).cmp(&(b.manifest.created, &b.name)));
        Ok(found)
    }

    /// The snapshot of this name.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn snapshot(&self, name: &Name) -> Result<Snapshot, RestoreError> {
        let directory = self.directory.join(SNAPSHOTS).join(name.as_str());
        match record::find(&directory.join(MANIFEST), VERSION) {
            Ok(Some(manifest)) => {
                Ok(Snapshot { name: name.clone(), manifest, bytes: bytes(&directory) })
            }
            Ok(None) => Err(self.no_snapshot(name.as_str())),
            Err(why) => Err(RestoreError::Damaged { name: name.clone(), why }),
        }
    }

    /// What is said where there is no snapshot of a name.
    pub fn no_snapshot(&self, name: &str) -> RestoreError {
        RestoreError::NotFound { machine: self.name.clone(), name: name.to_owned() }
    }

    /// Removes a snapshot. A machine that went on from it keeps what it has.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn remove_snapshot(&self, name: &Name) -> Result<(), RestoreError> {
        let all = self.directory.join(SNAPSHOTS);
        let (directory, old) = (all.join(name.as_str()), all.join(format!(".old-{name}")));
        if !directory.is_dir() {
            return Err(self.no_snapshot(name.as_str()));
        }
        let failed =
            |source| RestoreError::Host { doing: "remove", path: directory.clone(), source };
        let _ = fs::remove_dir_all(&old);
        fs::rename(&directory, &old).map_err(failed)?;
        fs::remove_dir_all(&old).map_err(failed)
    }

    /// Puts back what the machine was and what its disks had. For whoever holds the lock.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub(crate) fn put_back(&mut self, snapshot: &Snapshot) -> Result<(), RestoreError> {
        let failed = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| RestoreError::Host { doing, path, source }
        };
        let from = self.directory.join(SNAPSHOTS).join(snapshot.name.as_str());
        let spec = &snapshot.manifest.machine;
        let (mut copies, mut held) = (Vec::new(), Vec::new());
        for (index, disk) in written(spec) {
            let to = disk.path(&self.directory);
            held.extend(alone(&to).map_err(failed("replace", &to))?);
            let new = beside(&to, disk);
            let _ = fs::remove_file(&new);
            copy(&from.join(index.to_string()), &new).map_err(failed("copy to", &new))?;
            dress(&to, &new).map_err(failed("make", &new))?;
            copies.push((new, to));
        }
        let note = self.directory.join(RESTORING);
        record::write(&note, VERSION, &snapshot.name).map_err(failed("write", &note))?;
        for (new, to) in copies {
            fs::rename(&new, &to).map_err(failed("replace", &to))?;
            let all = to.parent().unwrap_or(&to);
            fs::File::open(all).and_then(|all| all.sync_all()).map_err(failed("write", all))?;
        }
        let path = self.directory.join(MACHINE);
        record::write(&path, spec::VERSION, spec).map_err(failed("write", &path))?;
        self.spec = spec.clone();
        fs::remove_file(&note).map_err(failed("remove", &note))
    }
}

/// Where a disk's new content is until it takes the place of the old: in the same directory.
fn beside(path: &Path, disk: &Disk) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(match disk.place {
        Place::Own(_) => ".new",
        Place::Outside(_) => ".wythe-restore",
    });
    path.with_file_name(name)
}

/// Keeps other machines from a disk that is replaced, if it is there.
fn alone(path: &Path) -> io::Result<Option<fs::File>> {
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => {
            Err(io::Error::new(io::ErrorKind::WouldBlock, "another machine uses it"))
        }
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Gives a new file the mode and the owner of the one whose place it takes, if that is there.
fn dress(old: &Path, new: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let Ok(found) = old.metadata() else { return Ok(()) };
    let own = new.metadata()?;
    if (found.uid(), found.gid()) != (own.uid(), own.gid()) {
        chown(new, Some(found.uid()), Some(found.gid()))?;
    }
    fs::set_permissions(new, found.permissions())
}

/// Room on the host's disk of all files beneath.
fn bytes(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let one = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(one).sum()
}

#[cfg(test)]
mod tests;

//! Snapshots of machines that run, and the way back.
//!
//! ```text
//! snapshots/NAME/
//!     snapshot.json   when, and what the machine was made of; written when all else is whole
//!     state/          memory, processors and devices, as the crate `vm` has them
//!     0, 1, …         copies of the disks that the machine writes to, by their place
//! ```
//!
//! Of the memory a snapshot has what was written since the one before, its parent, if the machine
//! has run on from that. Which one that is says `snapshot.json`; what the process of a machine
//! writes about it in `state` is never followed. One that others go back to is not removed.
//!
//! A disk that the machine only reads is not copied. While a restore puts disks back, `restoring`
//! in the machine's directory names the snapshot: if that is cut off, the machine does not boot
//! from disks of two times, and wants to be restored again.

mod chain;
mod restore;
mod save;

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use vm::snapshot::{Files, SnapshotError};

pub(crate) use self::{
    restore::unfinished,
    save::{Saving, sweep},
};
use crate::{
    disk::Disk,
    name::Name,
    record::{self, RecordError},
    spec::Spec,
    store::Kept,
};

/// The version of the manifest, and of the note about a restore.
const VERSION: u32 = 1;

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
    /// And in which nanosecond of that.
    #[serde(default)]
    pub nanosecond: u32,
    /// What the machine was.
    pub machine: Spec,
    /// The snapshot whose memory it has but for what was written since; none, if it has all.
    #[serde(default)]
    pub parent: Option<Name>,
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
    /// There is one of this name.
    #[error("there is a snapshot {0} already")]
    Exists(Name),
    /// Too many.
    #[error("a machine has at most {} snapshots", save::SNAPSHOTS_MAX)]
    TooMany,
    /// What is on a device is the host's.
    #[error("{} is a device of the host's, which is not copied", .0.display())]
    Device(PathBuf),
    /// Its state was not written.
    #[error("the machine's state was not written")]
    State(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There are no files for its state.
    #[error(transparent)]
    Files(#[from] SnapshotError),
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
    /// It goes back to one that is of no use.
    #[error("snapshot {name} goes back to {older}, which is not there or damaged")]
    Broken {
        /// Which.
        name: Name,
        /// To which.
        older: Name,
    },
    /// Others go back to it.
    #[error(
        "snapshot {name} is needed by {}, which have only what changed since: remove those first",
        list(by)
    )]
    Needed {
        /// Which.
        name: Name,
        /// By which.
        by: Vec<Name>,
    },
    /// One is being made, which may need any other.
    #[error("machine {0} is being saved: snapshots can be removed afterwards")]
    Saving(Name),
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

fn list(names: &[Name]) -> String {
    names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")
}

/// The files of the state of a snapshot and of those that it goes back to, the nearest first.
pub(crate) fn open(directory: &Path, name: &Name) -> Result<(Files, Vec<Files>), RestoreError> {
    let open = |name: &Name| {
        let path = directory.join(SNAPSHOTS).join(name.as_str()).join(STATE);
        let files =
            File::open(&path).and_then(|state| Files::open(state).map_err(io::Error::other));
        files.map_err(|source| RestoreError::Host { doing: "open", path, source })
    };
    let older = older(directory, name)?.iter().map(open).collect::<Result<_, _>>()?;
    Ok((open(name)?, older))
}

/// Those that a snapshot goes back to, the nearest first.
fn older(directory: &Path, name: &Name) -> Result<Vec<Name>, RestoreError> {
    chain::older(name, |name| known_parent(directory, name))
        .map_err(|older| RestoreError::Broken { name: name.clone(), older })
}

/// What a snapshot goes back to; nothing if it is not there.
fn known_parent(directory: &Path, name: &Name) -> Option<Option<Name>> {
    let at = directory.join(SNAPSHOTS).join(name.as_str());
    let manifest: Manifest = record::find(&at.join(MANIFEST), VERSION).ok().flatten()?;
    Some(manifest.parent)
}

/// The disks that a snapshot has copies of, with their places.
fn written(spec: &Spec) -> impl Iterator<Item = (usize, &Disk)> {
    spec.disks.iter().enumerate().filter(|(_, disk)| disk.is_written())
}

impl Kept {
    /// Its snapshots, the oldest first.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn snapshots(&self) -> Result<Vec<Snapshot>, RestoreError> {
        let mut found: Vec<_> =
            self.snapshot_names().map(|name| self.snapshot(&name)).collect::<Result<_, _>>()?;
        let age = |it: &Snapshot| (it.manifest.created, it.manifest.nanosecond);
        found.sort_by(|a, b| age(a).cmp(&age(b)).then_with(|| a.name.cmp(&b.name)));
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

    /// Names of snapshots in an order in which all of them can be removed.
    pub fn youngest_first(&self, names: &mut [Name]) {
        names.sort_by_cached_key(|name| {
            Reverse(older(&self.directory, name).map_or(0, |older| older.len()))
        });
    }

    /// Removes a snapshot that no other goes back to. A machine that went on from it keeps what it
    /// has.
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
        let lock = File::open(&all).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RestoreError::Saving(self.name.clone())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let by: Vec<Name> = self.needing(name)?;
        if !by.is_empty() {
            return Err(RestoreError::Needed { name: name.clone(), by });
        }
        let _ = fs::remove_dir_all(&old);
        fs::rename(&directory, &old).map_err(failed)?;
        lock.sync_all().map_err(failed)?;
        fs::remove_dir_all(&old).map_err(failed)
    }

    /// Those that go back to a snapshot.
    fn needing(&self, name: &Name) -> Result<Vec<Name>, RestoreError> {
        let names = self.snapshot_names().filter(|other| other != name);
        let others: Result<Vec<_>, _> = names.map(|other| self.snapshot(&other)).collect();
        let mut parents = parents(&others?);
        // Whatever it goes back to, if it is damaged itself.
        parents.insert(name.clone(), None);
        Ok(chain::needing(name, &parents).into_iter().cloned().collect())
    }

    fn snapshot_names(&self) -> impl Iterator<Item = Name> + use<> {
        let entries = fs::read_dir(self.directory.join(SNAPSHOTS)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
    }
}

fn parents(snapshots: &[Snapshot]) -> BTreeMap<Name, Option<Name>> {
    let parent = |it: &Snapshot| (it.name.clone(), it.manifest.parent.clone());
    snapshots.iter().map(parent).collect()
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

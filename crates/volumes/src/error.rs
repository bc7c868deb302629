//! Why a volume was not made, used, copied or removed, in Docker's words where it has them.

use std::{io, path::PathBuf};

use base::ErrorKind;

/// Why a request failed. Nothing half-made is left.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// It is no name.
    #[error("create {name}: {why}")]
    Name {
        /// What was given.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// There is no such volume.
    #[error("get {0}: no such volume")]
    NoSuchVolume(String),
    /// There is no such driver.
    #[error(
        "create {name}: error looking up volume plugin {driver}: plugin \"{driver}\" not found"
    )]
    NoSuchDriver {
        /// The volume.
        name: String,
        /// The driver.
        driver: String,
    },
    /// A driver option that is not known, or makes no sense.
    #[error("create {name}: {why}")]
    Options {
        /// The volume.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// Somebody uses it.
    #[error("remove {name}: volume is in use - [{}]", users.join(", "))]
    InUse {
        /// The volume.
        name: String,
        /// Who.
        users: Vec<String>,
    },
    /// Somebody who runs uses it.
    #[error(
        "cannot {doing} volume {name} while containers that run use it: stop {} first",
        users.join(", ")
    )]
    Running {
        /// What was asked.
        doing: &'static str,
        /// The volume.
        name: String,
        /// Who.
        users: Vec<String>,
    },
    /// Its content is being copied, exported or filled.
    #[error("volume {0} is being copied or filled: try again when that is done")]
    Busy(String),
    /// There is one already.
    #[error("volume {0} already exists")]
    Exists(String),
    /// There is something in it.
    #[error("volume {0} is not empty: its content would be lost (--force replaces it)")]
    NotEmpty(String),
    /// There is no such snapshot.
    #[error("volume {volume} has no snapshot {snapshot}")]
    NoSuchSnapshot {
        /// The volume.
        volume: String,
        /// The snapshot.
        snapshot: String,
    },
    /// There is one already.
    #[error("volume {volume} already has a snapshot {snapshot}")]
    SnapshotExists {
        /// The volume.
        volume: String,
        /// The snapshot.
        snapshot: String,
    },
    /// Only for volumes whose content the store keeps.
    #[error(
        "cannot {doing} volume {name}: its content is a {kind}, made by driver options, and not \
         kept by Wythe"
    )]
    NotOurs {
        /// What was asked.
        doing: &'static str,
        /// The volume.
        name: String,
        /// `tmpfs` or `bind`.
        kind: &'static str,
    },
    /// What it is to be filled from, or mounted on, is no directory.
    #[error("cannot mount volume over existing file, file exists {}", .0.display())]
    OverFile(PathBuf),
    /// A part of a volume that is not there, or not in it.
    #[error("cannot access path {} in volume {name}", path.display())]
    Subpath {
        /// The volume.
        name: String,
        /// Which part.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Its record cannot be read.
    #[error("volume {name} cannot be used: {why}")]
    Damaged {
        /// The volume.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A tree is deeper than is followed.
    #[error("{} is deeper than {most} directories", path.display())]
    TooDeep {
        /// Where.
        path: PathBuf,
        /// The limit.
        most: usize,
    },
    /// The kernel said no.
    #[error("cannot {step} {}", path.display())]
    Disk {
        /// What was done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl VolumeError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            VolumeError::Name { .. }
            | VolumeError::Options { .. }
            | VolumeError::OverFile(_)
            | VolumeError::Subpath { .. } => ErrorKind::InvalidInput,
            VolumeError::NoSuchVolume(_)
            | VolumeError::NoSuchDriver { .. }
            | VolumeError::NoSuchSnapshot { .. } => ErrorKind::NotFound,
            VolumeError::InUse { .. }
            | VolumeError::Running { .. }
            | VolumeError::Busy(_)
            | VolumeError::Exists(_)
            | VolumeError::NotEmpty(_)
            | VolumeError::SnapshotExists { .. } => ErrorKind::Conflict,
            VolumeError::NotOurs { .. } => ErrorKind::Unsupported,
            VolumeError::Damaged { .. } => ErrorKind::Corrupt,
            VolumeError::TooDeep { .. } => ErrorKind::Exhausted,
            VolumeError::Disk { source, .. } => {
                let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
                match full.contains(&source.kind()) {
                    true => ErrorKind::Exhausted,
                    false => ErrorKind::Internal,
                }
            }
        }
    }
}

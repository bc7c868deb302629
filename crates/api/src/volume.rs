//! What is said of volumes, in a part of the protocol of its own.

use engine::{SnapshotView, VolumeCreate, VolumePrune, VolumeUsage, VolumeView, VolumesPruned};
use serde::{Deserialize, Serialize};

/// What can be asked of volumes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeRequest {
    /// [`VolumeReply::Volume`].
    Create(VolumeCreate),
    /// Any number of [`VolumeReply::Volume`], then done.
    List,
    /// [`VolumeReply::Volume`].
    Inspect {
        /// Which.
        name: String,
    },
    /// Done.
    Remove {
        /// Which.
        name: String,
    },
    /// [`VolumeReply::Pruned`].
    Prune(VolumePrune),
    /// Any number of [`VolumeReply::Usage`], then done.
    Usage,
    /// [`VolumeReply::Snapshot`].
    Snapshot {
        /// Of which volume.
        name: String,
        /// Its name; one is made up where there is none.
        snapshot: Option<String>,
        /// Pause the containers meanwhile.
        pause: bool,
    },
    /// Any number of [`VolumeReply::Snapshot`], then done.
    Snapshots {
        /// Of which volume.
        name: String,
    },
    /// Done.
    RemoveSnapshot {
        /// Of which volume.
        name: String,
        /// Which.
        snapshot: String,
    },
    /// [`VolumeReply::Shared`].
    Restore {
        /// Which volume.
        name: String,
        /// From which snapshot.
        snapshot: String,
    },
    /// [`VolumeReply::Shared`].
    Clone {
        /// Which volume.
        name: String,
        /// The name of the new one.
        new: String,
    },
    /// Done. One descriptor: where the archive goes, open for writing.
    Export {
        /// Which.
        name: String,
    },
    /// Done. One descriptor: the archive, open for reading.
    Import {
        /// Which.
        name: String,
        /// Whether what is in it may go.
        replace: bool,
    },
}

impl VolumeRequest {
    /// How many descriptors come with it.
    pub fn descriptors(&self) -> usize {
        match self {
            VolumeRequest::Export { .. } | VolumeRequest::Import { .. } => 1,
            VolumeRequest::Create(_)
            | VolumeRequest::List
            | VolumeRequest::Inspect { .. }
            | VolumeRequest::Remove { .. }
            | VolumeRequest::Prune(_)
            | VolumeRequest::Usage
            | VolumeRequest::Snapshot { .. }
            | VolumeRequest::Snapshots { .. }
            | VolumeRequest::RemoveSnapshot { .. }
            | VolumeRequest::Restore { .. }
            | VolumeRequest::Clone { .. } => 0,
        }
    }
}

/// What is answered about volumes, before it is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeReply {
    /// A volume.
    Volume(Box<VolumeView>),
    /// What was removed.
    Pruned(VolumesPruned),
    /// What a volume takes.
    Usage(VolumeUsage),
    /// A snapshot.
    Snapshot(SnapshotView),
    /// Whether blocks are shared with the original, or every byte was copied.
    Shared(bool),
}

//! A machine in files: what it is made of in one, its memory in another.
//!
//! ```text
//! dir/memory         guest memory, byte for byte; what is zero takes no room
//! dir/machine.json   everything else: version, processors, chips, devices, clock, disks
//! ```
//!
//! The second is written when the first is whole, so a directory that has it is a snapshot.
//!
//! A snapshot may go back to another one, its parent. Then its file has only the pages that were
//! written since, at their places, and its description says which they are and whose they stand
//! over:
//!
//! ```text
//! child/machine.json ──parent: path and id──▶ parent/machine.json ──▶ … ──▶ one that holds all
//! ```
//!
//! Nothing is synced: whoever says to others that there is a snapshot has its files and its directory
//! on the disk first, which he can while the machine runs on.
//!
//! A snapshot is never written over: to write another into its directory makes another file, and
//! what was mapped of the old one stays.

mod chain;
mod disks;
mod document;
mod files;
mod runs;
mod write;

use std::{io, path::PathBuf};

use hv::{ChipState, Clock, CpuState, Shape};
use serde::{Deserialize, Serialize};
use virtio::mmio::Saved;

pub use chain::{CHAIN_MAX, Snapshot};
pub(crate) use disks::compare;
pub use disks::{Disk, DisksDiffer, Format, Identity};
pub use document::{Id, VERSION};
pub use files::Files;
pub use write::Save;

use crate::{legacy::Board, machine::SaveError};

/// Everything of a machine but its memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The snapshot that it stands in; none, if a machine was only asked for it.
    pub id: Option<Id>,
    /// Its processors.
    pub shape: Shape,
    /// How much memory it has.
    pub memory_bytes: u64,
    /// What its clock showed.
    pub clock: Clock,
    /// The processors.
    pub cpus: Vec<CpuState>,
    /// The interrupt chips.
    pub chips: ChipState,
    /// The devices of the board.
    pub board: Board,
    /// The virtio devices, in the order in which they were attached.
    pub devices: Vec<Saved>,
    /// The disks that belong to it, as far as their owner named them.
    pub disks: Vec<Disk>,
}

/// Why a machine was not saved, or not read back.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Its state could not be taken.
    #[error(transparent)]
    State(#[from] SaveError),
    /// A file could not be written or read.
    #[error("cannot {step}")]
    File {
        /// What was to be done.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The description is none.
    #[error("the snapshot's description cannot be read")]
    Unreadable(#[source] serde_json::Error),
    /// Another version of Wythe has written it.
    #[error("the snapshot has version {found}, and this is version {VERSION}")]
    Version {
        /// What was found.
        found: u32,
    },
    /// What it says of its memory makes no sense.
    #[error("the snapshot's list of written pages is none")]
    Pages,
    /// A snapshot that this one goes back to cannot be used.
    #[error("the snapshot goes back to {path}", path = path.display())]
    Parent {
        /// Where that is.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<SnapshotError>,
    },
    /// It has no id, so nothing can go back to it, and it was not written by us.
    #[error("the snapshot has no id")]
    NoId,
    /// There is another snapshot where one is looked for.
    #[error("it is now {found}, and was {wanted}")]
    Changed {
        /// Which it should be.
        wanted: Id,
        /// Which it is.
        found: Id,
    },
    /// A snapshot goes back to one of a machine with less or more memory.
    #[error("it has {found} bytes of memory, and what goes back to it has {wanted}")]
    Memory {
        /// How much it should have.
        wanted: u64,
        /// How much it has.
        found: u64,
    },
    /// A snapshot goes back to itself.
    #[error("it goes back to itself")]
    Circle,
    /// A snapshot goes back to too many others.
    #[error("it is the end of a chain of more than {CHAIN_MAX} snapshots")]
    TooLong,
    /// The machine's memory is not known as what was written since this snapshot.
    #[error("the machine was last saved as, or restored from, {}, and not {parent}", words(*since))]
    NotSince {
        /// The snapshot that was to be the parent.
        parent: Id,
        /// The one that could be.
        since: Option<Id>,
    },
    /// The files that were handed over are not those of a chain.
    #[error("other snapshots were handed over than those that it goes back to")]
    Parts,
    /// A snapshot was to go back to one of a machine that has none.
    #[error("the machine was never saved, so there is nothing that a snapshot could go back to")]
    NoParent,
    /// A snapshot was to be written over one that it goes back to.
    #[error("a snapshot cannot take the place of one that it goes back to")]
    Itself,
}

fn words(id: Option<Id>) -> String {
    id.map_or_else(|| "no snapshot".to_owned(), |id| id.to_string())
}

fn failed(step: &'static str) -> impl FnOnce(io::Error) -> SnapshotError {
    move |source| SnapshotError::File { step, source }
}

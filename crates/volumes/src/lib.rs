//! Named volumes: directories that outlive the containers that use them.
//!
//! ```text
//! create ─▶ volume ──mount──▶ a path to bind ──unmount──▶ volume ─▶ remove
//!             │ ▲    (filled from other directories the first time)
//!   snapshot, │ │ restore, import
//!   export    ▼ │
//!           a copy: shared blocks where the file system has reflinks
//! ```
//!
//! Everything is made beside its place and renamed into it, so a kill at any instruction leaves
//! the old or the new; [`Store::open`] clears what was left beside.
//!
//! Who uses a volume is told by whoever composes this crate, as plain text: it knows no
//! container, no image and no driver. Everything blocks; there is no runtime in here.

mod copy;
mod disk;
mod error;
mod meta;
mod name;
mod options;
mod populate;
mod snapshot;
mod stack;
mod store;
mod transfer;
mod usage;
mod walk;

pub use copy::How;
pub use error::VolumeError;
pub use name::VolumeName;
pub use options::{Kind, TmpfsOptions};
pub use snapshot::Snapshot;
pub use store::{ANONYMOUS_LABEL, NewVolume, Store, Use, Volume};
pub use transfer::Staged;
pub use usage::Usage;
pub use walk::{Found, FoundKind, Segment, Visit, WalkError};

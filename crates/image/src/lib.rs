//! Images: from whatever form they come in to layers that can be mounted.
//!
//! ```text
//! archive ──load──▶ blobs ──layer──▶ one EROFS file per layer ──mounts──▶ lower directories
//!                     │
//!                     └──▶ table of images and references ──▶ list, inspect, save, remove
//! ```
//!
//! Everything is synchronous and may block; callers that must not block run it on a thread of
//! their own. Bytes are verified on every way in, and a kill at any moment leaves a store that
//! opens.
//!
//! Knows nothing of how anything runs: no container, driver, network or volume, and no client's
//! vocabulary beyond Docker's image documents.

mod arrive;
pub mod change;
mod commit;
pub mod config;
pub mod demo;
#[cfg(test)]
mod fixture;
mod import;
mod inspect;
pub mod layer;
mod load;
mod mounts;
pub mod platform;
mod progress;
mod save;
mod store;
pub mod wire;
mod writeback;

pub use arrive::{Arrival, ArrivalError, Arriving, ArrivingLayer, BlobFile, Departure, Next};
pub use base::{Reference, reference};
pub use commit::{Commit, CommitError};
pub use import::{Import, ImportError};
pub use inspect::{GraphDriver, HistoryRow, Inspect, InspectRootFs, Metadata};
pub use load::{Load, LoadError, Loaded};
pub use mounts::{Attach, Form, Marks, MountError};
pub use platform::Platform;
pub use progress::{Progress, Tell};
pub use save::SaveError;
pub use store::{
    Audit, Blobs, Collected, Conflict, ContainerUse, ExposeError, Extra, GrowingBlob, Image,
    ImageMount, ImageSize, OpenError, Options, Pruned, RemoveError, Removed, ResolveError, Space,
    Store, StoreError, Summary, TableError, TagError, Usage, Variant, detach_image_mounts,
};

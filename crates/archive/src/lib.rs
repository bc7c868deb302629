//! Tar archives: a reader that trusts nothing, a writer that loses nothing.
//!
//! Image layers and files copied in and out of containers are read and written by the same code.
//! Knows nothing of images, containers, or where files are kept, and looks no name up anywhere.

mod entry;
mod limits;
mod name;
pub mod tar;
pub mod tar_write;

pub use entry::{Attributes, Device, DeviceClass, Entry, EntryKind, Segment, Time, Xattr};
pub use limits::Limits;
pub use name::{Exceeded, Name};

//! A container's files: looked at, packed into archives and unpacked from them, compared.
//!
//! Everything is opened beneath a descriptor of a root, name by name, and what was opened is what
//! is read: somebody hostile may fill the tree, and change it while it is read. Files are opened
//! by path only first, so that neither a pipe nor a device can make anybody wait.
//!
//! Blocks; knows no driver, no image and no container.

mod beneath;
mod changes;
mod fault;
mod layer;
mod mount;
mod object;
mod pack;
mod stat;
mod stream;
mod unpack;
mod users;

#[cfg(test)]
mod tests;

pub use changes::{Change, ChangeKind, changes};
pub use layer::{export, layer};
pub use mount::{Layers, overlay, overlay_of};
pub use pack::pack;
pub use stat::{stat, stat_local};
pub use stream::Stream;
pub use unpack::{Place, unpack};
pub use users::{Identity, NoSuchUser, home_of, look_up};

/// Deepest nesting of directories that is followed: a descriptor is held for each.
pub const DEPTH_MAX: usize = 512;

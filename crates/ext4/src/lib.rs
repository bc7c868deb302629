//! ext4 file systems, written without mounting them and without being root.
//!
//! ```text
//! tar archive, or a tree of any kind ──▶ Filling ──▶ Disk: a file, an image, memory
//!                                          │
//!                                       finish: directories, journal, who is where
//! ```
//!
//! [`Filling`] takes file after file; content streams to the disk, and only names stay in memory.
//! [`format`] makes an empty one: a few blocks at the beginning and a few copies further on, so a
//! disk of a terabyte is made in a moment and takes no room. What is not written is zero, and the
//! file system says so: nothing is left for whoever mounts it to clear. The same files in the same
//! order with the same identity are the same bytes.
//!
//! Knows nothing of who mounts it. Any Linux since 2.6.28 can.
//!
//! Source: Linux `Documentation/filesystems/ext4/`; `e2fsck` is the referee in the tests.

mod bytes;
mod content;
mod crc16;
mod directory;
mod disk;
mod empty;
mod extents;
mod fill;
mod groups;
mod inode;
mod journal;
mod layout;
mod superblock;
mod tar;
#[cfg(test)]
mod tests;
mod tree;
mod xattr;

pub use disk::{Disk, Identity, SizeError};
pub use empty::{Image, format};
pub use fill::{FILE_MAX, FillError, Filling, HELD_MAX, Node, Size, TARGET_MAX};
pub use tar::TarFillError;
pub use tree::PathError;
pub use xattr::XattrError;

/// Bytes of a block.
pub const BLOCK: u64 = bytes::BLOCK_BYTES as u64;

/// Smallest disk: 16 MiB.
pub const BYTES_MIN: u64 = 16 << 20;

/// Largest: 8 TiB, with block numbers of 32 bits to spare.
pub const BYTES_MAX: u64 = 8 << 40;

/// Largest that is made as large as its content needs: 1 TiB.
pub const BYTES_FITTING_MAX: u64 = 1 << 40;

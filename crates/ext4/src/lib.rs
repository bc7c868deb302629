//! Empty ext4 file systems: the disk on which a machine keeps what it changes.
//!
//! [`format`] decides, [`Image::write_to`] writes: a few blocks at the beginning and a few copies
//! further on, so a disk of a terabyte is made in a moment and takes no room. What is not written
//! is zero, and the file system says so: nothing is left for the guest to clear.
//!
//! Knows nothing of who mounts it. Any Linux since 2.6.28 can.
//!
//! Source: Linux `Documentation/filesystems/ext4/`; `e2fsck` is the referee in the tests.

mod bytes;
mod crc16;
mod groups;
mod inodes;
mod journal;
mod superblock;

use std::{fs::File, io, os::unix::fs::FileExt as _};

use groups::Layout;

/// Bytes of a block.
pub const BLOCK: u64 = 4096;

/// Smallest disk that can be formatted: 16 MiB.
pub const BYTES_MIN: u64 = 16 << 20;

/// Largest: 8 TiB, with block numbers of 32 bits to spare.
pub const BYTES_MAX: u64 = 8 << 40;

/// What a file system is told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its UUID.
    pub uuid: [u8; 16],
    /// What hashes of names in directories begin with; as random as the UUID.
    pub hash_seed: [u8; 16],
}

/// A size that no file system can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a disk of {0} bytes: it is between {BYTES_MIN} and {BYTES_MAX}")]
pub struct SizeError(pub u64);

/// What has to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    bytes: u64,
    /// Where, and what; everything else is zero.
    pieces: Vec<(u64, Vec<u8>)>,
}

/// An empty file system for a disk of so many bytes. A rest that is no block stays unused.
///
/// # Errors
/// [`SizeError`].
pub fn format(bytes: u64, identity: &Identity) -> Result<Image, SizeError> {
    if !(BYTES_MIN..=BYTES_MAX).contains(&bytes) {
        return Err(SizeError(bytes));
    }
    let layout = Layout::new(bytes / BLOCK);
    let mut pieces = groups::pieces(&layout, identity);
    pieces.extend(inodes::pieces(&layout));
    pieces.push((layout.journal() * BLOCK, journal::superblock(&layout, identity)));
    Ok(Image { bytes, pieces })
}

impl Image {
    /// How large the disk is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes a file that is empty a disk with this file system; it takes as much room as is
    /// written.
    ///
    /// # Errors
    /// Those of ftruncate(2) and pwrite(2).
    pub fn write_to(&self, file: &File) -> io::Result<()> {
        file.set_len(self.bytes)?;
        self.pieces.iter().try_for_each(|(at, bytes)| file.write_all_at(bytes, *at))
    }
}

#[cfg(test)]
mod tests;

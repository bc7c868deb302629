//! What a file system is written to, and what it is told apart by.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use crate::{BYTES_MAX, BYTES_MIN};

/// Somewhere to write a file system to. What is not written reads as zeros.
pub trait Disk {
    /// Writes bytes at a place; some places are written twice.
    ///
    /// # Errors
    /// Whatever keeps it from being written.
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()>;
}

/// A file that was empty; it has to be made as long as the disk in the end.
impl Disk for &File {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }
}

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

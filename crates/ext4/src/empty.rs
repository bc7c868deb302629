//! Empty file systems: the disk on which a machine keeps what it changes.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use crate::{Disk, FillError, Filling, Identity, Size, SizeError};

/// What has to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    bytes: u64,
    pieces: Pieces,
}

/// Where, and what; everything else is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pieces(pub(crate) Vec<(u64, Vec<u8>)>);

impl Disk for Pieces {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.0.push((at, bytes.to_vec()));
        Ok(())
    }
}

/// An empty file system for a disk of so many bytes. A rest that is no block stays unused.
///
/// # Errors
/// [`SizeError`].
pub fn format(bytes: u64, identity: &Identity) -> Result<Image, SizeError> {
    let empty = Filling::new(Pieces::default(), *identity, Size::Exactly(bytes));
    match empty.and_then(Filling::finish) {
        Ok((pieces, bytes)) => Ok(Image { bytes, pieces }),
        // Of all that can go wrong nothing else does: memory takes whatever is written, and the
        // smallest disk has room for a journal.
        Err(FillError::Size(error)) => Err(error),
        Err(_) => Err(SizeError(bytes)),
    }
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
        self.pieces.0.iter().try_for_each(|(at, bytes)| file.write_all_at(bytes, *at))
    }

    #[cfg(test)]
    pub(crate) fn pieces(&self) -> &[(u64, Vec<u8>)] {
        &self.pieces.0
    }
}

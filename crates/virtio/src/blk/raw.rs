//! A raw image: a file or a block device whose bytes are the disk's.

use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom},
    os::{fd::AsFd as _, unix::fs::FileExt as _},
};

use rustix::{
    fs::{FallocateFlags, OFlags, fallocate, fcntl_getfl},
    io::Errno,
};

use super::{
    SECTOR,
    request::Clear,
    sink::{Sink, padded},
};
use crate::queue::Reader;

/// Bytes of zeros that are written at once where the host cannot make holes.
const ZEROS: usize = 64 << 10;

/// A raw image.
#[derive(Debug)]
pub struct Raw {
    file: File,
    bytes: u64,
    read_only: bool,
}

impl Raw {
    /// The image in this file; read-only if the file was opened so. What is missing from the last
    /// sector reads as zeros.
    ///
    /// # Errors
    /// Those of lseek(2) and fcntl(2).
    pub fn new(file: File) -> io::Result<Raw> {
        let access = fcntl_getfl(&file)? & OFlags::ACCMODE;
        let bytes = (&file).seek(SeekFrom::End(0))?;
        Ok(Raw { file, bytes, read_only: access == OFlags::RDONLY })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.read_only
    }

    pub(super) fn resize(&mut self) -> io::Result<()> {
        self.bytes = self.file.seek(SeekFrom::End(0))?;
        Ok(())
    }

    pub(super) fn read(&self, at: u64, to: &mut dyn Sink, bytes: usize) -> io::Result<()> {
        padded(to, &self.file, self.bytes, at, bytes)
    }

    pub(super) fn write(&mut self, at: u64, from: &mut Reader, bytes: usize) -> io::Result<()> {
        from.write_to(self.file.as_fd(), at, bytes)?;
        // Within the last sector the file may have grown.
        self.bytes = self.bytes.max(at + bytes as u64);
        Ok(())
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Source: fallocate(2); not all file systems can do both.
    pub(super) fn clear(&self, at: u64, bytes: u64, how: Clear) -> io::Result<()> {
        // Nothing beyond the end of the file, which must not grow by whole sectors.
        let bytes = bytes.min(self.bytes.saturating_sub(at));
        if bytes == 0 {
            return Ok(());
        }
        let flags = match how {
            Clear::Discard | Clear::Unmap => FallocateFlags::PUNCH_HOLE,
            Clear::Zero => FallocateFlags::ZERO_RANGE,
        };
        match fallocate(&self.file, flags | FallocateFlags::KEEP_SIZE, at, bytes) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NODEV | Errno::INVAL | Errno::NOSYS) => match how {
                Clear::Discard => Ok(()),
                Clear::Unmap | Clear::Zero => write_zeros(&self.file, at, bytes),
            },
            Err(error) => Err(error.into()),
        }
    }
}

/// Writes zeros where no hole can be made.
pub(super) fn write_zeros(file: &File, at: u64, bytes: u64) -> io::Result<()> {
    let zeros = [0; ZEROS];
    let mut done = 0;
    while done < bytes {
        let step = usize::try_from(bytes - done).unwrap_or(ZEROS).min(ZEROS);
        file.write_all_at(&zeros[..step], at + done)?;
        done += step as u64;
    }
    Ok(())
}

const _: () = assert!((ZEROS as u64).is_multiple_of(SECTOR), "a disk is zeroed by whole sectors");

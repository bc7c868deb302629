//! The output file, written from front to back.

use std::{fs::File, io, os::unix::fs::FileExt};

use super::format::{BLOCK, BLOCK_BYTES};
use crate::writeback::Writeback;

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 1 << 20;

/// A file being written in order, with gaps that stay holes.
#[derive(Debug)]
pub(super) struct Area<'f> {
    out: &'f File,
    /// Bytes that are to stand at `flushed`.
    buffer: Vec<u8>,
    flushed: u64,
    writeback: Writeback,
}

impl<'f> Area<'f> {
    /// An area that begins at `position`.
    pub(super) fn new(out: &'f File, position: u64) -> Area<'f> {
        let buffer = Vec::with_capacity(BUFFER_BYTES);
        Area { out, buffer, flushed: position, writeback: Writeback::default() }
    }

    /// Where the next byte will stand.
    pub(super) fn position(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.flush()?;
        }
        if bytes.len() < BUFFER_BYTES / 8 {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        // Large pieces go out without another copy.
        self.flush()?;
        self.out.write_all_at(bytes, self.flushed)?;
        self.flushed += bytes.len() as u64;
        self.writeback.reached(self.out, self.flushed);
        Ok(())
    }

    /// Goes on at `position`, which may not lie behind; what lies between reads as zeros.
    pub(super) fn advance(&mut self, position: u64) -> io::Result<()> {
        let gap = position.checked_sub(self.position()).expect("an area is written in order");
        match usize::try_from(gap) {
            Ok(gap) if gap < BLOCK => self.write(&[0; BLOCK][..gap]),
            Ok(_) | Err(_) => {
                self.flush()?;
                self.flushed = position;
                Ok(())
            }
        }
    }

    /// Goes on at the next whole block.
    pub(super) fn align(&mut self) -> io::Result<()> {
        self.advance(self.position().next_multiple_of(BLOCK_BYTES))
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.write_all_at(&self.buffer, self.flushed)?;
        self.flushed += self.buffer.len() as u64;
        self.writeback.reached(self.out, self.flushed);
        self.buffer.clear();
        Ok(())
    }

    /// Ends the file here and writes its first block.
    pub(super) fn close(mut self, first: &[u8]) -> io::Result<()> {
        self.flush()?;
        self.out.set_len(self.flushed)?;
        self.out.write_all_at(first, 0)
    }
}

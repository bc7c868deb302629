//! Where the bytes of an image go: the guest's buffers, or our own when a cluster is copied.

use std::{
    fs::File,
    io,
    os::{fd::AsFd as _, unix::fs::FileExt as _},
};

use crate::queue::Writer;

/// Takes a disk's bytes in order.
pub(super) trait Sink {
    /// Zeros.
    fn zeros(&mut self, bytes: usize);

    /// Bytes that are at hand.
    fn bytes(&mut self, from: &[u8]);

    /// Bytes of a file from a position on; `UnexpectedEof` if there are not so many.
    fn file(&mut self, file: &File, at: u64, bytes: usize) -> io::Result<()>;
}

impl Sink for Writer {
    fn zeros(&mut self, bytes: usize) {
        self.fill(0, bytes);
    }

    fn bytes(&mut self, from: &[u8]) {
        self.write(from);
    }

    fn file(&mut self, file: &File, at: u64, bytes: usize) -> io::Result<()> {
        self.read_from(file.as_fd(), at, bytes)
    }
}

impl Sink for Vec<u8> {
    fn zeros(&mut self, bytes: usize) {
        self.resize(self.len() + bytes, 0);
    }

    fn bytes(&mut self, from: &[u8]) {
        self.extend_from_slice(from);
    }

    fn file(&mut self, file: &File, at: u64, bytes: usize) -> io::Result<()> {
        let before = self.len();
        self.zeros(bytes);
        file.read_exact_at(&mut self[before..], at)
    }
}

/// As [`Sink::file`], and zeros for what lies beyond the file's end.
pub(super) fn padded(
    sink: &mut dyn Sink,
    file: &File,
    end: u64,
    at: u64,
    bytes: usize,
) -> io::Result<()> {
    let there = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX).min(bytes);
    sink.file(file, at, there)?;
    sink.zeros(bytes - there);
    Ok(())
}

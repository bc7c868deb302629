//! A disk image in whichever format it is.

use std::io;

use super::{Raw, request::Clear};
use crate::queue::{Reader, Writer};

/// An open image.
#[derive(Debug)]
pub enum Image {
    /// The disk's bytes and nothing else.
    Raw(Raw),
}

impl Image {
    /// How large the disk is, in bytes.
    pub fn bytes(&self) -> u64 {
        match self {
            Image::Raw(raw) => raw.bytes(),
        }
    }

    /// Whether it can only be read.
    pub fn is_read_only(&self) -> bool {
        match self {
            Image::Raw(raw) => raw.is_read_only(),
        }
    }

    /// Which grain of a discard saves something, in sectors.
    pub(super) fn discard_sectors(&self) -> u32 {
        match self {
            Image::Raw(_) => 8,
        }
    }

    pub(super) fn read(&mut self, at: u64, to: &mut Writer, bytes: usize) -> io::Result<()> {
        match self {
            Image::Raw(raw) => raw.read(at, to, bytes),
        }
    }

    pub(super) fn write(&mut self, at: u64, from: &mut Reader, bytes: usize) -> io::Result<()> {
        match self {
            Image::Raw(raw) => raw.write(at, from, bytes),
        }
    }

    pub(super) fn clear(&mut self, at: u64, bytes: u64, how: Clear) -> io::Result<()> {
        match self {
            Image::Raw(raw) => raw.clear(at, bytes, how),
        }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Image::Raw(raw) => raw.flush(),
        }
    }

    pub(super) fn resize(&mut self) -> io::Result<()> {
        match self {
            Image::Raw(raw) => raw.resize(),
        }
    }
}

//! A disk image in whichever format it is.

use std::io;

use super::{Raw, SECTOR, qcow2::Qcow2, request::Clear, sink::Sink};
use crate::queue::Reader;

/// An open image.
#[derive(Debug)]
pub enum Image {
    /// The disk's bytes and nothing else.
    Raw(Raw),
    /// A qcow2 image.
    Qcow2(Box<Qcow2>),
}

impl Image {
    /// How large the disk is, in bytes.
    pub fn bytes(&self) -> u64 {
        match self {
            Image::Raw(raw) => raw.bytes(),
            Image::Qcow2(qcow2) => qcow2.bytes(),
        }
    }

    /// Whether it can only be read.
    pub fn is_read_only(&self) -> bool {
        match self {
            Image::Raw(raw) => raw.is_read_only(),
            Image::Qcow2(qcow2) => qcow2.is_read_only(),
        }
    }

    /// Which grain of a discard saves something, in sectors.
    pub(super) fn discard_sectors(&self) -> u32 {
        match self {
            Image::Raw(_) => 8,
            // A cluster has at least one sector and at most 2 MiB.
            Image::Qcow2(qcow2) => u32::try_from(qcow2.cluster() / SECTOR).unwrap_or(1),
        }
    }

    pub(super) fn read(&mut self, at: u64, to: &mut dyn Sink, bytes: usize) -> io::Result<()> {
        match self {
            Image::Raw(raw) => raw.read(at, to, bytes),
            Image::Qcow2(qcow2) => qcow2.read(at, to, bytes),
        }
    }

    pub(super) fn write(&mut self, at: u64, from: &mut Reader, bytes: usize) -> io::Result<()> {
        match self {
            Image::Raw(raw) => raw.write(at, from, bytes),
            Image::Qcow2(qcow2) => qcow2.write(at, from, bytes),
        }
    }

    pub(super) fn clear(&mut self, at: u64, bytes: u64, how: Clear) -> io::Result<()> {
        match self {
            Image::Raw(raw) => raw.clear(at, bytes, how),
            Image::Qcow2(qcow2) => qcow2.clear(at, bytes, how),
        }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Image::Raw(raw) => raw.flush(),
            Image::Qcow2(qcow2) => qcow2.flush(),
        }
    }

    pub(super) fn resize(&mut self) -> io::Result<()> {
        match self {
            Image::Raw(raw) => raw.resize(),
            Image::Qcow2(_) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a qcow2 image does not change its size while it is open",
            )),
        }
    }
}

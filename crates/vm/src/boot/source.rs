//! Where a kernel or an initrd comes from.

use std::{
    fs::File,
    io,
    os::{fd::AsFd as _, unix::fs::FileExt as _},
    sync::Arc,
};

use hv::GuestMemory;

use super::{BootError, Piece};

/// How much of a file is looked at to see what it is: the headers of all formats lie within.
const HEAD_BYTES: usize = 4096;

/// How much is copied from a file at once.
const COPY_BYTES: usize = 64 << 20;

/// Bytes to be booted.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file, from its beginning.
    File(Arc<File>),
    /// Bytes that were made here.
    Bytes(Arc<[u8]>),
}

impl From<File> for Source {
    fn from(file: File) -> Source {
        Source::File(Arc::new(file))
    }
}

impl From<Vec<u8>> for Source {
    fn from(bytes: Vec<u8>) -> Source {
        Source::Bytes(bytes.into())
    }
}

impl Source {
    /// How long it is.
    pub(super) fn bytes(&self, what: &'static str) -> Result<u64, BootError> {
        match self {
            Source::File(file) => {
                let metadata =
                    file.metadata().map_err(|source| BootError::Read { what, source })?;
                Ok(metadata.len())
            }
            Source::Bytes(bytes) => Ok(bytes.len() as u64),
        }
    }

    /// Its beginning, as far as there is one.
    pub(super) fn head(&self, what: &'static str) -> Result<Vec<u8>, BootError> {
        let bytes = usize::try_from(self.bytes(what)?).unwrap_or(usize::MAX);
        self.read(what, 0, bytes.min(HEAD_BYTES))
    }

    /// Some bytes of it, all of them; how many was bounded by the caller.
    pub(super) fn read(&self, what: &'static str, at: u64, n: usize) -> Result<Vec<u8>, BootError> {
        let failed = |source| BootError::Read { what, source };
        match self {
            Source::File(file) => {
                let mut bytes = vec![0; n];
                file.read_exact_at(&mut bytes, at).map_err(failed)?;
                Ok(bytes)
            }
            Source::Bytes(bytes) => {
                slice(bytes, at, n).map(<[u8]>::to_vec).ok_or_else(|| failed(short()))
            }
        }
    }

    /// Copies a piece into the guest.
    pub(super) fn place(
        &self,
        what: &'static str,
        piece: &Piece,
        memory: &GuestMemory,
    ) -> Result<(), BootError> {
        let failed = |source| BootError::Read { what, source };
        let total = usize::try_from(piece.bytes).map_err(|_| failed(short()))?;
        match self {
            Source::File(file) => copy(file, piece, total, memory).map_err(failed),
            Source::Bytes(bytes) => {
                let bytes = slice(bytes, piece.from, total).ok_or_else(|| failed(short()))?;
                Ok(memory.write(piece.guest, bytes)?)
            }
        }
    }
}

fn copy(file: &File, piece: &Piece, total: usize, memory: &GuestMemory) -> io::Result<()> {
    let mut done = 0;
    while done < total {
        let (at, guest) = (piece.from + done as u64, piece.guest + done as u64);
        let count = (total - done).min(COPY_BYTES);
        match memory.read_from(file.as_fd(), at, guest, count)? {
            0 => return Err(short()),
            count => done += count,
        }
    }
    Ok(())
}

fn slice(bytes: &[u8], at: u64, n: usize) -> Option<&[u8]> {
    let at = usize::try_from(at).ok()?;
    bytes.get(at..at.checked_add(n)?)
}

fn short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it ends too early")
}

/// A little-endian value in bytes that a file gave.
pub(super) fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// 16 bits.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u16> {
    field(bytes, at).map(u16::from_le_bytes)
}

/// 32 bits.
pub(super) fn long(bytes: &[u8], at: usize) -> Option<u32> {
    field(bytes, at).map(u32::from_le_bytes)
}

/// 64 bits.
pub(super) fn quad(bytes: &[u8], at: usize) -> Option<u64> {
    field(bytes, at).map(u64::from_le_bytes)
}

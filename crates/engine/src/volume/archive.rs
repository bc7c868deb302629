//! Volumes as tar archives: the `volumes` crate's trees in the `image` crate's format.
//!
//! Neither knows the other: what comes out of a volume is handed on entry by entry, and what goes
//! in is unpacked by the reader that takes images' layers, which trusts nothing, into a directory
//! that is not yet a volume.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Write},
    os::unix::fs::FileExt as _,
};

use base::ErrorKind;
use image::layer::{
    self, Attributes, Device, DeviceClass, Entry, EntryKind, Limits, Segment, Time, Xattr,
    tar_write::TarWriter,
};
use volumes::{Found, FoundKind, Staged, Visit, VolumeError, WalkError};

use super::Volumes;
use crate::{EngineError, error::chain};

/// Read and written at once.
const BUFFER_BYTES: usize = 1 << 20;

/// Writes a volume's content to an archive. Blocks.
///
/// # Errors
/// [`EngineError::Volume`].
pub(crate) fn write(volumes: &Volumes, name: &str, to: File) -> Result<(), EngineError> {
    volumes.store.get(name)?;
    let out = BufWriter::with_capacity(BUFFER_BYTES, to);
    let mut export = Export { tar: TarWriter::new(out), buffer: vec![0; BUFFER_BYTES] };
    let Failure(error) = match volumes.store.export(name, &mut export) {
        Ok(()) => match export.tar.finish().and_then(|mut out| out.flush()) {
            Ok(()) => return Ok(()),
            Err(error) => Failure::write(b"", error),
        },
        Err(failure) => failure,
    };
    Err(error)
}

/// Unpacks an archive, plain or compressed, into what is to become a volume's content. Blocks.
///
/// # Errors
/// [`EngineError::Volume`] naming the entry that cannot be.
pub(crate) fn read(staged: &Staged, from: File) -> Result<(), EngineError> {
    let input = BufReader::with_capacity(BUFFER_BYTES, from);
    let limits = Limits::default();
    let unpacked = layer::unpack(input, staged.directory(), &limits, &mut |_| ());
    let failed = |error: layer::LayerError| EngineError::Volume {
        kind: error.kind(),
        text: format!("cannot import the archive: {}", chain(&error)),
    };
    unpacked.map(drop).map_err(failed)
}

struct Export<W: Write> {
    tar: TarWriter<W>,
    buffer: Vec<u8>,
}

/// Why a volume was not written to its end.
struct Failure(EngineError);

impl Failure {
    fn write(path: &[u8], error: io::Error) -> Failure {
        let text = format!("cannot write \"{}\" to the archive: {error}", path.escape_ascii());
        Failure(EngineError::Volume { kind: ErrorKind::Internal, text })
    }
}

impl From<WalkError> for Failure {
    fn from(error: WalkError) -> Failure {
        VolumeError::from(error).into()
    }
}

impl From<VolumeError> for Failure {
    fn from(error: VolumeError) -> Failure {
        Failure(error.into())
    }
}

impl<W: Write> Visit for Export<W> {
    type Error = Failure;

    fn enter(&mut self, found: &Found) -> Result<(), Failure> {
        self.leaf(found, None)
    }

    fn leave(&mut self, _: &Found) -> Result<(), Failure> {
        Ok(())
    }

    fn leaf(&mut self, found: &Found, file: Option<&File>) -> Result<(), Failure> {
        let Some(entry) = entry(found) else { return Ok(()) };
        let failed = |error| Failure::write(&found.path, error);
        self.tar.entry(&entry).map_err(failed)?;
        let EntryKind::File { size, segments } = &entry.kind else { return Ok(()) };
        let Some(file) = file else { return Ok(()) };
        let whole = [Segment { offset: 0, length: *size }];
        for segment in segments.as_deref().unwrap_or(&whole) {
            self.data(file, *segment).map_err(failed)?;
        }
        Ok(())
    }
}

impl<W: Write> Export<W> {
    /// What a file that becomes shorter meanwhile does not have is zeros: its length is written.
    fn data(&mut self, file: &File, segment: Segment) -> io::Result<()> {
        let (mut at, end) = (segment.offset, segment.offset + segment.length);
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(BUFFER_BYTES);
            let piece = self.buffer.get_mut(..most).unwrap_or_default();
            let read = match file.read_at(piece, at)? {
                0 => {
                    piece.fill(0);
                    piece.len()
                }
                read => read,
            };
            self.tar.data(piece.get(..read).unwrap_or_default())?;
            at += u64::try_from(read).unwrap_or(0);
        }
        Ok(())
    }
}

/// The archive's entry; none for sockets, which no archive has.
fn entry(found: &Found) -> Option<Entry> {
    let mut path = found.path.clone();
    let kind = match &found.kind {
        FoundKind::Directory => {
            path.extend(if path.is_empty() { &b"./"[..] } else { b"/" });
            EntryKind::Directory
        }
        FoundKind::File { size, segments } => {
            let of = |s: &volumes::Segment| Segment { offset: s.offset, length: s.length };
            let segments = segments.as_ref().map(|all| all.iter().map(of).collect());
            EntryKind::File { size: *size, segments }
        }
        FoundKind::HardLink(first) => EntryKind::HardLink(first.clone()),
        FoundKind::Symlink(target) => EntryKind::Symlink(target.clone()),
        FoundKind::Device { block, major, minor } => {
            let class = if *block { DeviceClass::Block } else { DeviceClass::Character };
            EntryKind::Device(Device { class, major: *major, minor: *minor })
        }
        FoundKind::Fifo => EntryKind::Fifo,
        FoundKind::Socket => return None,
    };
    let (seconds, nanoseconds) = found.mtime;
    let xattr = |(name, value): &(Vec<u8>, Vec<u8>)| Xattr {
        name: name.as_slice().into(),
        value: value.as_slice().into(),
    };
    let attributes = Attributes {
        mode: found.mode,
        uid: found.uid,
        gid: found.gid,
        mtime: Time { seconds, nanoseconds },
        xattrs: found.xattrs.iter().map(xattr).collect(),
    };
    Some(Entry { path, attributes, kind })
}

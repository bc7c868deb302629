//! One image layer: from a tar stream, plain or compressed, to a root that can be mounted.
//!
//! ```text
//! blob ──sha256──▶ inflate ──channel──▶ sha256 ──▶ tar ──▶ apply ──▶ EROFS blocks │ staged files
//!      (thread of its own)                                   └────▶ tree ──▶ finish
//! ```
//!
//! File data goes to its final place as it arrives; names and attributes are collected in a
//! tree and written when the archive has ended, so a layer is read once and nothing is
//! written twice. The archive is not trusted: every number in it has a limit ([`Limits`]) and no
//! name in it is ever looked up in a file system.
//!
//! Knows nothing of registries, manifests or where layers are kept.

mod apply;
mod directory;
mod erofs;
mod error;
mod export;
mod path;
pub mod read;
mod stream;
mod tree;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

use std::{fs::File, io::Read, os::fd::BorrowedFd};

pub use archive::{
    Attributes, Device, DeviceClass, Entry, EntryKind, Exceeded, Limits, Name, Segment, Time,
    Xattr, tar, tar_write,
};
use base::Digest;

use apply::Meaning;
pub use error::{EntryError, LayerError};
pub use export::{ExportError, export};

use crate::mounts::Marks;

/// How the bytes of a layer were compressed, told by their first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// A bare tar archive.
    None,
    /// RFC 1952, one or more members.
    Gzip,
    /// RFC 8878, one or more frames.
    Zstd,
}

/// What was read, after a layer was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the bytes as they came.
    pub blob: Digest,
    /// How many bytes came.
    pub blob_bytes: u64,
    /// How they were compressed.
    pub compression: Compression,
    /// Digest of the uncompressed archive: the layer's identity in an image configuration.
    pub diff_id: Digest,
    /// Length of the uncompressed archive.
    pub tar_bytes: u64,
    /// Entries of the archive, without those that only extend the next one.
    pub entries: u64,
    /// Bytes of file content in the archive; holes of sparse files are not counted.
    pub content_bytes: u64,
    /// Extended attributes left out because the form has no place for them or because they are
    /// overlayfs's own (`trusted.overlay.*`), which an image may not set.
    pub xattrs_ignored: u64,
}

/// Writes a layer as one EROFS image.
///
/// The superblock is written last: an image that a kill left half-written has no magic number
/// and does not mount. The caller syncs the file. `progress` is told how many bytes of the input
/// were read so far.
///
/// # Errors
/// When the input cannot be read, is not an acceptable archive, or the output cannot be written.
/// The output's content is then of no use.
pub fn write_erofs(
    input: impl Read + Send,
    out: &File,
    limits: &Limits,
    progress: &mut dyn FnMut(u64),
) -> Result<Layer, LayerError> {
    // What the file held before would show through the image's gaps.
    out.set_len(0).map_err(LayerError::Write)?;
    let ((applied, image), read) = stream::read(input, limits, progress, |stream| {
        let mut image = erofs::Writer::new(out);
        let applied = apply::apply(stream, &mut image, Meaning::Layer, limits)?;
        Ok((applied, image))
    })?;
    image.finish(&applied.tree, &read.diff_id)?;
    Ok(layer(&applied, read))
}

/// Writes a layer as a directory: the form for kernels that cannot mount EROFS.
///
/// `root` must be empty and reachable by nobody else. The caller syncs.
///
/// # Errors
/// As [`write_erofs`]; what was written so far is left for the caller to remove.
pub fn write_directory(
    input: impl Read + Send,
    root: BorrowedFd<'_>,
    marks: Marks,
    limits: &Limits,
    progress: &mut dyn FnMut(u64),
) -> Result<Layer, LayerError> {
    directory(input, root, Meaning::Layer, marks, limits, progress)
}

/// Unpacks an archive that is no layer, such as a volume's: its names hide nothing, and device
/// nodes are refused, but for overlayfs's whiteout, which opens nothing.
///
/// # Errors
/// As [`write_directory`].
pub fn unpack(
    input: impl Read + Send,
    root: BorrowedFd<'_>,
    limits: &Limits,
    progress: &mut dyn FnMut(u64),
) -> Result<Layer, LayerError> {
    let marks = if sys::userns::is_confined() { Marks::User } else { Marks::Trusted };
    directory(input, root, Meaning::Files, marks, limits, progress)
}

fn directory(
    input: impl Read + Send,
    root: BorrowedFd<'_>,
    meaning: Meaning,
    marks: Marks,
    limits: &Limits,
    progress: &mut dyn FnMut(u64),
) -> Result<Layer, LayerError> {
    let ((mut applied, ignored), read) = stream::read(input, limits, progress, |stream| {
        let mut staging = directory::Staging::new(root, marks)?;
        let applied = apply::apply(stream, &mut staging, meaning, limits)?;
        let ignored = staging.finish(&applied.tree)?;
        Ok((applied, ignored))
    })?;
    applied.xattrs_ignored += ignored;
    Ok(layer(&applied, read))
}

fn layer<F>(applied: &apply::Applied<F>, read: stream::Summary) -> Layer {
    Layer {
        blob: read.blob,
        blob_bytes: read.blob_bytes,
        compression: read.compression,
        diff_id: read.diff_id,
        tar_bytes: read.tar_bytes,
        entries: applied.entries,
        content_bytes: applied.content_bytes,
        xattrs_ignored: applied.xattrs_ignored,
    }
}

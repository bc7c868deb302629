//! From an EROFS image back to the tar archive of a layer.
//!
//! The archive is canonical, not the one that the image was made from: the same files in the
//! order of their names. Whiteouts and opaque directories become `.wh.` files again.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write},
};

use base::ErrorKind;

use super::{
    Attributes, Device, Entry, EntryKind, Limits, Name, Segment,
    read::{Extent, Image, ImageEntry, ImageKind, ReadError, read_erofs},
    tar_write::TarWriter,
};

/// Why an image was not exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The image cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An entry could not be copied.
    #[error("cannot write \"{path}\" to the archive")]
    Write {
        /// Which.
        path: Name,
        /// What happened.
        #[source]
        source: io::Error,
    },
}

impl ExportError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ExportError::Read(error) => error.kind(),
            ExportError::Write { .. } => ErrorKind::Internal,
        }
    }
}

/// Writes the layer in an image as a tar archive and returns the output.
///
/// # Errors
/// When the image is not a layer's, or the output fails.
pub fn export<W: Write>(image: &File, limits: &Limits, out: W) -> Result<W, ExportError> {
    let image = read_erofs(image, limits)?;
    let mut tar = TarWriter::new(out);
    // The first name of every file with several.
    let mut first: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for entry in image.entries() {
        let entry = entry?;
        let target = match entry.links {
            0 | 1 => None,
            _ => first.get(&entry.nid).cloned(),
        };
        let is_directory = entry.kind == ImageKind::Directory;
        if entry.links > 1 && target.is_none() && !is_directory {
            first.insert(entry.nid, entry.path.clone());
        }
        write(&image, &mut tar, &entry, target)?;
    }
    let ended = |source| ExportError::Write { path: Name::new(b"/"), source };
    tar.finish().map_err(ended)
}

fn write<W: Write>(
    image: &Image<'_>,
    tar: &mut TarWriter<W>,
    entry: &ImageEntry,
    target: Option<Vec<u8>>,
) -> Result<(), ExportError> {
    let failed = |source| ExportError::Write { path: Name::new(&entry.path), source };
    let extents = match target {
        None => image.extents_of(entry)?,
        Some(_) => Vec::new(),
    };
    let plan = plan(entry, target, &extents);
    for entry in &plan {
        tar.entry(entry).map_err(failed)?;
    }
    for extent in extents.iter().filter(|extent| extent.at.is_some()) {
        image.copy(extent, tar).map_err(failed)?;
    }
    Ok(())
}

/// The archive's entries for one of the image's; data belongs to the last one.
fn plan(entry: &ImageEntry, target: Option<Vec<u8>>, extents: &[Extent]) -> Vec<Entry> {
    let mut attributes = entry.attributes.clone();
    let given = attributes.xattrs.len();
    attributes.xattrs.retain(|xattr| *xattr.name != *b"trusted.overlay.opaque");
    let opaque = attributes.xattrs.len() < given;
    let mut path = entry.path.clone();
    let kind = match (&entry.kind, target) {
        (ImageKind::Device(device), _) if *device == Device::WHITEOUT => {
            return vec![empty_file(beside(&path, b".wh."))];
        }
        (_, Some(target)) => EntryKind::HardLink(target),
        (ImageKind::Directory, None) => {
            path.extend(if path.is_empty() { &b"./"[..] } else { b"/" });
            EntryKind::Directory
        }
        (ImageKind::File { size }, None) => {
            let holes = extents.iter().any(|extent| extent.at.is_none());
            let data = extents.iter().filter(|extent| extent.at.is_some());
            let segments = data.map(|e| Segment { offset: e.offset, length: e.length }).collect();
            EntryKind::File { size: *size, segments: holes.then_some(segments) }
        }
        (ImageKind::Symlink(target), None) => EntryKind::Symlink(target.clone()),
        (ImageKind::Device(device), None) => EntryKind::Device(*device),
        (ImageKind::Fifo, None) => EntryKind::Fifo,
    };
    let marker = [path.as_slice(), b".wh..wh..opq"].concat();
    let mut plan = vec![Entry { path, attributes, kind }];
    if opaque {
        plan.push(empty_file(marker));
    }
    plan
}

fn empty_file(path: Vec<u8>) -> Entry {
    let kind = EntryKind::File { size: 0, segments: None };
    Entry { path, attributes: Attributes::default(), kind }
}

/// The path with `prefix` before its last name.
fn beside(path: &[u8], prefix: &[u8]) -> Vec<u8> {
    let name = path.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
    let (parents, name) = path.split_at(name);
    [parents, prefix, name].concat()
}

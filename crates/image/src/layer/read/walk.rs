//! The walk over an image: directories before what is in them, names in their order.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
};

use super::{Extent, Fields, Image, ImageKind, Inode, ReadError};
use crate::layer::{
    Attributes, Exceeded, Name,
    erofs::format::{BLOCK, DIRENT_BYTES},
};

/// One name in an image.
#[derive(Clone, Debug)]
pub struct ImageEntry {
    /// Path from the root, without a slash at either end; the root's own is empty.
    pub path: Vec<u8>,
    /// Owner, mode, time, extended attributes.
    pub attributes: Attributes,
    /// What it is.
    pub kind: ImageKind,
    /// How many names it has.
    pub links: u32,
    /// The same for all names of one file.
    pub nid: u64,
    inode: Inode,
}

/// Largest directory that is read, in bytes.
const DIRECTORY_BYTES_MAX: u64 = 1 << 30;

impl<'f> Image<'f> {
    /// All entries, the root first.
    pub fn entries(&self) -> Entries<'_, 'f> {
        let todo = vec![(Vec::new(), self.root_nid, 0)];
        Entries { image: self, todo, directories: BTreeSet::new(), count: 0, held: 0 }
    }

    /// Where the bytes of a regular file are; nothing for other entries.
    ///
    /// # Errors
    /// When the image is damaged there.
    pub fn extents_of(&self, entry: &ImageEntry) -> Result<Vec<Extent>, ReadError> {
        match entry.kind {
            ImageKind::File { .. } => self.extents(&entry.inode, &entry.path),
            ImageKind::Directory
            | ImageKind::Symlink(_)
            | ImageKind::Device(_)
            | ImageKind::Fifo => Ok(Vec::new()),
        }
    }

    /// Copies a run of bytes.
    ///
    /// # Errors
    /// When the image cannot be read or `out` not be written.
    pub fn copy(&self, extent: &Extent, out: &mut impl Write) -> io::Result<()> {
        copy(self.file, extent, out)
    }
}

fn copy(file: &File, extent: &Extent, out: &mut impl Write) -> io::Result<()> {
    /// Bytes copied at a time.
    const PIECE_BYTES: usize = 256 << 10;
    let mut left = extent.length;
    let mut buffer = vec![0; usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES)];
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let piece = buffer.get_mut(..length).unwrap_or_default();
        match extent.at {
            Some(at) => file.read_exact_at(piece, at + (extent.length - left))?,
            None => piece.fill(0),
        }
        out.write_all(piece)?;
        left -= length as u64;
    }
    Ok(())
}

/// Iterator over an image. After an error there is nothing more.
#[derive(Debug)]
pub struct Entries<'i, 'f> {
    image: &'i Image<'f>,
    /// Paths, node ids and depths that are still to come, the next one last.
    todo: Vec<(Vec<u8>, u64, usize)>,
    /// Directories that were seen: each has one name, so a second one is a loop.
    directories: BTreeSet<u64>,
    count: u64,
    /// Bytes of paths in `todo`.
    held: u64,
}

impl Iterator for Entries<'_, '_> {
    type Item = Result<ImageEntry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (path, nid, depth) = self.todo.pop()?;
        self.held -= path.len() as u64;
        let entry = self.visit(path, nid, depth);
        if entry.is_err() {
            self.todo.clear();
        }
        Some(entry)
    }
}

impl Entries<'_, '_> {
    fn visit(&mut self, path: Vec<u8>, nid: u64, depth: usize) -> Result<ImageEntry, ReadError> {
        let limits = &self.image.limits;
        self.count += 1;
        // The root is not one of the entries that a layer counts.
        if self.count > limits.entries.saturating_add(1) {
            return Err(Exceeded { limit: "entries", max: limits.entries }.into());
        }
        if depth > limits.depth {
            let max = limits.depth as u64;
            return Err(Exceeded { limit: "components in one path", max }.into());
        }
        let inode = self.image.inode(nid, &path)?;
        let kind = self.image.kind(&inode, &path)?;
        if path.is_empty() && kind != ImageKind::Directory {
            return Err(ReadError::Damaged { path: Name::new(b"/"), what: "the root" });
        }
        if kind == ImageKind::Directory {
            if !self.directories.insert(nid) {
                return Err(ReadError::Damaged { path: Name::new(&path), what: "the parent" });
            }
            self.descend(&inode, &path, depth)?;
        }
        let attributes = self.image.attributes(&inode, &path)?;
        Ok(ImageEntry { path, attributes, kind, links: inode.links, nid, inode })
    }

    fn descend(&mut self, inode: &Inode, path: &[u8], depth: usize) -> Result<(), ReadError> {
        let damaged = || ReadError::Damaged { path: Name::new(path), what: "the directory" };
        let content = self.image.small(inode, DIRECTORY_BYTES_MAX, path)?;
        let first = self.todo.len();
        for block in content.chunks(BLOCK) {
            for (name, nid) in dirents(block).ok_or_else(damaged)? {
                if name == b"." || name == b".." {
                    continue;
                }
                let path = match path {
                    b"" => name.to_vec(),
                    _ => [path, name].join(&b'/'),
                };
                self.held += path.len() as u64;
                self.todo.push((path, nid, depth + 1));
            }
            let max = self.image.limits.metadata_bytes;
            if self.held > max {
                return Err(Exceeded { limit: "bytes of names and attributes", max }.into());
            }
        }
        self.todo.get_mut(first..).unwrap_or_default().reverse();
        Ok(())
    }
}

/// The names of one directory block.
fn dirents(block: &[u8]) -> Option<Vec<(&[u8], u64)>> {
    let heads_bytes = usize::from(Fields(block).u16(8));
    if heads_bytes < DIRENT_BYTES || !heads_bytes.is_multiple_of(DIRENT_BYTES) {
        return None;
    }
    let heads = block.get(..heads_bytes)?;
    let starts = heads.chunks(DIRENT_BYTES).map(|head| usize::from(Fields(head).u16(8)));
    let ends = starts.clone().skip(1).chain([block.len()]);
    heads
        .chunks(DIRENT_BYTES)
        .zip(starts.zip(ends))
        .map(|(head, (start, end))| {
            let name = block.get(start..end)?;
            // The last name ends with its block or at a NUL.
            let name = name.split(|&b| b == 0).next()?;
            let valid = (1..=255).contains(&name.len()) && !name.contains(&b'/');
            valid.then_some((name, Fields(head).u64(0)))
        })
        .collect()
}

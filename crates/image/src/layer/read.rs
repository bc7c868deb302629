//! Reads an EROFS image without mounting it.
//!
//! For images that [`super::write_erofs`] wrote, on any host; and for checking them. What other
//! writers add — compression, devices, shared attributes, other block sizes — is refused by name.
//! The bytes are not trusted: every offset is checked, directories are visited once, and what is
//! held in memory is bounded by [`Limits`].

mod walk;

use std::{fs::File, io, os::unix::fs::FileExt};

use base::ErrorKind;

pub use walk::{Entries, ImageEntry};

use super::{
    Attributes, Device, DeviceClass, Exceeded, Limits, Name, Time, Xattr,
    erofs::format::{
        BLOCK, BLOCK_BITS, BLOCK_BYTES, CHUNK_BITS_MASK, CHUNK_INDEXES, COMPAT_CHECKSUM, HOLE,
        INCOMPAT_CHUNKED, INODE_BYTES, INODE_COMPACT_BYTES, Layout, MAGIC, SLOT_BYTES,
        SUPERBLOCK_AT, SUPERBLOCK_BYTES, XATTR_ENTRY_BYTES, XATTR_HEADER_BYTES, crc32c,
        decode_device, mode, xattr_prefix_of,
    },
};

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file failed.
    #[error("cannot read the image")]
    Read(#[source] io::Error),
    /// The file is not an EROFS image, or an incomplete one.
    #[error("this is not an EROFS image")]
    NotErofs,
    /// The superblock's checksum is wrong.
    #[error("the superblock of the image is damaged")]
    Checksum,
    /// Something that this reader does not know.
    #[error("the image uses {0}, which cannot be read")]
    Unsupported(&'static str),
    /// Bytes that contradict each other.
    #[error("the image is damaged: {what} of \"{path}\"")]
    Damaged {
        /// Where.
        path: Name,
        /// What is wrong there.
        what: &'static str,
    },
    /// A limit was reached.
    #[error(transparent)]
    Limit(#[from] Exceeded),
}

impl ReadError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ReadError::Read(_) => ErrorKind::Internal,
            ReadError::NotErofs | ReadError::Checksum | ReadError::Damaged { .. } => {
                ErrorKind::Corrupt
            }
            ReadError::Unsupported(_) => ErrorKind::Unsupported,
            ReadError::Limit(_) => ErrorKind::Exhausted,
        }
    }
}

/// An image.
#[derive(Debug)]
pub struct Image<'f> {
    file: &'f File,
    bytes: u64,
    metadata_at: u64,
    root_nid: u64,
    build_seconds: i64,
    build_nanoseconds: u32,
    limits: Limits,
}

/// A run of a file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
    /// Where it stands in the image; nothing for a hole.
    pub at: Option<u64>,
}

/// Opens an image.
///
/// # Errors
/// When the file has no valid superblock, or one that asks for what this reader does not know.
pub fn read_erofs<'f>(file: &'f File, limits: &Limits) -> Result<Image<'f>, ReadError> {
    let bytes = file.metadata().map_err(ReadError::Read)?.len();
    let mut block = vec![0; BLOCK];
    if bytes < BLOCK_BYTES {
        return Err(ReadError::NotErofs);
    }
    file.read_exact_at(&mut block, 0).map_err(ReadError::Read)?;
    let superblock = Fields(block.get(SUPERBLOCK_AT..).unwrap_or_default());
    if superblock.u32(0) != MAGIC {
        return Err(ReadError::NotErofs);
    }
    if superblock.u8(12) != BLOCK_BITS || superblock.u8(90) != 0 {
        return Err(ReadError::Unsupported("another block size"));
    }
    if superblock.u32(8) & COMPAT_CHECKSUM != 0 {
        let mut copy = superblock.0.to_vec();
        copy.get_mut(4..8).into_iter().for_each(|field| field.fill(0));
        if crc32c(&copy) != superblock.u32(4) {
            return Err(ReadError::Checksum);
        }
    }
    if superblock.u32(80) & !INCOMPAT_CHUNKED != 0 || superblock.u8(13) != 0 {
        return Err(ReadError::Unsupported("compression, devices or another extension"));
    }
    debug_assert!(superblock.0.len() >= SUPERBLOCK_BYTES, "a superblock is shorter than its block");
    Ok(Image {
        file,
        bytes,
        metadata_at: u64::from(superblock.u32(40)) * BLOCK_BYTES,
        root_nid: superblock.u16(14).into(),
        build_seconds: superblock.u64(24).cast_signed(),
        build_nanoseconds: superblock.u32(32),
        limits: limits.clone(),
    })
}

/// What an inode is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageKind {
    /// A regular file of this length.
    File {
        /// Length with holes.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A device node.
    Device(Device),
    /// A named pipe.
    Fifo,
}

/// An inode, decoded.
#[derive(Clone, Debug)]
struct Inode {
    /// Where its head stands.
    at: u64,
    head_bytes: u64,
    xattr_bytes: u64,
    layout: Layout,
    mode: u16,
    size: u64,
    location: u32,
    uid: u32,
    gid: u32,
    mtime: Time,
    links: u32,
}

impl Image<'_> {
    fn read(&self, at: u64, bytes: usize) -> Result<Option<Vec<u8>>, ReadError> {
        let end = at.checked_add(bytes as u64);
        if end.is_none_or(|end| end > self.bytes) {
            return Ok(None);
        }
        let mut out = vec![0; bytes];
        self.file.read_exact_at(&mut out, at).map_err(ReadError::Read)?;
        Ok(Some(out))
    }

    fn inode(&self, nid: u64, path: &[u8]) -> Result<Inode, ReadError> {
        let damaged = |what| ReadError::Damaged { path: Name::new(path), what };
        let at = nid.checked_mul(SLOT_BYTES).and_then(|at| at.checked_add(self.metadata_at));
        let at = at.ok_or_else(|| damaged("the place of the inode"))?;
        let missing = || damaged("the place of the inode");
        let head = self.read(at, INODE_COMPACT_BYTES)?.ok_or_else(missing)?;
        let extended = Fields(&head).u16(0) & 1 != 0;
        let head_bytes = if extended { INODE_BYTES } else { INODE_COMPACT_BYTES };
        let head = self.read(at, head_bytes)?.ok_or_else(missing)?;
        let head = Fields(&head);
        let layout = match head.u16(0) >> 1 & 7 {
            0 => Layout::Plain,
            2 => Layout::Inline,
            4 => Layout::Chunked,
            _ => return Err(ReadError::Unsupported("compressed files")),
        };
        let build = Time { seconds: self.build_seconds, nanoseconds: self.build_nanoseconds };
        let inode = Inode {
            at,
            head_bytes: head_bytes as u64,
            xattr_bytes: match head.u16(2) {
                0 => 0,
                count => XATTR_HEADER_BYTES as u64 + 4 * (u64::from(count) - 1),
            },
            layout,
            mode: head.u16(4),
            size: if extended { head.u64(8) } else { head.u32(8).into() },
            location: head.u32(16),
            uid: if extended { head.u32(24) } else { head.u16(24).into() },
            gid: if extended { head.u32(28) } else { head.u16(26).into() },
            mtime: match extended {
                true => Time { seconds: head.u64(32).cast_signed(), nanoseconds: head.u32(40) },
                false => build,
            },
            links: if extended { head.u32(44) } else { head.u16(6).into() },
        };
        match inode.mtime.nanoseconds < 1_000_000_000 && inode.size <= self.limits.file_bytes {
            true => Ok(inode),
            false => Err(damaged("time or size")),
        }
    }

    fn attributes(&self, inode: &Inode, path: &[u8]) -> Result<Attributes, ReadError> {
        let (uid, gid, mtime) = (inode.uid, inode.gid, inode.mtime);
        let xattrs = self.xattrs(inode, path)?;
        Ok(Attributes { mode: inode.mode & 0o7777, uid, gid, mtime, xattrs })
    }

    fn xattrs(&self, inode: &Inode, path: &[u8]) -> Result<Vec<Xattr>, ReadError> {
        let damaged = || ReadError::Damaged { path: Name::new(path), what: "extended attributes" };
        let Ok(bytes @ 1..) = usize::try_from(inode.xattr_bytes) else { return Ok(Vec::new()) };
        let area = self.read(inode.at + inode.head_bytes, bytes)?.ok_or_else(damaged)?;
        if Fields(&area).u8(4) != 0 {
            return Err(ReadError::Unsupported("shared attributes"));
        }
        let mut rest = area.get(XATTR_HEADER_BYTES..).unwrap_or_default();
        let mut xattrs = Vec::new();
        while rest.len() >= XATTR_ENTRY_BYTES {
            let head = Fields(rest);
            let name_bytes = usize::from(head.u8(0));
            let value_at = XATTR_ENTRY_BYTES + name_bytes;
            let end = value_at + usize::from(head.u16(2));
            let prefix = xattr_prefix_of(head.u8(1)).ok_or_else(damaged)?;
            let suffix = rest.get(XATTR_ENTRY_BYTES..value_at).ok_or_else(damaged)?;
            let value = rest.get(value_at..end).ok_or_else(damaged)?;
            xattrs.push(Xattr { name: [prefix, suffix].concat().into(), value: value.into() });
            rest = rest.get(end.next_multiple_of(4)..).unwrap_or_default();
        }
        xattrs.sort_unstable();
        Ok(xattrs)
    }

    /// Where the bytes of a file, directory or link are. In order and without gaps; holes are
    /// joined.
    fn extents(&self, inode: &Inode, path: &[u8]) -> Result<Vec<Extent>, ReadError> {
        let damaged = |what| ReadError::Damaged { path: Name::new(path), what };
        let behind = inode.at + inode.head_bytes + inode.xattr_bytes;
        let block_at = u64::from(inode.location) * BLOCK_BYTES;
        let mut extents = Vec::new();
        match inode.layout {
            Layout::Plain => add(&mut extents, inode.size, Some(block_at)),
            Layout::Inline => {
                let tail = inode.size % BLOCK_BYTES;
                if behind % BLOCK_BYTES + tail > BLOCK_BYTES {
                    return Err(damaged("content"));
                }
                add(&mut extents, inode.size - tail, Some(block_at));
                add(&mut extents, tail, Some(behind));
            }
            Layout::Chunked => self.chunks(inode, behind, path, &mut extents)?,
        }
        let inside = |extent: &Extent| {
            extent
                .at
                .is_none_or(|at| at.checked_add(extent.length).is_some_and(|e| e <= self.bytes))
        };
        match extents.iter().all(inside) {
            true => Ok(extents),
            false => Err(damaged("content")),
        }
    }

    fn chunks(
        &self,
        inode: &Inode,
        map_at: u64,
        path: &[u8],
        extents: &mut Vec<Extent>,
    ) -> Result<(), ReadError> {
        let damaged = || ReadError::Damaged { path: Name::new(path), what: "the map of chunks" };
        let format = u16::try_from(inode.location).map_err(|_| damaged())?;
        if format & CHUNK_INDEXES != 0 {
            return Err(ReadError::Unsupported("chunks on other devices"));
        }
        let bits = u32::from(format & CHUNK_BITS_MASK) + u32::from(BLOCK_BITS);
        let chunk_bytes = 1_u64 << bits;
        let count = inode.size.div_ceil(chunk_bytes);
        // A map that does not fit the file is noticed before it is read.
        let map_bytes = count.checked_mul(4).filter(|bytes| *bytes <= self.bytes);
        let map_bytes = map_bytes.and_then(|bytes| usize::try_from(bytes).ok());
        let map = self.read(map_at, map_bytes.ok_or_else(damaged)?)?.ok_or_else(damaged)?;
        let mut left = inode.size;
        for block in map.as_chunks::<4>().0 {
            let block = u32::from_le_bytes(*block);
            let length = left.min(chunk_bytes);
            left -= length;
            add(extents, length, (block != HOLE).then(|| u64::from(block) * BLOCK_BYTES));
        }
        Ok(())
    }

    /// The whole content of a directory or link, which must be short.
    fn small(&self, inode: &Inode, most: u64, path: &[u8]) -> Result<Vec<u8>, ReadError> {
        let damaged = || ReadError::Damaged { path: Name::new(path), what: "content" };
        if inode.size > most || inode.size > self.bytes {
            return Err(damaged());
        }
        let mut out = Vec::new();
        for extent in self.extents(inode, path)? {
            let length = usize::try_from(extent.length).map_err(|_| damaged())?;
            match extent.at {
                Some(at) => out.extend(self.read(at, length)?.ok_or_else(damaged)?),
                None => out.resize(out.len() + length, 0),
            }
        }
        Ok(out)
    }

    fn kind(&self, inode: &Inode, path: &[u8]) -> Result<ImageKind, ReadError> {
        let device = |class| ImageKind::Device(decode_device(class, inode.location));
        Ok(match inode.mode & mode::TYPE {
            mode::FILE => ImageKind::File { size: inode.size },
            mode::DIRECTORY => ImageKind::Directory,
            mode::SYMLINK => ImageKind::Symlink(self.small(inode, BLOCK_BYTES, path)?),
            mode::CHARACTER => device(DeviceClass::Character),
            mode::BLOCK => device(DeviceClass::Block),
            mode::FIFO => ImageKind::Fifo,
            _ => {
                return Err(ReadError::Damaged { path: Name::new(path), what: "the type" });
            }
        })
    }
}

fn add(extents: &mut Vec<Extent>, length: u64, at: Option<u64>) {
    let offset = extents.last().map_or(0, |last: &Extent| last.offset + last.length);
    match extents.last_mut() {
        _ if length == 0 => {}
        Some(last) if last.at.is_none() && at.is_none() => last.length += length,
        Some(last) if last.at.is_some() && last.at.map(|a| a + last.length) == at => {
            last.length += length;
        }
        Some(_) | None => extents.push(Extent { offset, length, at }),
    }
}

/// Little-endian fields; what lies outside reads as zero.
struct Fields<'b>(&'b [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    fn u8(&self, at: usize) -> u8 {
        self.bytes::<1>(at)[0]
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }
}

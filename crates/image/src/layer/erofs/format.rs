//! The bytes of an EROFS image: numbers and fixed-size records, for the writer and the reader.
//!
//! Source: fs/erofs/erofs_fs.h of Linux.

use crate::layer::{Device, DeviceClass, Time, Xattr};

/// Bytes of a block. The least that every kernel with 4 KiB pages accepts.
pub(crate) const BLOCK_BYTES: u64 = 4096;
/// Its power of two.
pub(crate) const BLOCK_BITS: u8 = 12;
/// [`BLOCK_BYTES`], for slices.
pub(crate) const BLOCK: usize = 4096;
/// Where the superblock begins.
pub(crate) const SUPERBLOCK_AT: usize = 1024;
/// Bytes of the superblock.
pub(crate) const SUPERBLOCK_BYTES: usize = 128;
/// Node ids count in units of this, from the first block of metadata.
pub(crate) const SLOT_BYTES: u64 = 32;
/// Bytes of an extended inode, which has 32-bit owners and nanoseconds.
pub(crate) const INODE_BYTES: usize = 64;
/// Bytes of a compact inode. Never written, but read.
pub(crate) const INODE_COMPACT_BYTES: usize = 32;
/// Bytes of a directory entry without its name.
pub(crate) const DIRENT_BYTES: usize = 12;
/// Bytes before the first inline extended attribute.
pub(crate) const XATTR_HEADER_BYTES: usize = 12;
/// Bytes before an attribute's name.
pub(crate) const XATTR_ENTRY_BYTES: usize = 4;
/// A chunk that is a hole.
pub(crate) const HOLE: u32 = u32::MAX;

pub(crate) const MAGIC: u32 = 0xe0f5_e1e2;
/// The superblock has a checksum.
pub(crate) const COMPAT_CHECKSUM: u32 = 1;
/// Times are those of last modification.
pub(crate) const COMPAT_MTIME: u32 = 2;
/// There are files in chunks. Linux 5.15.
pub(crate) const INCOMPAT_CHUNKED: u32 = 4;
/// Map entries of 8 bytes with a device instead of 4.
pub(crate) const CHUNK_INDEXES: u16 = 0x20;
/// The chunk's power of two, less the block's.
pub(crate) const CHUNK_BITS_MASK: u16 = 0x1f;

/// How an inode's data is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Whole blocks.
    Plain = 0,
    /// Whole blocks, and the rest behind the inode.
    Inline = 2,
    /// A map of chunks behind the inode.
    Chunked = 4,
}

/// The superblock's fields that vary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub(crate) chunked: bool,
    pub(crate) root_nid: u16,
    pub(crate) inodes: u64,
    pub(crate) blocks: u32,
    pub(crate) metadata_block: u32,
    pub(crate) uuid: [u8; 16],
}

impl Superblock {
    /// The first block of an image.
    pub(crate) fn encode(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| {
            let at = SUPERBLOCK_AT + at;
            block[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(0, &MAGIC.to_le_bytes());
        put(8, &(COMPAT_CHECKSUM | COMPAT_MTIME).to_le_bytes());
        put(12, &[BLOCK_BITS]);
        put(14, &self.root_nid.to_le_bytes());
        put(16, &self.inodes.to_le_bytes());
        put(36, &self.blocks.to_le_bytes());
        put(40, &self.metadata_block.to_le_bytes());
        put(48, &self.uuid);
        put(80, &(if self.chunked { INCOMPAT_CHUNKED } else { 0 }).to_le_bytes());
        let checksum = crc32c(&block[SUPERBLOCK_AT..]);
        block[SUPERBLOCK_AT + 4..SUPERBLOCK_AT + 8].copy_from_slice(&checksum.to_le_bytes());
        block
    }
}

/// CRC-32C as the kernel's crc32c(~0, …) gives it: without the final inversion. Over 3 KiB once,
/// so bit by bit.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL_REVERSED: u32 = 0x82f6_3b78;
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL_REVERSED } else { 0 }
        })
    })
}

/// An extended inode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inode {
    pub(crate) layout: Layout,
    /// Bytes of extended attributes behind it.
    pub(crate) xattr_bytes: usize,
    /// With the file type.
    pub(crate) mode: u16,
    pub(crate) size: u64,
    /// First block, device number or chunk format.
    pub(crate) location: u32,
    /// What a 32-bit stat shows.
    pub(crate) number: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    pub(crate) links: u32,
}

impl Inode {
    pub(crate) fn encode(&self) -> [u8; INODE_BYTES] {
        let mut out = [0; INODE_BYTES];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        // Bit 0: the extended form.
        put(0, &(1 | (self.layout as u16) << 1).to_le_bytes());
        put(2, &xattr_count(self.xattr_bytes).to_le_bytes());
        put(4, &self.mode.to_le_bytes());
        put(8, &self.size.to_le_bytes());
        put(16, &self.location.to_le_bytes());
        put(20, &self.number.to_le_bytes());
        put(24, &self.uid.to_le_bytes());
        put(28, &self.gid.to_le_bytes());
        put(32, &self.mtime.seconds.to_le_bytes());
        put(40, &self.mtime.nanoseconds.to_le_bytes());
        put(44, &self.links.to_le_bytes());
        out
    }
}

fn xattr_count(bytes: usize) -> u16 {
    match bytes.checked_sub(XATTR_HEADER_BYTES) {
        None => 0,
        Some(bytes) => u16::try_from(1 + bytes / 4).expect("archives give 64 KiB at most"),
    }
}

/// Prefixes of attribute names and the numbers that stand for them.
const XATTR_PREFIXES: [(u8, &[u8]); 5] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];

/// The number of a name's prefix and what is left of it.
fn xattr_prefix(name: &[u8]) -> Option<(u8, &[u8])> {
    XATTR_PREFIXES.iter().find_map(|(index, prefix)| Some((*index, name.strip_prefix(*prefix)?)))
}

/// The prefix with this number.
pub(crate) fn xattr_prefix_of(index: u8) -> Option<&'static [u8]> {
    XATTR_PREFIXES.iter().find(|(number, _)| *number == index).map(|(_, prefix)| *prefix)
}

/// Bytes that attributes take behind their inode. Names that EROFS cannot express are left out
/// when entries are applied.
pub(crate) fn xattr_area_bytes(xattrs: &[Xattr]) -> usize {
    let entries = xattrs.iter().filter_map(|xattr| {
        let (_, suffix) = xattr_prefix(&xattr.name)?;
        Some((XATTR_ENTRY_BYTES + suffix.len() + xattr.value.len()).next_multiple_of(4))
    });
    match entries.sum() {
        0 => 0,
        bytes => XATTR_HEADER_BYTES + bytes,
    }
}

/// The attribute area.
pub(crate) fn encode_xattrs(xattrs: &[Xattr]) -> Vec<u8> {
    let bytes = xattr_area_bytes(xattrs);
    let mut out = vec![0; XATTR_HEADER_BYTES.min(bytes)];
    for xattr in xattrs {
        let Some((index, suffix)) = xattr_prefix(&xattr.name) else { continue };
        let length = u8::try_from(suffix.len()).expect("names have at most 255 bytes");
        let value = u16::try_from(xattr.value.len()).expect("archives give 64 KiB at most");
        out.extend([length, index]);
        out.extend(value.to_le_bytes());
        out.extend(suffix);
        out.extend(&xattr.value);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

/// File types in the mode. Source: inode(7).
pub(crate) mod mode {
    pub(crate) const TYPE: u16 = 0o170_000;
    pub(crate) const FIFO: u16 = 0o010_000;
    pub(crate) const CHARACTER: u16 = 0o020_000;
    pub(crate) const DIRECTORY: u16 = 0o040_000;
    pub(crate) const BLOCK: u16 = 0o060_000;
    pub(crate) const FILE: u16 = 0o100_000;
    pub(crate) const SYMLINK: u16 = 0o120_000;
}

/// The type byte of a directory entry.
pub(crate) fn dirent_type(mode: u16) -> u8 {
    match mode & mode::TYPE {
        mode::FILE => 1,
        mode::DIRECTORY => 2,
        mode::CHARACTER => 3,
        mode::BLOCK => 4,
        mode::FIFO => 5,
        mode::SYMLINK => 7,
        _ => 0,
    }
}

/// A device number. Source: `new_encode_dev`, include/linux/kdev_t.h.
pub(crate) fn encode_device(device: Device) -> u32 {
    device.minor & 0xff | device.major << 8 | (device.minor & !0xff) << 12
}

/// The reverse of [`encode_device`].
pub(crate) fn decode_device(class: DeviceClass, number: u32) -> Device {
    let major = number >> 8 & 0xfff;
    let minor = number & 0xff | number >> 12 & !0xff;
    Device { class, major, minor }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc_32c_without_its_last_step() {
        // RFC 3720, B.4: 32 bytes of zeros.
        assert_eq!(!crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn device_numbers_survive() {
        for (major, minor) in [(0, 0), (1, 3), (259, 300), (4095, (1 << 20) - 1)] {
            let device = Device { class: DeviceClass::Block, major, minor };
            assert_eq!(decode_device(DeviceClass::Block, encode_device(device)), device);
        }
    }
}

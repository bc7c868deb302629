//! The journal's own superblock: empty, to be begun from its first block on.
//!
//! Source: Linux `Documentation/filesystems/ext4/journal.rst`; everything in it is big endian.

use crate::{BLOCK, Identity, bytes::narrow};

/// Blocks of the journal: 4 MiB on small disks, 32 MiB on others.
const SMALL: u64 = 1024;
const LARGE: u64 = 8192;

/// From which size on a disk is not small: 1 GiB, in blocks.
const LARGE_FROM: u64 = (1 << 30) / BLOCK;

const MAGIC: u32 = 0xc03b_3998;

/// The kind of block: a superblock, version 2.
const SUPERBLOCK_V2: u32 = 4;

const BYTES: usize = 1024;

/// Where the UUID of the file system that uses it stands.
const USER: usize = 0x100;

/// Blocks of the journal of a disk of so many.
pub(crate) fn blocks(disk: u64) -> u64 {
    if disk < LARGE_FROM { SMALL } else { LARGE }
}

/// The first block of a journal of so many.
pub(crate) fn superblock(blocks: u64, identity: &Identity) -> Vec<u8> {
    let mut bytes = vec![0; BYTES];
    let mut put = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    put(0x00, MAGIC);
    put(0x04, SUPERBLOCK_V2);
    put(0x0c, narrow(BLOCK));
    put(0x10, narrow(blocks));
    // The first block of the log, and the first transaction; nothing has begun (0x1c is zero).
    put(0x14, 1);
    put(0x18, 1);
    // One file system uses it.
    put(0x40, 1);
    bytes[0x30..0x40].copy_from_slice(&identity.uuid);
    bytes[USER..USER + 16].copy_from_slice(&identity.uuid);
    bytes
}

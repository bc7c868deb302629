//! The superblock.
//!
//! Source: Linux `Documentation/filesystems/ext4/super.rst`.

use crate::{
    bytes::{Bytes, low, narrow},
    groups::Account,
    inode,
    layout::{GROUP_BLOCKS, GROUP_INODES, INODE},
};

/// Where the first one begins in the first block, in bytes.
pub(crate) const OFFSET: u64 = 1024;

const BYTES: usize = 1024;

const MAGIC: u16 = 0xef53;

/// `has_journal`, `ext_attr`, `dir_index`.
const COMPATIBLE: u32 = 0x4 | 0x8 | 0x20;

/// `filetype`, `extents`.
const INCOMPATIBLE: u32 = 0x2 | 0x40;

/// `sparse_super`, `large_file`, `huge_file`, `uninit_bg` (checksums of descriptors), `dir_nlink`,
/// `extra_isize`.
const READ_ONLY_COMPATIBLE: u32 = 0x1 | 0x2 | 0x8 | 0x10 | 0x20 | 0x40;

/// Attributes of users and access lists without being asked for.
const MOUNT_OPTIONS: u32 = 0x4 | 0x8;

/// The superblock as it stands in this group.
pub(crate) fn superblock(account: &Account, group: u64) -> Vec<u8> {
    let (layout, identity) = (&account.layout, &account.identity);
    let mut bytes = Bytes::zeros(BYTES);
    bytes.u32(0x00, narrow(layout.inode_count()));
    bytes.u32(0x04, narrow(layout.blocks));
    bytes.u32(0x0c, narrow(account.free_blocks()));
    bytes.u32(0x10, narrow(layout.inode_count() - account.inodes));
    // Blocks and clusters of 2^(10 + 2) bytes.
    bytes.u32(0x18, 2);
    bytes.u32(0x1c, 2);
    bytes.u32(0x20, narrow(GROUP_BLOCKS));
    bytes.u32(0x24, narrow(GROUP_BLOCKS));
    bytes.u32(0x28, narrow(GROUP_INODES));
    // Never forced to be checked by how often it was mounted.
    bytes.u16(0x36, u16::MAX);
    bytes.u16(0x38, MAGIC);
    // Clean; errors go on.
    bytes.u16(0x3a, 1);
    bytes.u16(0x3c, 1);
    // Revision 1: what follows is there.
    bytes.u32(0x4c, 1);
    bytes.u32(0x54, inode::FIRST);
    bytes.u16(0x58, low(INODE));
    bytes.u16(0x5a, low(group));
    bytes.u32(0x5c, COMPATIBLE);
    bytes.u32(0x60, INCOMPATIBLE);
    bytes.u32(0x64, READ_ONLY_COMPATIBLE);
    bytes.put(0x68, &identity.uuid);
    bytes.u32(0xe0, inode::JOURNAL);
    bytes.put(0xec, &identity.hash_seed);
    // Names are hashed by half MD4.
    bytes.put(0xfc, &[1]);
    // A copy of the journal's extents is kept further below.
    bytes.put(0xfd, &[1]);
    bytes.u32(0x100, MOUNT_OPTIONS);
    bytes.put(0x10c, &account.journal.bytes());
    bytes.u16(0x15c, inode::EXTRA);
    bytes.u16(0x15e, inode::EXTRA);
    // Hashes take characters as signed, as x86 has them.
    bytes.u32(0x160, 1);
    bytes.into_vec()
}

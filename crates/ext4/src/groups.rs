//! Block groups: where everything lies, and what their descriptors and bitmaps say.
//!
//! ```text
//! group 0:    superblock │ descriptors │ bitmaps │ inodes │ root, lost+found │ journal │ free
//! 1, 3^n, 5^n, 7^n: the first two again │ bitmaps │ inodes │ free
//! all others:                             bitmaps │ inodes │ free
//! ```
//!
//! Source: Linux `Documentation/filesystems/ext4/blockgroup.rst`, `group_descr.rst`, `bitmaps.rst`.

use std::ops::Range;

use crate::{
    BLOCK, Identity,
    bytes::{Bytes, low, narrow},
    crc16, superblock,
};

/// Blocks of a group: as many as a block has bits.
pub(crate) const GROUP_BLOCKS: u64 = BLOCK * 8;

/// Inodes of a group: one for each 16 KiB.
pub(crate) const GROUP_INODES: u64 = 8192;

/// Bytes of an inode.
pub(crate) const INODE: u64 = 256;

/// Blocks of a group's inodes.
const INODE_BLOCKS: u64 = GROUP_INODES * INODE / BLOCK;

/// Inodes that are in use: ten that are reserved, and lost+found.
pub(crate) const USED_INODES: u64 = 11;

/// Bytes of a group's descriptor.
const DESCRIPTOR: u64 = 32;

/// Blocks of the root directory and of lost+found.
const ROOT_BLOCKS: u64 = 1;
pub(crate) const LOST_BLOCKS: u64 = 4;

/// Blocks of the journal: 4 MiB on small disks, 32 MiB on others.
const JOURNAL_SMALL: u64 = 1024;
const JOURNAL_LARGE: u64 = 8192;

/// From which size on a disk is not small: 1 GiB, in blocks.
const LARGE: u64 = (1 << 30) / BLOCK;

/// Fewest blocks of a last group; fewer are left unused.
const LAST_MIN: u64 = INODE_BLOCKS + 64;

/// Bits of a descriptor's flags.
const INODE_UNINIT: u16 = 1;
const BLOCK_UNINIT: u16 = 2;
const INODE_ZEROED: u16 = 4;

/// Where everything lies, in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Blocks of the file system.
    pub(crate) blocks: u64,
    pub(crate) groups: u64,
    /// Blocks of the descriptors.
    descriptors: u64,
    pub(crate) journal_blocks: u64,
}

impl Layout {
    pub(crate) fn new(mut blocks: u64) -> Layout {
        let rest = blocks % GROUP_BLOCKS;
        // A last group has to have room for what every group has, and its copies.
        if rest != 0 && rest < LAST_MIN && blocks > GROUP_BLOCKS {
            blocks -= rest;
        }
        let groups = blocks.div_ceil(GROUP_BLOCKS);
        let descriptors = (groups * DESCRIPTOR).div_ceil(BLOCK);
        let journal_blocks = if blocks < LARGE { JOURNAL_SMALL } else { JOURNAL_LARGE };
        Layout { blocks, groups, descriptors, journal_blocks }
    }

    /// Whether a group begins with a copy of superblock and descriptors.
    fn has_copy(group: u64) -> bool {
        let is_power = |of: u64| {
            let mut power = of;
            while power < group {
                power *= of;
            }
            power == group
        };
        group <= 1 || [3, 5, 7].into_iter().any(is_power)
    }

    /// Blocks at the beginning of a group that are superblock and descriptors.
    fn head(&self, group: u64) -> u64 {
        if Layout::has_copy(group) { 1 + self.descriptors } else { 0 }
    }

    fn first(group: u64) -> u64 {
        group * GROUP_BLOCKS
    }

    fn blocks_of(&self, group: u64) -> u64 {
        (self.blocks - Layout::first(group)).min(GROUP_BLOCKS)
    }

    fn block_bitmap(&self, group: u64) -> u64 {
        Layout::first(group) + self.head(group)
    }

    fn inode_bitmap(&self, group: u64) -> u64 {
        self.block_bitmap(group) + 1
    }

    /// First block of a group's inodes.
    pub(crate) fn inodes(&self, group: u64) -> u64 {
        self.inode_bitmap(group) + 1
    }

    /// The root directory's block.
    pub(crate) fn root(&self) -> u64 {
        self.inodes(0) + INODE_BLOCKS
    }

    /// First block of lost+found.
    pub(crate) fn lost(&self) -> u64 {
        self.root() + ROOT_BLOCKS
    }

    /// First block of the journal.
    pub(crate) fn journal(&self) -> u64 {
        self.lost() + LOST_BLOCKS
    }

    /// Used blocks of a group, from its beginning on.
    fn used(&self, group: u64) -> u64 {
        match group {
            0 => self.journal() + self.journal_blocks,
            _ => self.head(group) + 2 + INODE_BLOCKS,
        }
    }

    fn free_of(&self, group: u64) -> u64 {
        self.blocks_of(group) - self.used(group)
    }

    pub(crate) fn free_blocks(&self) -> u64 {
        (0..self.groups).map(|group| self.free_of(group)).sum()
    }

    pub(crate) fn inode_count(&self) -> u64 {
        self.groups * GROUP_INODES
    }

    /// A bitmap of blocks is written where it is not what anybody would compute: there are files,
    /// or the group ends before its bitmap does.
    fn has_bitmap(&self, group: u64) -> bool {
        group == 0 || group + 1 == self.groups
    }
}

/// Superblocks, descriptors and bitmaps, with their places in bytes.
pub(crate) fn pieces(layout: &Layout, identity: &Identity) -> Vec<(u64, Vec<u8>)> {
    let descriptors = descriptors(layout, identity);
    let mut pieces = Vec::new();
    for group in 0..layout.groups {
        let first = Layout::first(group);
        if Layout::has_copy(group) {
            // The first one leaves room for whoever boots from the disk.
            let within = if group == 0 { superblock::OFFSET } else { 0 };
            let superblock = superblock::superblock(layout, identity, group);
            pieces.push((first * BLOCK + within, superblock));
            pieces.push(((first + 1) * BLOCK, descriptors.clone()));
        }
        if layout.has_bitmap(group) {
            let end = layout.blocks_of(group);
            let bitmap = bitmap([0..layout.used(group), end..GROUP_BLOCKS]);
            pieces.push((layout.block_bitmap(group) * BLOCK, bitmap));
        }
    }
    let inodes = bitmap([0..USED_INODES, GROUP_INODES..BLOCK * 8]);
    pieces.push((layout.inode_bitmap(0) * BLOCK, inodes));
    pieces
}

fn bitmap(used: [Range<u64>; 2]) -> Vec<u8> {
    let mut bitmap = Bytes::zeros(4096);
    used.into_iter().for_each(|range| bitmap.bits(range));
    bitmap.into_vec()
}

fn descriptors(layout: &Layout, identity: &Identity) -> Vec<u8> {
    (0..layout.groups).flat_map(|group| descriptor(layout, identity, group).into_vec()).collect()
}

fn descriptor(layout: &Layout, identity: &Identity, group: u64) -> Bytes {
    let mut bytes = Bytes::zeros(32);
    let (free, used_inodes) = (layout.free_of(group), if group == 0 { USED_INODES } else { 0 });
    let mut flags = INODE_ZEROED;
    if group != 0 {
        flags |= INODE_UNINIT;
    }
    if !layout.has_bitmap(group) {
        flags |= BLOCK_UNINIT;
    }
    bytes.u32(0, narrow(layout.block_bitmap(group)));
    bytes.u32(4, narrow(layout.inode_bitmap(group)));
    bytes.u32(8, narrow(layout.inodes(group)));
    bytes.u16(12, low(free));
    bytes.u16(14, low(GROUP_INODES - used_inodes));
    // Directories: the root and lost+found.
    bytes.u16(16, if group == 0 { 2 } else { 0 });
    bytes.u16(18, flags);
    // Inodes at the end of the table that nobody has used yet.
    bytes.u16(28, low(GROUP_INODES - used_inodes));
    let crc = crc16::update(crc16::START, &identity.uuid);
    let crc = crc16::update(crc, &narrow(group).to_le_bytes());
    // Of everything before the checksum.
    let crc = crc16::update(crc, &bytes.as_slice()[..30]);
    bytes.u16(30, crc);
    bytes
}

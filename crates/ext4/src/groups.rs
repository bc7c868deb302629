//! What the superblock's copies, the descriptors and the bitmaps say.
//!
//! Source: Linux `Documentation/filesystems/ext4/group_descr.rst`, `bitmaps.rst`.

use std::{collections::BTreeMap, io, ops::Range};

use crate::{
    BLOCK, Disk, Identity,
    bytes::{BLOCK_BYTES, Bytes, low, narrow},
    crc16,
    inode::JournalCopy,
    layout::{GROUP_BLOCKS, GROUP_INODES, Geometry, Layout},
    superblock,
};

/// Bits of a descriptor's flags.
const INODE_UNINIT: u16 = 1;
const BLOCK_UNINIT: u16 = 2;
const INODE_ZEROED: u16 = 4;

/// A whole file system, but for its files.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) layout: Layout,
    pub(crate) identity: Identity,
    /// Behind the last block in use.
    pub(crate) next: u64,
    /// Inodes in use, from the first on.
    pub(crate) inodes: u64,
    /// Directories among a group's inodes.
    pub(crate) directories: BTreeMap<u64, u64>,
    pub(crate) journal: JournalCopy,
}

impl Account {
    /// Blocks of a group that are in use or lie before one that is, from its beginning on.
    fn used(&self, group: u64) -> u64 {
        let (first, layout) = (Geometry::first(group), &self.layout);
        let taken = layout.geometry.content(group) - first;
        self.next.saturating_sub(first).clamp(taken, layout.blocks_of(group))
    }

    fn free_of(&self, group: u64) -> u64 {
        self.layout.blocks_of(group) - self.used(group) + self.layout.spare(group)
    }

    pub(crate) fn free_blocks(&self) -> u64 {
        (0..self.layout.groups).map(|group| self.free_of(group)).sum()
    }

    fn inodes_of(&self, group: u64) -> u64 {
        self.inodes.saturating_sub(group * GROUP_INODES).min(GROUP_INODES)
    }

    /// A bitmap of blocks is written where it is not what anybody would compute: there is
    /// content, or the group ends before its bitmap does.
    fn has_bitmap(&self, group: u64) -> bool {
        let layout = &self.layout;
        let is_last = group + 1 == layout.groups;
        group == 0 || is_last || self.next > layout.geometry.content(group)
    }

    /// Writes superblocks, descriptors and bitmaps.
    pub(crate) fn write(&self, disk: &mut dyn Disk) -> io::Result<()> {
        let (layout, geometry) = (&self.layout, self.layout.geometry);
        let descriptors: Vec<u8> =
            (0..layout.groups).flat_map(|group| self.descriptor(group).into_vec()).collect();
        for group in 0..layout.groups {
            let first = Geometry::first(group);
            if Geometry::has_copy(group) {
                // The first one leaves room for whoever boots from the disk.
                let within = if group == 0 { superblock::OFFSET } else { 0 };
                disk.write_at(&superblock::superblock(self, group), first * BLOCK + within)?;
                disk.write_at(&descriptors, (first + 1) * BLOCK)?;
            }
            if self.has_bitmap(group) {
                disk.write_at(&self.block_bitmap(group), geometry.block_bitmap(group) * BLOCK)?;
            }
            let inodes = self.inodes_of(group);
            if inodes > 0 {
                let bitmap = bitmap(&[0..inodes, GROUP_INODES..BLOCK * 8]);
                disk.write_at(&bitmap, geometry.inode_bitmap(group) * BLOCK)?;
            }
        }
        Ok(())
    }

    fn block_bitmap(&self, group: u64) -> Vec<u8> {
        let layout = &self.layout;
        let (used, end) = (self.used(group), layout.blocks_of(group));
        let spare = layout.spare(group);
        let needed = if spare == 0 { 0 } else { 1 + layout.descriptors() };
        bitmap(&[0..needed, needed + spare..used, end..GROUP_BLOCKS])
    }

    fn descriptor(&self, group: u64) -> Bytes {
        let mut bytes = Bytes::zeros(32);
        let geometry = self.layout.geometry;
        let inodes = self.inodes_of(group);
        let mut flags = INODE_ZEROED;
        if inodes == 0 {
            flags |= INODE_UNINIT;
        }
        if !self.has_bitmap(group) {
            flags |= BLOCK_UNINIT;
        }
        bytes.u32(0, narrow(geometry.block_bitmap(group)));
        bytes.u32(4, narrow(geometry.inode_bitmap(group)));
        bytes.u32(8, narrow(geometry.inodes(group)));
        bytes.u16(12, low(self.free_of(group)));
        bytes.u16(14, low(GROUP_INODES - inodes));
        bytes.u16(16, low(self.directories.get(&group).copied().unwrap_or(0)));
        bytes.u16(18, flags);
        // Inodes at the end of the table that nobody has used yet.
        bytes.u16(28, low(GROUP_INODES - inodes));
        let crc = crc16::update(crc16::START, &self.identity.uuid);
        let crc = crc16::update(crc, &narrow(group).to_le_bytes());
        // Of everything before the checksum.
        let crc = crc16::update(crc, &bytes.as_slice()[..30]);
        bytes.u16(30, crc);
        bytes
    }
}

fn bitmap(used: &[Range<u64>]) -> Vec<u8> {
    let mut bitmap = Bytes::zeros(BLOCK_BYTES);
    used.iter().for_each(|range| bitmap.bits(range.clone()));
    bitmap.into_vec()
}

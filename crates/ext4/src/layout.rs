//! Where everything lies.
//!
//! ```text
//! 0, 1, 3^n, 5^n, 7^n: superblock │ descriptors │ kept │ bitmaps │ inodes │ content, then free
//! all other groups:                                      bitmaps │ inodes │ content, then free
//! ```
//!
//! How many groups there are is known at the end, if nobody says how large the disk is. So
//! nothing before that depends on it: what is kept for descriptors and not needed stays free.
//!
//! Source: Linux `Documentation/filesystems/ext4/blockgroup.rst`.

use crate::{BLOCK, BYTES_FITTING_MAX, BYTES_MAX};

/// Blocks of a group: as many as a block has bits.
pub(crate) const GROUP_BLOCKS: u64 = BLOCK * 8;

/// Inodes of a group: one for each 16 KiB.
pub(crate) const GROUP_INODES: u64 = 8192;

/// Bytes of an inode.
pub(crate) const INODE: u64 = 256;

/// Blocks of a group's inodes.
const INODE_BLOCKS: u64 = GROUP_INODES * INODE / BLOCK;

/// Bytes of a group's descriptor.
const DESCRIPTOR: u64 = 32;

/// Fewest blocks for content of a last group; with fewer it is left unused.
const LAST_MIN: u64 = 64;

/// What holds whatever the disk's size is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Blocks for descriptors in groups that begin with a copy of them.
    kept: u64,
}

impl Geometry {
    /// For a disk of exactly so many blocks.
    pub(crate) fn exactly(blocks: u64) -> Geometry {
        Geometry { kept: descriptor_blocks(blocks.div_ceil(GROUP_BLOCKS)) }
    }

    /// For a disk that is as large as its content needs.
    pub(crate) fn fitting() -> Geometry {
        Geometry::exactly(BYTES_FITTING_MAX / BLOCK)
    }

    /// Whether a group begins with a copy of superblock and descriptors.
    pub(crate) fn has_copy(group: u64) -> bool {
        let is_power = |of: u64| {
            let mut power = of;
            while power < group {
                power *= of;
            }
            power == group
        };
        group <= 1 || [3, 5, 7].into_iter().any(is_power)
    }

    pub(crate) fn first(group: u64) -> u64 {
        group * GROUP_BLOCKS
    }

    pub(crate) fn block_bitmap(self, group: u64) -> u64 {
        let head = if Geometry::has_copy(group) { 1 + self.kept } else { 0 };
        Geometry::first(group) + head
    }

    pub(crate) fn inode_bitmap(self, group: u64) -> u64 {
        self.block_bitmap(group) + 1
    }

    /// First block of a group's inodes.
    pub(crate) fn inodes(self, group: u64) -> u64 {
        self.inode_bitmap(group) + 1
    }

    /// First block of a group that is not spoken for.
    pub(crate) fn content(self, group: u64) -> u64 {
        self.inodes(group) + INODE_BLOCKS
    }

    /// Where an inode lies, in bytes. They are counted from 1.
    pub(crate) fn inode_at(self, number: u32) -> u64 {
        let index = u64::from(number) - 1;
        self.inodes(index / GROUP_INODES) * BLOCK + index % GROUP_INODES * INODE
    }
}

/// Blocks of the descriptors of so many groups.
fn descriptor_blocks(groups: u64) -> u64 {
    (groups * DESCRIPTOR).div_ceil(BLOCK)
}

/// A disk of a known size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) geometry: Geometry,
    /// Blocks of the file system.
    pub(crate) blocks: u64,
    pub(crate) groups: u64,
}

impl Layout {
    /// At most so many blocks: a last group that has hardly room for what every group has is left
    /// out.
    pub(crate) fn within(geometry: Geometry, blocks: u64) -> Layout {
        let whole = blocks - blocks % GROUP_BLOCKS;
        let blocks = if whole > 0 && blocks < least(geometry, whole) { whole } else { blocks };
        Layout { geometry, blocks, groups: blocks.div_ceil(GROUP_BLOCKS) }
    }

    /// At least so many blocks and inodes; the last group is made large enough.
    pub(crate) fn fitting(geometry: Geometry, blocks: u64, inodes: u64) -> Layout {
        let last = inodes.div_ceil(GROUP_INODES).saturating_sub(1);
        let blocks = blocks.max(Geometry::first(last) + 1);
        let whole = blocks - blocks % GROUP_BLOCKS;
        let blocks = if whole == blocks { blocks } else { blocks.max(least(geometry, whole)) };
        Layout { geometry, blocks, groups: blocks.div_ceil(GROUP_BLOCKS) }
    }

    /// Blocks that the descriptors take of those that are kept for them.
    pub(crate) fn descriptors(&self) -> u64 {
        descriptor_blocks(self.groups)
    }

    /// Blocks that are kept for descriptors in this group, and not needed.
    pub(crate) fn spare(&self, group: u64) -> u64 {
        if Geometry::has_copy(group) { self.geometry.kept - self.descriptors() } else { 0 }
    }

    pub(crate) fn blocks_of(&self, group: u64) -> u64 {
        (self.blocks - Geometry::first(group)).min(GROUP_BLOCKS)
    }

    pub(crate) fn inode_count(&self) -> u64 {
        self.groups * GROUP_INODES
    }
}

/// The least end of a last group that begins at a block.
fn least(geometry: Geometry, first: u64) -> u64 {
    geometry.content(first / GROUP_BLOCKS) + LAST_MIN
}

/// Blocks given out one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Space {
    geometry: Geometry,
    /// Whatever lies before and is not kept for descriptors is in use.
    next: u64,
    end: u64,
}

/// Blocks side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) start: u64,
    pub(crate) count: u64,
}

impl Space {
    pub(crate) fn new(geometry: Geometry, end: u64) -> Space {
        debug_assert!(end <= BYTES_MAX / BLOCK);
        Space { geometry, next: 0, end }
    }

    /// At least one block and no more than so many; nothing if the disk is full.
    pub(crate) fn take(&mut self, most: u64) -> Option<Run> {
        let group = self.next / GROUP_BLOCKS;
        let start = self.next.max(self.geometry.content(group));
        let end = (Geometry::first(group) + GROUP_BLOCKS).min(self.end);
        let count = end.checked_sub(start)?.min(most);
        self.next = start + count;
        (count > 0).then_some(Run { start, count })
    }

    /// Behind the last block that was given out.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_group_has_is_never_given_out() {
        let geometry = Geometry::fitting();
        let mut space = Space::new(geometry, 3 * GROUP_BLOCKS);
        let mut got = 0;
        while let Some(run) = space.take(10_000) {
            let group = run.start / GROUP_BLOCKS;
            assert!(run.start >= geometry.content(group), "{run:?}");
            assert!(run.start + run.count <= Geometry::first(group + 1), "{run:?}");
            got += run.count;
        }
        let taken: u64 = (0..3).map(|n| geometry.content(n) - Geometry::first(n)).sum();
        assert_eq!(got, 3 * GROUP_BLOCKS - taken);
        assert_eq!(space.take(1), None);
    }

    #[test]
    fn a_last_group_has_room_for_what_every_group_has() {
        for size in [1 << 20, 100 << 20, 9 << 30, BYTES_MAX - (5 << 20)] {
            let (geometry, blocks) = (Geometry::exactly(size / BLOCK), size / BLOCK);
            for layout in
                [Layout::within(geometry, blocks), Layout::fitting(geometry, blocks, 9000)]
            {
                let last = layout.groups - 1;
                let end = Geometry::first(last) + layout.blocks_of(last);
                assert!(end > geometry.content(last) || last == 0, "{layout:?}");
            }
        }
    }
}

//! Where a file's blocks are: runs, in a tree if they are many.
//!
//! Source: Linux `Documentation/filesystems/ext4/ifork.rst`.

use crate::{
    bytes::{BLOCK_BYTES, Bytes, low, narrow},
    inode::BODY,
    layout::Run,
};

const MAGIC: u16 = 0xf30a;

/// Bytes of an entry, and of what stands before all of them.
const ENTRY: usize = 12;

/// Entries that fit in an inode, and in a block.
const ROOT_ENTRIES: usize = BODY / ENTRY - 1;
const BLOCK_ENTRIES: usize = (BLOCK_BYTES - ENTRY) / ENTRY;

/// Most blocks of one extent.
const COUNT_MAX: u64 = 1 << 15;

/// A run of a file's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    /// Which of the file.
    logical: u64,
    /// And where.
    run: Run,
}

/// All runs of a file, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extents(Vec<Extent>);

/// A tree of extents.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    pub(crate) root: [u8; BODY],
    /// The blocks that it takes besides, and where each is.
    pub(crate) blocks: Vec<(u64, Vec<u8>)>,
}

impl Extents {
    /// Blocks of the file from `logical` on, which is behind all before.
    pub(crate) fn push(&mut self, mut logical: u64, mut run: Run) {
        if let Some(last) = self.0.last_mut() {
            let follows = last.logical + last.run.count == logical
                && last.run.start + last.run.count == run.start;
            if follows {
                let more = run.count.min(COUNT_MAX - last.run.count);
                last.run.count += more;
                logical += more;
                run = Run { start: run.start + more, count: run.count - more };
            }
        }
        while run.count > 0 {
            let count = run.count.min(COUNT_MAX);
            self.0.push(Extent { logical, run: Run { start: run.start, count } });
            logical += count;
            run = Run { start: run.start + count, count: run.count - count };
        }
    }

    /// Blocks of the file that are somewhere.
    pub(crate) fn blocks(&self) -> u64 {
        self.0.iter().map(|extent| extent.run.count).sum()
    }

    /// The tree; `take` gives a block for each part of it, or nothing.
    pub(crate) fn tree(&self, take: &mut dyn FnMut() -> Option<u64>) -> Option<Tree> {
        let mut entries: Vec<_> =
            self.0.iter().map(|extent| (extent.logical, leaf(extent))).collect();
        let mut blocks = Vec::new();
        let mut depth = 0;
        while entries.len() > ROOT_ENTRIES {
            let mut above = Vec::with_capacity(entries.len().div_ceil(BLOCK_ENTRIES));
            for part in entries.chunks(BLOCK_ENTRIES) {
                let at = take()?;
                let logical = part.first().map_or(0, |(logical, _)| *logical);
                above.push((logical, index(logical, at)));
                blocks.push((at, node(part, BLOCK_ENTRIES, depth, BLOCK_BYTES)));
            }
            entries = above;
            depth += 1;
        }
        let mut root = [0; BODY];
        root.copy_from_slice(&node(&entries, ROOT_ENTRIES, depth, BODY));
        Some(Tree { root, blocks })
    }
}

fn leaf(extent: &Extent) -> [u8; ENTRY] {
    let mut bytes = [0; ENTRY];
    bytes[..4].copy_from_slice(&narrow(extent.logical).to_le_bytes());
    bytes[4..6].copy_from_slice(&low(extent.run.count).to_le_bytes());
    bytes[8..].copy_from_slice(&narrow(extent.run.start).to_le_bytes());
    bytes
}

fn index(logical: u64, at: u64) -> [u8; ENTRY] {
    let mut bytes = [0; ENTRY];
    bytes[..4].copy_from_slice(&narrow(logical).to_le_bytes());
    bytes[4..8].copy_from_slice(&narrow(at).to_le_bytes());
    bytes
}

fn node(entries: &[(u64, [u8; ENTRY])], most: usize, depth: u16, size: usize) -> Vec<u8> {
    let mut bytes = Bytes::zeros(size);
    bytes.u16(0, MAGIC);
    bytes.u16(2, low(entries.len() as u64));
    bytes.u16(4, low(most as u64));
    bytes.u16(6, depth);
    for (n, (_, entry)) in entries.iter().enumerate() {
        bytes.put((n + 1) * ENTRY, entry);
    }
    bytes.into_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_one_extent_up_to_its_limit() {
        let mut extents = Extents::default();
        extents.push(0, Run { start: 100, count: 10 });
        extents.push(10, Run { start: 110, count: COUNT_MAX });
        extents.push(COUNT_MAX + 12, Run { start: 120 + COUNT_MAX, count: 1 });
        let got: Vec<_> = extents.0.iter().map(|e| (e.logical, e.run.start, e.run.count)).collect();
        let tail = (COUNT_MAX, 100 + COUNT_MAX, 10);
        assert_eq!(got, [(0, 100, COUNT_MAX), tail, (COUNT_MAX + 12, 120 + COUNT_MAX, 1)]);
        assert_eq!(extents.blocks(), COUNT_MAX + 11);
    }

    #[test]
    fn a_tree_is_as_deep_as_it_has_to_be() {
        for (runs, blocks, depth) in [(0, 0, 0), (4, 0, 0), (5, 1, 1), (1360, 4, 1), (1361, 6, 2)] {
            let mut extents = Extents::default();
            (0..runs).for_each(|n| extents.push(2 * n, Run { start: 3 * n, count: 1 }));
            let mut next = 1_000_000;
            let tree = extents.tree(&mut || {
                next += 1;
                Some(next)
            });
            let tree = tree.unwrap();
            assert_eq!((tree.blocks.len(), tree.root[6]), (blocks, depth), "{runs}");
        }
    }
}

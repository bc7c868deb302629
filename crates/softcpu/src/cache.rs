//! Blocks of decoded instructions, by where they are in guest memory and how they are decoded.
//!
//! All blocks that begin in one page are forgotten together when the page is written, so a block
//! may name another of its own page as the next one (a link) without asking whether it is still
//! there. A block whose last instruction reaches into the next page stands alone: no link leads to
//! it, and it goes with either page.

use std::collections::HashMap;

use crate::{machine::page_of, op::Op};

/// Most operations that are kept; beyond that all are forgotten. At 48 bytes each: 6 MiB.
const OPS_MAX: usize = 128 << 10;

/// Places of the table that is looked at first; a power of two.
const TABLE: usize = 1 << 14;

/// No block.
pub(crate) const NONE: u32 = u32::MAX;

/// A block.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) ops: Box<[Op]>,
    /// Which blocks follow, where the last branch is taken and where it is not.
    pub(crate) links: [u32; 2],
    key: Key,
    /// The page that it reaches into, which may be anywhere; others do not lead to such a block.
    second: Option<usize>,
}

/// What a block is found by: its offset in guest memory, and the mode's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) offset: usize,
    pub(crate) mode: u8,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    key: Key,
    block: u32,
}

const EMPTY: Slot = Slot { key: Key { offset: usize::MAX, mode: 0 }, block: NONE };

/// The cache of one processor.
#[derive(Debug)]
pub(crate) struct Cache {
    blocks: Vec<Block>,
    free: Vec<u32>,
    table: Box<[Slot]>,
    all: HashMap<Key, u32>,
    /// Blocks that have bytes in a page.
    pages: HashMap<usize, Vec<u32>>,
    ops: usize,
    /// Grows when all blocks are forgotten, and their numbers with them.
    pub(crate) generation: u64,
}

impl Cache {
    pub(crate) fn new() -> Cache {
        Cache {
            blocks: Vec::new(),
            free: Vec::new(),
            table: vec![EMPTY; TABLE].into_boxed_slice(),
            all: HashMap::new(),
            pages: HashMap::new(),
            ops: 0,
            generation: 0,
        }
    }

    /// The block of a number.
    #[inline(always)]
    pub(crate) fn block(&self, number: u32) -> &Block {
        &self.blocks[number as usize]
    }

    /// The block of a key, if it was decoded.
    #[inline(always)]
    pub(crate) fn find(&mut self, key: Key) -> Option<u32> {
        let slot = &mut self.table[index(key)];
        if slot.key == key {
            return Some(slot.block);
        }
        let block = *self.all.get(&key)?;
        *slot = Slot { key, block };
        Some(block)
    }

    /// Whether a page has blocks.
    pub(crate) fn has_page(&self, page: usize) -> bool {
        self.pages.contains_key(&page)
    }

    /// Takes in a block; where it reaches into another page, which one.
    pub(crate) fn insert(&mut self, key: Key, ops: Vec<Op>, second_page: Option<usize>) -> u32 {
        if self.ops + ops.len() > OPS_MAX {
            self.clear();
        }
        self.ops += ops.len();
        let second = second_page;
        let block = Block { ops: ops.into_boxed_slice(), links: [NONE; 2], key, second };
        let number = match self.free.pop() {
            Some(number) => {
                self.blocks[number as usize] = block;
                number
            }
            None => {
                self.blocks.push(block);
                u32::try_from(self.blocks.len() - 1).unwrap_or(NONE)
            }
        };
        self.all.insert(key, number);
        self.table[index(key)] = Slot { key, block: number };
        for page in [Some(page_of(key.offset)), second].into_iter().flatten() {
            self.pages.entry(page).or_default().push(number);
        }
        number
    }

    /// Lets a block lead straight to another one, if both are of one page.
    pub(crate) fn link(&mut self, from: u32, way: usize, to: u32) {
        let (first, second) = (self.block(from).key, self.block(to));
        let fits = second.second.is_none()
            && self.block(from).second.is_none()
            && page_of(first.offset) == page_of(second.key.offset)
            && first.mode == second.key.mode;
        if fits {
            self.blocks[from as usize].links[way] = to;
        }
    }

    /// Forgets the blocks that have bytes in a page.
    pub(crate) fn forget(&mut self, page: usize) {
        for number in self.pages.remove(&page).unwrap_or_default() {
            let block = &mut self.blocks[number as usize];
            let (key, second, ops) = (block.key, block.second, std::mem::take(&mut block.ops));
            if ops.is_empty() {
                continue;
            }
            self.ops -= ops.len();
            let first = page_of(key.offset);
            let other = if first == page { second } else { Some(first) };
            // Its number will be another block's, which does not go with that page.
            if let Some(list) = other.and_then(|other| self.pages.get_mut(&other)) {
                list.retain(|n| *n != number);
            }
            self.all.remove(&key);
            let slot = &mut self.table[index(key)];
            if slot.key == key {
                *slot = EMPTY;
            }
            self.free.push(number);
        }
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        *self = Cache { generation: self.generation + 1, ..Cache::new() };
    }
}

#[inline(always)]
fn index(key: Key) -> usize {
    (key.offset ^ key.offset >> 13 ^ usize::from(key.mode) << 7) % TABLE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;

    const PAGE: usize = 4096;

    fn key(page: usize) -> Key {
        Key { offset: page * PAGE, mode: 0 }
    }

    #[test]
    fn a_number_that_is_used_again_goes_with_the_pages_of_its_block_alone() {
        let mut cache = Cache::new();
        let ops = || vec![decode::fall(1)];
        // Pages that follow each other for the guest lie anywhere.
        let across = cache.insert(key(1), ops(), Some(7));
        cache.forget(1);
        let other = cache.insert(key(3), ops(), None);
        assert_eq!(other, across, "the number is used again");
        cache.forget(7);
        assert_eq!(cache.find(key(3)), Some(other), "this one has nothing in page 7");
        // And the other way round.
        let across = cache.insert(key(1), ops(), Some(7));
        cache.forget(7);
        assert_eq!(cache.find(key(1)), None);
        let other = cache.insert(key(4), ops(), None);
        assert_eq!(other, across, "the number is used again");
        cache.forget(1);
        assert_eq!(cache.find(key(4)), Some(other));
    }
}

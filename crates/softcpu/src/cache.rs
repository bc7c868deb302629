//! Blocks of decoded instructions, by where they are in guest memory and how they are decoded.
//!
//! All blocks that begin in one page are forgotten together when the page is written, so a block
//! may name another of its own page as the next one (a link) without asking whether it is still
//! there. A block whose last instruction reaches into the next page stands alone: no link leads to
//! it, and it goes with either page.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use hv::memory::PAGE;

use crate::{decode::BLOCK_MAX, op::Op};

/// Most bytes of operations and blocks; beyond that all are forgotten. A kernel with everything that
/// a container's start needs comes to eight MiB.
const BYTES_MAX: usize = 9 << 20;

/// Operations of a chunk: memory is asked for by so much at a time, not for each block.
const CHUNK: usize = 4 << 10;

/// Chunks that a processor at rest may keep: 1 MiB.
const CHUNKS_AT_REST: usize = 8;

/// Places of the table that is looked at first; a power of two.
const TABLE: usize = 1 << 15;

/// No block, and no page.
pub(crate) const NONE: u32 = u32::MAX;

/// A block.
#[derive(Debug)]
pub(crate) struct Block {
    key: Key,
    /// Where its operations are: the chunk, and from where to where in it. Of one that was
    /// forgotten there are none.
    chunk: u32,
    from: u16,
    to: u16,
    /// Which blocks follow, where the last branch is taken and where it is not.
    pub(crate) links: [u32; 2],
    /// Which block came last after each way of leaving it (taken, falling through, elsewhere), if no
    /// link led there: most often it is the next one, too. It is one only if it has the key that is
    /// looked for.
    pub(crate) guesses: [u32; 3],
    /// The page that it reaches into, which may be anywhere; others do not lead to such a block.
    second: u32,
}

/// What a block is found by: its offset in guest memory, which has 40 bits at most, and below it the
/// mode's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(u64);

impl Key {
    #[inline(always)]
    pub(crate) fn new(offset: usize, mode: u8) -> Key {
        Key((offset as u64) << 8 | u64::from(mode))
    }

    #[inline(always)]
    pub(crate) fn offset(self) -> usize {
        usize::try_from(self.0 >> 8).unwrap_or(usize::MAX)
    }

    pub(crate) fn mode(self) -> u8 {
        self.0.to_le_bytes()[0]
    }

    pub(crate) fn page(self) -> usize {
        self.offset() / PAGE
    }

    /// What tells blocks of one page apart.
    fn within(self) -> u32 {
        u32::try_from(self.0 % ((PAGE as u64) << 8)).unwrap_or(NONE)
    }
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    key: Key,
    block: u32,
}

const EMPTY: Slot = Slot { key: Key(u64::MAX), block: NONE };

/// A block that has bytes in a page.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// See [`Key::within`]; [`NONE`] of one that begins in another page.
    within: u32,
    block: u32,
}

/// The cache of one processor.
#[derive(Debug)]
pub(crate) struct Cache {
    blocks: Vec<Block>,
    free: Vec<u32>,
    /// Operations, which stay where they are until all are forgotten.
    chunks: Vec<Vec<Op>>,
    table: Box<[Slot]>,
    /// All blocks, by the pages in which they have bytes.
    pages: HashMap<usize, Vec<Entry>, Mixed>,
    /// Grows when all blocks are forgotten, and their numbers with them.
    pub(crate) generation: u64,
}

impl Cache {
    pub(crate) fn new() -> Cache {
        Cache {
            blocks: Vec::new(),
            free: Vec::new(),
            chunks: Vec::new(),
            table: vec![EMPTY; TABLE].into_boxed_slice(),
            pages: HashMap::default(),
            generation: 0,
        }
    }

    /// The block of a number.
    #[inline(always)]
    pub(crate) fn block(&self, number: u32) -> &Block {
        &self.blocks[number as usize]
    }

    /// A block's operations.
    #[inline(always)]
    pub(crate) fn ops(&self, block: &Block) -> &[Op] {
        &self.chunks[block.chunk as usize][usize::from(block.from)..usize::from(block.to)]
    }

    /// The block of a key, if it was decoded.
    #[inline(always)]
    pub(crate) fn find(&mut self, key: Key) -> Option<u32> {
        let slot = &mut self.table[index(key)];
        if slot.key == key {
            return Some(slot.block);
        }
        let block = find(self.pages.get(&key.page())?, key)?;
        *slot = Slot { key, block };
        Some(block)
    }

    /// Whether a block more may not have room.
    pub(crate) fn is_full(&self) -> bool {
        let room = self.chunks.last().map_or(0, |chunk| CHUNK - chunk.len());
        let chunks = self.chunks.len() + usize::from(room < BLOCK_MAX + 1);
        let ops = chunks * CHUNK * size_of::<Op>();
        ops + self.blocks.len() * (size_of::<Block>() + size_of::<Entry>()) > BYTES_MAX
    }

    /// Whether it has more than the ticks of a kernel that does nothing.
    pub(crate) fn is_large(&self) -> bool {
        self.chunks.len() > CHUNKS_AT_REST
    }

    /// Whether a block has this key. A number that leads nowhere has none.
    #[inline(always)]
    pub(crate) fn is(&self, number: u32, key: Key) -> bool {
        self.blocks.get(number as usize).is_some_and(|block| block.key == key)
    }

    /// Notes what came after a block.
    pub(crate) fn guess(&mut self, from: u32, way: usize, to: u32) {
        if let Some(block) = self.blocks.get_mut(from as usize) {
            block.guesses[way] = to;
        }
    }

    /// All blocks that are of one page, and their operations.
    pub(crate) fn whole(&self) -> impl Iterator<Item = (Key, &[Op])> {
        let entries = self.pages.values().flatten().filter(|entry| entry.within != NONE);
        let blocks = entries.map(|entry| self.block(entry.block));
        blocks.filter(|block| block.second == NONE).map(|block| (block.key, self.ops(block)))
    }

    /// Whether a page has blocks.
    pub(crate) fn has_page(&self, page: usize) -> bool {
        self.pages.contains_key(&page)
    }

    /// Takes in a block's operations, which are at most [`CHUNK`]; where it reaches into another
    /// page, which one.
    pub(crate) fn insert(
        &mut self,
        key: Key,
        ops: &mut Vec<Op>,
        second_page: Option<usize>,
    ) -> u32 {
        let (chunk, from, to) = self.place(ops);
        let second = second_page.map_or(NONE, |page| u32::try_from(page).unwrap_or(NONE));
        let block = Block { key, chunk, from, to, links: [NONE; 2], guesses: [NONE; 3], second };
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
        self.table[index(key)] = Slot { key, block: number };
        let first = (key.page(), key.within());
        for (page, within) in
            [Some(first), second_page.map(|page| (page, NONE))].into_iter().flatten()
        {
            self.pages.entry(page).or_default().push(Entry { within, block: number });
        }
        number
    }

    /// Puts operations into a chunk that has room for them.
    fn place(&mut self, ops: &mut Vec<Op>) -> (u32, u16, u16) {
        if self.chunks.last().is_none_or(|chunk| chunk.len() + ops.len() > CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let number = self.chunks.len() - 1;
        let chunk = &mut self.chunks[number];
        let from = chunk.len();
        chunk.append(ops);
        let within = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
        (u32::try_from(number).unwrap_or(NONE), within(from), within(chunk.len()))
    }

    /// Lets a block lead straight to another one, if both are of one page.
    pub(crate) fn link(&mut self, from: u32, way: usize, to: u32) {
        let (first, second) = (self.block(from), self.block(to));
        let fits = first.second == NONE
            && second.second == NONE
            && first.key.page() == second.key.page()
            && first.key.mode() == second.key.mode();
        if fits {
            self.blocks[from as usize].links[way] = to;
        }
    }

    /// Forgets the blocks that have bytes in a page.
    pub(crate) fn forget(&mut self, page: usize) {
        for Entry { block: number, .. } in self.pages.remove(&page).unwrap_or_default() {
            let block = &mut self.blocks[number as usize];
            let (key, second) = (block.key, block.second);
            if block.from == block.to {
                continue;
            }
            // What was there stays unused until all is forgotten.
            block.to = block.from;
            block.key = EMPTY.key;
            let other = if key.page() == page { second as usize } else { key.page() };
            // Its number will be another block's, which does not go with that page.
            if second != NONE
                && let Some(list) = self.pages.get_mut(&other)
            {
                list.retain(|entry| entry.block != number);
            }
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

/// Mixes the bits of keys, which are numbers of pages and offsets: nobody but the guest chooses
/// them, and whoever chooses badly slows himself down.
#[derive(Debug, Default)]
struct Mix(u64);

type Mixed = BuildHasherDefault<Mix>;

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u8(*byte));
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_usize(usize::from(byte));
    }

    fn write_usize(&mut self, number: usize) {
        // The golden ratio, as Knuth has it.
        self.0 = (self.0 ^ number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[inline(always)]
fn index(key: Key) -> usize {
    let offset = key.offset();
    (offset ^ offset >> 13 ^ usize::from(key.mode()) << 7) % TABLE
}

#[cold]
#[inline(never)]
fn find(entries: &[Entry], key: Key) -> Option<u32> {
    let within = key.within();
    entries.iter().find(|entry| entry.within == within).map(|entry| entry.block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;

    fn key(page: usize) -> Key {
        Key::new(page * PAGE, 0)
    }

    #[test]
    fn a_number_that_is_used_again_goes_with_the_pages_of_its_block_alone() {
        let mut cache = Cache::new();
        let ops = || vec![decode::fall(1)];
        // Pages that follow each other for the guest lie anywhere.
        let across = cache.insert(key(1), &mut ops(), Some(7));
        cache.forget(1);
        let other = cache.insert(key(3), &mut ops(), None);
        assert_eq!(other, across, "the number is used again");
        cache.forget(7);
        assert_eq!(cache.find(key(3)), Some(other), "this one has nothing in page 7");
        // And the other way round.
        let across = cache.insert(key(1), &mut ops(), Some(7));
        cache.forget(7);
        assert_eq!(cache.find(key(1)), None);
        let other = cache.insert(key(4), &mut ops(), None);
        assert_eq!(other, across, "the number is used again");
        cache.forget(1);
        assert_eq!(cache.find(key(4)), Some(other));
    }

    #[test]
    fn many_short_blocks_are_too_many_as_few_long_ones_are() {
        for length in [1, BLOCK_MAX] {
            let mut cache = Cache::new();
            let mut blocks = 0;
            while !cache.is_full() {
                let mut ops: Vec<Op> = (0..length).map(|_| decode::fall(1)).collect();
                cache.insert(key(blocks), &mut ops, None);
                blocks += 1;
            }
            let bytes = blocks * (length * size_of::<Op>() + size_of::<Block>());
            assert!(
                bytes < BYTES_MAX && bytes > BYTES_MAX / 4 * 3,
                "{blocks} of {length}: {bytes}"
            );
            cache.clear();
            assert!(!cache.is_full());
        }
    }
}

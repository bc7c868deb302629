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

/// Most operations that are kept, and most blocks: beyond that the oldest go. With what finds them
/// that is 8 MiB, so that a machine takes no more than 10 of the host beside its memory. It is about
/// what a container's start executes.
const OPS_MAX: usize = 56 * CHUNK;
const BLOCKS_MAX: usize = 50 << 10;

/// Operations of a chunk: memory is asked for by so much at a time, not for each block. A power of
/// two.
const CHUNK: usize = 4 << 10;

/// Chunks that a processor at rest may keep: 1 MiB.
const CHUNKS_AT_REST: usize = 10;

/// Places of the table that is looked at first; a power of two.
const TABLE: usize = 1 << 15;

/// No block, and no page.
pub(crate) const NONE: u32 = CERTAIN - 1;

/// The bit of a block's number that says that no key has to be looked at.
pub(crate) const CERTAIN: u32 = 1 << 31;

/// A block.
#[derive(Debug)]
pub(crate) struct Block {
    key: Key,
    ops: Run,
    /// Which block comes next where the last branch is taken, where it is not, and elsewhere: most
    /// often the one that came last. It is that one only if it has the key that is looked for, unless
    /// it is marked as [`CERTAIN`].
    pub(crate) next: [u32; 3],
}

// There are tens of thousands.
const _: () = assert!(size_of::<Block>() == 24);

/// A block's operations: where they are (from bit 8 on), whether the block reaches into a second page
/// (bit 7), and how many they are; of a block that was forgotten there are none.
#[derive(Clone, Copy, Debug)]
struct Run(u32);

impl Run {
    const ACROSS: u32 = 1 << 7;

    fn new(at: usize, length: usize, across: bool) -> Run {
        let number = |n: usize| u32::try_from(n).unwrap_or_default();
        Run(number(at) << 8 | number(length) & 0x7f | if across { Run::ACROSS } else { 0 })
    }

    #[inline(always)]
    fn at(self) -> usize {
        self.0 as usize >> 8
    }

    #[inline(always)]
    fn length(self) -> usize {
        self.0 as usize & 0x7f
    }

    fn is_across(self) -> bool {
        self.0 & Run::ACROSS != 0
    }
}

const _: () = assert!(OPS_MAX < 1 << 24 && BLOCK_MAX < 0x7f);

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
    /// Operations, which stay where they are until their chunk is emptied.
    chunks: Vec<Vec<Op>>,
    /// The chunk that is being filled; the one behind it is the oldest.
    filled: usize,
    table: Box<[Slot]>,
    /// All blocks, by the pages in which they have bytes.
    pages: HashMap<usize, Vec<Entry>, Mixed>,
    /// The second pages of blocks that reach into one, which may be anywhere: others do not lead to
    /// such a block.
    second: HashMap<u32, usize, Mixed>,
    /// Grows when blocks are forgotten to make room, and their numbers with them.
    pub(crate) generation: u64,
}

impl Cache {
    pub(crate) fn new() -> Cache {
        Cache {
            blocks: Vec::new(),
            free: Vec::new(),
            chunks: Vec::new(),
            filled: 0,
            table: vec![EMPTY; TABLE].into_boxed_slice(),
            pages: HashMap::default(),
            second: HashMap::default(),
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
        let (chunk, from) = (block.ops.at() / CHUNK, block.ops.at() % CHUNK);
        &self.chunks[chunk][from..from + block.ops.length()]
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

    /// Makes room for a block, if there may be none: the oldest chunk is emptied. With a block of
    /// it goes its page, so that no link leads to what is gone.
    pub(crate) fn make_room(&mut self) {
        let room = self.chunks.get(self.filled).map_or(0, |chunk| CHUNK - chunk.len());
        let blocks = self.blocks.len() - self.free.len();
        if room > BLOCK_MAX && blocks < BLOCKS_MAX {
            return;
        }
        if self.chunks.len() < OPS_MAX / CHUNK && blocks < BLOCKS_MAX {
            self.filled = self.chunks.len();
            self.chunks.push(Vec::with_capacity(CHUNK));
            return;
        }
        self.filled = (self.filled + 1) % self.chunks.len();
        let of_it =
            |block: &&Block| block.ops.length() > 0 && block.ops.at() / CHUNK == self.filled;
        let pages: Vec<usize> =
            self.blocks.iter().filter(of_it).map(|block| block.key.page()).collect();
        pages.into_iter().for_each(|page| self.forget(page));
        self.chunks[self.filled].clear();
        self.generation += 1;
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
            block.next[way] = to;
        }
    }

    /// All blocks that are of one page, and their operations.
    pub(crate) fn whole(&self) -> impl Iterator<Item = (Key, &[Op])> {
        let entries = self.pages.values().flatten().filter(|entry| entry.within != NONE);
        let blocks = entries.map(|entry| self.block(entry.block));
        blocks.filter(|block| !block.ops.is_across()).map(|block| (block.key, self.ops(block)))
    }

    /// Whether a page has blocks.
    pub(crate) fn has_page(&self, page: usize) -> bool {
        self.pages.contains_key(&page)
    }

    /// Takes in a block's operations, for which there is room ([`Cache::make_room`]); where it
    /// reaches into another page, which one.
    pub(crate) fn insert(
        &mut self,
        key: Key,
        ops: &mut Vec<Op>,
        second_page: Option<usize>,
    ) -> u32 {
        let ops = self.place(ops, second_page.is_some());
        let block = Block { key, ops, next: [NONE; 3] };
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
        if let Some(page) = second_page {
            self.second.insert(number, page);
        }
        let first = (key.page(), key.within());
        for (page, within) in
            [Some(first), second_page.map(|page| (page, NONE))].into_iter().flatten()
        {
            self.pages.entry(page).or_default().push(Entry { within, block: number });
        }
        number
    }

    /// Puts operations into the chunk that is being filled.
    fn place(&mut self, ops: &mut Vec<Op>, across: bool) -> Run {
        let chunk = &mut self.chunks[self.filled];
        let run = Run::new(self.filled * CHUNK + chunk.len(), ops.len(), across);
        chunk.append(ops);
        run
    }

    /// Lets a block lead straight to another one, if both are of one page.
    pub(crate) fn link(&mut self, from: u32, way: usize, to: u32) {
        let (first, second) = (self.block(from), self.block(to));
        let fits = !first.ops.is_across()
            && !second.ops.is_across()
            && first.key.page() == second.key.page()
            && first.key.mode() == second.key.mode();
        if fits {
            self.blocks[from as usize].next[way] = to | CERTAIN;
        }
    }

    /// Forgets the blocks that have bytes in a page.
    pub(crate) fn forget(&mut self, page: usize) {
        for Entry { block: number, .. } in self.pages.remove(&page).unwrap_or_default() {
            let block = &mut self.blocks[number as usize];
            let (key, across) = (block.key, block.ops.is_across());
            if block.ops.length() == 0 {
                continue;
            }
            // What was there stays unused until its chunk is emptied.
            block.ops = Run::new(0, 0, false);
            block.key = EMPTY.key;
            // Its number will be another block's, which does not go with the other page.
            if across && let Some(second) = self.second.remove(&number) {
                let other = if key.page() == page { second } else { key.page() };
                if let Some(list) = self.pages.get_mut(&other) {
                    list.retain(|entry| entry.block != number);
                }
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

    fn write_u32(&mut self, number: u32) {
        self.write_usize(number as usize);
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
        cache.make_room();
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
    fn the_oldest_go_first_and_there_is_a_limit() {
        for length in [1, BLOCK_MAX] {
            let mut cache = Cache::new();
            let count = 3 * BLOCKS_MAX;
            for n in 0..count {
                cache.make_room();
                let mut ops: Vec<Op> = (0..length).map(|_| decode::fall(1)).collect();
                cache.insert(key(n), &mut ops, None);
                let live = cache.blocks.len() - cache.free.len();
                assert!(live <= BLOCKS_MAX && cache.chunks.len() <= OPS_MAX / CHUNK);
            }
            assert!(cache.chunks.iter().all(|chunk| chunk.len() <= CHUNK));
            assert_eq!(cache.find(key(0)), None);
            let live = (0..count).filter(|n| cache.find(key(*n)).is_some()).count();
            assert_eq!(live, cache.blocks.len() - cache.free.len());
            assert!(live > OPS_MAX / length.max(OPS_MAX / BLOCKS_MAX) / 4 * 3, "{live}");
            assert!((count - live / 2..count).all(|n| cache.find(key(n)).is_some()));
        }
    }

    #[test]
    fn with_a_block_its_page_goes() {
        let mut cache = Cache::new();
        let insert = |cache: &mut Cache, key| {
            cache.make_room();
            cache.insert(key, &mut vec![decode::fall(1)], None)
        };
        let old = insert(&mut cache, Key::new(0, 0));
        for n in 1..BLOCKS_MAX - 1 {
            insert(&mut cache, key(n));
        }
        // A new block of the same page, with a link to the old one.
        let new = insert(&mut cache, Key::new(8, 0));
        cache.link(new, 0, old);
        assert_eq!(cache.block(new).next[0], old | CERTAIN);
        let before = cache.generation;
        insert(&mut cache, key(BLOCKS_MAX));
        assert!(cache.generation > before);
        assert_eq!((cache.find(Key::new(0, 0)), cache.find(Key::new(8, 0))), (None, None));
    }
}

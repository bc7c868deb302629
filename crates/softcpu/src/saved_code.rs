//! What was decoded, in a file, for processors of machines that go on from the same memory: those
//! that are taken up from where one was ready execute the same kernel.
//!
//! ```text
//! head      who wrote it, the model
//! examples  for each handler a block of instructions, and which of them it carries out
//! index     for each page of memory where its record is, and how many blocks that has
//! records   a page's blocks in ascending order: where each begins, and where its operations are;
//!           then the operations
//! ```
//!
//! A page has these blocks as long as it is as it was when the memory was saved. A handler is an
//! address in this process, so it is named by an example, and decoding the example gives the
//! address; what else an operation has means the same everywhere. Not in it are blocks that reach
//! into a second page, those outside of 64-bit mode, and those with floating point.
//!
//! The file is mapped, so that all who use it have it in memory once, and a block is taken from it
//! when it is first carried out. What it does not have is decoded. Whoever can write it decides what
//! the guest's instructions do, so it is to be as safe as the memory that it goes with; more than the
//! guest it cannot reach.

use std::{
    borrow::Cow,
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, Write as _},
};

use hv::{
    Model,
    memory::{FileView, PAGE},
};

use crate::{
    cache::Cache,
    control::Mode,
    decode::{BLOCK_MAX, BYTES_MAX, Code, Decoded},
    op::{Handler, Op, Shape, float},
};

/// What it begins with: that it is one, and which sources this crate was compiled from.
const MAGIC: &[u8] = concat!("wythe code ", env!("SOURCES_ID"), "\n").as_bytes();

/// Most bytes of head, examples and index: some ten thousand pages.
const FRONT_MAX: u32 = 1 << 20;

/// Bytes of an operation: displacement and immediate, the small fields, the handler's number.
const OP_BYTES: usize = 18;

/// Bytes by which a record names a block: where in the records the operations are (4), the offset in
/// the page (2), how many operations there are (1), nothing.
const ENTRY_BYTES: usize = 8;

/// Most operations of a block: one that goes on behind it comes to those of its instructions.
const OPS_MAX: usize = BLOCK_MAX + 1;

/// Of which mode its blocks are.
pub(crate) const MODE: Mode = Mode { code: 64, stack: 64 };

/// Blocks of a page: where each begins in it, and its operations.
type Blocks<'a> = BTreeMap<u16, Cow<'a, [Op]>>;

/// One that is read from.
#[derive(Debug)]
pub(crate) struct SavedCode {
    view: FileView,
    /// Where the records begin, from which on places in them count.
    records_at: usize,
    model: Model,
    examples: Vec<Example>,
    pages: HashMap<u64, Record>,
    /// What the last example was decoded to.
    scratch: Decoded,
}

/// Where a page's blocks are named.
#[derive(Clone, Copy, Debug)]
struct Record {
    at: u32,
    blocks: u16,
}

/// A block in the file.
#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: u16,
    ops_at: u32,
    ops: u8,
}

/// A handler, as the one that carries out an instruction of a block.
#[derive(Debug)]
struct Example {
    bytes: Vec<u8>,
    /// Which operation of the block.
    operation: u8,
    handler: Option<Handler>,
}

impl SavedCode {
    /// Opens one for a model.
    ///
    /// # Errors
    /// Those of mmap(2); `InvalidData` for one that is damaged, of another model, or written by
    /// another version.
    pub(crate) fn open(file: &File, model: Model) -> io::Result<SavedCode> {
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "it is of another version");
        let view = FileView::open(file)?;
        let read = |at: usize, bytes: usize| {
            let mut piece = vec![0; bytes];
            view.read(at, &mut piece).then_some(piece).ok_or_else(bad)
        };
        let head = read(0, MAGIC.len() + 4)?;
        let length = head.strip_prefix(MAGIC).and_then(|rest| Bytes(rest).u32());
        let length = length.filter(|length| *length <= FRONT_MAX).ok_or_else(bad)?;
        let front = read(head.len(), length as usize)?;
        let (examples, pages) = Bytes(&front).front(model).ok_or_else(bad)?;
        let records_at = head.len() + front.len();
        Ok(SavedCode { view, records_at, model, examples, pages, scratch: Decoded::default() })
    }

    /// The pages of which it has blocks.
    fn pages(&self) -> Vec<usize> {
        self.pages.keys().filter_map(|page| usize::try_from(*page).ok()).collect()
    }

    /// Where in a page it has blocks.
    fn offsets(&self, page: usize) -> Vec<u16> {
        let Some(record) = self.pages.get(&(page as u64)) else { return Vec::new() };
        let entries = (0..record.blocks).filter_map(|n| self.entry(*record, n));
        entries.map(|entry| entry.offset).collect()
    }

    /// Gives the operations of the block that begins there, if it has one.
    pub(crate) fn block(&mut self, page: usize, offset: usize, ops: &mut Vec<Op>) -> bool {
        ops.clear();
        let found = self.find(page, offset).and_then(|entry| self.read(entry, ops));
        if found.is_none() {
            // One that is damaged is none.
            ops.clear();
        }
        !ops.is_empty()
    }

    fn find(&self, page: usize, offset: usize) -> Option<Entry> {
        let record = *self.pages.get(&(page as u64))?;
        let (mut from, mut to) = (0, record.blocks);
        while from < to {
            let middle = from.midpoint(to);
            let entry = self.entry(record, middle)?;
            match usize::from(entry.offset).cmp(&offset) {
                Ordering::Equal => return Some(entry),
                Ordering::Less => from = middle + 1,
                Ordering::Greater => to = middle,
            }
        }
        None
    }

    fn entry(&self, record: Record, n: u16) -> Option<Entry> {
        let at = self.records_at + record.at as usize + usize::from(n) * ENTRY_BYTES;
        let [a, b, c, d, offset @ .., ops, _] = self.view.get::<u64>(at)?.to_le_bytes();
        let (ops_at, offset) = (u32::from_le_bytes([a, b, c, d]), u16::from_le_bytes(offset));
        Some(Entry { offset, ops_at, ops })
    }

    fn read(&mut self, entry: Entry, ops: &mut Vec<Op>) -> Option<()> {
        if usize::from(entry.ops) > OPS_MAX {
            return None;
        }
        let first = self.records_at + entry.ops_at as usize;
        for at in (0..usize::from(entry.ops)).map(|n| first + n * OP_BYTES) {
            let numbers = [self.view.get::<u64>(at)?, self.view.get::<u64>(at + 8)?];
            let handler = self.handler(self.view.get::<u16>(at + 16)?)?;
            ops.push(read(numbers, handler)?);
        }
        Some(())
    }

    fn handler(&mut self, number: u16) -> Option<Handler> {
        let example = self.examples.get_mut(usize::from(number))?;
        if example.handler.is_none() {
            let code = Code { bytes: &example.bytes, start: 0, mode: MODE, model: self.model };
            self.scratch.block(code, BLOCK_MAX, &mut Vec::new());
            let op = self.scratch.ops.get(usize::from(example.operation))?;
            example.handler = Some(op.run);
        }
        example.handler
    }
}

/// Writes what a processor has decoded to a file that is empty, and what it has not used yet of what
/// another one had; `page` gives a page's bytes, if they are what was decoded, and `unchanged` says
/// whether they are what they began as.
pub(crate) fn write(
    cache: &Cache,
    saved: Option<&mut SavedCode>,
    model: Model,
    page: impl Fn(usize) -> Option<[u8; PAGE]>,
    unchanged: impl Fn(usize) -> bool,
    file: &File,
) -> io::Result<()> {
    let mut pages = pages(cache);
    if let Some(saved) = saved {
        for number in saved.pages().into_iter().filter(|number| unchanged(*number)) {
            add_unused(saved, number, pages.entry(number).or_default());
        }
    }
    let (mut examples, mut index, mut records) = (Examples::default(), Vec::new(), Vec::new());
    for (number, blocks) in pages {
        let Some(bytes) = page(number) else { continue };
        index.push((number as u64, records.len(), blocks.len()));
        let mut ops = Vec::new();
        let first = records.len() + blocks.len() * ENTRY_BYTES;
        for (offset, block) in &blocks {
            records.extend_from_slice(&count(first + ops.len())?);
            records.extend_from_slice(&offset.to_le_bytes());
            records.extend_from_slice(&[small(block.len()), 0]);
            examples.block(&mut ops, &bytes, *offset, block);
        }
        records.extend_from_slice(&ops);
    }
    let Examples { bytes: examples, numbers } = examples;
    let mut front = vec![model as u8];
    front.extend_from_slice(&count(numbers.len())?);
    front.extend_from_slice(&examples);
    front.extend_from_slice(&count(index.len())?);
    for (number, at, blocks) in index {
        front.extend_from_slice(&u64::to_le_bytes(number));
        front.extend_from_slice(&count(at)?);
        front.extend_from_slice(&u16::try_from(blocks).map_err(io::Error::other)?.to_le_bytes());
    }
    let mut file = file;
    file.write_all(MAGIC)?;
    file.write_all(&count(front.len())?)?;
    file.write_all(&front)?;
    file.write_all(&records)
}

fn count(n: usize) -> io::Result<[u8; 4]> {
    u32::try_from(n).map(u32::to_le_bytes).map_err(io::Error::other)
}

/// The blocks of a cache that can be saved, by page.
fn pages(cache: &Cache) -> BTreeMap<usize, Blocks<'_>> {
    let mut pages: BTreeMap<usize, Blocks<'_>> = BTreeMap::new();
    for (key, ops) in cache.whole() {
        let plain = ops.iter().all(|op| !std::ptr::fn_addr_eq(op.run, float::run as Handler));
        if key.mode() == MODE.key() && plain {
            let offset = u16::try_from(key.offset() % PAGE).unwrap_or_default();
            pages.entry(key.page()).or_default().insert(offset, Cow::Borrowed(ops));
        }
    }
    pages
}

/// Adds the blocks of a page that nobody has asked for.
fn add_unused(saved: &mut SavedCode, page: usize, blocks: &mut Blocks<'_>) {
    for offset in saved.offsets(page) {
        let mut ops = Vec::new();
        let there = blocks.contains_key(&offset) || !saved.block(page, offset.into(), &mut ops);
        // One that is damaged may go beyond its page.
        let end = ops.last().map_or(0, |op| usize::from(offset) + usize::from(op.next));
        if !there && end <= PAGE {
            blocks.insert(offset, Cow::Owned(ops));
        }
    }
}

/// Handlers that have a name, and the examples by which they have it.
#[derive(Default)]
struct Examples {
    bytes: Vec<u8>,
    /// By address.
    numbers: HashMap<usize, u16>,
}

impl Examples {
    /// Adds a block's operations, and an example of each handler that has none.
    fn block(&mut self, record: &mut Vec<u8>, page: &[u8; PAGE], offset: u16, ops: &[Op]) {
        let whole = ops.last().map_or(0, |op| usize::from(op.next));
        let bytes = &page[usize::from(offset)..][..whole];
        for (n, op) in ops.iter().enumerate() {
            let next = u16::try_from(self.numbers.len()).unwrap_or(u16::MAX);
            let number = *self.numbers.entry(op.run as usize).or_insert_with(|| {
                self.bytes.extend_from_slice(&[small(n), small(whole)]);
                self.bytes.extend_from_slice(bytes);
                next
            });
            append(record, op);
            record.extend_from_slice(&number.to_le_bytes());
        }
    }
}

fn small(n: usize) -> u8 {
    u8::try_from(n).unwrap_or(u8::MAX)
}

/// An operation without its handler.
fn append(to: &mut Vec<u8>, op: &Op) {
    let Op { run: _, disp, imm, base, index, segment, shape, dst, src, bytes, next } = *op;
    to.extend_from_slice(&disp.to_le_bytes());
    to.extend_from_slice(&imm.to_le_bytes());
    to.extend_from_slice(&[base, index, segment, shape.byte(), dst, src, bytes, next]);
}

/// The same back, if it is one that decoding could have given.
fn read([wide, small]: [u64; 2], run: Handler) -> Option<Op> {
    let ([a, b, c, d, imm @ ..], small) = (wide.to_le_bytes(), small.to_le_bytes());
    let (disp, imm) = (i32::from_le_bytes([a, b, c, d]), u32::from_le_bytes(imm));
    let [base, index, segment, shape, dst, src, bytes, next] = small;
    let shape = Shape::from_byte(shape)?;
    let places = [base, index, segment, dst, src].iter().all(|place| *place < 64);
    (places && next > 0).then_some(Op {
        run,
        disp,
        imm,
        base,
        index,
        segment,
        shape,
        dst,
        src,
        bytes,
        next,
    })
}

/// Bytes that are read from their beginning.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn front(&mut self, model: Model) -> Option<(Vec<Example>, HashMap<u64, Record>)> {
        if self.u8()? != model as u8 {
            return None;
        }
        let mut examples = Vec::new();
        for _ in 0..self.u32()? {
            let (operation, length) = (self.u8()?, usize::from(self.u8()?));
            let bytes = self.take(length.min(BYTES_MAX))?.to_vec();
            examples.push(Example { bytes, operation, handler: None });
        }
        let mut pages = HashMap::new();
        for _ in 0..self.u32()? {
            let (page, at, blocks) = (self.u64()?, self.u32()?, self.u16()?);
            pages.insert(page, Record { at, blocks });
        }
        Some((examples, pages))
    }

    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.first_chunk().copied().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.first_chunk().copied().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.first_chunk().copied().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use proptest::prelude::*;

    use super::*;
    use crate::cache::Key;

    /// `mov eax, 0x12345678; inc eax; je`, and what was decoded of it.
    fn written() -> File {
        let mut page = [0; PAGE];
        page[..9].copy_from_slice(&[0xb8, 0x78, 0x56, 0x34, 0x12, 0xff, 0xc0, 0x74, 0xf7]);
        let mut decoded = Decoded::default();
        let code = Code { bytes: &page[..9], start: 0, mode: MODE, model: Model::V2 };
        decoded.block(code, BLOCK_MAX, &mut Vec::new());
        let mut cache = Cache::new();
        cache.make_room();
        cache.insert(Key::new(5 * PAGE, MODE.key()), &mut decoded.ops, None);
        let file = tempfile::tempfile().unwrap();
        let page = |number| (number == 5).then_some(page);
        write(&cache, None, Model::V2, page, |_| true, &file).unwrap();
        file
    }

    fn blocks(mut saved: SavedCode, page: usize) -> Vec<(u16, usize)> {
        let (mut blocks, mut ops) = (Vec::new(), Vec::new());
        for offset in saved.offsets(page) {
            if saved.block(page, offset.into(), &mut ops) {
                blocks.push((offset, ops.len()));
            }
        }
        blocks
    }

    #[test]
    fn a_page_has_the_blocks_that_were_decoded() {
        let file = written();
        let open = |model| SavedCode::open(&file, model);
        assert!(open(Model::V1).is_err(), "another model");
        assert_eq!(blocks(open(Model::V2).unwrap(), 5), [(0, 3)]);
        assert_eq!(blocks(open(Model::V2).unwrap(), 6), []);
    }

    proptest! {
        #[test]
        fn damage_is_no_more_than_fewer_blocks(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let file = written();
            let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
            for (at, byte) in changes {
                file.write_all_at(&[byte], at.index(length) as u64).unwrap();
            }
            if let Ok(saved) = SavedCode::open(&file, Model::V2) {
                prop_assert!(blocks(saved, 5).len() <= usize::from(u16::MAX));
            }
        }
    }
}

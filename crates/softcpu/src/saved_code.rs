//! What was decoded, in a file, for processors of other machines that carry out the same
//! instructions: those that are taken up from where one machine was ready execute the same kernel.
//!
//! ```text
//! head      who wrote it, the model, how much of each follows
//! examples  for each handler a block of instructions, and which of them it carries out
//! index     for each page its digest, and where its record is
//! records   the page's bytes, then its blocks: where each begins, its operations
//! ```
//!
//! Blocks are found by what their page has in it, wherever it lies: a page that differs in one byte
//! is another one. A handler is an address in this process, so it is named by an example, and
//! decoding the example gives the address; what else an operation has means the same everywhere.
//! Not in it are blocks that reach into a second page, those outside of 64-bit mode, and those with
//! floating point.
//!
//! Nothing but speed depends on it: what it does not have is decoded. Whoever can write it decides
//! what the guest's instructions do, so it is to be as safe as the memory that a machine is taken up
//! from; more than the guest it cannot reach.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
};

use hv::{Model, memory::PAGE};

use crate::{
    cache::Cache,
    control::Mode,
    decode::{BLOCK_MAX, BYTES_MAX, Code, Decoded},
    op::{Handler, Op, float},
};

/// What it begins with: that it is one, and which sources this crate was compiled from.
const MAGIC: &[u8] = concat!("wythe code ", env!("SOURCES_ID"), "\n").as_bytes();

/// Most bytes of head, examples and index: some ten thousand pages.
const FRONT_MAX: u32 = 1 << 20;

/// Most bytes of a record: the page and a block at each byte of it, of a few operations.
const RECORD_MAX: u32 = 1 << 20;

/// Bytes of an operation.
const OP_BYTES: usize = 26;

/// Of which mode its blocks are.
pub(crate) const MODE: Mode = Mode { code: 64, stack: 64 };

/// Blocks of a page: where each begins in it, and its operations.
type Blocks<'a> = BTreeMap<u16, &'a [Op]>;

/// One that is read from.
#[derive(Debug)]
pub(crate) struct SavedCode {
    file: File,
    model: Model,
    examples: Vec<Example>,
    /// By the digest of their bytes: where records are, and how long.
    pages: HashMap<u64, (u64, u32)>,
}

/// A handler, as the one that carries out an instruction of a block.
#[derive(Debug)]
struct Example {
    bytes: Vec<u8>,
    /// Which operation of the block.
    operation: u8,
    handler: OnceCell<Option<Handler>>,
}

impl SavedCode {
    /// Opens one for a model.
    ///
    /// # Errors
    /// Those of pread(2); `InvalidData` for one that is damaged, of another model, or written by
    /// another version.
    pub(crate) fn open(file: File, model: Model) -> io::Result<SavedCode> {
        let mut length = [0; 4];
        let at = MAGIC.len() as u64;
        file.read_exact_at(&mut length, at)?;
        let length = u32::from_le_bytes(length);
        let mut front = vec![0; length.min(FRONT_MAX) as usize];
        file.read_exact_at(&mut front, at + 4)?;
        let mut magic = vec![0; MAGIC.len()];
        file.read_exact_at(&mut magic, 0)?;
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "it is of another version");
        if magic != MAGIC || length > FRONT_MAX {
            return Err(bad());
        }
        let (examples, pages) = Bytes(&front).front(model).ok_or_else(bad)?;
        Ok(SavedCode { file, model, examples, pages })
    }

    /// Gives the blocks of a page with these bytes, if there are any.
    pub(crate) fn blocks(
        &self,
        page: &[u8; PAGE],
        decoded: &mut Decoded,
        mut take: impl FnMut(usize, &mut Vec<Op>),
    ) {
        let Some((at, length)) = self.pages.get(&digest(page)) else { return };
        let mut record = vec![0; *length as usize];
        if self.file.read_exact_at(&mut record, *at).is_err() || !record.starts_with(page) {
            return;
        }
        let mut rest = Bytes(&record[PAGE..]);
        // A record that is damaged has fewer blocks.
        while let Some(offset) = rest.u16()
            && self.block(&mut rest, decoded).is_some()
        {
            take(usize::from(offset) % PAGE, &mut decoded.ops);
        }
    }

    /// Reads one block into what would have been decoded.
    fn block(&self, rest: &mut Bytes<'_>, decoded: &mut Decoded) -> Option<()> {
        let count = usize::from(rest.u8()?);
        let ops = rest.take(count.min(BLOCK_MAX + 1) * OP_BYTES)?;
        let handlers: Option<Vec<Handler>> = ops
            .chunks_exact(OP_BYTES)
            .map(|op| self.handler(u16::from_le_bytes([op[0], op[1]]), decoded))
            .collect();
        decoded.ops.clear();
        for (op, handler) in ops.chunks_exact(OP_BYTES).zip(handlers?) {
            decoded.ops.push(read(&op[2..], handler)?);
        }
        (!decoded.ops.is_empty()).then_some(())
    }

    fn handler(&self, number: u16, decoded: &mut Decoded) -> Option<Handler> {
        let example = self.examples.get(usize::from(number))?;
        *example.handler.get_or_init(|| {
            let code = Code { bytes: &example.bytes, start: 0, mode: MODE, model: self.model };
            decoded.block(code, BLOCK_MAX, &mut Vec::new());
            decoded.ops.get(usize::from(example.operation)).map(|op| op.run)
        })
    }
}

/// Writes what a processor has decoded to a file that is empty; `page` gives a page's bytes, if they
/// are what was decoded.
pub(crate) fn write(
    cache: &Cache,
    model: Model,
    page: impl Fn(usize) -> Option<[u8; PAGE]>,
    file: &File,
) -> io::Result<()> {
    let (mut examples, mut index, mut records) = (Examples::default(), Vec::new(), Vec::new());
    for (number, blocks) in pages(cache) {
        let Some(bytes) = page(number) else { continue };
        let from = records.len();
        records.extend_from_slice(&bytes);
        for (offset, ops) in blocks {
            examples.block(&mut records, &bytes, offset, ops);
        }
        index.push((digest(&bytes), from as u64, records.len() - from));
    }
    let Examples { bytes: examples, numbers } = examples;
    let mut front = vec![model as u8];
    front.extend_from_slice(&count(numbers.len())?);
    front.extend_from_slice(&examples);
    front.extend_from_slice(&count(index.len())?);
    let front_bytes = front.len() + index.len() * 20;
    let records_at = (MAGIC.len() + 4 + front_bytes) as u64;
    for (digest, from, length) in index {
        front.extend_from_slice(&u64::to_le_bytes(digest));
        front.extend_from_slice(&u64::to_le_bytes(records_at + from));
        front.extend_from_slice(&count(length)?);
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
        if key.mode == MODE.key() && plain {
            let offset = u16::try_from(key.offset % PAGE).unwrap_or_default();
            pages.entry(key.offset / PAGE).or_default().insert(offset, ops);
        }
    }
    pages
}

/// Handlers that have a name, and the examples by which they have it.
#[derive(Default)]
struct Examples {
    bytes: Vec<u8>,
    /// By address.
    numbers: HashMap<usize, u16>,
}

impl Examples {
    /// Adds a block to a page's record, and an example of each handler that has none.
    fn block(&mut self, record: &mut Vec<u8>, page: &[u8; PAGE], offset: u16, ops: &[Op]) {
        let whole = ops.last().map_or(0, |op| usize::from(op.next));
        let bytes = &page[usize::from(offset)..][..whole];
        record.extend_from_slice(&offset.to_le_bytes());
        record.push(small(ops.len()));
        for (n, op) in ops.iter().enumerate() {
            let next = u16::try_from(self.numbers.len()).unwrap_or(u16::MAX);
            let number = *self.numbers.entry(op.run as usize).or_insert_with(|| {
                self.bytes.extend_from_slice(&[small(n), small(whole)]);
                self.bytes.extend_from_slice(bytes);
                next
            });
            record.extend_from_slice(&number.to_le_bytes());
            append(record, op);
        }
    }
}

fn small(n: usize) -> u8 {
    u8::try_from(n).unwrap_or(u8::MAX)
}

/// An operation without its handler.
fn append(to: &mut Vec<u8>, op: &Op) {
    let Op { run: _, disp, imm, base, index, scale, segment, flat, address_bits, .. } = *op;
    let Op { stack, dst, src, bytes, at, next, .. } = *op;
    to.extend_from_slice(&disp.to_le_bytes());
    to.extend_from_slice(&imm.to_le_bytes());
    to.extend_from_slice(&[base, index, scale, segment, u8::from(flat), address_bits]);
    to.extend_from_slice(&[u8::from(stack), dst, src, bytes, at, next]);
}

/// The same back, if it is one that decoding could have given.
fn read(from: &[u8], run: Handler) -> Option<Op> {
    let mut rest = Bytes(from);
    let (disp, imm) = (rest.u64()?, rest.u32()?);
    let [base, index, scale, segment, flat, address_bits, stack, dst, src, bytes, at, next] =
        *rest.0.first_chunk()?;
    let places = [base, index, segment, dst, src].iter().all(|place| *place < 64);
    let fits = places && scale < 4 && flat < 2 && stack < 2 && at <= next;
    (fits && matches!(address_bits, 16 | 32 | 64)).then_some(Op {
        run,
        disp,
        imm,
        base,
        index,
        scale,
        segment,
        flat: flat == 1,
        address_bits,
        stack: stack == 1,
        dst,
        src,
        bytes,
        at,
        next,
    })
}

/// Tells pages apart, but not safely: their bytes are compared afterwards.
fn digest(page: &[u8; PAGE]) -> u64 {
    // Four at a time, none of which waits for another.
    let mut lanes = [1u64, 2, 3, 4];
    for words in page.as_chunks::<32>().0 {
        for (lane, word) in lanes.iter_mut().zip(words.as_chunks::<8>().0) {
            *lane = (*lane ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            *lane ^= *lane >> 29;
        }
    }
    lanes.iter().fold(0, |all, lane| (all ^ lane).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Bytes that are read from their beginning.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn front(&mut self, model: Model) -> Option<(Vec<Example>, HashMap<u64, (u64, u32)>)> {
        if self.u8()? != model as u8 {
            return None;
        }
        let mut examples = Vec::new();
        for _ in 0..self.u32()? {
            let (operation, length) = (self.u8()?, usize::from(self.u8()?));
            let bytes = self.take(length.min(BYTES_MAX))?.to_vec();
            examples.push(Example { bytes, operation, handler: OnceCell::new() });
        }
        let mut pages = HashMap::new();
        for _ in 0..self.u32()? {
            let (digest, at, length) = (self.u64()?, self.u64()?, self.u32()?);
            if length < PAGE as u32 || length > RECORD_MAX {
                return None;
            }
            pages.insert(digest, (at, length));
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
    use proptest::prelude::*;

    use super::*;
    use crate::cache::Key;

    /// `mov eax, 0x12345678; inc eax; je`, and what was decoded of it.
    fn written() -> (File, [u8; PAGE]) {
        let mut page = [0; PAGE];
        page[..9].copy_from_slice(&[0xb8, 0x78, 0x56, 0x34, 0x12, 0xff, 0xc0, 0x74, 0xf7]);
        let mut decoded = Decoded::default();
        let code = Code { bytes: &page[..9], start: 0, mode: MODE, model: Model::V2 };
        decoded.block(code, BLOCK_MAX, &mut Vec::new());
        let mut cache = Cache::new();
        cache.insert(Key { offset: 5 * PAGE, mode: MODE.key() }, &mut decoded.ops, None);
        let file = tempfile::tempfile().unwrap();
        write(&cache, Model::V2, |number| (number == 5).then_some(page), &file).unwrap();
        (file, page)
    }

    fn blocks(saved: &SavedCode, page: &[u8; PAGE]) -> Vec<(usize, usize)> {
        let mut blocks = Vec::new();
        saved.blocks(page, &mut Decoded::default(), |at, ops| blocks.push((at, ops.len())));
        blocks
    }

    #[test]
    fn a_page_has_the_blocks_that_were_decoded() {
        let (file, mut page) = written();
        assert!(SavedCode::open(file.try_clone().unwrap(), Model::V1).is_err(), "another model");
        let saved = SavedCode::open(file, Model::V2).unwrap();
        assert_eq!(blocks(&saved, &page), [(0, 3)]);
        page[PAGE - 1] = 1;
        assert_eq!(blocks(&saved, &page), []);
    }

    proptest! {
        #[test]
        fn damage_is_no_more_than_fewer_blocks(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let (file, page) = written();
            let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
            for (at, byte) in changes {
                file.write_all_at(&[byte], at.index(length) as u64).unwrap();
            }
            if let Ok(saved) = SavedCode::open(file, Model::V2) {
                prop_assert!(blocks(&saved, &page).len() <= usize::from(u16::MAX));
            }
        }
    }
}

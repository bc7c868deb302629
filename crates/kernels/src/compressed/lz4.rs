//! LZ4 as `lz4 -l` writes it and kernels contain it: a magic number, then blocks behind their
//! lengths.
//!
//! Sources: LZ4 frame format 1.6, "legacy frame"; LZ4 block format.

use std::io::{self, Read};

/// The first bytes.
pub(super) const MAGIC: [u8; 4] = 0x184c_2102_u32.to_le_bytes();

/// What a block unpacks to at most.
const BLOCK_BYTES: usize = 8 << 20;

/// What it is packed to at most. Source: `LZ4_compressBound`.
const PACKED_BYTES_MAX: usize = BLOCK_BYTES + BLOCK_BYTES / 255 + 16;

/// A reader of what was packed.
#[derive(Debug)]
pub(super) struct Decoder<R> {
    source: R,
    begun: bool,
    block: Vec<u8>,
    /// How much of the block was read.
    read: usize,
}

impl<R: Read> Decoder<R> {
    pub(super) fn new(source: R) -> Decoder<R> {
        Decoder { source, begun: false, block: Vec::new(), read: 0 }
    }

    /// The next block, or nothing at the end.
    fn next(&mut self) -> io::Result<bool> {
        if !self.begun {
            let mut magic = [0; 4];
            self.source.read_exact(&mut magic)?;
            self.begun = true;
        }
        // A length with nothing behind it is that of all data, as kernels have it at their end.
        let mut length = Vec::with_capacity(4);
        (&mut self.source).take(4).read_to_end(&mut length)?;
        let Ok(length) = <[u8; 4]>::try_from(length.as_slice()) else {
            return if length.is_empty() { Ok(false) } else { Err(damaged()) };
        };
        let length = u32::from_le_bytes(length) as usize;
        let mut packed = Vec::new();
        (&mut self.source).take(length.min(PACKED_BYTES_MAX) as u64).read_to_end(&mut packed)?;
        if packed.is_empty() {
            return Ok(false);
        }
        if packed.len() != length {
            return Err(damaged());
        }
        self.block.clear();
        self.read = 0;
        unpack(&packed, &mut self.block).ok_or_else(damaged)?;
        Ok(true)
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.read == self.block.len() {
            if !self.next()? {
                return Ok(0);
            }
        }
        let count = self.block.get(self.read..).unwrap_or_default().read(to)?;
        self.read += count;
        Ok(count)
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is damaged LZ4 data")
}

/// Unpacks one block: runs of bytes as they are, each but the last followed by a repetition of
/// what came before.
fn unpack(packed: &[u8], to: &mut Vec<u8>) -> Option<()> {
    let mut rest = packed;
    loop {
        let token = take(&mut rest, 1)?.first().copied()?;
        let literals = length(token >> 4, &mut rest)?;
        let literals = take(&mut rest, literals)?;
        if to.len() + literals.len() > BLOCK_BYTES {
            return None;
        }
        to.extend_from_slice(literals);
        if rest.is_empty() {
            return Some(());
        }
        let offset = usize::from(u16::from_le_bytes(take(&mut rest, 2)?.try_into().ok()?));
        let count = length(token & 0xf, &mut rest)?.checked_add(4)?;
        repeat(to, offset, count)?;
    }
}

fn take<'a>(from: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(count)?;
    *from = rest;
    Some(taken)
}

/// A length of which four bits are given; 15 goes on in bytes, the last of which is not 255.
fn length(bits: u8, rest: &mut &[u8]) -> Option<usize> {
    let mut length = usize::from(bits);
    if bits == 15 {
        loop {
            let more = take(rest, 1)?.first().copied()?;
            length = length.checked_add(usize::from(more))?;
            if more != 255 {
                break;
            }
        }
    }
    Some(length)
}

/// `count` bytes again that stand `offset` before the end, where the copy may reach into itself.
fn repeat(to: &mut Vec<u8>, offset: usize, count: usize) -> Option<()> {
    let start = to.len().checked_sub(offset).filter(|_| offset != 0)?;
    if count > BLOCK_BYTES - to.len() {
        return None;
    }
    let mut left = count;
    while left > 0 {
        let piece = left.min(to.len() - start);
        to.extend_from_within(start..start + piece);
        left -= piece;
    }
    Some(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Data as blocks without repetitions.
    pub(crate) fn stored(data: &[u8]) -> Vec<u8> {
        let mut all = MAGIC.to_vec();
        for chunk in data.chunks(65_536) {
            let mut block = vec![0xf0];
            let mut left = chunk.len().checked_sub(15);
            match left {
                None => block = vec![u8::try_from(chunk.len()).unwrap() << 4],
                Some(_) => {
                    while let Some(more) = left {
                        block.push(u8::try_from(more.min(255)).unwrap());
                        left = if more >= 255 { Some(more - 255) } else { None };
                    }
                }
            }
            block.extend(chunk);
            all.extend(u32::try_from(block.len()).unwrap().to_le_bytes());
            all.extend(block);
        }
        all
    }

    fn one(packed: &[u8]) -> Option<Vec<u8>> {
        let mut to = Vec::new();
        unpack(packed, &mut to).map(|()| to)
    }

    #[test]
    fn repetitions_reach_back_and_into_themselves() {
        // "abc", then 4 + 15 + 1 bytes from 3 back, then "!".
        assert_eq!(one(b"\x3fabc\x03\x00\x01\x10!").unwrap(), b"abcabcabcabcabcabcabcab!");
        assert_eq!(one(b"\x10a\x01\x00\x10b").unwrap(), b"aaaaab");
        assert_eq!(one(b"\x00").unwrap(), b"");
    }

    #[test]
    fn damaged_blocks_are_refused() {
        for bad in [
            b"".as_slice(),
            // No such distance: beyond the start, and none.
            b"\x10a\x02\x00\x10b",
            b"\x10a\x00\x00\x10b",
            // Fewer bytes than it says.
            b"\x50abc",
            b"\xf0\xff",
            b"\x10a\x01",
        ] {
            assert_eq!(one(bad), None, "{bad:?}");
        }
        // One byte again and again, more than a block may have.
        let mut bomb = b"\x1fa\x01\x00".to_vec();
        bomb.extend([255; 40_000]);
        bomb.extend(b"\x00\x10b");
        assert_eq!(one(&bomb), None);
    }
}

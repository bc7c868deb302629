//! File data on its way into the image.

use std::{fs::File, io, io::BufRead};

use super::{
    area::Area,
    format::{BLOCK_BITS, BLOCK_BYTES, HOLE, INODE_BYTES, xattr_area_bytes},
};
use crate::layer::{
    EntryError, LayerError, Name, Segment,
    apply::{self, Contents},
    tar::Archive,
};

/// The longest rest of a file that is kept behind its inode. Half a block: two of them still
/// share one, and reading inodes does not mean reading content.
pub(super) const TAIL_BYTES_MAX: usize = 2048;

/// Memory for such rests; when it is used up, the others get blocks of their own.
const TAILS_BYTES_MAX: usize = 64 << 20;

/// Most chunks of a sparse file: 256 MiB of 4 KiB chunks; larger files have larger chunks.
const CHUNKS_MAX: u64 = 1 << 16;

/// Where the content of a file is.
#[derive(Debug)]
pub(in crate::layer) enum Location {
    /// In whole blocks from `block`, with the rest behind the inode unless it is empty.
    Blocks { block: u32, size: u64, tail: Box<[u8]> },
    /// In chunks of `1 << bits` bytes.
    Chunks { size: u64, bits: u8, map: Box<[u32]> },
}

/// An image being written.
#[derive(Debug)]
pub(in crate::layer) struct Writer<'f> {
    pub(super) area: Area<'f>,
    tails_bytes: usize,
}

impl<'f> Writer<'f> {
    /// Begins an image in an empty file. The first block stays empty until the end.
    pub(in crate::layer) fn new(out: &'f File) -> Writer<'f> {
        Writer { area: Area::new(out, BLOCK_BYTES), tails_bytes: 0 }
    }

    /// How much of a file of this size goes behind its inode.
    fn tail_bytes(&mut self, size: u64, xattr_bytes: usize) -> usize {
        let tail = usize::try_from(size % BLOCK_BYTES).expect("less than a block");
        if !tail_fits(xattr_bytes, tail) || self.tails_bytes + tail > TAILS_BYTES_MAX {
            return 0;
        }
        self.tails_bytes += tail;
        tail
    }

    fn dense<R: BufRead>(
        &mut self,
        size: u64,
        tail_bytes: usize,
        data: &mut Archive<R>,
    ) -> Result<Location, Failure> {
        let block = block_at(self.area.position())?;
        let mut whole = size - tail_bytes as u64;
        let mut tail = Vec::with_capacity(tail_bytes);
        while let Some(chunk) = data.chunk()? {
            let split = usize::try_from(whole).unwrap_or(usize::MAX).min(chunk.len());
            let (blocks, rest) = chunk.split_at(split);
            self.area.write(blocks)?;
            whole -= split as u64;
            tail.extend_from_slice(rest);
        }
        self.area.align()?;
        // The last block has to be addressable too.
        block_at(self.area.position())?;
        Ok(Location::Blocks { block, size, tail: tail.into() })
    }

    fn sparse<R: BufRead>(
        &mut self,
        size: u64,
        segments: &[Segment],
        data: &mut Archive<R>,
    ) -> Result<Location, Failure> {
        let bits = chunk_bits(size);
        let chunks = size.div_ceil(1 << bits);
        let mut map = vec![HOLE; usize::try_from(chunks).map_err(|_| EntryError::ImageSize)?];
        // The chunk being filled, and where it begins in the image.
        let mut open: Option<(u64, u64)> = None;
        for piece in pieces(segments, bits) {
            let chunk = piece.offset >> bits;
            let start = match open {
                Some((index, start)) if index == chunk => start,
                Some(_) | None => {
                    self.close_chunk(open, size, bits)?;
                    let start = self.area.position();
                    let slot = usize::try_from(chunk).ok().and_then(|i| map.get_mut(i));
                    *slot.expect("segments lie within the file") = block_at(start)?;
                    open = Some((chunk, start));
                    start
                }
            };
            self.area.advance(start + (piece.offset & ((1 << bits) - 1)))?;
            self.copy(piece.length, data)?;
        }
        self.close_chunk(open, size, bits)?;
        Ok(Location::Chunks { size, bits, map: map.into() })
    }

    /// Goes on behind a chunk, which ends with the file or at its own full length.
    fn close_chunk(
        &mut self,
        open: Option<(u64, u64)>,
        size: u64,
        bits: u8,
    ) -> Result<(), Failure> {
        let Some((index, start)) = open else { return Ok(()) };
        let length = (size - (index << bits)).min(1 << bits);
        let end = start + length.next_multiple_of(BLOCK_BYTES);
        block_at(end)?;
        Ok(self.area.advance(end)?)
    }

    /// Copies exactly `length` bytes of data. The archive has checked that they are announced.
    fn copy<R: BufRead>(&mut self, mut length: u64, data: &mut Archive<R>) -> Result<(), Failure> {
        while length > 0 {
            let Some(chunk) = data.chunk_up_to(length)? else {
                return Err(Failure::Io(io::ErrorKind::UnexpectedEof.into()));
            };
            self.area.write(chunk)?;
            length -= chunk.len() as u64;
        }
        Ok(())
    }
}

impl Contents for Writer<'_> {
    type Place = Location;

    fn store<R: BufRead>(
        &mut self,
        file: apply::File<'_>,
        data: &mut Archive<R>,
    ) -> Result<Location, LayerError> {
        let xattr_bytes = xattr_area_bytes(&file.entry.attributes.xattrs);
        let stored = match file.segments {
            Some(segments) => self.sparse(file.size, segments, data),
            None => {
                let tail_bytes = self.tail_bytes(file.size, xattr_bytes);
                self.dense(file.size, tail_bytes, data)
            }
        };
        let path = &file.entry.path;
        stored.map_err(|failure| match failure {
            Failure::Entry(source) => LayerError::entry(path, source),
            Failure::Layer(error) => error,
            Failure::Io(source) => LayerError::WriteEntry { path: Name::new(path), source },
        })
    }

    fn held_bytes(place: &Location) -> u64 {
        match place {
            Location::Blocks { tail, .. } => tail.len() as u64,
            Location::Chunks { map, .. } => 4 * map.len() as u64,
        }
    }
}

/// Why a file was not stored.
pub(super) enum Failure {
    Entry(EntryError),
    Layer(LayerError),
    Io(io::Error),
}

impl From<EntryError> for Failure {
    fn from(error: EntryError) -> Failure {
        Failure::Entry(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

impl From<crate::layer::tar::TarError> for Failure {
    fn from(error: crate::layer::tar::TarError) -> Failure {
        Failure::Layer(LayerError::Tar(error))
    }
}

/// Whether a rest of this length can stand behind its inode: it may not cross a block.
pub(super) fn tail_fits(xattr_bytes: usize, tail: usize) -> bool {
    tail <= TAIL_BYTES_MAX && (INODE_BYTES + xattr_bytes + tail) as u64 <= BLOCK_BYTES
}

/// The number of the block at this position.
pub(super) fn block_at(position: u64) -> Result<u32, EntryError> {
    // The last number means a hole.
    let block = u32::try_from(position >> BLOCK_BITS).ok().filter(|block| *block != HOLE);
    block.ok_or(EntryError::ImageSize)
}

/// The smallest chunks with which a file of this size has no more than [`CHUNKS_MAX`].
fn chunk_bits(size: u64) -> u8 {
    let fits = |bits: &u8| size.div_ceil(1 << bits) <= CHUNKS_MAX;
    (BLOCK_BITS..48).find(fits).unwrap_or(48)
}

/// The segments, cut at the borders of chunks.
fn pieces(segments: &[Segment], bits: u8) -> impl Iterator<Item = Segment> {
    segments.iter().flat_map(move |segment| {
        let end = segment.offset + segment.length;
        let mut offset = segment.offset;
        std::iter::from_fn(move || {
            let border = ((offset >> bits) + 1) << bits;
            let piece = Segment { offset, length: border.min(end).checked_sub(offset)? };
            offset = border.min(end);
            (piece.length > 0).then_some(piece)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_cut_at_chunk_borders() {
        let segments =
            [Segment { offset: 4000, length: 5000 }, Segment { offset: 20_000, length: 1 }];
        let cut: Vec<_> = pieces(&segments, 12).map(|p| (p.offset, p.length)).collect();
        assert_eq!(cut, [(4000, 96), (4096, 4096), (8192, 808), (20_000, 1)]);
    }

    #[test]
    fn tails_have_blocks_of_their_own_when_memory_is_used_up() {
        let file = tempfile::tempfile().unwrap();
        let mut writer = Writer::new(&file);
        assert_eq!(writer.tail_bytes(4096 + 100, 0), 100);
        assert_eq!(writer.tail_bytes(4096, 0), 0);
        assert_eq!(writer.tail_bytes(100, 4000), 0);
        writer.tails_bytes = TAILS_BYTES_MAX - 99;
        assert_eq!(writer.tail_bytes(100, 0), 0);
        assert_eq!(writer.tail_bytes(99, 0), 99);
    }

    #[test]
    fn large_sparse_files_have_large_chunks() {
        assert_eq!(chunk_bits(1), 12);
        assert_eq!(chunk_bits(256 << 20), 12);
        assert_eq!(chunk_bits((256 << 20) + 1), 13);
        assert_eq!(chunk_bits(1 << 40), 24);
    }
}

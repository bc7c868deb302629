//! A file's data on its way: in pieces of whole blocks, with zeros where the data has none.

use std::{
    io::{self, Read},
    ops::Range,
};

use archive::Segment;

use crate::{BLOCK, bytes::BLOCK_BYTES};

/// Most blocks of a piece, and bytes: 1 MiB.
const PIECE_BLOCKS: usize = PIECE_BYTES / BLOCK_BYTES;
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// What most blocks of a sparse file are full of.
const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// Whether segments are in order and within a file of this size, and none is empty.
pub(crate) fn is_sound(segments: &[Segment], size: u64) -> bool {
    let mut end = 0;
    segments.iter().all(|segment| {
        let follows = segment.offset >= end && segment.length > 0;
        end = segment.offset.saturating_add(segment.length);
        follows && end <= size
    })
}

/// The blocks of a file that have data, in pieces.
pub(crate) fn pieces(segments: &[Segment]) -> impl Iterator<Item = Range<u64>> {
    let mut blocks: Vec<Range<u64>> = Vec::new();
    for segment in segments {
        let range = segment.offset / BLOCK..(segment.offset + segment.length).div_ceil(BLOCK);
        match blocks.last_mut() {
            Some(last) if range.start <= last.end => last.end = range.end,
            Some(_) | None => blocks.push(range),
        }
    }
    blocks.into_iter().flat_map(|range| {
        let starts = (range.start..range.end).step_by(PIECE_BLOCKS);
        starts.map(move |start| start..range.end.min(start + PIECE_BLOCKS as u64))
    })
}

/// Bytes of a piece.
pub(crate) fn bytes(piece: &Range<u64>) -> usize {
    index((piece.end - piece.start) * BLOCK)
}

/// Segments whose bytes are still to come.
pub(crate) struct Content<'a> {
    segments: &'a [Segment],
    /// Bytes of the first of them that have come.
    done: u64,
    source: &'a mut dyn Read,
}

impl<'a> Content<'a> {
    /// All of a file's, which are sound.
    pub(crate) fn new(segments: &'a [Segment], source: &'a mut dyn Read) -> Content<'a> {
        Content { segments, done: 0, source }
    }

    /// Fills a buffer with a piece of the file: the next.
    pub(crate) fn fill(&mut self, piece: &Range<u64>, buffer: &mut [u8]) -> io::Result<()> {
        let (start, end) = (piece.start * BLOCK, piece.end * BLOCK);
        buffer.fill(0);
        while let Some((segment, rest)) = self.segments.split_first() {
            let at = segment.offset + self.done;
            if at >= end {
                break;
            }
            let length = (segment.length - self.done).min(end - at);
            let room = buffer.get_mut(index(at - start)..index(at - start + length));
            self.source.read_exact(room.unwrap_or_default())?;
            self.done += length;
            if self.done == segment.length {
                (self.segments, self.done) = (rest, 0);
            }
        }
        Ok(())
    }
}

/// An offset within a piece.
fn index(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a piece has at most 1 MiB")
}

/// The runs of blocks that are not all zeros, and where they begin.
pub(crate) fn not_zero(bytes: &[u8]) -> Vec<(u64, &[u8])> {
    let size = ZEROS.len();
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (n, block) in bytes.chunks(size).enumerate() {
        if block == &ZEROS[..block.len()] {
            continue;
        }
        let range = n * size..n * size + block.len();
        match runs.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            Some(_) | None => runs.push(range),
        }
    }
    runs.into_iter().map(|run| (run.start as u64, &bytes[run])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(offset: u64, length: u64) -> Segment {
        Segment { offset, length }
    }

    #[test]
    fn segments_in_one_block_are_one_piece() {
        let segments = [segment(10, 20), segment(4095, 1), segment(4096, 5), segment(20_000, 1)];
        assert_eq!(pieces(&segments).collect::<Vec<_>>(), [0..2, 4..5]);
        let mut source = &[7; 27][..];
        let (mut content, mut buffer) = (Content::new(&segments, &mut source), [9; 8192]);
        content.fill(&(0..2), &mut buffer).unwrap();
        let set: Vec<_> = (0..buffer.len()).filter(|n| buffer[*n] == 7).collect();
        assert_eq!(set, (10..30).chain(4095..4101).collect::<Vec<_>>());
        content.fill(&(4..5), &mut buffer[..4096]).unwrap();
        assert_eq!(buffer.iter().position(|byte| *byte == 7), Some(20_000 - 4 * 4096));
        assert_eq!(pieces(&[segment(0, 5 << 20)]).count(), 5);
    }

    #[test]
    fn segments_that_contradict_themselves_are_not_sound() {
        assert!(is_sound(&[], 0) && is_sound(&[segment(0, 4), segment(4, 1)], 5));
        let wrong = [
            vec![segment(0, 0)],
            vec![segment(0, 6)],
            vec![segment(u64::MAX, 2)],
            vec![segment(2, 2), segment(1, 1)],
            vec![segment(0, 3), segment(2, 1)],
        ];
        assert!(wrong.iter().all(|segments| !is_sound(segments, 5)));
    }

    #[test]
    fn zeros_are_left_out() {
        let mut bytes = vec![0; 5 * 4096];
        bytes[4096 + 17] = 1;
        bytes[2 * 4096] = 1;
        bytes[5 * 4096 - 1] = 1;
        let runs: Vec<_> = not_zero(&bytes).iter().map(|(at, run)| (*at, run.len())).collect();
        assert_eq!(runs, [(4096, 8192), (4 * 4096, 4096)]);
    }
}

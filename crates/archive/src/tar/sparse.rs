//! The four ways in which GNU tar stores the map of a sparse file.
//!
//! Source: GNU tar manual, "Storing Sparse Files". Old: in the header and in blocks behind it.
//! 0.0: repeated `GNU.sparse.offset` and `.numbytes`. 0.1: one `GNU.sparse.map`. 1.0: decimal
//! lines at the beginning of the data.

use super::{BLOCK_BYTES, TarFault, header::number, pax::decimal};
use crate::{Exceeded, Segment};

type Pairs = Vec<(u64, u64)>;

/// What the `GNU.sparse.*` keys of a PAX header say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) name: Option<Vec<u8>>,
    major: Option<u64>,
    minor: Option<u64>,
    size: Option<u64>,
    numbers: Option<Vec<u64>>,
    /// Format 0.0: whether an offset waits for its number of bytes.
    half: bool,
}

/// Where the map is, and the file's length with holes.
pub(super) enum Form {
    None,
    Inline(Pairs, u64),
    InData(u64),
}

impl Keys {
    /// Format 0.0 gives these keys once for each segment.
    pub(super) fn repeats(key: &[u8]) -> bool {
        matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes")
    }

    /// Takes one key, without its prefix.
    pub(super) fn set(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"name" if !value.contains(&0) => self.name = Some(value.to_vec()),
            b"name" => return None,
            b"major" => self.major = Some(decimal(value)?),
            b"minor" => self.minor = Some(decimal(value)?),
            b"size" | b"realsize" => self.size = Some(decimal(value)?),
            b"offset" | b"numbytes" => {
                if self.half != (key == b"numbytes") {
                    return None;
                }
                self.half = !self.half;
                self.numbers.get_or_insert_default().push(decimal(value)?);
            }
            b"map" if self.numbers.is_some() => return None,
            b"map" if value.is_empty() => self.numbers = Some(Vec::new()),
            b"map" => {
                self.numbers =
                    Some(value.split(|&b| b == b',').map(decimal).collect::<Option<_>>()?);
            }
            // `numblocks` repeats what the map says.
            _ => {}
        }
        Some(())
    }

    /// What the keys amount to.
    pub(super) fn form(&self, most: usize) -> Result<Form, TarFault> {
        match (self.major, self.minor, self.size, &self.numbers) {
            (None, None, None, None) => Ok(Form::None),
            (Some(1), Some(0), Some(size), None) => Ok(Form::InData(size)),
            (None | Some(0), None | Some(0 | 1), Some(size), Some(numbers)) if !self.half => {
                Ok(Form::Inline(pairs(numbers, most)?, size))
            }
            (Some(major), Some(minor), ..) if major > 1 || minor > 1 => {
                Err(TarFault::SparseVersion(major, minor))
            }
            _ => Err(TarFault::SparseMap),
        }
    }
}

fn pairs(numbers: &[u64], most: usize) -> Result<Pairs, TarFault> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(TarFault::SparseMap);
    }
    within(pairs.len(), most)?;
    Ok(pairs.iter().map(|[offset, length]| (*offset, *length)).collect())
}

fn within(count: usize, most: usize) -> Result<(), TarFault> {
    match count > most {
        true => {
            let limit = "segments in one sparse file";
            Err(TarFault::Limit(Exceeded { limit, max: most as u64 }))
        }
        false => Ok(()),
    }
}

/// The old GNU map as far as it was read.
pub(super) struct OldMap {
    pub(super) pairs: Pairs,
    pub(super) real_size: u64,
    /// Whether another block of it follows.
    pub(super) continues: bool,
}

impl OldMap {
    /// Bytes of one pair: two numbers of 12.
    const PAIR_BYTES: usize = 24;
    /// Pairs in a block behind the header; the next byte tells whether another block follows.
    const PAIRS_PER_BLOCK: usize = 21;

    pub(super) fn start(field: &[u8], continues: bool, real_size: u64) -> Result<OldMap, TarFault> {
        let mut map = OldMap { pairs: Vec::new(), real_size, continues };
        map.add(field)?;
        Ok(map)
    }

    pub(super) fn extend(
        &mut self,
        block: &[u8; BLOCK_BYTES],
        most: usize,
    ) -> Result<(), TarFault> {
        let (pairs, rest) = block.split_at(OldMap::PAIR_BYTES * OldMap::PAIRS_PER_BLOCK);
        self.continues = rest.first().is_some_and(|&b| b != 0);
        self.add(pairs)?;
        within(self.pairs.len(), most)
    }

    /// Adds pairs up to the first empty one.
    fn add(&mut self, field: &[u8]) -> Result<(), TarFault> {
        for pair in field.chunks_exact(OldMap::PAIR_BYTES) {
            let (offset, length) = pair.split_at(OldMap::PAIR_BYTES / 2);
            if length.first().is_none_or(|&b| b == 0) {
                break;
            }
            let read = |field| number(field).and_then(|n| u64::try_from(n).ok());
            let pair = read(offset).zip(read(length)).ok_or(TarFault::SparseMap)?;
            self.pairs.push(pair);
        }
        Ok(())
    }
}

/// The decimal lines of format 1.0, fed block by block: a count, then two numbers each.
pub(super) struct Lines {
    most: usize,
    count: Option<usize>,
    numbers: Vec<u64>,
    line: Vec<u8>,
}

impl Lines {
    pub(super) fn new(most: usize) -> Lines {
        Lines { most, count: None, numbers: Vec::new(), line: Vec::new() }
    }

    /// Takes a block; the pairs when it was the last one. What fills that block is not looked at.
    pub(super) fn feed(&mut self, block: &[u8]) -> Result<Option<Pairs>, TarFault> {
        /// Digits of the largest `i64`.
        const DIGITS_MAX: usize = 19;
        for &byte in block {
            if byte != b'\n' {
                self.line.push(byte);
                if self.line.len() > DIGITS_MAX {
                    return Err(TarFault::SparseMap);
                }
                continue;
            }
            let number = decimal(&self.line).ok_or(TarFault::SparseMap)?;
            self.line.clear();
            match self.count {
                None => {
                    let count = usize::try_from(number).map_err(|_| TarFault::SparseMap)?;
                    within(count, self.most)?;
                    self.count = Some(count);
                }
                Some(_) => self.numbers.push(number),
            }
            if self.count.is_some_and(|count| self.numbers.len() == 2 * count) {
                return pairs(&self.numbers, self.most).map(Some);
            }
        }
        Ok(None)
    }
}

/// Checks a map against the file's length and the bytes that the archive holds for it. Nothing
/// if the data fills the file.
pub(super) fn segments(
    pairs: &[(u64, u64)],
    real_size: u64,
    stored: u64,
) -> Result<Option<Vec<Segment>>, TarFault> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut end = 0_u64;
    let mut total = 0_u64;
    for &(offset, length) in pairs {
        let next = offset.checked_add(length).ok_or(TarFault::SparseMap)?;
        if offset < end || next > real_size {
            return Err(TarFault::SparseMap);
        }
        match segments.last_mut() {
            // GNU tar closes every map with an empty segment at the end of the file.
            _ if length == 0 => {}
            Some(last) if offset == end => last.length += length,
            Some(_) | None => segments.push(Segment { offset, length }),
        }
        end = next;
        total += length;
    }
    match () {
        () if total != stored => Err(TarFault::SparseMap),
        () if total == real_size => Ok(None),
        () => Ok(Some(segments)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_that_overlap_or_leave_the_file_are_refused() {
        assert!(segments(&[(0, 10), (5, 10)], 100, 20).is_err());
        assert!(segments(&[(0, 10), (95, 10)], 100, 20).is_err());
        assert!(segments(&[(u64::MAX, 2)], u64::MAX, 2).is_err());
        assert!(segments(&[(0, 10)], 100, 11).is_err());
        assert!(segments(&[(20, 10), (0, 10)], 100, 20).is_err());
    }

    #[test]
    fn adjacent_segments_join_and_a_full_map_is_no_map() {
        assert_eq!(segments(&[(0, 10), (10, 90), (100, 0)], 100, 100).unwrap(), None);
        let joined = segments(&[(8, 2), (10, 10), (100, 0)], 100, 12).unwrap();
        assert_eq!(joined, Some(vec![Segment { offset: 8, length: 12 }]));
    }
}

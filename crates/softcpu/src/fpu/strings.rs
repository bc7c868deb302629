//! `pcmpestri`, `pcmpestrm`, `pcmpistri`, `pcmpistrm`: comparing two short strings.
//!
//! Source: Intel SDM volume 2, 4.1 (imm8 control byte operation).

use super::{
    operands::flag,
    vector::lanes::{join8, join16, split8, split16},
};

/// A string of up to 16 bytes or 8 words, as signed values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    lanes: [i32; 16],
    len: usize,
}

/// How to compare: the immediate byte.
#[derive(Clone, Copy, Debug)]
pub(super) struct Control(pub(super) u8);

/// What comes of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matches {
    /// A bit for each element of the second string.
    bits: u16,
    /// CF, ZF, SF, OF.
    pub(super) flags: u64,
}

impl Control {
    /// How many elements a vector has.
    fn count(self) -> usize {
        if self.0 & 1 == 0 { 16 } else { 8 }
    }

    fn lanes(self, vector: u128) -> [i32; 16] {
        let mut lanes = [0; 16];
        let (bytes, words) = (split8(vector), split16(vector));
        for (n, lane) in lanes[..self.count()].iter_mut().enumerate() {
            *lane = match self.0 & 3 {
                0 => bytes[n].into(),
                1 => words[n].into(),
                2 => bytes[n].cast_signed().into(),
                _ => words[n].cast_signed().into(),
            };
        }
        lanes
    }

    /// A string that ends before the first zero.
    pub(super) fn terminated(self, vector: u128) -> Text {
        let (lanes, count) = (self.lanes(vector), self.count());
        let len = lanes[..count].iter().position(|&lane| lane == 0).unwrap_or(count);
        Text { lanes, len }
    }

    /// A string whose length is a register's absolute value.
    pub(super) fn counted(self, vector: u128, len: i64) -> Text {
        let count = self.count();
        let len = usize::try_from(len.unsigned_abs()).unwrap_or(count).min(count);
        Text { lanes: self.lanes(vector), len }
    }

    /// Compares `first`, the set, ranges or needle, with `second`.
    pub(super) fn compare(self, first: Text, second: Text) -> Matches {
        let count = self.count();
        let matches = |at| match self.0 >> 2 & 3 {
            0 => at < second.len && first.set().contains(&second.lanes[at]),
            1 => at < second.len && first.in_ranges(second.lanes[at]),
            2 => first.get(at) == second.get(at),
            _ => first.begins(second, at, count),
        };
        let found = (0..count).filter(|&at| matches(at)).fold(0, |bits, at| bits | 1 << at);
        let all = u16::MAX >> (16 - count);
        let valid = if second.len == 0 { 0 } else { u16::MAX >> (16 - second.len) };
        let bits = match self.0 >> 4 & 3 {
            1 => found ^ all,
            3 => found ^ valid,
            _ => found,
        };
        let flags = [
            (flag::CF, bits != 0),
            (flag::ZF, second.len < count),
            (flag::SF, first.len < count),
            (flag::OF, bits & 1 == 1),
        ];
        let flags = flags.into_iter().filter(|(_, set)| *set).fold(0, |all, (flag, _)| all | flag);
        Matches { bits, flags }
    }

    /// The first or last match, or the number of elements.
    pub(super) fn index(self, matches: Matches) -> u64 {
        let bits = u32::from(matches.bits);
        let index = match (bits, self.0 >> 6 & 1) {
            (0, _) => u32::try_from(self.count()).expect("16 at most"),
            (_, 0) => bits.trailing_zeros(),
            _ => bits.ilog2(),
        };
        index.into()
    }

    /// The matches as bits, or as whole elements.
    pub(super) fn mask(self, matches: Matches) -> u128 {
        let set = |n: usize| matches.bits >> n & 1 == 1;
        if self.0 >> 6 & 1 == 0 {
            return matches.bits.into();
        }
        if self.count() == 16 {
            join8(std::array::from_fn(|n| if set(n) { u8::MAX } else { 0 }))
        } else {
            join16(std::array::from_fn(|n| if set(n) { u16::MAX } else { 0 }))
        }
    }
}

impl Text {
    fn set(&self) -> &[i32] {
        &self.lanes[..self.len]
    }

    fn get(&self, at: usize) -> Option<i32> {
        self.set().get(at).copied()
    }

    /// Whether a value lies in one of the ranges that pairs of elements are.
    fn in_ranges(&self, value: i32) -> bool {
        self.set().as_chunks::<2>().0.iter().any(|[from, to]| (*from..=*to).contains(&value))
    }

    /// Whether it stands in `text` from an element on, as far as the vector reaches.
    fn begins(&self, text: Text, at: usize, count: usize) -> bool {
        self.set()
            .iter()
            .enumerate()
            .take(count - at)
            .all(|(n, &lane)| text.get(at + n) == Some(lane))
    }
}

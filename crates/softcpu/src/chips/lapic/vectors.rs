//! Sets of 256 vectors in eight registers of the page.

use super::REGISTERS;

fn place(of: usize, vector: u8) -> (usize, u32) {
    (of + usize::from(vector >> 5), 1 << (vector & 31))
}

pub(super) fn get(page: &[u32; REGISTERS], of: usize, vector: u8) -> bool {
    let (word, bit) = place(of, vector);
    page[word] & bit != 0
}

pub(super) fn set(page: &mut [u32; REGISTERS], of: usize, vector: u8, to: bool) {
    let (word, bit) = place(of, vector);
    if to { page[word] |= bit } else { page[word] &= !bit }
}

pub(super) fn highest(page: &[u32; REGISTERS], of: usize) -> Option<u8> {
    (0..8u8).rev().find_map(|n| {
        let word = page[of + usize::from(n)];
        let bit = u8::try_from(word.checked_ilog2()?).ok()?;
        Some(n << 5 | bit)
    })
}

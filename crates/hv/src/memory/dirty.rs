//! Which pages were written.

use std::sync::atomic::{AtomicU64, Ordering};

use super::PAGE;

/// One bit for each page, set by whoever writes and taken by whoever saves.
#[derive(Debug)]
pub struct DirtyBitmap {
    words: Vec<AtomicU64>,
    pages: usize,
}

impl DirtyBitmap {
    pub(super) fn new(pages: usize) -> DirtyBitmap {
        let words = (0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        DirtyBitmap { words, pages }
    }

    /// How many pages there are.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Marks the pages of so many bytes from an offset of the mapping on.
    ///
    /// # Panics
    /// If they are not within the memory.
    #[inline]
    pub fn mark(&self, offset: usize, bytes: usize) {
        if bytes == 0 {
            return;
        }
        for page in offset / PAGE..=(offset + bytes - 1) / PAGE {
            let bit = 1 << (page % 64);
            let word = &self.words[page / 64];
            // Most pages that are written were written before; a look costs no cache line.
            if word.load(Ordering::Relaxed) & bit == 0 {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
    }

    /// Marks 64 pages at once, as the kernel's log has them; bits beyond the last page are none.
    ///
    /// # Panics
    /// If there are not so many pages.
    pub fn merge(&self, word: usize, bits: u64) {
        let beyond = (word + 1) * 64;
        let bits =
            if beyond > self.pages { bits & (u64::MAX >> (beyond - self.pages)) } else { bits };
        self.words[word].fetch_or(bits, Ordering::Relaxed);
    }

    /// Whether a page is marked.
    ///
    /// # Panics
    /// If there is no such page.
    pub fn is_marked(&self, page: usize) -> bool {
        self.words[page / 64].load(Ordering::Relaxed) & (1 << (page % 64)) != 0
    }

    /// The marked pages in ascending order; none is marked afterwards. Processors that go on
    /// without a look at their own caches of what is marked have to be told.
    pub fn take(&self) -> Vec<usize> {
        let mut pages = Vec::new();
        for (n, word) in self.words.iter().enumerate() {
            let mut bits = word.swap(0, Ordering::Relaxed);
            while bits != 0 {
                pages.push(n * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
        pages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_cover_what_was_written_and_are_taken_once() {
        let dirty = DirtyBitmap::new(130);
        dirty.mark(PAGE - 1, 2);
        dirty.mark(64 * PAGE, 0);
        dirty.mark(129 * PAGE + 5, 1);
        assert!(dirty.is_marked(1) && !dirty.is_marked(2));
        assert_eq!(dirty.take(), [0, 1, 129]);
        assert_eq!(dirty.take(), [0usize; 0]);
        dirty.merge(2, u64::MAX);
        assert_eq!(dirty.take(), [128, 129]);
    }
}

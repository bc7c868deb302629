//! Which pages were written.

use std::{
    fmt::Debug,
    ops::Range,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering, fence},
    },
};

use super::PAGE;

/// One bit for each page, set by whoever writes and taken by whoever saves.
///
/// Beside it stands which pages somebody keeps a digest of, such as instructions decoded once: the
/// first write to one of those is told to the [`Watcher`].
#[derive(Debug)]
pub struct DirtyBitmap {
    words: Vec<AtomicU64>,
    /// Which of them were marked at any time before they were taken.
    ever: Vec<AtomicU64>,
    watched: Vec<AtomicU64>,
    watcher: OnceLock<Arc<dyn Watcher>>,
    pages: usize,
}

/// Who is told of writes to watched pages.
pub trait Watcher: Debug + Send + Sync {
    /// A watched page was written; it is watched no more. Called after the write, by the thread
    /// that wrote and with whatever locks it holds: it should do no more than take note.
    fn written(&self, page: usize);
}

impl DirtyBitmap {
    pub(super) fn new(pages: usize) -> DirtyBitmap {
        let words = || (0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        DirtyBitmap {
            words: words(),
            ever: words(),
            watched: words(),
            watcher: OnceLock::new(),
            pages,
        }
    }

    /// Says who is told of writes to watched pages, once; gives whether nobody was before.
    pub fn set_watcher(&self, watcher: Arc<dyn Watcher>) -> bool {
        self.watcher.set(watcher).is_ok()
    }

    /// Watches a page until it is next written; gives whether it was not watched before. What is
    /// read of the page afterwards is either what stays there or followed by a word to the watcher.
    ///
    /// # Panics
    /// If there is no such page.
    pub fn watch(&self, page: usize) -> bool {
        let bit = 1 << (page % 64);
        self.watched[page / 64].fetch_or(bit, Ordering::SeqCst) & bit == 0
    }

    /// Whether a page is watched.
    ///
    /// # Panics
    /// If there is no such page.
    #[inline]
    pub fn is_watched(&self, page: usize) -> bool {
        self.watched[page / 64].load(Ordering::Relaxed) & (1 << (page % 64)) != 0
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
        let watcher = self.watcher.get();
        if watcher.is_some() {
            // What was written has to be seen by who watches the page from now on, or else the
            // watch has to be seen here.
            fence(Ordering::SeqCst);
        }
        for page in offset / PAGE..=(offset + bytes - 1) / PAGE {
            let bit = 1 << (page % 64);
            if let Some(watcher) = watcher
                && self.watched[page / 64].load(Ordering::Relaxed) & bit != 0
                && self.watched[page / 64].fetch_and(!bit, Ordering::SeqCst) & bit != 0
            {
                watcher.written(page);
            }
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
            self.ever[n].fetch_or(bits, Ordering::Relaxed);
            while bits != 0 {
                pages.push(n * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
        pages
    }

    /// Notes that pages differ from what the memory began as, without marking them.
    ///
    /// # Panics
    /// If they are not within the memory.
    pub(super) fn note(&self, offsets: Range<usize>) {
        for page in offsets.start / PAGE..offsets.end.div_ceil(PAGE) {
            self.ever[page / 64].fetch_or(1 << (page % 64), Ordering::Relaxed);
        }
    }

    /// Whether a page may differ from what the memory began as: one that was ever marked, taken
    /// meanwhile or not.
    ///
    /// # Panics
    /// If there is no such page.
    #[inline]
    pub fn was_ever(&self, page: usize) -> bool {
        let bits = self.words[page / 64].load(Ordering::Relaxed)
            | self.ever[page / 64].load(Ordering::Relaxed);
        bits & (1 << (page % 64)) != 0
    }

    /// Marks pages again that were taken, without a word to the watcher.
    ///
    /// # Panics
    /// If there is no such page.
    pub fn put_back(&self, pages: &[usize]) {
        for page in pages {
            self.words[page / 64].fetch_or(1 << (page % 64), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct Notes(Mutex<Vec<usize>>);

    impl Watcher for Notes {
        fn written(&self, page: usize) {
            self.0.lock().unwrap().push(page);
        }
    }

    #[test]
    fn a_watched_page_is_told_of_once() {
        let dirty = DirtyBitmap::new(70);
        let notes = Arc::new(Notes::default());
        assert!(dirty.set_watcher(notes.clone()));
        assert!(!dirty.set_watcher(notes.clone()));
        assert!(dirty.watch(65) && !dirty.watch(65) && dirty.is_watched(65));
        dirty.mark(64 * PAGE, 3 * PAGE);
        dirty.mark(65 * PAGE, 1);
        assert_eq!(*notes.0.lock().unwrap(), [65]);
        assert!(!dirty.is_watched(65) && dirty.watch(65));
        dirty.mark(65 * PAGE + 7, 1);
        assert_eq!(*notes.0.lock().unwrap(), [65, 65]);
    }

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
        dirty.put_back(&[3, 129]);
        assert_eq!(dirty.take(), [3, 128, 129]);
    }
}

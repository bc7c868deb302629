//! The software TLB: where pages are, as far as that was asked since the last flush.
//!
//! Direct-mapped. Each entry has a tag for each kind of access, so that a load or store is one
//! comparison; what a tag says yes to has been checked for privilege, and a page with the write
//! tag is marked dirty and holds no decoded instructions.

/// Entries; a power of two.
const ENTRIES: usize = 1024;

/// No page has this address.
const NONE: u64 = 1;

/// Bits below a page's number.
const PAGE_BITS: u32 = 12;

/// One page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Its linear address, if it can be read.
    pub(crate) read: u64,
    /// The same for writing.
    pub(crate) write: u64,
    /// The same for instructions.
    pub(crate) execute: u64,
    /// What leads from a linear address to the offset in guest memory, by wrapping addition.
    pub(crate) addend: u64,
}

const EMPTY: Entry = Entry { read: NONE, write: NONE, execute: NONE, addend: 0 };

/// What else is known of an entry.
#[derive(Clone, Copy, Debug, Default)]
struct Note {
    listed: bool,
    global: bool,
    large: bool,
}

/// What a translation found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fill {
    /// Linear address of the page.
    pub(crate) page: u64,
    /// Its offset in guest memory.
    pub(crate) offset: u64,
    /// It can be written and its dirty bits are set.
    pub(crate) write: bool,
    /// Instructions can be fetched.
    pub(crate) execute: bool,
    /// It stays over a change of cr3.
    pub(crate) global: bool,
    /// It is part of a large page.
    pub(crate) large: bool,
}

/// The TLB of one privilege: users' or the supervisor's.
#[derive(Debug)]
pub(crate) struct Tlb {
    entries: Box<[Entry; ENTRIES]>,
    notes: Box<[Note; ENTRIES]>,
    /// Which entries may be in use.
    filled: Vec<u16>,
}

impl Tlb {
    pub(crate) fn new() -> Tlb {
        Tlb {
            entries: Box::new([EMPTY; ENTRIES]),
            notes: Box::new([Note::default(); ENTRIES]),
            filled: Vec::with_capacity(ENTRIES),
        }
    }

    /// The entry at which an address's page would be.
    #[inline(always)]
    pub(crate) fn entry(&self, linear: u64) -> &Entry {
        &self.entries[index(linear)]
    }

    /// Takes in what a translation found.
    pub(crate) fn fill(&mut self, fill: &Fill) {
        let at = index(fill.page);
        let (entry, note) = (&mut self.entries[at], &mut self.notes[at]);
        let addend = fill.offset.wrapping_sub(fill.page);
        if entry.read != fill.page || entry.addend != addend {
            *entry = Entry { read: fill.page, addend, ..EMPTY };
        }
        if fill.write {
            entry.write = fill.page;
        }
        if fill.execute {
            entry.execute = fill.page;
        }
        if !note.listed {
            self.filled.push(u16::try_from(at).unwrap_or_default());
        }
        *note = Note { listed: true, global: fill.global, large: fill.large };
    }

    /// Forgets everything, or everything but global pages.
    pub(crate) fn flush(&mut self, keep_global: bool) {
        let (entries, notes) = (&mut self.entries, &mut self.notes);
        self.filled.retain(|&at| {
            let at = usize::from(at);
            let keep = keep_global && notes[at].global;
            if !keep {
                entries[at] = EMPTY;
                notes[at] = Note::default();
            }
            keep
        });
    }

    /// Forgets the page of an address; all large pages with it, one of which it may be in.
    pub(crate) fn flush_page(&mut self, linear: u64) {
        self.entries[index(linear)] = EMPTY;
        for &at in &self.filled {
            if self.notes[usize::from(at)].large {
                self.entries[usize::from(at)] = EMPTY;
            }
        }
    }

    /// Lets no page be written without another look.
    pub(crate) fn protect_all(&mut self) {
        for &at in &self.filled {
            self.entries[usize::from(at)].write = NONE;
        }
    }

    /// Lets the page at an offset of guest memory not be written without another look; gives
    /// whether it could be.
    pub(crate) fn protect(&mut self, offset: u64) -> bool {
        let mut was = false;
        for &at in &self.filled {
            let entry = &mut self.entries[usize::from(at)];
            if entry.write != NONE && entry.write.wrapping_add(entry.addend) == offset {
                entry.write = NONE;
                was = true;
            }
        }
        was
    }
}

#[inline(always)]
fn index(linear: u64) -> usize {
    (linear >> PAGE_BITS) as usize % ENTRIES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(page: u64, offset: u64) -> Fill {
        Fill { page, offset, write: true, execute: false, global: false, large: false }
    }

    #[test]
    fn what_was_flushed_is_gone_and_what_is_global_stays() {
        let mut tlb = Tlb::new();
        tlb.fill(&fill(0x5000, 0x1000));
        tlb.fill(&Fill { global: true, ..fill(0x6000, 0x2000) });
        assert_eq!(tlb.entry(0x5008).write, 0x5000);
        assert_eq!(tlb.entry(0x5008).addend.wrapping_add(0x5008), 0x1008);
        tlb.flush(true);
        assert_eq!((tlb.entry(0x5000).read, tlb.entry(0x6000).read), (NONE, 0x6000));
        tlb.flush(false);
        assert_eq!(tlb.entry(0x6000).read, NONE);
        assert!(tlb.filled.is_empty());
    }

    #[test]
    fn a_protected_page_is_found_by_where_it_is() {
        let mut tlb = Tlb::new();
        tlb.fill(&fill(0xffff_8000_0000_5000, 0x1000));
        tlb.fill(&fill(0x7000, 0x1000));
        assert!(tlb.protect(0x1000));
        assert!(!tlb.protect(0x1000));
        assert_eq!(tlb.entry(0x7000).write, NONE);
        assert_eq!(tlb.entry(0x7000).read, 0x7000);
    }

    #[test]
    fn pages_of_one_slot_replace_each_other() {
        let mut tlb = Tlb::new();
        tlb.fill(&fill(0x5000, 0x1000));
        tlb.fill(&Fill { write: false, ..fill(0x5000 + (ENTRIES << 12) as u64, 0x3000) });
        assert_eq!(tlb.entry(0x5000).read, 0x5000 + (ENTRIES << 12) as u64);
        assert_eq!(tlb.entry(0x5000).write, NONE);
        assert_eq!(tlb.filled.len(), 1);
    }
}

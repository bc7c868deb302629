//! Which parts of memory a snapshot holds, and which of several snapshots holds a part.
//!
//! Pure.

use std::ops::Range;

use hv::memory::PAGE;

/// Most runs of pages of one snapshot. When more were written apart from each other, the pages
/// between the nearest of them are stored with them.
pub(super) const RUNS_MAX: usize = 1 << 16;

/// Runs of pages as a description has them: first page and how many.
pub(super) type Pages = Vec<(usize, usize)>;

/// A part of memory, and which snapshot of a chain holds it: 1 is that which goes back to the one
/// that holds everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) by: usize,
    pub(super) range: Range<usize>,
}

/// Pages in ascending order as at most so many runs.
pub(super) fn runs(pages: &[usize], most: usize) -> Pages {
    let mut runs = joined(pages.iter().map(|page| (*page, 1)), 0);
    let mut gap = 1;
    while runs.len() > most {
        runs = joined(runs.into_iter(), gap);
        gap *= 2;
    }
    runs
}

/// Runs that are at most so many pages apart become one.
fn joined(runs: impl Iterator<Item = (usize, usize)>, gap: usize) -> Pages {
    let mut all: Pages = Vec::new();
    for (first, count) in runs {
        match all.last_mut() {
            Some((start, pages)) if first - (*start + *pages) <= gap => {
                *pages = first + count - *start;
            }
            _ => all.push((first, count)),
        }
    }
    all
}

/// The offsets of runs, if they are runs of a memory of so many bytes: in ascending order, none
/// empty, none touching another.
pub(super) fn offsets(pages: &[(usize, usize)], bytes: usize) -> Option<Vec<Range<usize>>> {
    if pages.len() > RUNS_MAX {
        return None;
    }
    let mut free = 0;
    let offset = |(first, count): &(usize, usize)| {
        let end = first.checked_add(*count)?;
        if *count == 0 || *first < free || end > bytes / PAGE {
            return None;
        }
        free = end + 1;
        Some(first * PAGE..end * PAGE)
    };
    pages.iter().map(offset).collect()
}

/// Who holds which part when one snapshot more goes over those of a chain.
pub(super) fn over(below: Vec<Held>, by: usize, runs: &[Range<usize>]) -> Vec<Held> {
    let mut held = Vec::with_capacity(below.len() + runs.len());
    for Held { by, range } in below {
        let mut start = range.start;
        let first = runs.partition_point(|run| run.end <= start);
        for run in runs[first..].iter().take_while(|run| run.start < range.end) {
            if start < run.start {
                held.push(Held { by, range: start..run.start });
            }
            start = run.end;
        }
        if start < range.end {
            held.push(Held { by, range: start..range.end });
        }
    }
    held.extend(runs.iter().map(|range| Held { by, range: range.clone() }));
    held.sort_unstable_by_key(|held| held.range.start);
    held
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_set, prelude::*};

    use super::*;

    /// Memory of the tests.
    const PAGES: usize = 64;

    proptest! {
        #[test]
        fn runs_hold_all_pages_and_are_as_few_as_wanted(
            pages in btree_set(0..PAGES, 0..PAGES),
            most in 1..8usize,
        ) {
            let pages: Vec<usize> = pages.into_iter().collect();
            let exact = runs(&pages, PAGES);
            let all: Vec<usize> =
                exact.iter().flat_map(|(first, count)| *first..first + count).collect();
            prop_assert_eq!(&all, &pages);
            let few = runs(&pages, most);
            prop_assert!(few.len() <= most);
            for run in [exact, few] {
                let offsets = offsets(&run, PAGES * PAGE).unwrap();
                let within = |page: &usize| offsets.iter().any(|run| run.contains(&(page * PAGE)));
                prop_assert!(pages.iter().all(within));
            }
        }

        #[test]
        fn what_is_no_list_of_runs_is_refused(
            pages in prop::collection::vec((any::<usize>(), any::<usize>()), 0..4),
            small in prop::collection::vec((0..PAGES, 0..PAGES), 0..4),
        ) {
            for pages in [pages, small] {
                let Some(offsets) = offsets(&pages, PAGES * PAGE) else { continue };
                let mut free = 0;
                for range in offsets {
                    prop_assert!(free <= range.start && range.start < range.end);
                    free = range.end;
                }
                prop_assert!(free <= PAGES * PAGE);
            }
        }

        #[test]
        fn the_last_snapshot_that_wrote_a_page_holds_it(
            layers in prop::collection::vec(btree_set(0..PAGES, 0..PAGES), 0..6),
        ) {
            let mut wanted = [0; PAGES];
            let mut held = Vec::new();
            for (by, pages) in (1..).zip(&layers) {
                let pages: Vec<usize> = pages.iter().copied().collect();
                pages.iter().for_each(|page| wanted[*page] = by);
                let runs = offsets(&runs(&pages, PAGES), PAGES * PAGE).unwrap();
                held = over(held, by, &runs);
            }
            let mut found = [0; PAGES];
            let mut free = 0;
            for Held { by, range } in held {
                prop_assert!(free <= range.start && range.start < range.end);
                free = range.end;
                found[range.start / PAGE..range.end / PAGE].fill(by);
            }
            prop_assert_eq!(found, wanted);
        }
    }
}

//! Memory that is put together from several files.

use std::{fs::File, io, ops::Range, os::fd::AsFd as _};

use super::{PAGE, map::Mapping};

/// Most parts that are mapped. A process has at most 65,530 mappings (Linux, `vm.max_map_count`),
/// and each takes the kernel about as long as copying a page.
pub const PARTS_MAPPED_MAX: usize = 1024;

/// A part of guest memory that stands in a file, at the offset at which it is in memory.
#[derive(Clone, Debug)]
pub struct Part<'a> {
    /// The file.
    pub file: &'a File,
    /// Which offsets; they begin and end at pages.
    pub range: Range<usize>,
}

/// All of a file's memory from `at` on.
pub(super) fn whole(file: &File, at: u64, bytes: usize) -> io::Result<Mapping> {
    long_enough(file, at.saturating_add(bytes as u64))?;
    Mapping::private(file, at, bytes)
}

/// Puts parts over what is mapped, in their order.
pub(super) fn put(mapping: &mut Mapping, parts: &[Part<'_>]) -> io::Result<()> {
    let mapped_from = shortest_mapped(parts);
    for Part { file, range } in parts {
        check(range, mapping.bytes())?;
        long_enough(file, range.end as u64)?;
        if range.len() >= mapped_from {
            mapping.put(file, range.clone())?;
        } else {
            copy(mapping, file, range)?;
        }
    }
    Ok(())
}

/// How long a part has to be to be mapped, so that not too many are.
fn shortest_mapped(parts: &[Part<'_>]) -> usize {
    let mut lengths: Vec<usize> = parts.iter().map(|part| part.range.len()).collect();
    if lengths.len() <= PARTS_MAPPED_MAX {
        return 0;
    }
    lengths.sort_unstable_by(|one, other| other.cmp(one));
    lengths[PARTS_MAPPED_MAX].saturating_add(1)
}

fn check(range: &Range<usize>, bytes: usize) -> io::Result<()> {
    let pages = range.start.is_multiple_of(PAGE) && range.end.is_multiple_of(PAGE);
    if range.start < range.end && range.end <= bytes && pages {
        return Ok(());
    }
    let why = format!("{range:?} are no pages of {bytes} bytes of memory");
    Err(io::Error::new(io::ErrorKind::InvalidData, why))
}

/// A page of a mapping that its file does not have would end the process that touches it.
fn long_enough(file: &File, bytes: u64) -> io::Result<()> {
    let found = file.metadata()?.len();
    if found >= bytes {
        return Ok(());
    }
    let why = format!("the file has {found} bytes, and the memory in it ends at {bytes}");
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, why))
}

fn copy(mapping: &Mapping, file: &File, range: &Range<usize>) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        match mapping.read_from(file.as_fd(), at as u64, at, range.end - at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => at += bytes,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::GuestMemory;

    /// A file of so many pages of one byte.
    fn file(byte: u8, pages: usize) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![byte; pages * PAGE]).unwrap();
        file
    }

    fn part(file: &File, pages: Range<usize>) -> Part<'_> {
        Part { file, range: pages.start * PAGE..pages.end * PAGE }
    }

    fn pages(memory: &GuestMemory) -> Vec<u8> {
        (0..memory.bytes() / PAGE).map(|page| memory.get(page * PAGE + 7)).collect()
    }

    #[test]
    fn the_last_part_counts_and_what_is_written_stays_in_memory() {
        let (base, one, other) = (file(1, 8), file(2, 6), file(3, 8));
        let parts = [part(&one, 1..5), part(&other, 2..3), part(&other, 7..8)];
        let restore = || {
            let base = base.try_clone().unwrap();
            GuestMemory::restore_parts(base, 8 * PAGE as u64, &parts).unwrap()
        };
        let memory = restore();
        assert_eq!(pages(&memory), [1, 2, 3, 2, 2, 1, 1, 3]);
        memory.fill(0, 9, 8 * PAGE).unwrap();
        assert_eq!(pages(&restore()), [1, 2, 3, 2, 2, 1, 1, 3]);
        memory.discard(0, 8 * PAGE).unwrap();
        assert_eq!(pages(&memory), [1, 2, 3, 2, 2, 1, 1, 3]);
    }

    #[test]
    fn more_parts_than_can_be_mapped_are_copied() {
        let all = 2 * PARTS_MAPPED_MAX + 8;
        let (base, over) = (file(1, all), file(2, all));
        let mut parts: Vec<_> =
            (0..PARTS_MAPPED_MAX + 2).map(|n| part(&over, 2 * n..2 * n + 1)).collect();
        parts.push(part(&over, all - 2..all));
        assert_eq!(shortest_mapped(&parts[..PARTS_MAPPED_MAX]), 0);
        assert_eq!(shortest_mapped(&parts), PAGE + 1, "only the long one is mapped");
        let memory = GuestMemory::restore_parts(base, (all * PAGE) as u64, &parts).unwrap();
        let wanted: Vec<u8> = (0..all)
            .map(|n| {
                if n >= all - 2 || n.is_multiple_of(2) && n < 2 * PARTS_MAPPED_MAX + 4 {
                    2
                } else {
                    1
                }
            })
            .collect();
        assert_eq!(pages(&memory), wanted);
        assert_eq!(memory.dirty().take(), [0usize; 0], "nobody has written yet");
    }

    #[test]
    fn a_part_that_is_none_is_refused() {
        let (base, over) = (file(1, 8), file(2, 4));
        let refused = |range: Range<usize>| {
            let part = Part { file: &over, range };
            let base = base.try_clone().unwrap();
            GuestMemory::restore_parts(base, 8 * PAGE as u64, &[part]).unwrap_err().kind()
        };
        assert_eq!(refused(3 * PAGE..5 * PAGE), io::ErrorKind::UnexpectedEof);
        for range in [1..PAGE, 0..1, 0..0, 8 * PAGE..9 * PAGE, 0..usize::MAX] {
            assert_eq!(refused(range.clone()), io::ErrorKind::InvalidData, "{range:?}");
        }
    }
}

//! Which parts of guest memory may hold anything but zeros, for who saves it.

use std::{io, ops::Range};

use rustix::{fs::SeekFrom, io::Errno};

use super::{GuestMemory, PAGE};

impl GuestMemory {
    /// The parts of the mapping, as offsets in ascending order, that may differ from zero: those
    /// that its file has, and of memory that was restored those that were written since.
    ///
    /// To read the rest would make the host hold pages of zeros for it.
    ///
    /// # Errors
    /// Those of lseek(2).
    ///
    /// Source: lseek(2), `SEEK_DATA`, on tmpfs since Linux 3.8.
    pub fn written(&self) -> io::Result<Vec<Range<usize>>> {
        let in_file = self.in_file()?;
        if !self.0.mapping.is_private() {
            return Ok(in_file);
        }
        let mut pages: Vec<bool> =
            (0..self.bytes() / PAGE).map(|page| self.dirty().was_ever(page)).collect();
        for part in in_file {
            pages[part.start / PAGE..part.end.div_ceil(PAGE)].fill(true);
        }
        Ok(runs(&pages))
    }

    /// The parts that its file has.
    fn in_file(&self) -> io::Result<Vec<Range<usize>>> {
        let (first, bytes) = (self.0.at, self.bytes());
        let offset = |at: u64| usize::try_from(at - first).unwrap_or(usize::MAX).min(bytes);
        let mut parts = Vec::new();
        let mut at = first;
        while let Some(start) = seek(&self.0.file, SeekFrom::Data(at))? {
            let end = seek(&self.0.file, SeekFrom::Hole(start))?.unwrap_or(start);
            if end <= start || offset(start) >= bytes {
                break;
            }
            parts.push(offset(start)..offset(end));
            at = end;
        }
        Ok(parts)
    }
}

/// Runs of pages, as offsets.
fn runs(pages: &[bool]) -> Vec<Range<usize>> {
    let mut at = 0;
    let mut runs = Vec::new();
    for run in pages.chunk_by(|one, next| one == next) {
        let end = at + run.len() * PAGE;
        if run[0] {
            runs.push(at..end);
        }
        at = end;
    }
    runs
}

/// Where the next data or hole begins; `None` behind the last data.
fn seek(file: &std::fs::File, to: SeekFrom) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, to) {
        Ok(at) => Ok(Some(at)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Part;

    #[test]
    fn only_what_was_written_is_there() {
        let memory = GuestMemory::new(64 * PAGE as u64).unwrap();
        assert_eq!(memory.written().unwrap(), []);
        memory.store(3 * PAGE as u64 + 5, 1u8).unwrap();
        memory.fill(9 * PAGE as u64, 1, 2 * PAGE).unwrap();
        memory.store(64 * PAGE as u64 - 1, 1u8).unwrap();
        let pages = |range: &Range<usize>| (range.start / PAGE, range.end / PAGE);
        let written: Vec<_> = memory.written().unwrap().iter().map(pages).collect();
        assert_eq!(written, [(3, 4), (9, 11), (63, 64)]);
        let file = || std::fs::File::from(memory.file().try_clone_to_owned().unwrap());
        let restored = GuestMemory::restore(file(), 0, 64 * PAGE as u64).unwrap();
        restored.store(20 * PAGE as u64, 1u8).unwrap();
        assert_eq!(restored.dirty().take(), [20]);
        restored.store(4 * PAGE as u64, 1u8).unwrap();
        let all: Vec<_> = restored.written().unwrap().iter().map(pages).collect();
        assert_eq!(all, [(3, 5), (9, 11), (20, 21), (63, 64)]);
        let part = GuestMemory::restore(file(), 8 * PAGE as u64, 4 * PAGE as u64).unwrap();
        let of_it: Vec<_> = part.written().unwrap().iter().map(pages).collect();
        assert_eq!(of_it, [(1, 3)]);
    }

    #[test]
    fn what_came_from_several_files_is_there() {
        let other = GuestMemory::new(8 * PAGE as u64).unwrap();
        other.fill(5 * PAGE as u64, 1, PAGE).unwrap();
        let file =
            |memory: &GuestMemory| std::fs::File::from(memory.file().try_clone_to_owned().unwrap());
        let parts = [Part { file: &file(&other), range: 5 * PAGE..6 * PAGE }];
        let first = file(&GuestMemory::new(8 * PAGE as u64).unwrap());
        let memory = GuestMemory::restore_parts(first, 8 * PAGE as u64, &parts).unwrap();
        let written = memory.written().unwrap();
        assert_eq!((written.len(), &written[0]), (1, &(5 * PAGE..6 * PAGE)));
    }
}

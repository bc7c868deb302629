//! Which parts of guest memory may hold anything but zeros, for who saves it.

use std::{io, ops::Range};

use rustix::{fs::SeekFrom, io::Errno};

use super::GuestMemory;

impl GuestMemory {
    /// The parts of the mapping, as offsets in ascending order, that may differ from zero: those
    /// that the host holds pages for. Of memory that was restored that is all of it.
    ///
    /// To read the rest would make the host hold pages of zeros for it.
    ///
    /// # Errors
    /// Those of lseek(2).
    ///
    /// Source: lseek(2), `SEEK_DATA`, on tmpfs since Linux 3.8.
    pub fn written(&self) -> io::Result<Vec<Range<usize>>> {
        if self.0.mapping.is_private() {
            return Ok(vec![Range { start: 0, end: self.bytes() }]);
        }
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(start) = seek(&self.0.file, SeekFrom::Data(at))? {
            let end = seek(&self.0.file, SeekFrom::Hole(start))?.unwrap_or(start);
            if end <= start {
                break;
            }
            let offset = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(self.bytes());
            parts.push(offset(start)..offset(end));
            at = end;
        }
        Ok(parts)
    }
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
    use crate::memory::PAGE;

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
        let file = std::fs::File::from(memory.file().try_clone_to_owned().unwrap());
        let restored = GuestMemory::restore(file, 0, 64 * PAGE as u64).unwrap();
        let all: Vec<_> = restored.written().unwrap().iter().map(pages).collect();
        assert_eq!(all, [(0, 64)]);
    }
}

//! A file that is read as memory is.

use std::{fs::File, io};

use super::{access::Scalar, map::Mapping};

/// The bytes of a file, which all who look at it share.
#[derive(Debug)]
pub struct FileView(Mapping);

impl FileView {
    /// Looks at the whole of a file. It is not to become shorter: reading what is gone ends the
    /// process, as with every mapping (mmap(2), `SIGBUS`).
    ///
    /// # Errors
    /// Those of mmap(2) and fstat(2); `InvalidData` for a file of no bytes.
    pub fn open(file: &File) -> io::Result<FileView> {
        let bytes = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        if bytes == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty"));
        }
        Ok(FileView(Mapping::private(file, 0, bytes)?))
    }

    /// The value at an offset, whose bytes may lie anywhere, if all of them are there.
    #[inline(always)]
    pub fn get<T: Scalar>(&self, offset: usize) -> Option<T> {
        let end = offset.checked_add(size_of::<T>())?;
        (end <= self.0.bytes()).then(|| self.0.get(offset))
    }

    /// Copies bytes from an offset on; gives whether all of them are there.
    pub fn read(&self, offset: usize, to: &mut [u8]) -> bool {
        let there = offset.checked_add(to.len()).is_some_and(|end| end <= self.0.bytes());
        if there {
            self.0.copy_out(offset, to);
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_is_there_is_read_and_what_is_not_is_none() {
        let mut file = tempfile::tempfile().unwrap();
        assert!(FileView::open(&file).is_err());
        file.write_all(b"wythe").unwrap();
        let view = FileView::open(&file).unwrap();
        let mut bytes = [0; 3];
        assert!(view.read(2, &mut bytes) && bytes == *b"the");
        assert!(!view.read(3, &mut bytes) && !view.read(usize::MAX, &mut bytes));
        assert_eq!(view.get::<u32>(1), Some(u32::from_le_bytes(*b"ythe")));
        assert_eq!((view.get::<u32>(2), view.get::<u8>(usize::MAX)), (None, None));
    }
}

//! A tar archive as a file system.

use std::io::{self, BufRead, Read};

use archive::{
    Entry, EntryKind,
    tar::{Archive, TarError},
};

use crate::{Disk, FillError, Filling, Node};

/// Why an archive did not become a file system.
#[derive(Debug, thiserror::Error)]
pub enum TarFillError {
    /// The archive could not be read, or is malformed.
    #[error("cannot read the archive")]
    Tar(#[source] TarError),
    /// What is in it could not be put on the disk.
    #[error(transparent)]
    Fill(#[from] FillError),
}

impl<D: Disk> Filling<D> {
    /// Puts everything in an archive on the disk. Every directory comes before what is in it, and
    /// no path twice; what came first is what further names of it are made of.
    ///
    /// # Errors
    /// [`TarFillError`]; the disk is of no use then.
    pub fn add_tar<R: BufRead>(&mut self, archive: &mut Archive<R>) -> Result<(), TarFillError> {
        while let Some(entry) = archive.next_entry().map_err(TarFillError::Tar)? {
            self.add_entry(&entry, archive)?;
        }
        Ok(())
    }

    fn add_entry<R: BufRead>(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<R>,
    ) -> Result<(), TarFillError> {
        let path = &entry.path;
        let node = match &entry.kind {
            EntryKind::HardLink(target) => return Ok(self.link(path, target)?),
            EntryKind::File { size, segments } => {
                let mut data = Data { archive, error: None };
                let (size, segments, content) = (*size, segments.as_deref(), &mut data);
                let node = Node::File { size, segments, content };
                let added = self.add(path, &entry.attributes, node);
                return match data.error {
                    Some(error) => Err(TarFillError::Tar(error)),
                    None => Ok(added?),
                };
            }
            EntryKind::Symlink(target) => Node::Symlink(target),
            EntryKind::Directory => Node::Directory,
            EntryKind::Device(device) => Node::Device(*device),
            EntryKind::Fifo => Node::Fifo,
        };
        Ok(self.add(path, &entry.attributes, node)?)
    }
}

/// An entry's data.
struct Data<'a, R> {
    archive: &'a mut Archive<R>,
    error: Option<TarError>,
}

impl<R: BufRead> Read for Data<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        match self.archive.chunk_up_to(into.len() as u64) {
            Ok(chunk) => {
                let chunk = chunk.unwrap_or_default();
                into.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
                Ok(chunk.len())
            }
            Err(error) => {
                self.error = Some(error);
                Err(io::ErrorKind::Other.into())
            }
        }
    }
}

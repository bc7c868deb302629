//! What the guest has open.

use std::{collections::HashMap, fs::File, os::fd::OwnedFd, sync::Arc};

use rustix::io::Errno;

/// A directory that is being read.
#[derive(Debug)]
pub(super) struct OpenDirectory {
    pub(super) descriptor: OwnedFd,
    /// Where the next read goes on without being told.
    pub(super) at: u64,
}

#[derive(Debug)]
enum Handle {
    File(Arc<File>),
    Directory(OpenDirectory),
}

/// Everything that is open, by numbers that are never used twice.
#[derive(Debug)]
pub(super) struct Handles {
    open: HashMap<u64, Handle>,
    next: u64,
    most: usize,
}

impl Handles {
    pub(super) fn new(most: usize) -> Handles {
        Handles { open: HashMap::new(), next: 1, most }
    }

    pub(super) fn clear(&mut self) {
        self.open.clear();
    }

    /// Whether one more may be opened.
    pub(super) fn check_room(&self) -> Result<(), Errno> {
        if self.open.len() < self.most { Ok(()) } else { Err(Errno::MFILE) }
    }

    fn add(&mut self, handle: Handle) -> Result<u64, Errno> {
        self.check_room()?;
        let number = self.next;
        self.next += 1;
        self.open.insert(number, handle);
        Ok(number)
    }

    pub(super) fn add_file(&mut self, file: File) -> Result<u64, Errno> {
        self.add(Handle::File(Arc::new(file)))
    }

    pub(super) fn add_directory(&mut self, descriptor: OwnedFd) -> Result<u64, Errno> {
        self.add(Handle::Directory(OpenDirectory { descriptor, at: 0 }))
    }

    pub(super) fn file(&self, number: u64) -> Result<Arc<File>, Errno> {
        match self.open.get(&number) {
            Some(Handle::File(file)) => Ok(Arc::clone(file)),
            Some(Handle::Directory(_)) => Err(Errno::ISDIR),
            None => Err(Errno::BADF),
        }
    }

    pub(super) fn directory(&mut self, number: u64) -> Result<&mut OpenDirectory, Errno> {
        match self.open.get_mut(&number) {
            Some(Handle::Directory(directory)) => Ok(directory),
            Some(Handle::File(_)) => Err(Errno::NOTDIR),
            None => Err(Errno::BADF),
        }
    }

    pub(super) fn release(&mut self, number: u64) -> Result<(), Errno> {
        self.open.remove(&number).map(drop).ok_or(Errno::BADF)
    }
}

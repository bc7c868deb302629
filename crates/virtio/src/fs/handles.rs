//! What the guest has open.

use std::{collections::BTreeMap, fs::File, os::fd::OwnedFd, sync::Arc};

use rustix::{fs::OFlags, io::Errno};
use serde::{Deserialize, Serialize};

/// A directory that is being read.
#[derive(Debug)]
pub(super) struct OpenDirectory {
    pub(super) descriptor: OwnedFd,
    /// Where the next read goes on without being told.
    pub(super) at: u64,
}

#[derive(Debug)]
enum Open {
    File(Arc<File>),
    Directory(OpenDirectory),
}

#[derive(Debug)]
struct Handle {
    open: Open,
    node: u64,
    flags: u32,
}

/// What is saved of a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) handle: u64,
    pub(super) node: u64,
    /// Those of open(2), of the host's.
    pub(super) flags: u32,
    pub(super) directory: bool,
}

/// Everything that is open, by numbers that are never used twice.
#[derive(Debug)]
pub(super) struct Handles {
    open: BTreeMap<u64, Handle>,
    next: u64,
    most: usize,
}

impl Handles {
    pub(super) fn new(most: usize) -> Handles {
        Handles { open: BTreeMap::new(), next: 1, most }
    }

    pub(super) fn clear(&mut self) {
        self.open.clear();
    }

    /// Closes what is of other inodes than these.
    pub(super) fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        self.open.retain(|_, handle| keep(handle.node));
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

    /// A file of this inode that was opened with these flags.
    pub(super) fn add_file(&mut self, file: File, node: u64, flags: OFlags) -> Result<u64, Errno> {
        // What it did when it was opened, it does not do again.
        let flags = (flags - OFlags::TRUNC).bits();
        self.add(Handle { open: Open::File(Arc::new(file)), node, flags })
    }

    pub(super) fn add_directory(&mut self, descriptor: OwnedFd, node: u64) -> Result<u64, Errno> {
        let open = Open::Directory(OpenDirectory { descriptor, at: 0 });
        self.add(Handle { open, node, flags: 0 })
    }

    /// Has the handle that was added last be known by another number, as it was before a save.
    pub(super) fn renumber(&mut self, handle: u64) {
        if let Some((_, last)) = self.open.pop_last() {
            self.open.insert(handle, last);
        }
        self.next = self.next.max(handle.saturating_add(1));
    }

    pub(super) fn saved(&self) -> Vec<Saved> {
        let saved = |(number, handle): (&u64, &Handle)| Saved {
            handle: *number,
            node: handle.node,
            flags: handle.flags,
            directory: matches!(handle.open, Open::Directory(_)),
        };
        self.open.iter().map(saved).collect()
    }

    pub(super) fn file(&self, number: u64) -> Result<Arc<File>, Errno> {
        match self.open.get(&number).map(|handle| &handle.open) {
            Some(Open::File(file)) => Ok(Arc::clone(file)),
            Some(Open::Directory(_)) => Err(Errno::ISDIR),
            None => Err(Errno::BADF),
        }
    }

    pub(super) fn directory(&mut self, number: u64) -> Result<&mut OpenDirectory, Errno> {
        match self.open.get_mut(&number).map(|handle| &mut handle.open) {
            Some(Open::Directory(directory)) => Ok(directory),
            Some(Open::File(_)) => Err(Errno::NOTDIR),
            None => Err(Errno::BADF),
        }
    }

    pub(super) fn release(&mut self, number: u64) -> Result<(), Errno> {
        self.open.remove(&number).map(drop).ok_or(Errno::BADF)
    }
}

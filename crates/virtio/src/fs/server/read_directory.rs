//! Directories: what is in them, with or without attributes.

use std::{
    ffi::{CStr, CString},
    mem::MaybeUninit,
};

use rustix::{
    fs::{FileType, OFlags, RawDir, SeekFrom, seek},
    io::Errno,
};

use super::{Server, reopen};
use crate::fs::{
    inodes::{ROOT, look},
    wire::{Args, DIRENT, ENTRY},
};

/// Bytes of entries that are read at once.
const READ_BYTES: usize = 16 << 10;

/// An entry as the kernel gives it.
struct Entry {
    name: CString,
    ino: u64,
    kind: FileType,
    /// Where to go on after it.
    next: u64,
}

impl Server {
    pub(super) fn open_directory(&mut self, node: u64) -> Result<(), Errno> {
        self.handles.check_room()?;
        let descriptor = self.inodes.get(node)?;
        let directory = reopen(&descriptor, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let handle = self.handles.add_directory(directory, node)?;
        self.reply.opened(handle);
        Ok(())
    }

    /// `struct fuse_read_in`: as many entries as there is room for, from the offset on. With
    /// attributes (`plus`), each of them counts as looked up.
    pub(super) fn read_directory(
        &mut self,
        node: u64,
        mut args: Args<'_>,
        plus: bool,
    ) -> Result<(), Errno> {
        let (handle, offset, size) = (args.u64()?, args.u64()?, args.u32()?);
        let mut room = usize::try_from(size).unwrap_or(usize::MAX).min(self.reply.left());
        let directory = self.handles.directory(handle)?;
        if directory.at != offset || offset == 0 {
            seek(&directory.descriptor, SeekFrom::Start(offset))?;
            directory.at = offset;
        }
        loop {
            let entries = self.entries(handle)?;
            if entries.is_empty() {
                return Ok(());
            }
            for entry in entries {
                let fixed = if plus { ENTRY + DIRENT } else { DIRENT };
                let bytes = (fixed + entry.name.count_bytes()).next_multiple_of(8);
                let Some(left) = room.checked_sub(bytes) else {
                    // The kernel has read on; the next read goes back to what did not fit.
                    self.handles.directory(handle)?.at = u64::MAX;
                    return Ok(());
                };
                if self.admits(node, &entry.name) || is_dots(&entry.name) {
                    self.put_entry(node, &entry, plus);
                    room = left;
                }
                self.handles.directory(handle)?.at = entry.next;
            }
        }
    }

    fn entries(&mut self, handle: u64) -> Result<Vec<Entry>, Errno> {
        let directory = self.handles.directory(handle)?;
        let mut buffer = [MaybeUninit::uninit(); READ_BYTES];
        let mut raw = RawDir::new(&directory.descriptor, &mut buffer);
        let mut entries = Vec::new();
        while let Some(entry) = raw.next() {
            let entry = entry?;
            entries.push(Entry {
                name: entry.file_name().to_owned(),
                ino: entry.ino(),
                kind: entry.file_type(),
                next: entry.next_entry_cookie(),
            });
            if raw.is_buffer_empty() {
                break;
            }
        }
        Ok(entries)
    }

    fn put_entry(&mut self, node: u64, entry: &Entry, plus: bool) {
        if plus && (is_dots(&entry.name) || self.put_known(node, &entry.name).is_err()) {
            // Number 0: the guest looks it up by itself when it wants it.
            self.reply.zeros(ENTRY);
        }
        let ino = if node == ROOT && entry.name.as_c_str() == c".." {
            // What is above the root is not for the guest.
            ROOT
        } else {
            entry.ino
        };
        // The kernel's DT_ values are the kinds of a mode, four bits lower down.
        let kind = entry.kind.as_raw_mode() >> 12;
        self.reply.dirent(ino, entry.next, kind, &entry.name);
    }

    /// Puts the attributes of an entry, which the guest knows from then on.
    fn put_known(&mut self, parent: u64, name: &CStr) -> Result<(), Errno> {
        let descriptor = self.inodes.find(parent, name)?;
        let at = look(&descriptor)?;
        let node = self.know(parent, name, descriptor, &at)?;
        let ino = self.inodes.ino(&at);
        self.reply.entry(node, self.valid, ino, &at);
        Ok(())
    }
}

fn is_dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

//! Open files: their bytes, their ends, their gaps.

use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::FileExt as _},
    sync::Arc,
};

use rustix::{
    fs::{
        CWD, FallocateFlags, Mode, OFlags, SeekFrom, chmodat, copy_file_range, fallocate,
        fdatasync, fsync, syncfs,
    },
    io::{Errno, IoSlice, ReadWriteFlags, dup, pwritev2},
};

use super::{IO_BYTES_MAX, Server, is_file, reopen};
use crate::fs::{
    inodes::{ROOT, look},
    watch::Touched,
    wire::Args,
};

/// Flag of `OPEN` and `WRITE`: privileges of the file are dropped.
/// Source: fuse.h, `FUSE_OPEN_KILL_SUIDGID`, `FUSE_WRITE_KILL_SUIDGID`.
const OPEN_KILL: u32 = 1;
const WRITE_KILL: u32 = 1 << 2;

/// Flag of `WRITE`: the page cache writes, not a program. Source: fuse.h, `FUSE_WRITE_CACHE`.
const WRITE_CACHE: u32 = 1;

/// Flag of `FSYNC`: the contents alone. Source: fuse.h, `FUSE_FSYNC_FDATASYNC`.
const DATA_ONLY: u32 = 1;

/// Most bytes that are copied by one request, so that the next one has not to wait for long.
const COPY_BYTES_MAX: usize = 64 << 20;

/// The flags with which a file is opened on the host: of those that the guest gives, the ones that
/// mean something there. Its kernel has looked at permissions, links and locks; direct I/O is of
/// its page cache, and our buffers are not aligned; that it appends, each write says.
pub(super) fn open_flags(flags: u32) -> Result<OFlags, Errno> {
    let flags = OFlags::from_bits_retain(flags);
    let kept = OFlags::TRUNC | OFlags::SYNC | OFlags::DSYNC;
    let access = flags & OFlags::RWMODE;
    if access == OFlags::RWMODE {
        return Err(Errno::INVAL);
    }
    // Nothing that is opened for reading alone is emptied by it.
    let kept = if access == OFlags::RDONLY { kept - OFlags::TRUNC } else { kept };
    Ok(access | flags & kept)
}

/// Takes set-user-id and, where the group may execute, set-group-id away.
///
/// Source: Linux, `should_remove_suid`.
pub(super) fn drop_privileges(descriptor: impl AsFd) -> Result<(), Errno> {
    let at = look(&descriptor)?;
    let mode = u32::from(at.stx_mode) & 0o7777;
    let kept = mode & !0o4000;
    let kept = if kept & 0o010 != 0 { kept & !0o2000 } else { kept };
    if !is_file(&at) || kept == mode {
        return Ok(());
    }
    let path = super::by_descriptor(&descriptor)?;
    chmodat(CWD, path, Mode::from_raw_mode(kept), rustix::fs::AtFlags::empty())
}

impl Server {
    /// `struct fuse_open_in`.
    pub(super) fn open(&mut self, node: u64, mut args: Args<'_>) -> Result<(), Errno> {
        let (flags, more) = (args.u32()?, args.u32()?);
        let flags = open_flags(flags)?;
        if self.read_only && flags.intersects(OFlags::RWMODE) {
            return Err(Errno::ROFS);
        }
        self.handles.check_room()?;
        let descriptor = self.inodes.get(node)?;
        // Pipes and devices are the guest's own; to open one here could wait for ever.
        let at = look(&*descriptor)?;
        if !is_file(&at) {
            return Err(if super::is_directory(&at) { Errno::ISDIR } else { Errno::NXIO });
        }
        if flags.contains(OFlags::TRUNC) {
            self.touch(|| Touched::Descriptor(Arc::clone(&descriptor)));
            if more & OPEN_KILL != 0 {
                drop_privileges(&*descriptor)?;
            }
        }
        let file = reopen(&descriptor, flags)?;
        let handle = self.handles.add_file(File::from(file), node, flags)?;
        self.reply.opened(handle);
        Ok(())
    }

    /// `struct fuse_read_in`.
    pub(super) fn read(&mut self, mut args: Args<'_>) -> Result<(), Errno> {
        let (handle, offset, size) = (args.u64()?, args.u64()?, args.u32()?);
        let file = self.handles.file(handle)?;
        let size = usize::try_from(size).unwrap_or(usize::MAX).min(IO_BYTES_MAX);
        let size = size.min(self.reply.left());
        let read = self.reply.fill(size, |to| {
            let mut done = 0;
            while done < to.len() {
                let at = offset.checked_add(done as u64).ok_or(io::ErrorKind::InvalidInput)?;
                match file.read_at(&mut to[done..], at) {
                    Ok(0) => break,
                    Ok(bytes) => done += bytes,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) if done > 0 => break,
                    Err(error) => return Err(error),
                }
            }
            Ok(done)
        });
        read.map(drop).map_err(|error| errno(&error))
    }

    /// `struct fuse_write_in` and the bytes.
    pub(super) fn write(&mut self, mut args: Args<'_>) -> Result<(), Errno> {
        let (handle, offset, size) = (args.u64()?, args.u64()?, args.u32()?);
        let (flags, _lock_owner) = (args.u32()?, args.u64()?);
        let open = OFlags::from_bits_retain(args.u32()?);
        args.u32()?;
        let size = usize::try_from(size).map_err(|_| Errno::INVAL)?;
        if size > IO_BYTES_MAX {
            return Err(Errno::INVAL);
        }
        let bytes = args.bytes(size)?;
        let file = self.handles.file(handle)?;
        self.touch(|| Touched::File(Arc::clone(&file)));
        if flags & WRITE_KILL != 0 {
            drop_privileges(&*file)?;
        }
        // What is appended goes to where the end is on the host; what a mapping has changed goes
        // to its place, by whichever handle the guest's kernel has taken for it.
        let append = open.contains(OFlags::APPEND) && flags & WRITE_CACHE == 0;
        let how = if append { ReadWriteFlags::APPEND } else { ReadWriteFlags::empty() };
        let mut done = 0;
        while done < bytes.len() {
            let at = offset.checked_add(done as u64).ok_or(Errno::FBIG)?;
            match pwritev2(&*file, &[IoSlice::new(&bytes[done..])], at, how) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        self.reply.size(done)
    }

    /// `struct fuse_flush_in`: one of the guest's descriptors is closed. What the host has to say
    /// to that, it says when a copy of ours is closed.
    pub(super) fn flush(&mut self, mut args: Args<'_>) -> Result<(), Errno> {
        let file = self.handles.file(args.u64()?)?;
        drop(dup(&*file)?);
        Ok(())
    }

    /// `struct fuse_release_in`.
    pub(super) fn release(&mut self, mut args: Args<'_>) -> Result<(), Errno> {
        self.handles.release(args.u64()?)
    }

    /// `struct fuse_fsync_in`.
    pub(super) fn sync_file(&mut self, mut args: Args<'_>) -> Result<(), Errno> {
        let (handle, flags) = (args.u64()?, args.u32()?);
        let file = self.handles.file(handle)?;
        if flags & DATA_ONLY != 0 { fdatasync(&*file) } else { fsync(&*file) }
    }

    /// The same, of a directory.
    pub(super) fn sync_directory(&mut self, mut args: Args<'_>) -> Result<(), Errno> {
        let handle = args.u64()?;
        fsync(&self.handles.directory(handle)?.descriptor)
    }

    pub(super) fn sync_all(&mut self) -> Result<(), Errno> {
        let root = self.inodes.get(ROOT)?;
        syncfs(reopen(&root, OFlags::RDONLY | OFlags::DIRECTORY)?)
    }

    /// `struct fuse_fallocate_in`.
    pub(super) fn allocate(&mut self, mut args: Args<'_>) -> Result<(), Errno> {
        let (handle, offset, length) = (args.u64()?, args.u64()?, args.u64()?);
        let mode = FallocateFlags::from_bits(args.u32()?).ok_or(Errno::OPNOTSUPP)?;
        let file = self.handles.file(handle)?;
        self.touch(|| Touched::File(Arc::clone(&file)));
        fallocate(&*file, mode, offset, length)
    }

    /// `struct fuse_lseek_in`: the guest knows all but where data and gaps begin.
    pub(super) fn seek(&mut self, mut args: Args<'_>) -> Result<(), Errno> {
        let (handle, offset, whence) = (args.u64()?, args.u64()?, args.u32()?);
        let to = match whence {
            3 => SeekFrom::Data(offset),
            4 => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL),
        };
        // Reads and writes say where, so nobody else depends on the position.
        let at = rustix::fs::seek(&*self.handles.file(handle)?, to)?;
        self.reply.u64(at);
        Ok(())
    }

    /// `struct fuse_copy_file_range_in`.
    pub(super) fn copy(&mut self, mut args: Args<'_>) -> Result<(), Errno> {
        let (from, mut from_at) = (args.u64()?, args.u64()?);
        let (_node, to, mut to_at) = (args.u64()?, args.u64()?, args.u64()?);
        let (length, flags) = (args.u64()?, args.u64()?);
        if flags != 0 {
            return Err(Errno::INVAL);
        }
        let (from, to) = (self.handles.file(from)?, self.handles.file(to)?);
        self.touch(|| Touched::File(Arc::clone(&to)));
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(COPY_BYTES_MAX);
        let copied = copy_file_range(&*from, Some(&mut from_at), &*to, Some(&mut to_at), length)?;
        self.reply.size(copied)
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_guests_flags_few_reach_the_host() {
        let guest = OFlags::RDWR
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::DIRECT
            | OFlags::TMPFILE
            | OFlags::PATH
            | OFlags::APPEND
            | OFlags::TRUNC
            | OFlags::NOFOLLOW
            | OFlags::DSYNC;
        let host = OFlags::RDWR | OFlags::TRUNC | OFlags::DSYNC;
        assert_eq!(open_flags(guest.bits()), Ok(host));
        assert_eq!(open_flags(OFlags::TRUNC.bits()), Ok(OFlags::RDONLY));
        assert_eq!(open_flags(3), Err(Errno::INVAL));
    }
}

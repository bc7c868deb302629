//! Attributes, read and set.

use std::{os::fd::OwnedFd, sync::Arc};

use rustix::{
    fs::{
        AtFlags, CWD, Gid, Mode, OFlags, Statx, Timestamps, UTIME_NOW, UTIME_OMIT, Uid, chmodat,
        chownat, fstatvfs, ftruncate, utimensat,
    },
    io::Errno,
    time::Timespec,
};

use super::{Server, by_descriptor, files::drop_privileges, is_file, reopen};
use crate::fs::{
    inodes::look,
    watch::{REPLAY, Touched},
    wire::Args,
};

/// Flag of `GETATTR`: there is a handle. Source: fuse.h, `FUSE_GETATTR_FH`.
const GET_HANDLE: u32 = 1;

/// What `SETATTR` sets. Source: fuse.h, `FATTR_*`.
const MODE: u32 = 1;
const UID: u32 = 1 << 1;
const GID: u32 = 1 << 2;
const SIZE: u32 = 1 << 3;
const ATIME: u32 = 1 << 4;
const MTIME: u32 = 1 << 5;
const HANDLE: u32 = 1 << 6;
const ATIME_NOW: u32 = 1 << 7;
const MTIME_NOW: u32 = 1 << 8;
const KILL_PRIVILEGES: u32 = 1 << 11;

/// `struct fuse_setattr_in`.
struct Set {
    valid: u32,
    handle: u64,
    size: u64,
    atime: Timespec,
    mtime: Timespec,
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Set {
    fn parse(mut args: Args<'_>) -> Result<Set, Errno> {
        let valid = args.u32()?;
        args.u32()?;
        let (handle, size, _lock_owner) = (args.u64()?, args.u64()?, args.u64()?);
        let seconds = [args.u64()?, args.u64()?, args.u64()?].map(u64::cast_signed);
        let nanoseconds = [args.u32()?, args.u32()?, args.u32()?];
        let mode = args.u32()?;
        args.u32()?;
        let (uid, gid) = (args.u32()?, args.u32()?);
        args.u32()?;
        let time = |n: usize| Timespec { tv_sec: seconds[n], tv_nsec: i64::from(nanoseconds[n]) };
        Ok(Set { valid, handle, size, atime: time(0), mtime: time(1), mode, uid, gid })
    }

    fn has(&self, what: u32) -> bool {
        self.valid & what != 0
    }

    /// Whether it is an event that the guest tells itself again, for which nothing is changed.
    fn is_replay(&self) -> bool {
        self.has(MTIME) && !self.has(MTIME_NOW | MODE | UID | GID | SIZE) && self.mtime == REPLAY
    }

    /// The times to be set, if any are.
    fn times(&self) -> Option<Timestamps> {
        let time = |set, now, time: Timespec| {
            let special = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
            match (self.has(set), self.has(now)) {
                (false, _) => special(UTIME_OMIT),
                (true, true) => special(UTIME_NOW),
                (true, false) => time,
            }
        };
        self.has(ATIME | MTIME).then(|| Timestamps {
            last_access: time(ATIME, ATIME_NOW, self.atime),
            last_modification: time(MTIME, MTIME_NOW, self.mtime),
        })
    }
}

impl Server {
    /// `struct fuse_getattr_in`.
    pub(super) fn get_attributes(&mut self, node: u64, mut args: Args<'_>) -> Result<(), Errno> {
        let flags = args.u32()?;
        args.u32()?;
        let handle = args.u64()?;
        // A handle is what is left of a file whose name is gone.
        let at = match self.handles.file(handle) {
            Ok(file) if flags & GET_HANDLE != 0 => look(&*file)?,
            Ok(_) | Err(_) => look(&*self.inodes.get(node)?)?,
        };
        self.answer_attributes(&at);
        Ok(())
    }

    fn answer_attributes(&mut self, at: &Statx) {
        let ino = self.inodes.ino(at);
        self.reply.attributes_for(self.valid, ino, at);
    }

    pub(super) fn set_attributes(&mut self, node: u64, args: Args<'_>) -> Result<(), Errno> {
        let set = Set::parse(args)?;
        let descriptor = self.inodes.get(node)?;
        if !set.is_replay() {
            self.touch(|| Touched::Descriptor(Arc::clone(&descriptor)));
            self.set(&descriptor, &set)?;
        }
        let at = look(&*descriptor)?;
        self.answer_attributes(&at);
        Ok(())
    }

    /// In the order in which the kernel would: an owner that is set takes set-user-id away, so
    /// permissions come after it.
    fn set(&mut self, descriptor: &OwnedFd, set: &Set) -> Result<(), Errno> {
        if set.has(UID | GID) {
            let id = |what, id: u32| if set.has(what) { Some(id) } else { None };
            if id(UID, set.uid) == Some(u32::MAX) || id(GID, set.gid) == Some(u32::MAX) {
                return Err(Errno::INVAL);
            }
            let (uid, gid) = (id(UID, set.uid), id(GID, set.gid));
            let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
            chownat(descriptor, c"", uid, gid, AtFlags::EMPTY_PATH)?;
        }
        if set.has(MODE) {
            let mode = Mode::from_raw_mode(set.mode & 0o7777);
            chmodat(CWD, by_descriptor(descriptor)?, mode, AtFlags::empty())?;
        }
        if set.has(SIZE) {
            self.truncate(descriptor, set)?;
        }
        if let Some(times) = set.times() {
            utimensat(CWD, by_descriptor(descriptor)?, &times, AtFlags::empty())?;
        }
        Ok(())
    }

    fn truncate(&mut self, descriptor: &OwnedFd, set: &Set) -> Result<(), Errno> {
        if set.has(KILL_PRIVILEGES) {
            drop_privileges(descriptor)?;
        }
        if set.has(HANDLE)
            && let Ok(file) = self.handles.file(set.handle)
        {
            return ftruncate(&*file, set.size);
        }
        if !is_file(&look(descriptor)?) {
            return Err(Errno::INVAL);
        }
        ftruncate(reopen(descriptor, OFlags::WRONLY)?, set.size)
    }

    /// `struct fuse_statfs_out`.
    pub(super) fn statistics(&mut self, node: u64) -> Result<(), Errno> {
        let at = fstatvfs(&*self.inodes.get(node)?)?;
        let reply = &mut self.reply;
        for count in [at.f_blocks, at.f_bfree, at.f_bavail, at.f_files, at.f_ffree] {
            reply.u64(count);
        }
        for size in [at.f_bsize, at.f_namemax, at.f_frsize] {
            reply.u32(u32::try_from(size).unwrap_or(u32::MAX));
        }
        reply.zeros(4 + 24);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_time_of_modification_alone_is_a_replay() {
        let set = |valid, mtime| Set {
            valid,
            handle: 0,
            size: 0,
            atime: REPLAY,
            mtime,
            mode: 0,
            uid: 0,
            gid: 0,
        };
        assert!(set(MTIME, REPLAY).is_replay());
        assert!(set(MTIME | ATIME, REPLAY).is_replay());
        for other in [MTIME_NOW, MODE, UID, GID, SIZE] {
            assert!(!set(MTIME | other, REPLAY).is_replay());
        }
        assert!(!set(ATIME, REPLAY).is_replay());
        assert!(!set(MTIME, Timespec { tv_sec: 0, ..REPLAY }).is_replay());
    }
}

//! Copies a tree: owners, modes, times, attributes, links, holes.
//!
//! Blocks are shared where the file system has reflinks (btrfs, xfs, bcachefs), else copied; the
//! answer says which.
//!
//! Source: ioctl_ficlonerange(2), copy_file_range(2).

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::FileExt as _},
    },
    path::Path,
};

use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chmodat,
        chownat, copy_file_range, ioctl_ficlone, linkat, lsetxattr, makedev, mkdirat, mknodat,
        openat, symlinkat, utimensat,
    },
    io::Errno,
};

use crate::{
    VolumeError, disk,
    walk::{self, Found, FoundKind, Segment, Visit},
};

/// Copied at once where the kernel does not do it.
const BUFFER_BYTES: usize = 1 << 20;

/// How content was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Blocks are shared until one side writes.
    Shared,
    /// Every byte was copied: the file system has no reflinks.
    Copied,
}

/// Copies everything in `from`, but for these names directly in it, into the empty directory
/// `to`, which becomes like `from`.
pub(crate) fn tree(
    from: BorrowedFd<'_>,
    but: &[&[u8]],
    to: BorrowedFd<'_>,
) -> Result<How, VolumeError> {
    let top = to.try_clone_to_owned().map_err(disk::failed("open", Path::new(".")))?;
    let mut copy = Copy { stack: vec![top], how: How::Shared, clones: true, buffer: Vec::new() };
    walk::walk(from, but, &mut copy)?;
    Ok(copy.how)
}

/// Gives something the owner, mode, attributes and time of what was found. In this order: chown
/// clears capabilities and set-user-id, and everything changes the time.
pub(crate) fn dress(at: BorrowedFd<'_>, name: &[u8], found: &Found) -> rustix::io::Result<()> {
    let (owner, group) = (Some(Uid::from_raw(found.uid)), Some(Gid::from_raw(found.gid)));
    match chownat(at, name, owner, group, AtFlags::SYMLINK_NOFOLLOW) {
        // In a user namespace, what belongs to ids that it does not know becomes its root's.
        Err(Errno::INVAL | Errno::PERM) if sys::userns::is_confined() => {}
        other => other?,
    }
    if !matches!(found.kind, FoundKind::Symlink(_)) {
        chmodat(at, name, Mode::from_raw_mode(found.mode.into()), AtFlags::empty())?;
    }
    let path = walk::beneath(at, name);
    for (key, value) in &found.xattrs {
        match lsetxattr(&*path, &**key, value, XattrFlags::empty()) {
            // A file system without a kind of attribute is no reason to refuse the rest.
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(Errno::PERM) if sys::userns::is_confined() => {}
            Err(error) => return Err(error),
        }
    }
    let (tv_sec, nanoseconds) = found.mtime;
    let time = Timespec { tv_sec, tv_nsec: nanoseconds.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(at, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}

struct Copy {
    /// The copies of the directories on the way, the top first.
    stack: Vec<OwnedFd>,
    how: How,
    /// Whether cloning is worth a try.
    clones: bool,
    buffer: Vec<u8>,
}

impl Copy {
    fn here(&self) -> BorrowedFd<'_> {
        self.stack.last().expect("a walk leaves only what it has entered").as_fd()
    }

    fn make(&mut self, found: &Found, file: Option<&File>) -> io::Result<()> {
        let name = last(&found.path);
        let top = self.stack.first().expect("the top is never left").as_fd();
        match &found.kind {
            FoundKind::Directory => return Ok(()),
            FoundKind::HardLink(first) => {
                let to = self.here();
                return Ok(linkat(top, &**first, to, name, AtFlags::empty())?);
            }
            FoundKind::File { size, segments } => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let to = openat(self.here(), name, flags, Mode::RUSR | Mode::WUSR)?;
                let file = file.ok_or(io::ErrorKind::InvalidInput)?;
                self.content(file, &File::from(to), *size, segments.as_deref())?;
            }
            FoundKind::Symlink(target) => symlinkat(&**target, self.here(), name)?,
            FoundKind::Device { block, major, minor } => {
                let kind = if *block { FileType::BlockDevice } else { FileType::CharacterDevice };
                mknodat(self.here(), name, kind, Mode::RUSR, makedev(*major, *minor))?;
            }
            FoundKind::Fifo => mknodat(self.here(), name, FileType::Fifo, Mode::RUSR, 0)?,
            FoundKind::Socket => mknodat(self.here(), name, FileType::Socket, Mode::RUSR, 0)?,
        }
        Ok(dress(self.here(), name, found)?)
    }

    fn content(
        &mut self,
        from: &File,
        to: &File,
        size: u64,
        segments: Option<&[Segment]>,
    ) -> io::Result<()> {
        if size == 0 {
            return Ok(());
        }
        if self.clones {
            match ioctl_ficlone(to, from) {
                Ok(()) => return Ok(()),
                Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::NOTTY | Errno::NOSYS) => {
                    self.clones = false;
                }
                // This file will not have it; others may.
                Err(Errno::INVAL | Errno::PERM | Errno::TXTBSY) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.how = How::Copied;
        let whole = [Segment { offset: 0, length: size }];
        for segment in segments.unwrap_or(&whole) {
            self.segment(from, to, *segment)?;
        }
        to.set_len(size)
    }

    fn segment(&mut self, from: &File, to: &File, segment: Segment) -> io::Result<()> {
        let (mut at, end) = (segment.offset, segment.offset + segment.length);
        while at < end {
            let (mut source, mut target) = (at, at);
            let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(1 << 30);
            match copy_file_range(from, Some(&mut source), to, Some(&mut target), most) {
                // It has become shorter meanwhile.
                Ok(0) => return Ok(()),
                Ok(_) => at = source,
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    return self.by_hand(from, to, at, end);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn by_hand(&mut self, from: &File, to: &File, mut at: u64, end: u64) -> io::Result<()> {
        self.buffer.resize(BUFFER_BYTES, 0);
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(BUFFER_BYTES);
            let piece = self.buffer.get_mut(..most).unwrap_or_default();
            let read = from.read_at(piece, at)?;
            if read == 0 {
                return Ok(());
            }
            to.write_all_at(piece.get(..read).unwrap_or_default(), at)?;
            at += u64::try_from(read).unwrap_or(0);
        }
        Ok(())
    }
}

impl Visit for Copy {
    type Error = VolumeError;

    fn enter(&mut self, found: &Found) -> Result<(), VolumeError> {
        if found.path.is_empty() {
            return Ok(());
        }
        let name = last(&found.path);
        let made = mkdirat(self.here(), name, Mode::RWXU)
            .and_then(|()| disk::open_directory(self.here(), name))
            .map_err(disk::failed("copy", as_path(&found.path)))?;
        self.stack.push(made);
        Ok(())
    }

    fn leave(&mut self, found: &Found) -> Result<(), VolumeError> {
        let dressed = match found.path.is_empty() {
            true => dress(self.here(), b".", found),
            false => {
                self.stack.pop();
                dress(self.here(), last(&found.path), found)
            }
        };
        dressed.map_err(disk::failed("copy", as_path(&found.path)))
    }

    fn leaf(&mut self, found: &Found, file: Option<&File>) -> Result<(), VolumeError> {
        match self.make(found, file) {
            // The file that this is another name of was gone when it was to be copied.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && matches!(found.kind, FoundKind::HardLink(_)) =>
            {
                Ok(())
            }
            other => other.map_err(disk::failed("copy", as_path(&found.path))),
        }
    }
}

fn last(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or(path)
}

fn as_path(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

//! Something in a directory, held by a descriptor that can neither be read nor make anybody wait.

use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use archive::{Attributes, Segment, Time, Xattr};
use rustix::{
    fs::{
        Dir, FileType, Mode, OFlags, SeekFrom, Stat, fstat, getxattr, listxattr, openat,
        readlinkat, seek,
    },
    io::{Errno, Result},
};

/// Most bytes of one attribute and of the names of all. Source: `XATTR_SIZE_MAX`,
/// `XATTR_LIST_MAX`, linux/limits.h.
const XATTR_BYTES_MAX: usize = 64 << 10;
/// Most runs of data that a sparse file is taken apart into; the rest is one run.
const SEGMENTS_MAX: usize = 1 << 16;
/// Bytes of a block in `st_blocks`. Source: inode(7).
const BLOCK_BYTES: u64 = 512;

/// A file of any kind, as it was when it was opened.
#[derive(Debug)]
pub(crate) struct Object {
    fd: OwnedFd,
    stat: Stat,
}

impl Object {
    pub(crate) fn new(fd: OwnedFd) -> Result<Object> {
        let stat = fstat(&fd)?;
        Ok(Object { fd, stat })
    }

    /// What has this name in a directory; a link is not followed.
    pub(crate) fn at(directory: impl AsFd, name: &[u8]) -> Result<Object> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Object::new(openat(directory, name, flags, Mode::empty())?)
    }

    /// As [`Object::at`], and nothing where there is nothing.
    pub(crate) fn find(directory: impl AsFd, name: &[u8]) -> Result<Option<Object>> {
        match Object::at(directory, name) {
            Ok(object) => Ok(Some(object)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind() == FileType::Directory
    }

    /// Overlayfs's mark for "not here".
    pub(crate) fn is_whiteout(&self) -> bool {
        self.kind() == FileType::CharacterDevice && self.stat.st_rdev == 0
    }

    pub(crate) fn stat(&self) -> &Stat {
        &self.stat
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn size(&self) -> u64 {
        u64::try_from(self.stat.st_size).unwrap_or(0)
    }

    pub(crate) fn modified(&self) -> Time {
        let nanoseconds = u32::try_from(self.stat.st_mtime_nsec).unwrap_or(0);
        Time { seconds: self.stat.st_mtime, nanoseconds }
    }

    pub(crate) fn link_target(&self) -> Result<Vec<u8>> {
        Ok(readlinkat(&self.fd, c"", Vec::new())?.into_bytes())
    }

    /// The names in a directory, sorted.
    pub(crate) fn names(&self) -> Result<Vec<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = Dir::new(openat(&self.fd, c".", flags, Mode::empty())?)?;
        let mut names = Vec::new();
        for entry in directory {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// A regular file, open for reading. It is the very file that was looked at: whatever has its
    /// name by now does not matter.
    pub(crate) fn open_file(&self) -> Result<File> {
        self.reopen(OFlags::RDONLY)
    }

    pub(crate) fn reopen(&self, flags: OFlags) -> Result<File> {
        let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::open(self.magic(), flags, Mode::empty())?))
    }

    /// A path that leads to this descriptor. Source: proc_pid_fd(5).
    pub(crate) fn magic(&self) -> String {
        magic(self.fd.as_fd())
    }

    pub(crate) fn attributes(&self) -> Attributes {
        Attributes {
            mode: u16::try_from(self.stat.st_mode & 0o7777).unwrap_or(0),
            uid: self.stat.st_uid,
            gid: self.stat.st_gid,
            mtime: self.modified(),
            xattrs: self.xattrs(),
        }
    }

    /// Attributes that mean the same elsewhere. A file system without any has none.
    fn xattrs(&self) -> Vec<Xattr> {
        let path = self.magic();
        let mut names = vec![0; XATTR_BYTES_MAX];
        let Ok(length) = listxattr(&*path, &mut names) else { return Vec::new() };
        let names = names.get(..length).unwrap_or_default().split(|byte| *byte == 0);
        let kept = names.filter(|name| is_portable(name));
        let mut xattrs: Vec<_> = kept
            .filter_map(|name| {
                let value = self.xattr(name)?;
                Some(Xattr { name: name.into(), value: value.into() })
            })
            .collect();
        xattrs.sort();
        xattrs
    }

    pub(crate) fn xattr(&self, name: &[u8]) -> Option<Vec<u8>> {
        let mut value = vec![0; XATTR_BYTES_MAX];
        let length = getxattr(&*self.magic(), name, &mut value).ok()?;
        value.truncate(length);
        Some(value)
    }

    /// Where the data of a file is, if it has holes.
    pub(crate) fn segments(&self, file: &File) -> Option<Vec<Segment>> {
        let size = self.size();
        let stored = u64::try_from(self.stat.st_blocks).unwrap_or(0).saturating_mul(BLOCK_BYTES);
        if stored >= size {
            return None;
        }
        let mut segments = Vec::new();
        let mut at = 0;
        while at < size {
            let data = match seek(file, SeekFrom::Data(at)) {
                Ok(data) => data,
                Err(Errno::NXIO) => break,
                Err(_) => return None,
            };
            let hole = match segments.len() < SEGMENTS_MAX {
                true => seek(file, SeekFrom::Hole(data)).ok()?,
                false => size,
            };
            let (data, hole) = (data.min(size), hole.min(size));
            if data >= hole {
                break;
            }
            segments.push(Segment { offset: data, length: hole - data });
            at = hole;
        }
        let whole = matches!(*segments, [Segment { offset: 0, length }] if length == size);
        (!whole).then_some(segments)
    }
}

/// A path that leads to an open descriptor.
pub(crate) fn magic(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Whether an attribute belongs to the file and not to this host's policy or overlayfs's
/// bookkeeping.
fn is_portable(name: &[u8]) -> bool {
    name == b"security.capability"
        || name == b"system.posix_acl_access"
        || name == b"system.posix_acl_default"
        || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

//! Looks at everything below a directory, in the order of names, without following a link and
//! without trusting that what is there stays.
//!
//! Whoever fills the tree may change it meanwhile: each entry is looked at through the descriptor
//! of its directory, and what has gone is passed over. Other file systems mounted inside are not
//! entered.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::ffi::OsStringExt as _,
    },
    path::PathBuf,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, SeekFrom, Stat},
    io::Errno,
};

use crate::{VolumeError, disk};

/// Deepest nesting that is followed: each level holds a descriptor or two.
const DEPTH_MAX: usize = 512;
/// Longest list of names, and longest value, of extended attributes. Source: `XATTR_LIST_MAX`,
/// `XATTR_SIZE_MAX`, linux/limits.h.
const XATTR_BYTES_MAX: usize = 64 << 10;
/// Most pieces of one sparse file that are told apart; the rest is taken as data.
const SEGMENTS_MAX: usize = 1 << 16;

/// Something in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Path below the top, without a slash before or after; empty for the top itself.
    pub path: Vec<u8>,
    /// Permission bits with set-user-id, set-group-id and sticky.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last modification: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// What it is.
    pub kind: FoundKind,
}

/// What something in a tree is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundKind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Length with holes.
        size: u64,
        /// Where its data is, if it has holes.
        segments: Option<Vec<Segment>>,
    },
    /// Another name of what was found at this path.
    HardLink(Vec<u8>),
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A device node: whether it is a block device, and its numbers.
    Device {
        /// Block or character.
        block: bool,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
}

/// A run of data in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
}

/// Who is shown what is found: a directory, what is in it, and its end.
pub trait Visit {
    /// What can go wrong.
    type Error: From<WalkError>;

    /// A directory begins.
    ///
    /// # Errors
    /// They end the walk.
    fn enter(&mut self, found: &Found) -> Result<(), Self::Error>;

    /// A directory ends.
    ///
    /// # Errors
    /// They end the walk.
    fn leave(&mut self, found: &Found) -> Result<(), Self::Error>;

    /// Anything else; a regular file comes open for reading.
    ///
    /// # Errors
    /// They end the walk.
    fn leaf(&mut self, found: &Found, file: Option<&File>) -> Result<(), Self::Error>;
}

/// Why a tree was not walked to its end.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// Something cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Below the top.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is too deep.
    #[error("{} is deeper than {DEPTH_MAX} directories", _0.display())]
    TooDeep(PathBuf),
}

impl From<WalkError> for VolumeError {
    fn from(error: WalkError) -> VolumeError {
        match error {
            WalkError::Read { path, source } => VolumeError::Disk { step: "read", path, source },
            WalkError::TooDeep(path) => VolumeError::TooDeep { path, most: DEPTH_MAX },
        }
    }
}

/// Shows everything below and including `top`, but for these names directly in it.
pub(crate) fn walk<V: Visit>(
    top: BorrowedFd<'_>,
    but: &[&[u8]],
    visitor: &mut V,
) -> Result<(), V::Error> {
    let mut walk = Walk { links: HashMap::new(), device: 0, path: Vec::new(), depth: 0, but };
    let stat = rustix::fs::fstat(top).map_err(|error| walk.failed(error))?;
    walk.device = stat.st_dev;
    let found = walk.found(top, b".", &stat, FoundKind::Directory)?;
    visitor.enter(&found)?;
    walk.inside(top, visitor)?;
    visitor.leave(&found)
}

struct Walk<'a> {
    /// The first path of every file with several names, by device and inode: a stack has
    /// several devices.
    links: HashMap<(u64, u64), Vec<u8>>,
    device: u64,
    path: Vec<u8>,
    depth: usize,
    but: &'a [&'a [u8]],
}

impl Walk<'_> {
    fn failed<E: Into<io::Error>>(&self, error: E) -> WalkError {
        let path = std::ffi::OsString::from_vec(self.path.clone()).into();
        WalkError::Read { path, source: error.into() }
    }

    fn inside<V: Visit>(&mut self, at: BorrowedFd<'_>, visitor: &mut V) -> Result<(), V::Error> {
        let mut names = disk::names(at).map_err(|error| self.failed(error))?;
        names.sort_unstable();
        for name in names {
            if self.depth == 0 && self.but.contains(&name.as_slice()) {
                continue;
            }
            let length = self.path.len();
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&name);
            self.one(at, &name, visitor)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn one<V: Visit>(
        &mut self,
        at: BorrowedFd<'_>,
        name: &[u8],
        visitor: &mut V,
    ) -> Result<(), V::Error> {
        let stat = match rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(|error| self.failed(error))?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            return self.directory(at, name, &stat, visitor);
        }
        if stat.st_nlink > 1
            && let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino))
        {
            let kind = FoundKind::HardLink(first.clone());
            let found = self.found(at, name, &stat, kind)?;
            return visitor.leaf(&found, None);
        }
        if kind == FileType::RegularFile {
            return self.file(at, name, visitor);
        }
        let kind = match kind {
            FileType::Symlink => match rustix::fs::readlinkat(at, name, Vec::new()) {
                Ok(target) => FoundKind::Symlink(target.into_bytes()),
                Err(Errno::NOENT | Errno::INVAL) => return Ok(()),
                Err(error) => return Err(self.failed(error).into()),
            },
            FileType::CharacterDevice | FileType::BlockDevice => FoundKind::Device {
                block: kind == FileType::BlockDevice,
                major: rustix::fs::major(stat.st_rdev),
                minor: rustix::fs::minor(stat.st_rdev),
            },
            FileType::Fifo => FoundKind::Fifo,
            FileType::Socket | FileType::Unknown => FoundKind::Socket,
            FileType::Directory | FileType::RegularFile => return Ok(()),
        };
        self.remember(&stat);
        let found = self.found(at, name, &stat, kind)?;
        visitor.leaf(&found, None)
    }

    fn directory<V: Visit>(
        &mut self,
        at: BorrowedFd<'_>,
        name: &[u8],
        stat: &Stat,
        visitor: &mut V,
    ) -> Result<(), V::Error> {
        if self.depth >= DEPTH_MAX {
            let path = std::ffi::OsString::from_vec(self.path.clone()).into();
            return Err(WalkError::TooDeep(path).into());
        }
        let own = match disk::open_directory(at, name) {
            // Something else has just taken its place.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            other => other.map_err(|error| self.failed(error))?,
        };
        let found = self.found(at, name, stat, FoundKind::Directory)?;
        visitor.enter(&found)?;
        let inside = rustix::fs::fstat(&own).map_err(|error| self.failed(error))?;
        if inside.st_dev == self.device {
            self.depth += 1;
            self.inside(own.as_fd(), visitor)?;
            self.depth -= 1;
        }
        visitor.leave(&found)
    }

    fn file<V: Visit>(
        &mut self,
        at: BorrowedFd<'_>,
        name: &[u8],
        visitor: &mut V,
    ) -> Result<(), V::Error> {
        // Without waiting: a pipe may just have taken the file's place.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(at, name, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(()),
            other => File::from(other.map_err(|error| self.failed(error))?),
        };
        let stat = rustix::fs::fstat(&file).map_err(|error| self.failed(error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
        let segments = match blocks.saturating_mul(512) < size {
            true => segments(&file, size).map_err(|error| self.failed(error))?,
            false => None,
        };
        self.remember(&stat);
        let found = self.found(at, name, &stat, FoundKind::File { size, segments })?;
        visitor.leaf(&found, Some(&file))
    }

    fn remember(&mut self, stat: &Stat) {
        if stat.st_nlink > 1 {
            self.links.insert((stat.st_dev, stat.st_ino), self.path.clone());
        }
    }

    fn found(
        &self,
        at: BorrowedFd<'_>,
        name: &[u8],
        stat: &Stat,
        kind: FoundKind,
    ) -> Result<Found, WalkError> {
        let xattrs = match &kind {
            FoundKind::HardLink(_) => Vec::new(),
            FoundKind::Directory
            | FoundKind::File { .. }
            | FoundKind::Symlink(_)
            | FoundKind::Device { .. }
            | FoundKind::Fifo
            | FoundKind::Socket => xattrs(at, name).map_err(|error| self.failed(error))?,
        };
        Ok(Found {
            path: self.path.clone(),
            mode: u16::try_from(stat.st_mode & 0o7777).expect("twelve bits fit in sixteen"),
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            xattrs,
            kind,
        })
    }
}

/// The magic link leads to the open directory; the last name is not followed.
pub(crate) fn beneath(at: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    [format!("/proc/self/fd/{}/", at.as_raw_fd()).as_bytes(), name].concat()
}

fn xattrs(at: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let path = beneath(at, name);
    let mut list = vec![0_u8; XATTR_BYTES_MAX];
    let length = match rustix::fs::llistxattr(&*path, &mut list[..]) {
        Ok(0) | Err(Errno::NOTSUP | Errno::NOENT) => return Ok(Vec::new()),
        other => other?,
    };
    list.truncate(length);
    let mut all = Vec::new();
    for name in list.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0_u8; XATTR_BYTES_MAX];
        match rustix::fs::lgetxattr(&*path, name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                all.push((name.to_vec(), value));
            }
            Err(Errno::NODATA | Errno::NOENT | Errno::NOTSUP) => {}
            Err(error) => return Err(error),
        }
    }
    all.sort();
    Ok(all)
}

/// Where a file's data is; nothing if it has no holes. Source: lseek(2), `SEEK_DATA`, Linux 3.1.
fn segments(file: &File, size: u64) -> rustix::io::Result<Option<Vec<Segment>>> {
    let mut all = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => return Ok(None),
            other => other?.min(size),
        };
        let end = match all.len() + 1 >= SEGMENTS_MAX {
            true => size,
            false => rustix::fs::seek(file, SeekFrom::Hole(start))?.min(size),
        };
        if end > start {
            all.push(Segment { offset: start, length: end - start });
        }
        at = end.max(start + 1);
    }
    let whole = matches!(all.as_slice(), [one] if one.offset == 0 && one.length == size);
    Ok((!whole).then_some(all))
}

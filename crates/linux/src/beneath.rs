//! Paths inside a root that somebody hostile may have filled: resolved by the kernel beneath a
//! descriptor, never by joining strings, and made where they are missing.
//!
//! Child-safe: nothing here allocates or takes a lock.
//!
//! Source: openat2(2), `RESOLVE_IN_ROOT`, Linux 5.6.

use std::{
    ffi::CStr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags},
    io::{Errno, Result},
};

use crate::op::Make;

/// Longest path that is followed, with its zero (`PATH_MAX`).
const PATH_BYTES_MAX: usize = 4096;
/// Most symbolic links that are followed on the way to something missing (the kernel's own
/// limit, path_resolution(7)).
const LINKS_MAX: usize = 40;
/// Mode of directories that are made.
const DIRECTORY_MODE: u32 = 0o755;

/// Opens a path as if `root` were the root directory: `..` and absolute links stay inside, and
/// the magic links of `/proc` are refused.
pub(crate) fn open(root: BorrowedFd<'_>, path: &CStr, flags: OFlags) -> Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    sys::beneath::open(root, path, flags, resolve)
}

/// The target of a view of the kernel (proc, sysfs): a directory on whose way there is no link.
/// Behind one, whoever shares a volume with this container could have the view mounted in one
/// place and its dangerous files covered in another (CVE-2019-19921, CVE-2023-27561).
pub(crate) fn find_or_make_plain(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    match sys::beneath::open(root, path, OFlags::PATH | OFlags::DIRECTORY, resolve) {
        Err(Errno::NOENT) => find_or_make(root, path, Make::Directory),
        other => other,
    }
}

/// As [`open`] for a path only: something to mount on, to look at, to make things in.
pub(crate) fn find(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd> {
    open(root, path, OFlags::PATH)
}

/// The target of a mount, made where it is missing, with the directories above it. Links that
/// point to something missing are followed, inside the root, and what they point to is made.
pub(crate) fn find_or_make(root: BorrowedFd<'_>, path: &CStr, make: Make) -> Result<OwnedFd> {
    let mut text = Text::new(path.to_bytes())?;
    for _ in 0..LINKS_MAX {
        match find(root, text.as_c_str()) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        if !make_missing(root, &mut text, make)? {
            return find(root, text.as_c_str());
        }
    }
    Err(Errno::LOOP)
}

/// The directory in which the last part of a path stands, made where it is missing, and that
/// part.
pub(crate) fn parent_of<'a>(root: BorrowedFd<'_>, path: &'a CStr) -> Result<(OwnedFd, &'a CStr)> {
    let bytes = path.to_bytes();
    let cut = bytes.iter().rposition(|b| *b == b'/');
    let directory = Text::new(cut.and_then(|at| bytes.get(..at)).unwrap_or_default())?;
    let start = cut.map_or(0, |at| at + 1);
    let name = path.to_bytes_with_nul().get(start..).unwrap_or(b"\0");
    let name = CStr::from_bytes_with_nul(name).map_err(|_| Errno::INVAL)?;
    if matches!(name.to_bytes(), b"" | b"." | b"..") {
        return Err(Errno::INVAL);
    }
    Ok((find_or_make(root, directory.as_c_str(), Make::Directory)?, name))
}

/// Makes what is missing of a path, from its beginning. Answers true where it met a symbolic
/// link to nowhere and put what it says into `text`: then begin again.
fn make_missing(root: BorrowedFd<'_>, text: &mut Text, make: Make) -> Result<bool> {
    let mut done = 0;
    while let Some(end) = text.next_end(done) {
        let last = text.next_end(end).is_none();
        match find(root, text.prefix(end)?.as_c_str()) {
            Ok(_) => {}
            Err(Errno::NOENT) => {
                let parent = find(root, text.prefix(done)?.as_c_str())?;
                let name = text.part(done, end)?;
                if let Some(link) = make_one(&parent, name.as_c_str(), last, make)? {
                    *text = text.with_link(done, end, &link)?;
                    return Ok(true);
                }
            }
            Err(other) => return Err(other),
        }
        done = end;
    }
    Ok(false)
}

/// Makes one part of a path, or answers what the link says that is there.
fn make_one(parent: &OwnedFd, name: &CStr, last: bool, make: Make) -> Result<Option<Text>> {
    let made = if last && make == Make::File {
        rustix::fs::mknodat(parent, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0)
    } else {
        rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(DIRECTORY_MODE))
    };
    match made {
        Ok(()) => Ok(None),
        Err(Errno::EXIST) => read_link(parent, name),
        Err(other) => Err(other),
    }
}

/// What a symbolic link says; nothing if somebody has just made something else of that name.
fn read_link(parent: &OwnedFd, name: &CStr) -> Result<Option<Text>> {
    let mut link = Text { bytes: [0; PATH_BYTES_MAX], length: 0 };
    let room = link.bytes.get_mut(..PATH_BYTES_MAX - 1).ok_or(Errno::NAMETOOLONG)?;
    match rustix::fs::readlinkat_raw(parent, name, room) {
        Ok(read) => {
            link.length = read;
            Ok(Some(link))
        }
        Err(Errno::INVAL) => Ok(None),
        Err(other) => Err(other),
    }
}

/// A path in a fixed buffer, ending in a zero.
struct Text {
    bytes: [u8; PATH_BYTES_MAX],
    length: usize,
}

impl Text {
    fn new(path: &[u8]) -> Result<Text> {
        let mut text = Text { bytes: [0; PATH_BYTES_MAX], length: 0 };
        text.push(path)?;
        Ok(text)
    }

    fn push(&mut self, more: &[u8]) -> Result<()> {
        let end = self.length + more.len();
        if end >= PATH_BYTES_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        self.bytes.get_mut(self.length..end).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(more);
        self.length = end;
        Ok(())
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// The path; `/` for the empty one.
    fn as_c_str(&self) -> &CStr {
        match CStr::from_bytes_until_nul(&self.bytes) {
            Ok(path) if !path.is_empty() => path,
            _ => c"/",
        }
    }

    /// Where the part ends that begins at or after `from`.
    fn next_end(&self, from: usize) -> Option<usize> {
        let rest = self.as_bytes().get(from..)?;
        let start = rest.iter().position(|b| *b != b'/')?;
        let length = rest.get(start..)?.iter().position(|b| *b == b'/');
        Some(length.map_or(self.length, |length| from + start + length))
    }

    fn prefix(&self, end: usize) -> Result<Text> {
        Text::new(self.as_bytes().get(..end).unwrap_or_default())
    }

    /// The part between two ends, without slashes.
    fn part(&self, done: usize, end: usize) -> Result<Text> {
        let part = self.as_bytes().get(done..end).unwrap_or_default();
        let start = part.iter().position(|b| *b != b'/').unwrap_or(part.len());
        Text::new(part.get(start..).unwrap_or_default())
    }

    /// The path with the part between two ends replaced by what its link says.
    fn with_link(&self, done: usize, end: usize, link: &Text) -> Result<Text> {
        let absolute = link.as_bytes().first() == Some(&b'/');
        let mut path = if absolute { Text::new(b"")? } else { self.prefix(done)? };
        path.push(b"/")?;
        path.push(link.as_bytes())?;
        path.push(self.as_bytes().get(end..).unwrap_or_default())?;
        Ok(path)
    }
}

/// The kind of file a descriptor means.
pub(crate) fn kind(fd: impl AsFd) -> Result<(FileType, u64)> {
    let stat = rustix::fs::fstat(fd)?;
    Ok((FileType::from_raw_mode(stat.st_mode), stat.st_rdev))
}

/// Opens a path of the host's, in the calling process's own mount namespace.
pub(crate) fn open_host(path: &CStr) -> Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

/// The null device, checked to be it: something hostile may stand where it is expected.
pub(crate) fn is_null_device(fd: &OwnedFd) -> Result<bool> {
    let (kind, device) = kind(fd)?;
    Ok(kind == FileType::CharacterDevice && device == rustix::fs::makedev(1, 3))
}

#[cfg(test)]
mod tests;

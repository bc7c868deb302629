//! The files of a hierarchy, always opened from its top directory.
//!
//! Paths are group names (checked) with a file name, so they cannot lead out; cgroup file
//! systems have no symbolic links. What is not there is `None`, not an error.

use std::{io, os::fd::OwnedFd};

use rustix::{
    fs::{FileType, Mode, OFlags},
    io::Errno,
};

use crate::{CgroupError, hierarchy::Slot};

/// Longest file that is read, in bytes: `cgroup.procs` of a group with a million processes.
const FILE_BYTES_MAX: usize = 8 << 20;

/// The kernel's answer to a step on `path` in a hierarchy.
pub(crate) fn failed(slot: &Slot, verb: &str, path: &str, error: Errno) -> CgroupError {
    CgroupError::step(format!("{verb} {}/{path}", slot.mounted.point.display()), error)
}

/// Opens a file, or says that it is not there. A group that is being removed answers `ENODEV`.
pub(crate) fn open(slot: &Slot, path: &str, flags: OFlags) -> Result<Option<OwnedFd>, CgroupError> {
    match rustix::fs::openat(&slot.dir, path, flags | OFlags::CLOEXEC, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NODEV) => Ok(None),
        Err(error) => Err(failed(slot, "open", path, error)),
    }
}

/// All of a file.
pub(crate) fn read(slot: &Slot, path: &str) -> Result<Option<String>, CgroupError> {
    let Some(fd) = open(slot, path, OFlags::RDONLY)? else { return Ok(None) };
    match read_open(&fd) {
        Ok(text) => Ok(Some(text)),
        Err(Errno::NODEV) => Ok(None),
        Err(error) => Err(failed(slot, "read", path, error)),
    }
}

/// The names of the groups directly below one; none if it is not there.
pub(crate) fn directories(slot: &Slot, path: &str) -> Result<Vec<String>, CgroupError> {
    let Some(fd) = open(slot, path, OFlags::RDONLY | OFlags::DIRECTORY)? else {
        return Ok(Vec::new());
    };
    let list = || -> Result<Vec<String>, Errno> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(fd)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy();
            if entry.file_type() == FileType::Directory && name != "." && name != ".." {
                names.push(name.into_owned());
            }
        }
        Ok(names)
    };
    list().map_err(|error| failed(slot, "list", path, error))
}

/// All of an open file, from its beginning.
pub(crate) fn read_open(fd: &OwnedFd) -> Result<String, Errno> {
    let mut bytes = vec![0; 4096];
    let mut filled = 0;
    loop {
        let at = u64::try_from(filled).map_err(|_| Errno::FBIG)?;
        let count = rustix::io::pread(fd, &mut bytes[filled..], at)?;
        filled += count;
        if count == 0 {
            bytes.truncate(filled);
            return String::from_utf8(bytes).map_err(|_| Errno::ILSEQ);
        }
        if filled == bytes.len() {
            if filled >= FILE_BYTES_MAX {
                return Err(Errno::FBIG);
            }
            bytes.resize(filled * 2, 0);
        }
    }
}

/// Writes a value in one go, which is how the kernel takes it. Says whether the file is there.
pub(crate) fn write(slot: &Slot, path: &str, value: &str) -> Result<bool, CgroupError> {
    let Some(fd) = open(slot, path, OFlags::WRONLY)? else { return Ok(false) };
    match write_open(&fd, value) {
        Ok(()) => Ok(true),
        Err(error) => Err(failed(slot, &format!("write \"{value}\" to"), path, error)),
    }
}

/// Writes a value in one go to an open file.
pub(crate) fn write_open(fd: &OwnedFd, value: &str) -> Result<(), Errno> {
    let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(fd, value.as_bytes(), 0))?;
    if written == value.len() { Ok(()) } else { Err(Errno::IO) }
}

/// Makes a group; says whether it had not been there. `ENOENT` (no parent) is the caller's.
pub(crate) fn make_dir(slot: &Slot, path: &str) -> Result<bool, Errno> {
    match rustix::fs::mkdirat(&slot.dir, path, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a group; one that is not there is removed.
pub(crate) fn remove_dir(slot: &Slot, path: &str) -> Result<(), Errno> {
    match rustix::fs::unlinkat(&slot.dir, path, rustix::fs::AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether a path is there.
pub(crate) fn exists(slot: &Slot, path: &str) -> bool {
    let flags = rustix::fs::AtFlags::empty();
    rustix::fs::accessat(&slot.dir, path, rustix::fs::Access::EXISTS, flags).is_ok()
}

/// Names of the groups directly below a group.
pub(crate) fn children(slot: &Slot, path: &str) -> Result<Vec<String>, CgroupError> {
    let Some(fd) = open(slot, path, OFlags::RDONLY | OFlags::DIRECTORY)? else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    let list = rustix::fs::Dir::new(fd).map_err(|error| failed(slot, "list", path, error))?;
    for entry in list {
        let entry = match entry {
            Ok(entry) => entry,
            // Removed while it was read.
            Err(Errno::NOENT | Errno::NODEV) => break,
            Err(error) => return Err(failed(slot, "list", path, error)),
        };
        let name = entry.file_name().to_str().unwrap_or(".");
        if entry.file_type() == rustix::fs::FileType::Directory && name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Most groups below one group that are visited; a container may make as many as
/// `cgroup.max.descendants` lets it.
const GROUPS_MAX: usize = 65_536;

/// A group and all groups below it, parents first.
pub(crate) fn descend(slot: &Slot, top: &str) -> Result<Vec<String>, CgroupError> {
    let mut found = vec![top.to_owned()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        let below = children(slot, &path)?;
        found.extend(below.into_iter().map(|name| format!("{path}/{name}")));
        next += 1;
        if found.len() > GROUPS_MAX {
            let error = io::Error::from(Errno::TOOMANYREFS);
            return Err(CgroupError::step(format!("list the groups below {top}"), error));
        }
    }
    Ok(found)
}

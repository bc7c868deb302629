//! Small steps on the disk, each naming what failed.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::DirBuilderExt as _,
    },
    path::Path,
};

use rustix::{
    fs::{CWD, Dir, Mode, OFlags, RenameFlags},
    io::Errno,
    path::Arg,
};

use crate::VolumeError;

/// Names what failed.
pub(crate) fn failed<E: Into<io::Error>>(
    step: &'static str,
    path: &Path,
) -> impl FnOnce(E) -> VolumeError + use<E> {
    let path = path.to_owned();
    move |source| VolumeError::Disk { step, path, source: source.into() }
}

/// A directory that is not reached through a symbolic link.
pub(crate) fn open_directory(at: impl AsFd, name: impl Arg) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

/// A directory of the store's own.
pub(crate) fn open(path: &Path) -> Result<OwnedFd, VolumeError> {
    open_directory(CWD, path).map_err(failed("open", path))
}

/// Makes a directory.
pub(crate) fn make(path: &Path, mode: u32) -> Result<(), VolumeError> {
    DirBuilder::new().mode(mode).create(path).map_err(failed("make", path))
}

/// Makes a directory and those above it, for root alone.
pub(crate) fn make_private(path: &Path) -> Result<(), VolumeError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("make", path))
}

/// Waits until what happened to a directory's names would survive a power cut.
pub(crate) fn sync(path: &Path) -> Result<(), VolumeError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(failed("sync", path))
}

/// As [`sync`], for everything on its file system: much was written just before.
pub(crate) fn sync_all(fd: impl AsFd, path: &Path) -> Result<(), VolumeError> {
    rustix::fs::syncfs(fd).map_err(failed("sync", path))
}

/// Renames, and fails with `EXIST` where something is already.
pub(crate) fn rename_new(from: &Path, to: &Path) -> rustix::io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system without the flag (before ext4 of 3.15, some network ones): the store has
        // the directory for itself, so nobody comes between.
        Err(Errno::INVAL) if !to.exists() => rustix::fs::renameat(CWD, from, CWD, to),
        other => other,
    }
}

/// Names in a directory, but `.` and `..`.
pub(crate) fn names(directory: impl AsFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// Removes a tree, never following a link. What is not there is gone.
pub(crate) fn erase(path: &Path) -> Result<(), VolumeError> {
    let erased = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match erased {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(failed("remove", path)),
    }
}

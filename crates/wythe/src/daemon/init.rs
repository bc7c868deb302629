//! The program behind `--init`, where shims find it: one file, of which a container can change
//! nothing.
//!
//! A container's root user reaches the file of its init through `/proc/1/exe`, and could write to
//! it. So it is not our own program, and it is opened through a read-only mount, which holds for
//! whoever opens it again. A sealed memfd would do as well, and cost every shim its size in memory.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{StatVfsMountFlags, statvfs},
    mount::{MountFlags, mount_bind, mount_remount},
};

use super::embedded::DEMO;
use crate::paths::Roots;

/// Where the program of this build is.
pub(super) fn path(roots: &Roots, build: &str) -> PathBuf {
    roots.run.join("init").join(build)
}

/// Puts it there, in the mount namespace that this process and the shims share.
pub(super) fn place(path: &Path) -> io::Result<()> {
    if is_read_only(path)? {
        return Ok(());
    }
    let directory = path.parent().unwrap_or(path);
    DirBuilder::new().recursive(true).mode(0o711).create(directory)?;
    // Of earlier builds. Those that shims here still use are mounted and cannot go.
    for old in fs::read_dir(directory)?.flatten() {
        let _ = fs::remove_file(old.path());
    }
    let part = path.with_extension("part");
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o555).open(&part)?;
    file.write_all(DEMO)?;
    drop(file);
    fs::rename(&part, path)?;
    mount_bind(path, path)?;
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    Ok(mount_remount(path, flags, c"")?)
}

/// Opens it for a shim.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    if is_read_only(path)? {
        return Ok(File::open(path)?.into());
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "the program for --init is not in its place"))
}

fn is_read_only(path: &Path) -> io::Result<bool> {
    match statvfs(path) {
        Ok(stat) => Ok(stat.f_flag.contains(StatVfsMountFlags::RDONLY)),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_cannot_be_opened_again_for_writing() {
        if !testkit::need::root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("init").join("1");
        // A mount namespace is a thread's own only before there are others: a child's, then.
        let thread = std::thread::spawn(move || {
            sys::namespace::leave(sys::clone::Namespaces(sys::clone::Namespaces::MOUNT)).unwrap();
            let down = rustix::mount::MountPropagationFlags::DOWNSTREAM;
            let all = rustix::mount::MountPropagationFlags::REC;
            rustix::mount::mount_change("/", down | all).unwrap();
            assert!(open(&path).is_err());
            place(&path).unwrap();
            place(&path).unwrap();
            let init = open(&path).unwrap();
            let again = format!("/proc/thread-self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&init));
            let error = OpenOptions::new().write(true).open(again).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
        });
        thread.join().unwrap();
    }
}

//! Mounting inside the root to be.

use std::{
    ffi::CStr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{CWD, FileType, Mode},
    io::{Errno, Result},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
        fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
    },
};
use sys::mount::{Change, attribute, set_attributes};

use super::{State, errno, root_of};
use crate::{
    beneath,
    op::{Make, NewMount},
};

/// Attaches a detached mount on what `target` means.
pub(super) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", target, c"", flags)
}

/// A detached copy of what is seen at a path of this mount namespace.
pub(super) fn copy_of(at: BorrowedFd<'_>, path: &CStr, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(at, path, flags)
}

/// A detached mount of a file system of the kernel's.
pub(crate) fn detached(mount: &NewMount) -> Result<OwnedFd> {
    let context = fsopen(mount.fstype.as_c_str(), FsOpenFlags::FSOPEN_CLOEXEC)?;
    if let Some(source) = &mount.source {
        fsconfig_set_string(&context, c"source", source.as_c_str())?;
    }
    for (key, value) in &mount.parameters {
        match value {
            Some(value) => fsconfig_set_string(&context, key.as_c_str(), value.as_c_str())?,
            None => fsconfig_set_flag(&context, key.as_c_str())?,
        }
    }
    fsconfig_create(&context)?;
    let attributes = u32::try_from(mount.attributes).map_err(|_| Errno::INVAL)?;
    let attributes = MountAttrFlags::from_bits_retain(attributes);
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// As [`detached`], or a copy of what the host has where this user namespace may not mount it.
fn detached_or_bound(mount: &NewMount) -> Result<OwnedFd> {
    let Some(host) = &mount.or_bind else { return detached(mount) };
    match detached(mount) {
        Err(Errno::PERM) => {
            let copy = copy_of(CWD, host, true)?;
            let change = Change { set: mount.attributes, recursive: true, ..Change::default() };
            errno(set_attributes(copy.as_fd(), change, None))?;
            Ok(copy)
        }
        other => other,
    }
}

/// Mounts a file system of the kernel's on a path.
pub(super) fn mount(state: &mut State, target: &CStr, new: &NewMount) -> Result<()> {
    let root = root_of(state)?;
    let target = match new.fstype.to_bytes() {
        b"proc" | b"sysfs" => beneath::find_or_make_plain(root, target)?,
        _ => beneath::find_or_make(root, target, Make::Directory)?,
    };
    let mounted = detached_or_bound(new)?;
    if let Some(change) = new.propagation {
        errno(set_attributes(mounted.as_fd(), change, None))?;
    }
    attach(mounted.as_fd(), target.as_fd())?;
    match new.fstype.to_bytes() {
        b"devpts" => state.devpts = Some(mounted),
        b"proc" => state.own_proc = Some(mounted),
        _ => {}
    }
    Ok(())
}

/// Makes what stands at a path read as empty; what does not exist needs no mask.
pub(super) fn mask(state: &mut State, path: &CStr) -> Result<()> {
    let target = match beneath::find(root_of(state)?, path) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other?,
    };
    let directory = beneath::kind(&target)?.0 == FileType::Directory;
    let cover = if directory { empty_directory(state)? } else { null_file(state)? };
    attach(cover.as_fd(), target.as_fd())
}

/// An empty read-only directory: a new file system the first time, then copies of its mount.
fn empty_directory(state: &mut State) -> Result<OwnedFd> {
    if let Some(empty) = &state.empty {
        return copy_of(empty.as_fd(), c"", false);
    }
    let guard = attribute::READ_ONLY | attribute::NO_SUID | attribute::NO_DEV | attribute::NO_EXEC;
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in [(c"nr_inodes", c"1"), (c"size", c"4096"), (c"mode", c"755")] {
        fsconfig_set_string(&context, key, value)?;
    }
    fsconfig_create(&context)?;
    let guard = MountAttrFlags::from_bits_retain(u32::try_from(guard).map_err(|_| Errno::INVAL)?);
    let empty = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, guard)?;
    state.empty = Some(rustix::io::fcntl_dupfd_cloexec(&empty, 3)?);
    Ok(empty)
}

/// A copy of the mount of the container's null device, checked to be it: something else may have
/// been put in its place by the image or by a mount (CVE-2025-31133).
fn null_file(state: &State) -> Result<OwnedFd> {
    let null = beneath::find(root_of(state)?, c"/dev/null")?;
    if !beneath::is_null_device(&null)? {
        return Err(Errno::NODEV);
    }
    copy_of(null.as_fd(), c"", false)
}

/// Covers what stands at a path with a read-only copy of itself.
pub(super) fn read_only(state: &State, path: &CStr) -> Result<()> {
    let target = match beneath::find(root_of(state)?, path) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other?,
    };
    let copy = copy_of(target.as_fd(), c"", true)?;
    let change = Change { set: attribute::READ_ONLY, ..Change::default() };
    errno(set_attributes(copy.as_fd(), change, None))?;
    attach(copy.as_fd(), target.as_fd())
}

/// Changes the attributes of the mount that a path leads to.
pub(super) fn attributes(state: &State, path: &CStr, change: Change) -> Result<()> {
    let target = beneath::find(root_of(state)?, path)?;
    errno(set_attributes(target.as_fd(), change, None))
}

/// Makes a symbolic link, unless something is there.
pub(super) fn link(state: &State, path: &CStr, to: &CStr) -> Result<()> {
    let (directory, name) = beneath::parent_of(root_of(state)?, path)?;
    match rustix::fs::symlinkat(to, &directory, name) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// Makes a directory and those above it.
pub(super) fn directory(state: &State, path: &CStr) -> Result<()> {
    let made = beneath::find_or_make(root_of(state)?, path, Make::Directory)?;
    match beneath::kind(&made)?.0 {
        FileType::Directory => Ok(()),
        FileType::RegularFile
        | FileType::Symlink
        | FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => Err(Errno::NOTDIR),
    }
}

/// Mode of a file whose permission bits are given in full.
pub(super) fn mode(bits: u32) -> Mode {
    Mode::from_raw_mode(bits & 0o7777)
}

//! An empty, read-only file system in the place of everything.
//!
//! Source: pivot_root(2), "pivot_root(".", ".")".

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use rustix::{
    fs::{CWD, Mode, OFlags, open},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
        fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
    },
    process::{chdir, fchdir, pivot_root},
};
use sys::mount::{Change, propagation, set_attributes};

/// Takes everything away from the calling thread, which is in a mount namespace of its own.
/// Child-safe.
///
/// # Errors
/// What the kernel refused.
pub fn clear() -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let tree = open("/", flags, Mode::empty())?;
    let change = Change { propagation: propagation::PRIVATE, recursive: true, ..Change::default() };
    set_attributes(tree.as_fd(), change, None)?;
    drop(tree);
    let empty = empty()?;
    move_mount(&empty, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    fchdir(&empty)?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(chdir("/")?)
}

/// A file system that can never hold anything but its own root.
fn empty() -> io::Result<OwnedFd> {
    const PARAMETERS: [(&CStr, &CStr); 3] =
        [(c"nr_inodes", c"1"), (c"size", c"4096"), (c"mode", c"555")];
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in PARAMETERS {
        fsconfig_set_string(&context, key, value)?;
    }
    fsconfig_set_flag(&context, "ro")?;
    fsconfig_create(&context)?;
    let guard = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, guard)?)
}

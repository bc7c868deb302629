//! Mounting and unmounting one EROFS file.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::CWD,
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
        fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
        unmount,
    },
};

use super::Attach;

/// Longest string that fsconfig(2) takes, without its final NUL. Source: fs/fsopen.c, `strndup_user`.
const FSCONFIG_STRING_MAX: usize = 255;

/// Mounts `file` on `target`, which is made where it is missing.
pub(super) fn attach(how: Attach, file: &Path, target: &Path) -> io::Result<()> {
    let mount = open(how, file)?;
    match fs::create_dir(target) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    move_mount(mount.as_fd(), "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

/// Mounts `file` nowhere: it is gone when the descriptor is.
///
/// Device nodes and set-user-id files in it have no effect for those who reach it by this mount;
/// overlayfs decides that for itself by its own flags.
pub(super) fn open(how: Attach, file: &Path) -> io::Result<OwnedFd> {
    let file = File::open(file)?;
    match how {
        Attach::File => mount(&source(&file)),
        Attach::Loop => {
            // The device goes by itself after its last user: here the mount, or this descriptor.
            let device = sys::loopdev::attach_read_only(file.as_fd())?;
            mount(&device.path)
        }
    }
}

/// The kernel takes no long path, but this is a short one of the same file.
fn source(file: &File) -> String {
    let short = format!("/proc/self/fd/{}", file.as_raw_fd());
    match fs::read_link(&short).ok().and_then(|path| path.into_os_string().into_string().ok()) {
        Some(path) if path.len() <= FSCONFIG_STRING_MAX => path,
        _ => short,
    }
}

fn mount(source: &str) -> io::Result<OwnedFd> {
    let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", source)?;
    fsconfig_set_flag(context.as_fd(), "ro")?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// An overlay of directories, top first, mounted nowhere: it is gone when the descriptor is, and
/// nobody can write to it. It holds its layers itself, wherever it is moved to.
///
/// Source: Documentation/filesystems/overlayfs.rst; `lowerdir+` since Linux 6.5, by descriptor
/// since 6.13.
pub(super) fn overlay(lower: &[PathBuf], source: &str) -> io::Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", source)?;
    // Notes of overlayfs's that somebody put into a layer are not followed, as in containers.
    fsconfig_set_string(context.as_fd(), "redirect_dir", "nofollow")?;
    fsconfig_set_string(context.as_fd(), "metacopy", "off")?;
    if sys::userns::is_confined() {
        fsconfig_set_flag(context.as_fd(), "userxattr")?;
    }
    for layer in lower {
        if layer.as_os_str().len() <= FSCONFIG_STRING_MAX {
            fsconfig_set_string(context.as_fd(), "lowerdir+", layer)?;
        } else {
            fsconfig_set_fd(context.as_fd(), "lowerdir+", File::open(layer)?.as_fd())?;
        }
    }
    fsconfig_set_flag(context.as_fd(), "ro")?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Unmounts `target` and removes it. Who still uses the files goes on doing so.
pub(super) fn detach(target: &Path) -> io::Result<()> {
    match unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    match fs::remove_dir(target) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

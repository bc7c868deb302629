//! An overlay of layers that is mounted nowhere.
//!
//! Source: overlayfs(5) in the kernel's Documentation/filesystems/overlayfs.rst; `lowerdir+`
//! since Linux 6.5, layers by descriptor since 6.13.

use std::{
    ffi::{OsStr, OsString},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::{Errno, Result},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_fd,
        fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    },
};

/// Longest string that fsconfig(2) takes, with its zero.
const STRING_BYTES_MAX: usize = 256;

/// What an overlay is made of.
#[derive(Clone, Copy, Debug)]
pub struct Layers<'a> {
    /// Layers that are only read, top first.
    pub lower: &'a [PathBuf],
    /// The layer that takes what is written, and overlayfs's scratch directory beside it.
    pub upper: Option<(&'a Path, &'a Path)>,
}

/// Mounts an overlay nowhere: it is gone with the descriptor.
///
/// # Errors
/// Whatever the kernel says; `EINVAL` for a single layer and nothing to write to.
pub fn overlay(layers: Layers<'_>) -> Result<OwnedFd> {
    let context = new_overlay()?;
    match layers.lower.iter().try_for_each(|layer| set_path(&context, "lowerdir+", layer)) {
        // Before Linux 6.5 all layers are one string.
        Err(Errno::INVAL) => {
            fsconfig_set_string(&context, c"lowerdir", joined(layers.lower).as_bytes())?;
        }
        other => other?,
    }
    if let Some((upper, work)) = layers.upper {
        set_path(&context, "upperdir", upper)?;
        set_path(&context, "workdir", work)?;
    }
    finish(&context)
}

/// As [`overlay`], of directories that are open: mounts that are nowhere, for instance, which may
/// be let go of then. The last two are what takes writes, and the scratch directory.
///
/// # Errors
/// Whatever the kernel says; `EINVAL` before Linux 6.13.
pub fn overlay_of(lower: &[OwnedFd], upper: &OwnedFd, work: &OwnedFd) -> Result<OwnedFd> {
    let context = new_overlay()?;
    for layer in lower {
        fsconfig_set_fd(&context, c"lowerdir+", layer.as_fd())?;
    }
    fsconfig_set_fd(&context, c"upperdir", upper.as_fd())?;
    fsconfig_set_fd(&context, c"workdir", work.as_fd())?;
    finish(&context)
}

/// Whatever the kernel was built for, an upper directory holds whole files and no directory that
/// stands for one of another name: otherwise what a container changed could not be told from its
/// upper directory alone. Nor is such a note followed that somebody put into a layer.
fn new_overlay() -> Result<OwnedFd> {
    let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", c"overlay")?;
    fsconfig_set_string(&context, c"redirect_dir", c"nofollow")?;
    fsconfig_set_string(&context, c"metacopy", c"off")?;
    if sys::userns::is_confined() {
        // Only root of the host may set what overlayfs otherwise keeps its notes in. Linux 5.11.
        fsconfig_set_flag(&context, c"userxattr")?;
    }
    Ok(context)
}

fn finish(context: &OwnedFd) -> Result<OwnedFd> {
    fsconfig_create(context)?;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// By name, or by descriptor where the name is too long for fsconfig(2).
fn set_path(context: &OwnedFd, key: &str, path: &Path) -> Result<()> {
    if path.as_os_str().len() < STRING_BYTES_MAX {
        return fsconfig_set_string(context, key, path);
    }
    let directory = open(CWD, path)?;
    fsconfig_set_fd(context, key, directory.as_fd())
}

fn joined(layers: &[PathBuf]) -> OsString {
    let mut all = Vec::new();
    for layer in layers {
        if !all.is_empty() {
            all.push(b':');
        }
        for byte in layer.as_os_str().as_bytes() {
            if matches!(byte, b':' | b'\\') {
                all.push(b'\\');
            }
            all.push(*byte);
        }
    }
    OsStr::from_bytes(&all).to_owned()
}

fn open(at: BorrowedFd<'_>, path: impl rustix::path::Arg) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(at, path, flags, Mode::empty())
}

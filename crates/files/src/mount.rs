//! An overlay of layers that is mounted nowhere.
//!
//! Source: overlayfs(5) in the kernel's Documentation/filesystems/overlayfs.rst; `lowerdir+`
//! since Linux 6.5, layers by descriptor since 6.13.

use std::{
    ffi::CString,
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
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, OpenTreeFlags, UnmountFlags,
        fsconfig_create, fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
        mount, open_tree, unmount,
    },
};

/// Longest string that fsconfig(2) takes, with its zero.
const STRING_BYTES_MAX: usize = 256;

/// Whatever the kernel was built for, an upper directory holds whole files and no directory that
/// stands for one of another name: otherwise what a container changed could not be told from its
/// upper directory alone. Nor is such a note followed that somebody put into a layer.
const RULES: [(&str, &str); 2] = [("redirect_dir", "nofollow"), ("metacopy", "off")];

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
    match in_parts(layers) {
        Err(Errno::INVAL) => at_once(layers),
        other => other,
    }
}

fn in_parts(layers: Layers<'_>) -> Result<OwnedFd> {
    let context = new_overlay()?;
    for layer in layers.lower {
        set_path(&context, "lowerdir+", layer)?;
    }
    if let Some((upper, work)) = layers.upper {
        set_path(&context, "upperdir", upper)?;
        set_path(&context, "workdir", work)?;
    }
    finish(&context)
}

/// As kernels before 6.5 want it: all layers in one string, longer than fsconfig(2) takes, by
/// mount(2). That needs a place: for a moment it lies over its own topmost layer.
fn at_once(layers: Layers<'_>) -> Result<OwnedFd> {
    let place = layers.upper.map(|(upper, _)| upper).or(layers.lower.first().map(PathBuf::as_path));
    let place = place.ok_or(Errno::INVAL)?;
    let options = CString::new(options(layers)).map_err(|_| Errno::INVAL)?;
    mount("overlay", place, "overlay", MountFlags::empty(), options.as_c_str())?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, place, flags);
    unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    tree
}

/// Everything as mount(2) takes it.
fn options(layers: Layers<'_>) -> Vec<u8> {
    let mut options = RULES.map(|(key, value)| format!("{key}={value}")).join(",").into_bytes();
    if sys::userns::is_confined() {
        options.extend_from_slice(b",userxattr");
    }
    options.extend_from_slice(b",lowerdir=");
    for (n, layer) in layers.lower.iter().enumerate() {
        if n > 0 {
            options.push(b':');
        }
        escape(layer, &mut options);
    }
    if let Some((upper, work)) = layers.upper {
        options.extend_from_slice(b",upperdir=");
        escape(upper, &mut options);
        options.extend_from_slice(b",workdir=");
        escape(work, &mut options);
    }
    options
}

fn escape(path: &Path, options: &mut Vec<u8>) {
    for byte in path.as_os_str().as_bytes() {
        if matches!(byte, b':' | b',' | b'\\') {
            options.push(b'\\');
        }
        options.push(*byte);
    }
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

fn new_overlay() -> Result<OwnedFd> {
    let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", c"overlay")?;
    for (key, value) in RULES {
        fsconfig_set_string(&context, key, value)?;
    }
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

fn open(at: BorrowedFd<'_>, path: impl rustix::path::Arg) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(at, path, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_separates_is_escaped() {
        let lower = [PathBuf::from("/a:b"), "/c,d".into(), r"/e\f".into()];
        let all =
            options(Layers { lower: &lower, upper: Some((Path::new("/u"), Path::new("/w,"))) });
        let end = r",lowerdir=/a\:b:/c\,d:/e\\f,upperdir=/u,workdir=/w\,";
        assert!(String::from_utf8(all).unwrap().ends_with(end));
    }

    #[test]
    fn old_kernels_get_the_same_overlay() {
        if !testkit::need::root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let (one, two, upper, work) = (make("one, two"), make("two:"), make("upper"), make("work"));
        std::fs::write(one.join("file"), "top").unwrap();
        std::fs::write(two.join("file"), "below").unwrap();
        let tree = at_once(Layers { lower: &[one, two], upper: Some((&upper, &work)) }).unwrap();
        let read = openat(&tree, "file", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        assert_eq!(std::io::read_to_string(std::fs::File::from(read)).unwrap(), "top");
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        openat(&tree, "new", flags, Mode::RUSR).unwrap();
        assert!(upper.join("new").exists(), "and nothing lies over it any more");
    }
}

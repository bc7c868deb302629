//! The root file system's mount.
//!
//! Source: overlayfs(5) in the kernel's Documentation/filesystems/overlayfs.rst; `lowerdir+`
//! since Linux 6.5, layers by descriptor since 6.13.

use std::{
    ffi::OsStr,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    io::{Errno, Result},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_fd,
        fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    },
};
use sys::mount::{Change, propagation, set_attributes};
use workload::{DriverError, IdMap, RootFs, UserMap};

use super::{map_ids, tree};
use crate::idmap;

/// Most layers that overlayfs stacks (`OVL_MAX_STACK`).
const LAYERS_MAX: usize = 500;
/// Longest string that fsconfig(2) takes, with its zero.
const STRING_BYTES_MAX: usize = 256;

/// A detached mount of a container's root. With `map` its files are seen through that id map.
pub(crate) fn root(
    root: &RootFs,
    map: Option<&UserMap>,
) -> std::result::Result<OwnedFd, DriverError> {
    let namespace = map.map(idmap::namespace).transpose()?;
    let namespace = namespace.as_ref().map(AsFd::as_fd);
    match root {
        RootFs::Directory(path) => directory(path, namespace),
        RootFs::Overlay { lower, upper, work } => {
            if lower.is_empty() || lower.len() > LAYERS_MAX {
                return Err(DriverError::Invalid {
                    what: "root".into(),
                    why: format!("there must be 1 to {LAYERS_MAX} layers"),
                });
            }
            let layers = Layers { lower, upper, work };
            match namespace {
                None => overlay(&layers).map_err(|error| layers.step(error)),
                Some(namespace) => as_root_inside(map, || shifted(&layers, namespace)),
            }
        }
    }
}

fn directory(
    path: &Path,
    namespace: Option<BorrowedFd<'_>>,
) -> std::result::Result<OwnedFd, DriverError> {
    let step = |what: &str, error: &std::io::Error| {
        DriverError::step(format!("{what} root {}", path.display()), error)
    };
    let mount = tree(path, true).map_err(|error| step("bind", &error.into()))?;
    let change = Change { propagation: propagation::PRIVATE, recursive: true, ..Change::default() };
    set_attributes(mount.as_fd(), change, None).map_err(|error| step("detach", &error))?;
    if let Some(namespace) = namespace {
        map_ids(mount.as_fd(), namespace, true).map_err(|error| step("map ids of", &error))?;
    }
    Ok(mount)
}

struct Layers<'a> {
    /// Top first.
    lower: &'a [PathBuf],
    upper: &'a Path,
    work: &'a Path,
}

impl Layers<'_> {
    fn step(&self, error: Errno) -> DriverError {
        let layers = self.lower.len();
        let step = format!("mount overlay of {layers} layers on {}", self.upper.display());
        DriverError::step(step, &error.into())
    }
}

fn overlay(layers: &Layers<'_>) -> Result<OwnedFd> {
    let context = new_overlay()?;
    match lower(&context, layers) {
        // Before Linux 6.5 all layers are one string.
        Err(Errno::INVAL) => fsconfig_set_string(&context, c"lowerdir", joined(layers).as_bytes())?,
        other => other?,
    }
    set_path(&context, "upperdir", layers.upper)?;
    set_path(&context, "workdir", layers.work)?;
    finish(&context)
}

fn new_overlay() -> Result<OwnedFd> {
    let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", c"overlay")?;
    if sys::userns::is_confined() {
        // Only root of the host may set what overlayfs otherwise keeps its notes in. Linux 5.11.
        fsconfig_set_flag(&context, c"userxattr")?;
    }
    Ok(context)
}

fn lower(context: &OwnedFd, layers: &Layers<'_>) -> Result<()> {
    layers.lower.iter().try_for_each(|layer| set_path(context, "lowerdir+", layer))
}

/// By name, or by descriptor where the name is too long for fsconfig(2).
fn set_path(context: &OwnedFd, key: &str, path: &Path) -> Result<()> {
    if path.as_os_str().len() < STRING_BYTES_MAX {
        return fsconfig_set_string(context, key, path);
    }
    let directory = open(rustix::fs::CWD, path)?;
    fsconfig_set_fd(context, key, directory.as_fd())
}

fn joined(layers: &Layers<'_>) -> std::ffi::OsString {
    let mut all = Vec::new();
    for layer in layers.lower {
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

fn finish(context: &OwnedFd) -> Result<OwnedFd> {
    fsconfig_create(context)?;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// An overlay whose layers are all seen through an id map: on disk everything belongs to whom it
/// would belong without one, so that layers can be shared and committed.
fn shifted(
    layers: &Layers<'_>,
    namespace: BorrowedFd<'_>,
) -> std::result::Result<OwnedFd, DriverError> {
    let (Some(home), Some(upper), Some(work)) =
        (layers.upper.parent(), layers.upper.file_name(), layers.work.file_name())
    else {
        return Err(not_beside());
    };
    if layers.work.parent() != Some(home) {
        return Err(not_beside());
    }
    let mapped = |path: &Path| {
        let mount = tree(path, false)?;
        map_ids(mount.as_fd(), namespace, false)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok(mount)
    };
    let make = || {
        let context = new_overlay()?;
        // Held until the overlay is made: a detached mount dissolves with its last descriptor.
        let lower = layers.lower.iter().map(|layer| mapped(layer)).collect::<Result<Vec<_>>>()?;
        for layer in &lower {
            fsconfig_set_fd(&context, c"lowerdir+", layer.as_fd())?;
        }
        // Both must be on one mount.
        let home = mapped(home)?;
        fsconfig_set_fd(&context, c"upperdir", open(home.as_fd(), upper)?.as_fd())?;
        fsconfig_set_fd(&context, c"workdir", open(home.as_fd(), work)?.as_fd())?;
        finish(&context)
    };
    make().map_err(|error| match error {
        Errno::INVAL => DriverError::Unsupported {
            what: "user namespace over layers".into(),
            why: "it takes Linux 6.13 and file systems that can map ids".into(),
        },
        other => layers.step(other),
    })
}

/// Does something as root of the map: overlayfs makes files in its layers as whoever mounted it,
/// and through an id map only users of the map can make any.
fn as_root_inside<T>(
    map: Option<&UserMap>,
    work: impl FnOnce() -> std::result::Result<T, DriverError>,
) -> std::result::Result<T, DriverError> {
    let outside = |ranges: &[IdMap]| {
        let range = ranges.iter().find(|range| range.inside == 0)?;
        Some(range.outside)
    };
    let ids = map.and_then(|map| Some((outside(&map.uids)?, outside(&map.gids)?)));
    let Some((uid, gid)) = ids else { return work() };
    let step = |error: &std::io::Error| DriverError::step(format!("act as user {uid}"), error);
    sys::process::set_file_ids(uid, gid).map_err(|error| step(&error))?;
    let done = work();
    let (own, group) = (rustix::process::geteuid(), rustix::process::getegid());
    sys::process::set_file_ids(own.as_raw(), group.as_raw()).map_err(|error| step(&error))?;
    done
}

fn not_beside() -> DriverError {
    DriverError::Invalid {
        what: "root".into(),
        why: "upper and work must stand in one directory for a user namespace".into(),
    }
}

fn open(at: BorrowedFd<'_>, path: impl rustix::path::Arg) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty())
}

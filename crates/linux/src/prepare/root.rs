//! The root file system's mount.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    io::{Errno, Result},
};
use sys::mount::{Change, propagation, set_attributes};
use workload::{DriverError, IdMap, RootFs, UserMap};

use super::{map_ids, tree};
use crate::idmap;

/// Most layers that overlayfs stacks (`OVL_MAX_STACK`).
const LAYERS_MAX: usize = 500;

/// A detached mount of a container's root. With `map` its files are seen through that id map.
pub(crate) fn root(
    root: &RootFs,
    map: Option<&UserMap>,
) -> std::result::Result<OwnedFd, DriverError> {
    let namespace = map.map(idmap::namespace).transpose()?;
    let namespace = namespace.as_ref().map(AsFd::as_fd);
    match root {
        RootFs::Layers { .. } => Err(DriverError::Invalid {
            what: "root".into(),
            why: "a container's layers are mounted, not handed over as files".into(),
        }),
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
                None => files::overlay(files::Layers { lower, upper: Some((upper, work)) })
                    .map_err(|error| layers.step(error)),
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
        // Held until the overlay is made: a detached mount dissolves with its last descriptor.
        let lower = layers.lower.iter().map(|layer| mapped(layer)).collect::<Result<Vec<_>>>()?;
        // Both must be on one mount.
        let home = mapped(home)?;
        let (upper, work) = (open(home.as_fd(), upper)?, open(home.as_fd(), work)?);
        files::overlay_of(&lower, &upper, &work)
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

//! What the parent prepares: the descriptors of a plan's table.
//!
//! Mounts are made detached, seen by nobody, and vanish with their descriptors if the launch
//! fails. The parent makes those for which the child may lack privileges: the root, and binds of
//! the host's files, with their id maps.

mod copy_up;
mod root;

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::CWD,
    io::Result,
    mount::{OpenTreeFlags, open_tree},
};
use sys::mount::{Change, set_attributes};
use workload::{DriverError, UserMap};

pub(crate) use self::root::root;
use crate::{idmap, plan::Source};

/// Descriptors that a launch is given, each for at most one place of the table.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// The group's files, and the directory of version 2.
    pub(crate) cgroup_files: Vec<OwnedFd>,
    pub(crate) cgroup: Option<OwnedFd>,
    pub(crate) streams: Option<[OwnedFd; 3]>,
    pub(crate) network: Option<OwnedFd>,
    pub(crate) ground: Option<OwnedFd>,
    pub(crate) target: Option<OwnedFd>,
    pub(crate) start: Option<OwnedFd>,
    pub(crate) init: Option<OwnedFd>,
    pub(crate) root: Option<OwnedFd>,
}

/// Makes the table of a plan.
pub(crate) fn table(
    sources: &[Source],
    given: &Given,
) -> std::result::Result<Vec<OwnedFd>, DriverError> {
    sources.iter().map(|source| one(source, given)).collect()
}

fn one(source: &Source, given: &Given) -> std::result::Result<OwnedFd, DriverError> {
    let streams = given.streams.as_ref().map_or(&[] as &[OwnedFd], |streams| streams);
    match source {
        Source::CgroupFile(at) => copy("cgroup", given.cgroup_files.get(*at)),
        Source::Stream(at) => copy("standard streams", streams.get(*at)),
        Source::Ground => copy("ground", given.ground.as_ref()),
        Source::Network => copy("network namespace", given.network.as_ref()),
        Source::Target => copy("process", given.target.as_ref()),
        Source::Start => copy("start", given.start.as_ref()),
        Source::Init => copy("init", given.init.as_ref()),
        Source::Root(_) => copy("root", given.root.as_ref()),
        Source::Namespace(path) => {
            let file = File::open(path);
            let file =
                file.map_err(|e| DriverError::step(format!("open {}", path.display()), &e))?;
            Ok(file.into())
        }
        Source::CopyUp { target, mount } => copy_up::mount(given.root.as_ref(), target, mount),
        Source::Bind { path, recursive, change, travel, idmap } => {
            bind(path, *recursive, *change, *travel, idmap.as_ref())
        }
    }
}

fn copy(what: &str, fd: Option<&OwnedFd>) -> std::result::Result<OwnedFd, DriverError> {
    let missing = || DriverError::Invalid {
        what: what.into(),
        why: "a descriptor is needed and was not handed over".into(),
    };
    let fd = fd.ok_or_else(missing)?;
    fd.try_clone().map_err(|error| DriverError::step(format!("duplicate {what}"), &error))
}

/// A detached copy of what the host has at a path, with attributes, propagation and id map.
fn bind(
    path: &Path,
    recursive: bool,
    change: Change,
    travel: Change,
    map: Option<&UserMap>,
) -> std::result::Result<OwnedFd, DriverError> {
    let step = |what: &str, error: &std::io::Error| {
        DriverError::step(format!("{what} {}", path.display()), error)
    };
    let mount = tree(path, recursive).map_err(|error| step("bind", &error.into()))?;
    let set = |change| set_attributes(mount.as_fd(), change, None);
    if change != Change::default() {
        set(change).map_err(|error| step("set attributes of", &error))?;
    }
    set(travel).map_err(|error| step("set propagation of", &error))?;
    if let Some(map) = map {
        let namespace = idmap::namespace(map)?;
        map_ids(mount.as_fd(), namespace.as_fd(), recursive)
            .map_err(|error| unmapped(path, &error))?;
    }
    Ok(mount)
}

/// Why ids cannot be mapped. Source: mount_setattr(2): `EINVAL` if the file system cannot, or is
/// mapped already; `ENOSYS` before Linux 5.12.
fn unmapped(path: &Path, error: &std::io::Error) -> DriverError {
    match rustix::io::Errno::from_io_error(error) {
        Some(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => DriverError::Unsupported {
            what: format!("idmap of {}", path.display()),
            why: "its file system cannot map ids, or the kernel is older than 5.12".into(),
        },
        Some(_) | None => DriverError::step(format!("map ids of {}", path.display()), error),
    }
}

/// A detached copy of the mount tree at a path.
fn tree(path: &Path, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(CWD, path, flags)
}

fn map_ids(
    mount: BorrowedFd<'_>,
    namespace: BorrowedFd<'_>,
    recursive: bool,
) -> std::io::Result<()> {
    set_attributes(mount, Change { recursive, ..Change::default() }, Some(namespace))
}

//! The root of a container that does not run, for the moment of one copy.
//!
//! A thread in a mount namespace of its own mounts the layers and the binds of the container,
//! works beneath that root, and ends; the mounts end with it and are seen by nobody else.

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    thread,
};

use files::Layers;
use rustix::{
    fs::{CWD, OFlags, ResolveFlags},
    io::Errno,
    mount::{
        MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, move_mount, open_tree,
    },
};
use sys::{
    clone::Namespaces,
    mount::{Change, set_attributes},
};

use crate::{Create, EngineError, MountKind, files::failed};

/// A root to be mounted.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    /// The container's own directory, on which it is mounted.
    pub(crate) directory: PathBuf,
    /// The image's layers, top first.
    pub(crate) lower: Vec<PathBuf>,
    /// What is mounted in it.
    pub(crate) binds: Vec<BindAt>,
    pub(crate) read_only: bool,
}

/// Something of the host's in a container.
#[derive(Clone, Debug)]
pub(crate) struct BindAt {
    source: PathBuf,
    target: PathBuf,
    recursive: bool,
    read_only: bool,
}

/// What of the host's a container has in it, parents first. Memory is empty while it does not
/// run, and gone.
pub(crate) fn binds(config: &Create) -> Vec<BindAt> {
    let mut binds: Vec<_> = config
        .mounts
        .iter()
        .filter_map(|mount| match &mount.kind {
            MountKind::Bind { source, non_recursive, .. } => Some(BindAt {
                source: source.clone(),
                target: mount.target.clone(),
                recursive: !non_recursive,
                read_only: mount.read_only,
            }),
            // A part of a volume is bound only for one that runs: its path is not to be trusted.
            MountKind::Volume(volume) if volume.subpath.is_none() => Some(BindAt {
                source: volume.source.clone()?,
                target: mount.target.clone(),
                recursive: true,
                read_only: mount.read_only,
            }),
            MountKind::Volume(_) | MountKind::Tmpfs { .. } => None,
        })
        .collect();
    binds.sort_by_key(|bind| bind.target.components().count());
    binds
}

impl Root {
    fn upper(&self) -> PathBuf {
        self.directory.join("upper")
    }

    /// Mounts it, does something beneath it, and unmounts it. With `write`, what is written goes
    /// to the container; without, nothing can be written.
    ///
    /// # Errors
    /// [`EngineError`] if it cannot be mounted; else what the work came to.
    pub(crate) fn with<T: Send>(
        &self,
        write: bool,
        work: impl FnOnce(BorrowedFd<'_>) -> Result<T, EngineError> + Send,
    ) -> Result<T, EngineError> {
        let inside = || {
            let root = self.mounted(write).map_err(failed("mount", &self.directory))?;
            work(root.as_fd())
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("stopped-root".to_owned());
            let thread = thread.spawn_scoped(scope, inside);
            let thread = thread.map_err(failed("work beneath", &self.directory))?;
            thread.join().unwrap_or(Err(EngineError::Failed { doing: "copying files" }))
        })
    }

    /// Changes the calling thread's mount namespace for good.
    fn mounted(&self, write: bool) -> std::io::Result<OwnedFd> {
        sys::namespace::leave(Namespaces(Namespaces::MOUNT))?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private)?;
        let (upper, work) = (self.upper(), self.directory.join("work"));
        let root = match write {
            true => files::overlay(Layers { lower: &self.lower, upper: Some((&upper, &work)) })?,
            false => {
                let lower: Vec<_> = [upper].into_iter().chain(self.lower.iter().cloned()).collect();
                files::overlay(Layers { lower: &lower, upper: None })?
            }
        };
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(root.as_fd(), "", CWD, &self.directory, flags)?;
        for bind in &self.binds {
            mount_in(&root, bind)?;
        }
        if self.read_only {
            read_only(root.as_fd(), false)?;
        }
        Ok(root)
    }
}

/// A bind whose source or target is not there is left out: the next start makes them.
fn mount_in(root: &OwnedFd, bind: &BindAt) -> std::io::Result<()> {
    let recursive =
        if bind.recursive { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | recursive;
    let tree = match open_tree(CWD, &bind.source, flags) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    if bind.read_only {
        read_only(tree.as_fd(), bind.recursive)?;
    }
    let target = match target(root, &bind.target) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree.as_fd(), "", target.as_fd(), "", flags)?)
}

fn target(root: &OwnedFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    sys::beneath::open(root, path, OFlags::PATH, resolve)
}

fn read_only(mount: BorrowedFd<'_>, recursive: bool) -> std::io::Result<()> {
    let change = Change { set: sys::mount::attribute::READ_ONLY, recursive, ..Change::default() };
    set_attributes(mount, change, None)
}

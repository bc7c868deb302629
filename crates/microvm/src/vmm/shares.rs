//! What of the host is in the machine: one directory in which every share has its name.
//!
//! The directory is made of mounts in a mount namespace of this process alone, and is gone with it.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, fstat, open},
    mount::{
        MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_change,
        move_mount, open_tree,
    },
};
use sys::clone::Namespaces;
use virtio::fs::{Export, Fs, Limits, Server, VALID};

use crate::translate::SHARE_TAG;

/// Where the directory is, in the namespace of this process: a place that every Linux has.
const PLACE: &str = "/run";

/// Shares that were handed over.
#[derive(Debug, Default)]
pub(super) struct Shares(Vec<Share>);

#[derive(Debug)]
struct Share {
    name: String,
    /// A copy of the mount that belongs to nobody yet.
    tree: OwnedFd,
    directory: bool,
}

impl Shares {
    /// Takes one: a directory or a file, by a descriptor of it.
    pub(super) fn add(&mut self, name: String, what: &OwnedFd) -> io::Result<()> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE;
        let tree = open_tree(what, "", flags)?;
        let directory = FileType::from_raw_mode(fstat(what)?.st_mode) == FileType::Directory;
        self.0.push(Share { name, tree, directory });
        Ok(())
    }

    /// The device through which the machine sees them.
    pub(super) fn device(self) -> Result<Fs, Box<dyn std::error::Error + Send + Sync>> {
        let place = Path::new(PLACE);
        sys::namespace::leave(Namespaces(Namespaces::MOUNT))?;
        let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
        mount_change("/", private)?;
        mount("tmpfs", place, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755")?;
        for share in self.0 {
            share.place(place)?;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open(place, flags, Mode::empty())?;
        let export = Export {
            root,
            only: None,
            read_only: false,
            valid: VALID,
            limits: Limits::default(),
            watch: false,
        };
        Ok(Fs::new(SHARE_TAG, Box::new(Server::new(export)?))?)
    }
}

impl Share {
    fn place(self, within: &Path) -> io::Result<()> {
        let at = within.join(&self.name);
        if self.directory {
            fs::create_dir(&at)?;
        } else {
            File::create(&at)?;
        }
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        Ok(move_mount(self.tree.as_fd(), "", CWD, &at, flags)?)
    }
}

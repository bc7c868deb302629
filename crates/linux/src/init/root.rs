//! The root directory, and the operations on files beneath it.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "`Child::step` lists every operation; each part is handed its own"
)]

use std::{
    ffi::CStr,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags},
    io::{Errno, Result},
    mount::{MoveMountFlags, UnmountFlags, move_mount, unmount},
};
use sys::mount::{Change, propagation, set_attributes};

use super::{Child, State, device, errno, mount, root_of};
use crate::{
    beneath,
    op::{Make, Op, Slot},
};

impl Child<'_> {
    /// Operations on mounts and files.
    pub(super) fn files(&self, state: &mut State, op: &Op) -> Result<()> {
        match op {
            Op::Detach => detach(),
            Op::AttachRoot { mount, at } => self.attach_root(state, *mount, at),
            Op::OpenRoot => {
                state.root = Some(open_directory(c"/")?);
                Ok(())
            }
            Op::Mount { target, mount } => mount::mount(state, target, mount),
            Op::Attach { target, mount } => {
                let mount = self.fd(*mount)?;
                let directory = beneath::kind(mount)?.0 == FileType::Directory;
                let make = if directory { Make::Directory } else { Make::File };
                let target = beneath::find_or_make(root_of(state)?, target, make)?;
                mount::attach(mount, target.as_fd())
            }
            Op::Attributes { target, change } => mount::attributes(state, target, *change),
            Op::Link { path, to } => mount::link(state, path, to),
            Op::Device { path, node } => device::make(state, path, *node),
            Op::BindDevice { path, host } => device::bind(state, path, host),
            Op::PivotRoot => pivot(state),
            Op::Chroot => chroot(state),
            Op::Mask(path) => mount::mask(state, path),
            Op::ReadOnly(path) => mount::read_only(state, path),
            Op::MakeDirectory(path) => mount::directory(state, path),
            _ => Err(Errno::INVAL),
        }
    }

    /// Attaches the root file system. Where its own path cannot be reached (a user namespace
    /// that may not search the way there) it is attached on top of everything.
    fn attach_root(&self, state: &mut State, slot: Slot, at: &CStr) -> Result<()> {
        let root = self.fd(slot)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        match move_mount(root, c"", CWD, at, flags) {
            Err(Errno::ACCESS | Errno::NOENT) => move_mount(root, c"", CWD, c"/", flags)?,
            other => other?,
        }
        state.root = Some(rustix::io::fcntl_dupfd_cloexec(root, 3)?);
        Ok(())
    }
}

fn open_directory(path: &CStr) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
}

/// Keeps what is mounted here from appearing on the host.
fn detach() -> Result<()> {
    let tree = open_directory(c"/")?;
    let change = Change { propagation: propagation::SLAVE, recursive: true, ..Change::default() };
    errno(set_attributes(tree.as_fd(), change, None))
}

/// Source: pivot_root(2), "pivot_root(".", ".")".
fn pivot(state: &mut State) -> Result<()> {
    rustix::process::fchdir(root_of(state)?)?;
    rustix::process::pivot_root(c".", c".")?;
    // The old root is now mounted on top of the new one, and "." still means the new one's
    // place: so this takes the old one away.
    unmount(c".", UnmountFlags::DETACH)?;
    rustix::process::chdir(c"/")?;
    state.root = Some(open_directory(c"/")?);
    Ok(())
}

/// For roots that cannot be pivoted away from (an initial RAM file system): the new root is
/// moved over the old one. Source: pivot_root(2), "NOTES"; switch_root(8).
fn chroot(state: &mut State) -> Result<()> {
    rustix::process::fchdir(root_of(state)?)?;
    rustix::process::chroot(c".")?;
    rustix::process::chdir(c"/")?;
    state.root = Some(open_directory(c"/")?);
    Ok(())
}

//! Device nodes beneath the root to be.

use std::{ffi::CStr, os::fd::AsFd};

use rustix::{
    fs::{AtFlags, FileType, Gid, Uid, chmodat, chownat, makedev, mknodat, statat},
    io::{Errno, Result},
};

use super::{State, mount, root_of};
use crate::{
    beneath,
    op::{Make, Node},
};

/// Makes a node. One that is there already must be this very one.
pub(super) fn make(state: &State, path: &CStr, node: Node) -> Result<()> {
    let (directory, name) = beneath::parent_of(root_of(state)?, path)?;
    let kind = FileType::from_raw_mode(node.mode);
    let device = makedev(node.major, node.minor);
    match mknodat(&directory, name, kind, mount::mode(node.mode), device) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let there = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let same_device = kind == FileType::Fifo || there.st_rdev == device;
            if FileType::from_raw_mode(there.st_mode) != kind || !same_device {
                return Err(Errno::EXIST);
            }
        }
        Err(other) => return Err(other),
    }
    // It is a node now, or something that nobody but the container's maker put there: no link
    // can lead elsewhere, since nothing of the container runs yet.
    chmodat(&directory, name, mount::mode(node.mode), AtFlags::empty())?;
    let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
    chownat(&directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

/// Binds a node of the host's.
pub(super) fn bind(state: &State, path: &CStr, host: &CStr) -> Result<()> {
    let source = beneath::open_host(host)?;
    let copy = mount::copy_of(source.as_fd(), c"", false)?;
    let target = beneath::find_or_make(root_of(state)?, path, Make::File)?;
    mount::attach(copy.as_fd(), target.as_fd())
}

//! A directory or a file of the host, as a machine gets it.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use rustix::mount::{OpenTreeFlags, open_tree};
use sys::mount::{Change, attribute, set_attributes};

use crate::furniture::Shared;

/// A mount of it that is nowhere; whoever has the descriptor has what is beneath.
///
/// # Errors
/// Those of `open_tree(2)` and `mount_setattr(2)`, Linux 5.12.
pub(crate) fn mount(shared: &Shared) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(rustix::fs::CWD, Path::new(&shared.path), flags)?;
    // The guest's kernel says what runs as whom; here nothing is run, and no device opened.
    let guard = attribute::NO_DEV | attribute::NO_SUID | attribute::NO_EXEC;
    let read = |is: bool| if is { attribute::READ_ONLY } else { 0 };
    let set = guard | read(shared.recursive_read_only);
    set_attributes(tree.as_fd(), Change { set, recursive: true, ..Change::default() }, None)?;
    let change = Change { set: read(shared.read_only), ..Change::default() };
    set_attributes(tree.as_fd(), change, None)?;
    Ok(tree)
}

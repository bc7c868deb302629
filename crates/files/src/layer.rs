//! A container's own layer and its whole root, as archives.
//!
//! Both are read from the writable layer and from what lies below it, not through the overlay:
//! a container that runs has that mounted, and two mounts of one writable layer disturb each
//! other.

use std::{
    collections::BTreeSet,
    io::Write,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use rustix::{fs::OFlags, io::Errno};
use workload::FileFault;

use crate::{
    Change, ChangeKind, beneath,
    changes::above,
    fault::kernel,
    object::Object,
    pack::{Packer, deep, joined},
};

/// Writes the changes of a writable layer as the archive of an image's layer: what was deleted is
/// a file `.wh.NAME`.
///
/// Source: OCI image-spec, layer.md, "Whiteouts".
///
/// # Errors
/// [`FileFault`]; the archive is cut off then.
pub fn layer(upper: BorrowedFd<'_>, changes: &[Change], out: impl Write) -> Result<(), FileFault> {
    let mut packer = Packer::new(out);
    let mut written = BTreeSet::new();
    for change in changes {
        parents(&mut packer, upper, above(&change.path), &mut written)?;
        match change.kind {
            ChangeKind::Modified | ChangeKind::Added => {
                if written.insert(change.path.clone()) {
                    object(&mut packer, upper, &change.path)?;
                }
            }
            ChangeKind::Deleted => {
                let path = above(&change.path);
                let name = change.path.get(path.len()..).unwrap_or_default();
                let name = name.strip_prefix(b"/").unwrap_or(name);
                packer.marker(&joined(path, &[b".wh.", name].concat()))?;
            }
        }
    }
    packer.finish()
}

/// The directories above a change, as they are: a layer that only implies them would give them
/// other owners and modes.
fn parents<W: Write>(
    packer: &mut Packer<W>,
    upper: BorrowedFd<'_>,
    path: &[u8],
    written: &mut BTreeSet<Vec<u8>>,
) -> Result<(), FileFault> {
    if path.is_empty() || !written.insert(path.to_vec()) {
        return Ok(());
    }
    parents(packer, upper, above(path), written)?;
    object(packer, upper, path)
}

fn object<W: Write>(
    packer: &mut Packer<W>,
    upper: BorrowedFd<'_>,
    path: &[u8],
) -> Result<(), FileFault> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    match open_plain(upper, path, flags).and_then(Object::new) {
        Ok(object) => packer.object(path, &object),
        // It went away meanwhile.
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        Err(errno) => Err(kernel("open", path)(errno)),
    }
}

/// A path on which no link is followed.
fn open_plain(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    use rustix::fs::ResolveFlags;
    beneath::open(root, path, flags, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

/// Writes everything that a writable layer and the tree below it show together, as one archive.
///
/// # Errors
/// As [`layer`].
pub fn export(
    upper: BorrowedFd<'_>,
    lower: BorrowedFd<'_>,
    out: impl Write,
) -> Result<(), FileFault> {
    let mut packer = Packer::new(out);
    let top = |root: BorrowedFd<'_>| {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        open_plain(root, b"", flags).and_then(Object::new).map_err(kernel("open", b"/"))
    };
    merged(&mut packer, Some(&top(upper)?), Some(&top(lower)?), b"", 0)?;
    packer.finish()
}

fn merged<W: Write>(
    packer: &mut Packer<W>,
    upper: Option<&Object>,
    lower: Option<&Object>,
    path: &[u8],
    depth: usize,
) -> Result<(), FileFault> {
    deep(path, depth)?;
    let mut names = BTreeSet::new();
    for directory in [upper, lower].into_iter().flatten() {
        names.extend(directory.names().map_err(kernel("list", path))?);
    }
    for name in names {
        let path = joined(path, &name);
        let find = |directory: Option<&Object>| match directory {
            Some(directory) => {
                Object::find(directory.fd().as_fd(), &name).map_err(kernel("open", &path))
            }
            None => Ok(None),
        };
        let own = find(upper)?;
        if own.as_ref().is_some_and(Object::is_whiteout) {
            continue;
        }
        let below = find(lower)?.filter(|below| !below.is_whiteout());
        let Some(shown) = own.as_ref().or(below.as_ref()) else { continue };
        packer.object(&path, shown)?;
        if shown.is_directory() {
            let hides = own.as_ref().is_some_and(crate::changes::is_opaque);
            let below = below.as_ref().filter(|below| below.is_directory() && !hides);
            merged(packer, own.as_ref(), below, &path, depth + 1)?;
        }
    }
    Ok(())
}

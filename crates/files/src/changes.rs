//! What a container's writable layer changes of the layers below it.
//!
//! Source: Documentation/filesystems/overlayfs.rst; for what counts as a change, Docker's
//! `archive.OverlayChanges`.

use std::{collections::BTreeMap, os::fd::BorrowedFd};

use archive::Time;
use rustix::io::Errno;
use workload::FileFault;

use crate::{
    fault::{kernel, text},
    object::Object,
    pack::{deep, joined},
};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where, without a slash at the beginning.
    pub path: Vec<u8>,
    /// What.
    pub kind: ChangeKind,
}

/// Kinds of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was there and is different.
    Modified,
    /// It was not there.
    Added,
    /// It is not there any more.
    Deleted,
}

/// Where every start of a container makes something to mount on, if the image has nothing there.
/// What is empty and stands here is nobody's change.
const MOUNT_POINTS: [&[u8]; 11] = [
    b".dockerenv",
    b"dev",
    b"dev/console",
    b"dev/mqueue",
    b"dev/pts",
    b"dev/shm",
    b"etc/hostname",
    b"etc/hosts",
    b"etc/resolv.conf",
    b"proc",
    b"sys",
];

/// What a writable layer, `upper`, changes of a tree, `lower`; sorted by path, directories before
/// what is in them.
///
/// # Errors
/// [`FileFault`] if either cannot be read.
pub fn changes(upper: BorrowedFd<'_>, lower: BorrowedFd<'_>) -> Result<Vec<Change>, FileFault> {
    let open = |fd: BorrowedFd<'_>| {
        let copy = fd.try_clone_to_owned().map_err(crate::fault::io("open", b"/"))?;
        Object::new(copy).map_err(kernel("open", b"/"))
    };
    let mut found = Found::default();
    found.directory(&open(upper)?, Some(&open(lower)?), b"", 0)?;
    Ok(found.listed())
}

/// What is looked at of one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    directory: bool,
    whiteout: bool,
    mode: u32,
    owner: (u32, u32),
    modified: Time,
}

impl From<&Object> for Seen {
    fn from(object: &Object) -> Seen {
        let stat = object.stat();
        Seen {
            directory: object.is_directory(),
            whiteout: object.is_whiteout(),
            mode: stat.st_mode,
            owner: (stat.st_uid, stat.st_gid),
            modified: object.modified(),
        }
    }
}

/// What became of something, if anything. A directory that was only copied up, because something
/// in it changed, is as it was.
fn decide(upper: Seen, lower: Option<Seen>) -> Option<ChangeKind> {
    match lower {
        None if upper.whiteout => None,
        None => Some(ChangeKind::Added),
        Some(_) if upper.whiteout => Some(ChangeKind::Deleted),
        Some(lower) if upper.directory && upper == lower => None,
        Some(_) => Some(ChangeKind::Modified),
    }
}

#[derive(Default)]
struct Found {
    changes: BTreeMap<Vec<u8>, ChangeKind>,
    /// Directories in which the engine made something to mount on: their time tells nothing.
    touched: Vec<Vec<u8>>,
}

impl Found {
    /// Looks at everything in a directory of the writable layer.
    fn directory(
        &mut self,
        upper: &Object,
        lower: Option<&Object>,
        path: &[u8],
        depth: usize,
    ) -> Result<(), FileFault> {
        deep(path, depth)?;
        let names = upper.names().map_err(kernel("list", path))?;
        let lower = lower.filter(|lower| lower.is_directory());
        if let Some(lower) = lower.filter(|_| is_opaque(upper)) {
            for name in lower.names().map_err(kernel("list", path))? {
                if names.binary_search(&name).is_err() {
                    self.changes.insert(joined(path, &name), ChangeKind::Deleted);
                }
            }
        }
        for name in names {
            let path = joined(path, &name);
            let failed = kernel("look at", &path);
            let Some(own) = Object::find(upper.fd(), &name).map_err(&failed)? else { continue };
            let below = match lower {
                Some(lower) => Object::find(lower.fd(), &name).map_err(&failed)?,
                None => None,
            };
            self.one(&own, below.as_ref(), path, depth)?;
        }
        Ok(())
    }

    fn one(
        &mut self,
        own: &Object,
        below: Option<&Object>,
        path: Vec<u8>,
        depth: usize,
    ) -> Result<(), FileFault> {
        if own.is_directory() && own.xattr(b"trusted.overlay.redirect").is_some() {
            return Err(kernel("read the renamed directory", &path)(Errno::OPNOTSUPP));
        }
        let change = decide(own.into(), below.map(Seen::from));
        let before = self.changes.len();
        if own.is_directory() {
            self.directory(own, below, &path, depth + 1)?;
        }
        let empty = self.changes.len() == before && is_empty(own);
        if change == Some(ChangeKind::Added) && empty && MOUNT_POINTS.contains(&path.as_slice()) {
            self.touched.push(above(&path).to_vec());
            return Ok(());
        }
        if let Some(kind) = change {
            self.changes.insert(path, kind);
        }
        Ok(())
    }

    /// The changes, with the directory of whatever came or went, as Docker lists it; without
    /// those directories in which only the engine has been.
    fn listed(mut self) -> Vec<Change> {
        let moved: Vec<_> = self
            .changes
            .iter()
            .filter(|(_, kind)| **kind != ChangeKind::Modified)
            .map(|(path, _)| above(path).to_vec())
            .filter(|path| !path.is_empty())
            .collect();
        for path in &self.touched {
            let only_time = self.changes.get(path) == Some(&ChangeKind::Modified);
            if only_time && !moved.contains(path) {
                self.changes.remove(path);
            }
        }
        for path in moved {
            self.changes.entry(path).or_insert(ChangeKind::Modified);
        }
        let mut list: Vec<_> =
            self.changes.into_iter().map(|(path, kind)| Change { path, kind }).collect();
        // `a/b` before `a.c`: as a walk meets them.
        list.sort_by(|a, b| a.path.split(is_slash).cmp(b.path.split(is_slash)));
        list
    }
}

fn is_slash(byte: &u8) -> bool {
    *byte == b'/'
}

/// Whether a directory hides what the layers below have in it.
pub(crate) fn is_opaque(directory: &Object) -> bool {
    // As the overlay was mounted, see `mount.rs`.
    let name: &[u8] = match sys::userns::is_confined() {
        true => b"user.overlay.opaque",
        false => b"trusted.overlay.opaque",
    };
    directory.xattr(name).is_some_and(|value| value == b"y")
}

/// Whether it is what a mount point is made of: an empty file or directory.
fn is_empty(object: &Object) -> bool {
    match object.is_directory() {
        // What is in it and counts has been counted.
        true => true,
        false => object.size() == 0 && object.kind() == rustix::fs::FileType::RegularFile,
    }
}

/// The directory of a path.
pub(crate) fn above(path: &[u8]) -> &[u8] {
    let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    path.get(..slash).unwrap_or_default()
}

impl std::fmt::Display for Change {
    /// As Docker prints it: `C /etc`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            ChangeKind::Modified => 'C',
            ChangeKind::Added => 'A',
            ChangeKind::Deleted => 'D',
        };
        write!(f, "{kind} /{}", text(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(directory: bool, seconds: i64) -> Seen {
        let modified = Time { seconds, nanoseconds: 0 };
        Seen { directory, whiteout: false, mode: 0o755, owner: (0, 0), modified }
    }

    #[test]
    fn what_became_of_something_is_told_by_both_layers() {
        let whiteout = Seen { whiteout: true, ..seen(false, 0) };
        assert_eq!(decide(whiteout, Some(seen(false, 0))), Some(ChangeKind::Deleted));
        assert_eq!(decide(whiteout, None), None);
        assert_eq!(decide(seen(false, 1), None), Some(ChangeKind::Added));
        assert_eq!(decide(seen(true, 1), Some(seen(true, 1))), None);
        assert_eq!(decide(seen(true, 2), Some(seen(true, 1))), Some(ChangeKind::Modified));
        assert_eq!(decide(seen(false, 1), Some(seen(false, 1))), Some(ChangeKind::Modified));
        assert_eq!(decide(seen(true, 1), Some(seen(false, 1))), Some(ChangeKind::Modified));
    }

    fn listed(changes: &[(&str, ChangeKind)], touched: &[&str]) -> Vec<String> {
        let found = Found {
            changes: changes.iter().map(|(path, kind)| (path.as_bytes().to_vec(), *kind)).collect(),
            touched: touched.iter().map(|path| path.as_bytes().to_vec()).collect(),
        };
        found.listed().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_directory_of_what_came_or_went_is_listed() {
        use ChangeKind::{Added, Deleted, Modified};
        let changes = [("etc/x", Added), ("bin/y", Deleted), ("top", Added), ("etc.d", Modified)];
        let want = ["C /bin", "D /bin/y", "C /etc", "A /etc/x", "C /etc.d", "A /top"];
        assert_eq!(listed(&changes, &[]), want);
    }

    #[test]
    fn where_only_the_engine_has_been_nothing_changed() {
        use ChangeKind::{Added, Modified};
        assert_eq!(listed(&[("etc", Modified)], &["etc"]), [""; 0]);
        let both = [("etc", Modified), ("etc/x", Added)];
        assert_eq!(listed(&both, &["etc"]), ["C /etc", "A /etc/x"]);
    }
}

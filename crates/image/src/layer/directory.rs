//! The directory form of a layer.
//!
//! Content arrives in files of a staging directory, named by number; when the archive has ended
//! the tree is made and they are moved to their names. So nothing in the archive is ever looked
//! up in the file system: a name only ever creates something in a directory that this module made
//! a moment ago and holds open.

use std::{
    fs::File,
    io,
    io::BufRead,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
    fsetxattr, linkat, lsetxattr, makedev, mkdirat, mknodat, openat, renameat, symlinkat, unlinkat,
    utimensat,
};
use rustix::io::Errno;
use sys::userns::Ids;

use super::{
    Attributes, Device, DeviceClass, LayerError, Name, Segment, Time, Xattr,
    apply::{self, Contents},
    path::RESERVED,
    tar::Archive,
    tree::{Child, Directory, Kind, Node, NodeId, Tree},
};
use crate::mounts::Marks;

/// A directory layer being written.
#[derive(Debug)]
pub(super) struct Staging<'r> {
    root: BorrowedFd<'r>,
    files: OwnedFd,
    count: u64,
    allowed: Allowed,
}

/// What the writer of a directory may give to files.
#[derive(Debug)]
struct Allowed {
    marks: Marks,
    /// The ids that may own something.
    ids: Option<Ids>,
}

impl Allowed {
    fn new(marks: Marks) -> Allowed {
        let ids = match marks {
            Marks::Trusted => None,
            Marks::User => Ids::own().ok(),
        };
        Allowed { marks, ids }
    }

    /// Who owns a file that the archive gives to these: root in place of whom nobody is here.
    fn owner(&self, attributes: &Attributes) -> (Uid, Gid) {
        let known = |known: bool, id: u32| if known { id } else { 0 };
        let uid = self.ids.as_ref().is_none_or(|ids| ids.has_uid(attributes.uid));
        let gid = self.ids.as_ref().is_none_or(|ids| ids.has_gid(attributes.gid));
        (Uid::from_raw(known(uid, attributes.uid)), Gid::from_raw(known(gid, attributes.gid)))
    }

    /// overlayfs's attribute of a directory that shows nothing of the layers below.
    fn opaque(&self) -> &'static str {
        match self.marks {
            Marks::Trusted => "trusted.overlay.opaque",
            Marks::User => "user.overlay.opaque",
        }
    }
}

/// Number of a file in the staging directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Staged(u64);

impl<'r> Staging<'r> {
    pub(super) fn new(root: BorrowedFd<'r>, marks: Marks) -> Result<Staging<'r>, LayerError> {
        let make = || {
            mkdirat(root, RESERVED, Mode::RWXU)?;
            open_directory(root, RESERVED.as_bytes())
        };
        let files = make().map_err(|error| LayerError::Write(error.into()))?;
        Ok(Staging { root, files, count: 0, allowed: Allowed::new(marks) })
    }

    /// Makes the tree, and returns how many extended attributes the file system would not take.
    pub(super) fn finish(self, tree: &Tree<Staged>) -> Result<u64, LayerError> {
        let mut moves = Moves {
            tree,
            allowed: &self.allowed,
            files: self.files.as_fd(),
            count: self.count,
            names: names_of(tree),
            kept: vec![None; tree.len()],
            ignored: 0,
            path: Vec::new(),
        };
        let root = tree.node(NodeId::ROOT);
        let Kind::Directory(directory) = &root.kind else {
            unreachable!("the root is a directory")
        };
        moves.children(self.root, directory)?;
        self.remove(moves.count).map_err(|error| LayerError::Write(error.into()))?;
        let opaque = directory.opaque;
        moves.directory_attributes(self.root, self.root, b".", &root.attributes, opaque)?;
        Ok(moves.ignored)
    }

    /// Removes the staging directory and what is left in it: content that later entries replaced.
    fn remove(&self, count: u64) -> rustix::io::Result<()> {
        for number in 1..=count {
            match unlinkat(&self.files, Staged(number).name(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        unlinkat(self.root, RESERVED, AtFlags::REMOVEDIR)
    }
}

impl Staged {
    fn name(self) -> String {
        self.0.to_string()
    }
}

impl Contents for Staging<'_> {
    type Place = Staged;

    fn store<R: BufRead>(
        &mut self,
        file: apply::File<'_>,
        data: &mut Archive<R>,
    ) -> Result<Staged, LayerError> {
        let path = Name::new(&file.entry.path);
        let failed = |source: io::Error| LayerError::WriteEntry { path: path.clone(), source };
        self.count += 1;
        let staged = Staged(self.count);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let out = openat(&self.files, staged.name(), flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| failed(error.into()))?;
        let out = File::from(out);
        let whole = [Segment { offset: 0, length: file.size }];
        for segment in file.segments.unwrap_or(&whole) {
            let (mut offset, end) = (segment.offset, segment.offset + segment.length);
            while offset < end {
                let Some(chunk) = data.chunk_up_to(end - offset).map_err(LayerError::Tar)? else {
                    return Err(failed(io::ErrorKind::UnexpectedEof.into()));
                };
                out.write_all_at(chunk, offset).map_err(failed)?;
                offset += chunk.len() as u64;
            }
        }
        if file.segments.is_some() {
            out.set_len(file.size).map_err(failed)?;
        }
        Ok(staged)
    }

    fn held_bytes(_: &Staged) -> u64 {
        0
    }
}

/// How many names every node has.
fn names_of<F>(tree: &Tree<F>) -> Vec<u32> {
    let mut names = vec![0; tree.len()];
    let mut todo = vec![NodeId::ROOT];
    while let Some(id) = todo.pop() {
        if let Kind::Directory(directory) = &tree.node(id).kind {
            for child in directory.children.values() {
                if let Some(count) = names.get_mut(child.node.index()) {
                    *count += 1;
                }
                todo.extend(
                    matches!(tree.node(child.node).kind, Kind::Directory(_)).then_some(child.node),
                );
            }
        }
    }
    names
}

/// The tree on its way to the file system.
struct Moves<'t> {
    tree: &'t Tree<Staged>,
    allowed: &'t Allowed,
    /// The staging directory, and how many names were used in it.
    files: BorrowedFd<'t>,
    count: u64,
    /// Names of each node that are still to be made.
    names: Vec<u32>,
    /// Where nodes with several names stand in the staging directory.
    kept: Vec<Option<Staged>>,
    ignored: u64,
    /// Where we are, for messages.
    path: Vec<u8>,
}

impl<'t> Moves<'t> {
    fn failed<E: Into<io::Error>>(&self) -> impl Fn(E) -> LayerError + use<E> {
        let path = Name::new(&self.path);
        move |error| LayerError::WriteEntry { path: path.clone(), source: error.into() }
    }

    /// Makes everything in a directory. As deep as paths may be, [`super::Limits::depth`].
    fn children(&mut self, at: BorrowedFd<'_>, directory: &'t Directory) -> Result<(), LayerError> {
        for (name, child) in &directory.children {
            let length = self.path.len();
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
            self.child(at, name, *child)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn child(&mut self, at: BorrowedFd<'_>, name: &[u8], child: Child) -> Result<(), LayerError> {
        let tree = self.tree;
        let node = tree.node(child.node);
        if let Kind::Directory(directory) = &node.kind {
            mkdirat(at, name, Mode::RWXU).map_err(self.failed())?;
            let own = open_directory(at, name).map_err(self.failed())?;
            self.children(own.as_fd(), directory)?;
            let opaque = directory.opaque || child.whiteout;
            return self.directory_attributes(own.as_fd(), at, name, &node.attributes, opaque);
        }
        let index = child.node.index();
        let names = self.names.get(index).copied().unwrap_or(1);
        let staged = match (self.kept.get(index).copied().flatten(), &node.kind) {
            (Some(staged), _) => staged,
            (None, Kind::File(staged)) => {
                self.attributes(self.files, staged.name().as_bytes(), node)?;
                *staged
            }
            (None, _) if names == 1 => return self.make(at, name, node),
            (None, _) => {
                self.count += 1;
                let staged = Staged(self.count);
                self.make(self.files, staged.name().as_bytes(), node)?;
                staged
            }
        };
        if let (Some(kept), Some(left)) = (self.kept.get_mut(index), self.names.get_mut(index)) {
            (*kept, *left) = (Some(staged), names.saturating_sub(1));
        }
        match names {
            0 | 1 => renameat(self.files, staged.name(), at, name),
            _ => linkat(self.files, staged.name(), at, name, AtFlags::empty()),
        }
        .map_err(self.failed())
    }

    /// Makes what is neither a directory nor a regular file.
    fn make(
        &mut self,
        at: BorrowedFd<'_>,
        name: &[u8],
        node: &Node<Staged>,
    ) -> Result<(), LayerError> {
        let made = match &node.kind {
            Kind::Symlink(target) => symlinkat(&**target, at, name),
            Kind::Fifo => mknodat(at, name, FileType::Fifo, Mode::RUSR, 0),
            Kind::Device(device) => self.device(at, name, *device),
            Kind::Whiteout => make_device(at, name, Device::WHITEOUT),
            Kind::Directory(_) | Kind::File(_) => Ok(()),
        };
        made.map_err(self.failed())?;
        self.attributes(at, name, node)
    }

    /// A device node, or an empty file in its place where there may be none: what nobody can open
    /// as a device, and what its name, owner and mode are kept on.
    fn device(&self, at: BorrowedFd<'_>, name: &[u8], device: Device) -> rustix::io::Result<()> {
        match make_device(at, name, device) {
            Err(Errno::PERM) if self.allowed.marks == Marks::User => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                openat(at, name, flags, Mode::RUSR).map(drop)
            }
            other => other,
        }
    }

    /// Owner, mode, attributes and time, in this order: chown clears capabilities and
    /// set-user-id, and everything changes the time.
    fn attributes(
        &mut self,
        at: BorrowedFd<'_>,
        name: &[u8],
        node: &Node<Staged>,
    ) -> Result<(), LayerError> {
        let attributes = &node.attributes;
        self.owner_and_mode(at, name, attributes, matches!(node.kind, Kind::Symlink(_)))?;
        // The magic link leads to the open directory; the last name is not followed.
        let path = [format!("/proc/self/fd/{}/", at.as_raw_fd()).as_bytes(), name].concat();
        for xattr in &attributes.xattrs {
            let set = lsetxattr(&*path, &*xattr.name, &xattr.value, XattrFlags::empty());
            self.xattr_set(set)?;
        }
        utimensat(at, name, &times(attributes.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(self.failed())
    }

    fn directory_attributes(
        &mut self,
        own: BorrowedFd<'_>,
        parent: BorrowedFd<'_>,
        name: &[u8],
        attributes: &Attributes,
        opaque: bool,
    ) -> Result<(), LayerError> {
        self.owner_and_mode(parent, name, attributes, false)?;
        for Xattr { name, value } in &attributes.xattrs {
            self.xattr_set(fsetxattr(own, &**name, value, XattrFlags::empty()))?;
        }
        if opaque {
            // Without it the layer would show what it hides.
            fsetxattr(own, self.allowed.opaque(), b"y", XattrFlags::empty())
                .map_err(self.failed())?;
        }
        utimensat(parent, name, &times(attributes.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(self.failed())
    }

    fn owner_and_mode(
        &mut self,
        at: BorrowedFd<'_>,
        name: &[u8],
        attributes: &Attributes,
        symlink: bool,
    ) -> Result<(), LayerError> {
        let (owner, group) = self.allowed.owner(attributes);
        chownat(at, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(self.failed())?;
        if symlink {
            return Ok(());
        }
        // The name is no symbolic link: it was made just now, where nobody else can write.
        let mode = Mode::from_raw_mode(attributes.mode.into());
        chmodat(at, name, mode, AtFlags::empty()).map_err(self.failed())
    }

    /// A file system without a kind of attribute is no reason to refuse the layer; Docker and
    /// containerd go on too. Neither is one that only root of the host may set.
    fn xattr_set(&mut self, set: rustix::io::Result<()>) -> Result<(), LayerError> {
        let forbidden = self.allowed.marks == Marks::User;
        match set {
            Err(Errno::PERM) if forbidden => {
                self.ignored += 1;
                Ok(())
            }
            Err(Errno::NOTSUP) => {
                self.ignored += 1;
                Ok(())
            }
            other => other.map_err(self.failed()),
        }
    }
}

fn make_device(at: BorrowedFd<'_>, name: &[u8], device: Device) -> rustix::io::Result<()> {
    let class = match device.class {
        DeviceClass::Character => FileType::CharacterDevice,
        DeviceClass::Block => FileType::BlockDevice,
    };
    mknodat(at, name, class, Mode::RUSR, makedev(device.major, device.minor))
}

fn open_directory(at: impl AsFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

fn times(mtime: Time) -> Timestamps {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

//! A tar archive into a directory.
//!
//! No name of the archive is trusted: it is cleaned as text, its directory is found by the kernel
//! beneath the place it belongs to, and what is made there replaces what was there, never what a
//! link there points to.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Read},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::FileExt as _,
    },
};

use archive::{Attributes, Device, DeviceClass, Entry, EntryKind, Limits, Segment, Time, tar};
use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, StatVfsMountFlags, Timespec,
        Timestamps, Uid, XattrFlags, chmod, chownat, fstatvfs, linkat, makedev, mkdirat, mknodat,
        openat, setxattr, symlinkat, unlinkat, utimensat,
    },
    io::Errno,
};
use workload::{FileFault, Owner, Unpack};

use crate::{
    beneath,
    fault::{io, kernel, text},
    object::Object,
    pack::{deep, joined},
    users,
};

/// Bytes read at once.
const BUFFER_BYTES: usize = 128 << 10;
/// Mode of directories that the archive only implies.
const IMPLIED_MODE: u32 = 0o755;

/// Where an archive goes.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// A directory by its path in a root: links on the way are followed as if `root` were the
    /// root directory.
    InRoot {
        /// The root.
        root: BorrowedFd<'a>,
        /// The directory.
        path: &'a str,
    },
    /// This directory: links that lead out of it are refused.
    Directory(BorrowedFd<'a>),
}

impl Place<'_> {
    fn open(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        match self {
            Place::InRoot { root, path: prefix } => {
                beneath::open_in_root(*root, &joined(prefix.as_bytes(), path), flags)
            }
            Place::Directory(directory) => {
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
                beneath::open(*directory, path, flags, resolve)
            }
        }
    }

    fn directory(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        self.open(path, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// The directory itself, checked to be one that can be written.
    fn target(&self) -> Result<OwnedFd, FileFault> {
        let shown = match self {
            Place::InRoot { path, .. } => path,
            Place::Directory(_) => ".",
        };
        let opened = self.open(b"", OFlags::PATH).map_err(|errno| match errno {
            Errno::NOENT => FileFault::NotFound { path: shown.to_owned() },
            Errno::NOTDIR => FileFault::Target,
            errno => kernel("open", shown.as_bytes())(errno),
        })?;
        let object = Object::new(opened).map_err(kernel("open", shown.as_bytes()))?;
        if !object.is_directory() {
            return Err(FileFault::Target);
        }
        let flags = |fd: BorrowedFd<'_>| fstatvfs(fd).map(|stat| stat.f_flag).ok();
        if flags(object.fd()).is_some_and(|flags| flags.contains(StatVfsMountFlags::RDONLY)) {
            let root = match self {
                Place::InRoot { root, .. } => {
                    Object::new(root.try_clone_to_owned().map_err(io("open", b"/"))?)
                        .map_err(kernel("open", b"/"))?
                }
                Place::Directory(_) => return Err(FileFault::ReadOnlyMount),
            };
            return Err(match root.stat().st_dev == object.stat().st_dev {
                true => FileFault::ReadOnlyRoot,
                false => FileFault::ReadOnlyMount,
            });
        }
        self.directory(b"").map_err(kernel("open", shown.as_bytes()))
    }

    /// To whom everything belongs, if not to whom the archive says.
    fn owner(&self, owner: &Owner) -> Result<Option<(u32, u32)>, FileFault> {
        match (owner, self) {
            (Owner::Archive, _) => Ok(None),
            (Owner::Given { uid, gid }, _) => Ok(Some((*uid, *gid))),
            (Owner::User { name }, Place::InRoot { root, .. }) => {
                let found = users::look_up(*root, name, &[]);
                let found = found.map_err(|none| FileFault::User { why: none.to_string() })?;
                Ok(Some((found.uid, found.gid)))
            }
            (Owner::User { name }, Place::Directory(_)) => {
                let why = format!("user {name} is looked up in a root, and this is a directory");
                Err(FileFault::User { why })
            }
        }
    }
}

/// Unpacks an archive, plain tar, into a directory; the first name of every path is replaced by
/// `name` if one is given.
///
/// # Errors
/// [`FileFault`]; entries before the failing one are there then.
pub fn unpack(
    place: Place<'_>,
    from: impl Read,
    how: &Unpack,
    name: Option<&[u8]>,
) -> Result<(), FileFault> {
    place.target()?;
    let owner = place.owner(&how.owner)?;
    let limits = Limits::default();
    let source = BufReader::with_capacity(BUFFER_BYTES, from);
    let mut archive = tar::Archive::new(source, &limits);
    let mut unpacking =
        Unpacking { place, keep_kinds: how.keep_kinds, owner, name, times: BTreeMap::new() };
    while let Some(entry) = archive.next_entry().map_err(malformed)? {
        unpacking.entry(&entry, &mut archive)?;
    }
    unpacking.finish();
    Ok(())
}

fn malformed(error: tar::TarError) -> FileFault {
    let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
    FileFault::Archive { why: format!("{error}{}", source.unwrap_or_default()) }
}

struct Unpacking<'a> {
    place: Place<'a>,
    /// See [`Unpack::keep_kinds`].
    keep_kinds: bool,
    /// Everything belongs to this user and group, if to any in particular.
    owner: Option<(u32, u32)>,
    name: Option<&'a [u8]>,
    /// Directories get their times when everything is in them.
    times: BTreeMap<Vec<u8>, Time>,
}

impl Unpacking<'_> {
    fn entry<R: Read>(
        &mut self,
        entry: &Entry,
        archive: &mut tar::Archive<BufReader<R>>,
    ) -> Result<(), FileFault> {
        let path = self.path_of(&entry.path)?;
        let Some((parents, name)) = split(&path) else {
            // The directory itself, which is there and keeps what it has, as Docker leaves it.
            return Ok(());
        };
        let parent = self.parent(parents)?;
        let parent = parent.as_fd();
        self.make_room(parent, name, &path, matches!(entry.kind, EntryKind::Directory))?;
        let failed = kernel("make", &path);
        match &entry.kind {
            EntryKind::Directory => {
                match mkdirat(parent, name, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(failed(errno)),
                }
                self.times.insert(path.clone(), entry.attributes.mtime);
            }
            EntryKind::File { size, segments } => {
                let file = create(parent, name).map_err(failed)?;
                write(&path, &file, *size, segments.as_deref(), archive)?;
            }
            EntryKind::HardLink(target) => return self.link(parent, name, target, &path),
            EntryKind::Symlink(target) => {
                symlinkat(&**target, parent, name).map_err(failed)?;
            }
            EntryKind::Device(device) => make_device(parent, name, *device).map_err(failed)?,
            EntryKind::Fifo => {
                mknodat(parent, name, FileType::Fifo, Mode::RUSR, 0).map_err(failed)?;
            }
        }
        self.attributes(parent, name, entry, &path)
    }

    /// The path of an entry, clean: no `.`, no `..`, no slash at either end.
    fn path_of(&self, path: &[u8]) -> Result<Vec<u8>, FileFault> {
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in path.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    let escapes = || FileFault::Escapes { path: text(path) };
                    parts.pop().ok_or_else(escapes)?;
                }
                part => parts.push(part),
            }
        }
        if let Some(name) = self.name {
            match parts.first_mut() {
                Some(first) => *first = name,
                None => parts.push(name),
            }
        }
        deep(path, parts.len())?;
        Ok(parts.join(&b'/'))
    }

    /// The directory of an entry, made where it is missing.
    fn parent(&self, path: &[u8]) -> Result<OwnedFd, FileFault> {
        match self.place.directory(path) {
            Err(Errno::NOENT) => {}
            Err(Errno::XDEV) => return Err(FileFault::Escapes { path: text(path) }),
            other => return other.map_err(kernel("open", path)),
        }
        let Some((above, name)) = split(path) else {
            return Err(FileFault::NotFound { path: text(path) });
        };
        let above = self.parent(above)?;
        match mkdirat(&above, name, Mode::from_raw_mode(IMPLIED_MODE)) {
            Ok(()) => {
                if let Some((uid, gid)) = self.owner {
                    own(above.as_fd(), name, uid, gid)
                        .map_err(kernel("change the owner of", path))?;
                }
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(kernel("make", path)(errno)),
        }
        self.place.directory(path).map_err(kernel("open", path))
    }

    /// Removes what has the name of an entry, unless both are directories.
    fn make_room(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        directory: bool,
    ) -> Result<(), FileFault> {
        let failed = kernel("replace", path);
        let Some(there) = Object::find(parent, name).map_err(&failed)? else { return Ok(()) };
        let shown = || text(path);
        match (there.is_directory(), directory) {
            (true, true) => Ok(()),
            (true, false) if self.keep_kinds => Err(FileFault::OverDirectory { path: shown() }),
            (false, true) if self.keep_kinds => Err(FileFault::OverOther { path: shown() }),
            (true, false) => remove_tree(parent, name, &there, 0, path),
            (false, _) => match unlinkat(parent, name, AtFlags::empty()) {
                // Something is mounted on it, such as the engine's own /etc/hosts: its content
                // is replaced.
                Err(Errno::BUSY) if there.kind() == FileType::RegularFile && !directory => Ok(()),
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(errno) => Err(failed(errno)),
            },
        }
    }

    fn link(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        target: &[u8],
        path: &[u8],
    ) -> Result<(), FileFault> {
        let target = self.path_of(target)?;
        let Some((above, last)) = split(&target) else {
            return Err(FileFault::Escapes { path: text(path) });
        };
        let above = self.place.directory(above).map_err(kernel("link to", &target))?;
        linkat(above, last, parent, name, AtFlags::empty()).map_err(kernel("link to", &target))
    }

    /// Owner, mode, extended attributes and time, in this order: a change of the owner clears
    /// capabilities and set-user-id, and everything changes the time.
    fn attributes(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
        path: &[u8],
    ) -> Result<(), FileFault> {
        let Attributes { mode, uid, gid, mtime, xattrs } = &entry.attributes;
        let failed = kernel("set attributes of", path);
        // What was made is held, so that whoever changes the name meanwhile changes nothing.
        let made = Object::at(parent, name).map_err(&failed)?;
        let wanted =
            matches!(entry.kind, EntryKind::Symlink(_)) == (made.kind() == FileType::Symlink);
        if !wanted {
            return Err(failed(Errno::STALE));
        }
        let (uid, gid) = match self.owner {
            None => (*uid, *gid),
            Some(owner) => owner,
        };
        if (made.stat().st_uid, made.stat().st_gid) != (uid, gid) {
            own(made.fd(), b"", uid, gid).map_err(&failed)?;
        }
        if made.kind() != FileType::Symlink {
            chmod(made.magic(), Mode::from_raw_mode((*mode).into())).map_err(&failed)?;
            for xattr in xattrs.iter().filter(|xattr| !is_overlay(&xattr.name)) {
                match setxattr(made.magic(), &*xattr.name, &xattr.value, XattrFlags::empty()) {
                    // A file system without them, or a caller who may not: Docker goes on too.
                    Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
                    Err(errno) => return Err(failed(errno)),
                }
            }
        }
        utimensat(parent, name, &times(*mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
    }

    /// Times of directories; one that has gone meanwhile needs none.
    fn finish(&self) {
        for (path, mtime) in &self.times {
            if let Some((parents, name)) = split(path)
                && let Ok(parent) = self.place.directory(parents)
            {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                let _ = utimensat(parent, name, &times(*mtime), flags);
            }
        }
    }
}

/// overlayfs takes orders from these: an archive may not give any.
fn is_overlay(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

fn own(at: BorrowedFd<'_>, name: &[u8], uid: u32, gid: u32) -> rustix::io::Result<()> {
    let flags = match name {
        b"" => AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW,
        _ => AtFlags::SYMLINK_NOFOLLOW,
    };
    chownat(at, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), flags)
}

/// A new file, or the one that something is mounted on, emptied.
fn create(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(parent, name, flags, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => Ok(File::from(fd)),
        Err(Errno::EXIST) => {
            let there = Object::at(parent, name)?;
            if there.kind() != FileType::RegularFile {
                return Err(Errno::EXIST);
            }
            there.reopen(OFlags::WRONLY | OFlags::TRUNC)
        }
        Err(errno) => Err(errno),
    }
}

fn write<R: Read>(
    path: &[u8],
    file: &File,
    size: u64,
    segments: Option<&[Segment]>,
    archive: &mut tar::Archive<BufReader<R>>,
) -> Result<(), FileFault> {
    let whole = [Segment { offset: 0, length: size }];
    for segment in segments.unwrap_or(&whole) {
        let (mut at, end) = (segment.offset, segment.offset + segment.length);
        while at < end {
            let Some(chunk) = archive.chunk_up_to(end - at).map_err(malformed)? else {
                return Err(FileFault::Archive { why: format!("{} is cut off", text(path)) });
            };
            file.write_all_at(chunk, at).map_err(io("write", path))?;
            at += chunk.len() as u64;
        }
    }
    match segments {
        Some(_) => file.set_len(size).map_err(io("write", path)),
        None => Ok(()),
    }
}

fn make_device(at: BorrowedFd<'_>, name: &[u8], device: Device) -> rustix::io::Result<()> {
    let class = match device.class {
        DeviceClass::Character => FileType::CharacterDevice,
        DeviceClass::Block => FileType::BlockDevice,
    };
    mknodat(at, name, class, Mode::RUSR, makedev(device.major, device.minor))
}

/// Removes a directory and what is in it; links are removed, not followed.
fn remove_tree(
    parent: BorrowedFd<'_>,
    name: &[u8],
    directory: &Object,
    depth: usize,
    path: &[u8],
) -> Result<(), FileFault> {
    deep(path, depth)?;
    let failed = kernel("remove", path);
    for child in directory.names().map_err(&failed)? {
        let Some(object) = Object::find(directory.fd(), &child).map_err(&failed)? else { continue };
        match object.is_directory() {
            true => remove_tree(directory.fd(), &child, &object, depth + 1, path)?,
            false => unlinkat(directory.fd(), &*child, AtFlags::empty()).map_err(&failed)?,
        }
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR).map_err(failed)
}

fn times(mtime: Time) -> Timestamps {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// A clean path as its directory and its last name; nothing for the empty one.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => {
            let (above, rest) = path.split_at(slash);
            (above, rest.get(1..).unwrap_or_default())
        }
        None => (b"", path),
    })
}

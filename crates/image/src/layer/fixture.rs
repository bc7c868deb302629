//! What the tests of layers share: archives, images, and descriptions of trees to compare.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    process::Command,
};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_fd, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};
use sha2::{Digest as _, Sha256};

use super::{
    Attributes, Entry, EntryKind, Layer, LayerError, Limits, Time, Xattr,
    read::{ImageKind, read_erofs},
    tar_write::TarWriter,
    write_directory, write_erofs,
};
use crate::mounts::Marks;

/// An entry with the data that the archive holds for it.
pub(super) type Stored = (Entry, Vec<u8>);

pub(super) fn entry(path: &str, kind: EntryKind) -> Stored {
    let mode = if kind == EntryKind::Directory { 0o755 } else { 0o644 };
    let mtime = Time { seconds: 1_600_000_000, nanoseconds: 0 };
    let attributes = Attributes { mode, mtime, ..Attributes::default() };
    (Entry { path: path.as_bytes().to_vec(), attributes, kind }, Vec::new())
}

pub(super) fn file(path: &str, data: impl Into<Vec<u8>>) -> Stored {
    let data = data.into();
    let kind = EntryKind::File { size: data.len() as u64, segments: None };
    (entry(path, kind).0, data)
}

pub(super) fn directory(path: &str) -> Stored {
    entry(path, EntryKind::Directory)
}

pub(super) fn symlink(path: &str, target: &str) -> Stored {
    entry(path, EntryKind::Symlink(target.as_bytes().to_vec()))
}

pub(super) fn hard_link(path: &str, target: &str) -> Stored {
    entry(path, EntryKind::HardLink(target.as_bytes().to_vec()))
}

pub(super) fn with_xattr(mut stored: Stored, name: &str, value: &[u8]) -> Stored {
    let xattr = Xattr { name: name.as_bytes().into(), value: value.into() };
    stored.0.attributes.xattrs.push(xattr);
    stored
}

pub(super) fn archive<'s>(entries: impl IntoIterator<Item = &'s Stored>) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    for (entry, data) in entries {
        tar.entry(entry).unwrap();
        if !data.is_empty() {
            tar.data(data).unwrap();
        }
    }
    tar.finish().unwrap()
}

pub(super) use archive::tar_write::records_of as records;

/// An image in a file that has a name, as fsck and a mount need.
pub(super) struct Written {
    pub(super) file: tempfile::NamedTempFile,
    pub(super) layer: Layer,
}

pub(super) fn written(tar: &[u8]) -> Result<Written, LayerError> {
    written_within(tar, &Limits::default())
}

pub(super) fn written_within(tar: &[u8], limits: &Limits) -> Result<Written, LayerError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let layer = write_erofs(tar, file.as_file(), limits, &mut |_| {})?;
    Ok(Written { file, layer })
}

pub(super) fn unpacked(tar: &[u8]) -> Result<(tempfile::TempDir, Layer), LayerError> {
    unpacked_within(tar, &Limits::default())
}

pub(super) fn unpacked_within(
    tar: &[u8],
    limits: &Limits,
) -> Result<(tempfile::TempDir, Layer), LayerError> {
    let dir = tempfile::tempdir().unwrap();
    let root = File::open(dir.path()).unwrap();
    let layer = write_directory(tar, root.as_fd(), Marks::Trusted, limits, &mut |_| {})?;
    Ok((dir, layer))
}

impl Written {
    pub(super) fn bytes(&self) -> Vec<u8> {
        fs::read(self.file.path()).unwrap()
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Lets erofs-utils look at the image.
    pub(super) fn fsck(&self) {
        let Some(fsck) = testkit::need::tool("fsck.erofs") else { return };
        let out = Command::new(fsck).arg("--extract").arg(self.path()).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    /// The image's root, mounted nowhere: it is gone when the descriptor is.
    pub(super) fn mount(&self) -> OwnedFd {
        let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        fsconfig_set_string(&context, "source", self.path()).unwrap();
        fsconfig_set_flag(&context, "ro").unwrap();
        fsconfig_create(&context).unwrap();
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY).unwrap()
    }

    pub(super) fn mounted(&self) -> Description {
        describe_fd(&self.mount())
    }

    /// The image as the reader sees it.
    pub(super) fn read(&self) -> Description {
        describe_image(self.file.as_file())
    }
}

/// An overlay of layers, the uppermost first, mounted nowhere. Layers as descriptors need Linux
/// 6.13, detached ones 6.15; they must stay open until the overlay is made.
pub(super) fn overlay(layers: &[Written]) -> OwnedFd {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    let mounts: Vec<_> = layers.iter().map(Written::mount).collect();
    for mount in &mounts {
        fsconfig_set_fd(&context, "lowerdir+", mount).unwrap();
    }
    fsconfig_create(&context).unwrap();
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap()
}

/// What one name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Described {
    /// With the file type.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: (i64, i64),
    pub(super) links: u64,
    pub(super) size: u64,
    /// Device number, link target or digest of the content.
    pub(super) content: String,
    pub(super) xattrs: Vec<(String, Vec<u8>)>,
    /// The first of its names.
    pub(super) first: String,
}

pub(super) type Description = BTreeMap<String, Described>;

pub(super) fn describe_fd(fd: &OwnedFd) -> Description {
    describe_path(&PathBuf::from(format!("/proc/self/fd/{}/.", fd.as_raw_fd())))
}

/// Describes a tree through the kernel.
pub(super) fn describe_path(root: &Path) -> Description {
    let mut description = Description::new();
    let mut firsts = BTreeMap::new();
    let mut todo = vec![String::new()];
    while let Some(path) = todo.pop() {
        let at = if path.is_empty() { root.to_owned() } else { root.join(&path) };
        let meta = fs::symlink_metadata(&at).unwrap();
        if meta.is_dir() {
            for child in fs::read_dir(&at).unwrap() {
                let name = child.unwrap().file_name().into_string().unwrap();
                todo.push(if path.is_empty() { name } else { format!("{path}/{name}") });
            }
            todo.sort_unstable_by(|a, b| b.cmp(a));
        }
        let file_type = meta.file_type();
        let content = if file_type.is_symlink() {
            fs::read_link(&at).unwrap().to_str().unwrap().to_owned()
        } else if file_type.is_file() {
            digest_of(&mut File::open(&at).unwrap())
        } else if file_type.is_char_device() || file_type.is_block_device() {
            let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
            format!("{major}:{minor}")
        } else {
            String::new()
        };
        let first = firsts.entry(meta.ino()).or_insert_with(|| path.clone()).clone();
        let described = Described {
            mode: meta.mode(),
            uid: meta.uid(),
            gid: meta.gid(),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            links: if meta.is_dir() { 0 } else { meta.nlink() },
            size: if file_type.is_file() { meta.size() } else { 0 },
            content,
            xattrs: xattrs(&at),
            first,
        };
        description.insert(path, described);
    }
    description
}

fn digest_of(from: &mut impl io::Read) -> String {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match from.read(&mut buffer).unwrap() {
            0 => return base::Digest::from_sha256(hash.finalize().into()).to_string(),
            read => hash.update(&buffer[..read]),
        }
    }
}

fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0; 64 << 10];
    let read = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let mut all: Vec<_> = names[..read]
        .split(|&b| b == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let read = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            value.truncate(read);
            (String::from_utf8(name.to_vec()).unwrap(), value)
        })
        .collect();
    all.sort();
    all
}

/// Describes an image through the reader.
pub(super) fn describe_image(file: &File) -> Description {
    let image = read_erofs(file, &Limits::default()).unwrap();
    let mut description = Description::new();
    let mut firsts = BTreeMap::new();
    for entry in image.entries() {
        let entry = entry.unwrap();
        let path = String::from_utf8(entry.path.clone()).unwrap();
        let (file_type, content, size) = match &entry.kind {
            ImageKind::Directory => (0o040_000, String::new(), 0),
            ImageKind::Fifo => (0o010_000, String::new(), 0),
            ImageKind::Symlink(target) => {
                (0o120_000, String::from_utf8(target.clone()).unwrap(), 0)
            }
            ImageKind::Device(device) => {
                let class = match device.class {
                    super::DeviceClass::Character => 0o020_000,
                    super::DeviceClass::Block => 0o060_000,
                };
                (class, format!("{}:{}", device.major, device.minor), 0)
            }
            ImageKind::File { size } => {
                let mut hash = HashWriter(Sha256::new());
                for extent in image.extents_of(&entry).unwrap() {
                    image.copy(&extent, &mut hash).unwrap();
                }
                let digest = base::Digest::from_sha256(hash.0.finalize().into());
                (0o100_000, digest.to_string(), *size)
            }
        };
        let first = firsts.entry(entry.nid).or_insert_with(|| path.clone()).clone();
        let attributes = entry.attributes;
        let text = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
        let described = Described {
            mode: file_type | u32::from(attributes.mode),
            uid: attributes.uid,
            gid: attributes.gid,
            mtime: (attributes.mtime.seconds, attributes.mtime.nanoseconds.into()),
            links: if file_type == 0o040_000 { 0 } else { entry.links.into() },
            size,
            content,
            xattrs: attributes.xattrs.iter().map(|x| (text(&x.name), x.value.to_vec())).collect(),
            first,
        };
        description.insert(path, described);
    }
    description
}

struct HashWriter(Sha256);

impl io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Fails with the first difference only: whole descriptions are too long to read.
#[track_caller]
pub(super) fn assert_same(left: &Description, right: &Description) {
    for (path, described) in left {
        assert_eq!(Some(described), right.get(path), "at \"{path}\"");
    }
    for path in right.keys() {
        assert!(left.contains_key(path), "\"{path}\" is on the right side only");
    }
}

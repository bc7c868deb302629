//! A tree as a tar archive.

use std::{
    collections::HashMap,
    io::{BufWriter, Read as _, Write},
    os::{fd::BorrowedFd, unix::fs::FileExt as _},
};

use archive::{Device, DeviceClass, Entry, EntryKind, Segment, tar_write::TarWriter};
use rustix::{
    fs::{FileType, OFlags},
    io::Errno,
};
use workload::FileFault;

use crate::{
    DEPTH_MAX, beneath,
    fault::{io, kernel, stream, text},
    object::Object,
};

/// Bytes read and written at once.
const BUFFER_BYTES: usize = 128 << 10;

/// Writes what is at a path, which is resolved as if `root` were the root directory, as an
/// archive whose only top name is `name`. The last name of the path is not followed unless a
/// slash comes after it.
///
/// # Errors
/// [`FileFault`]; the archive is cut off then.
pub fn pack(
    root: BorrowedFd<'_>,
    path: &str,
    name: &[u8],
    out: impl Write,
) -> Result<(), FileFault> {
    let object = open(root, path)?;
    let mut packer = Packer::new(out);
    packer.tree(name, &object, 0)?;
    packer.finish()
}

/// Opens what a path names.
pub(crate) fn open(root: BorrowedFd<'_>, path: &str) -> Result<Object, FileFault> {
    let follow = path.ends_with('/') || path.ends_with("/.");
    let nofollow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    let opened = beneath::open_in_root(root, path.as_bytes(), OFlags::PATH | nofollow);
    opened.and_then(Object::new).map_err(|errno| match errno {
        Errno::NOENT => FileFault::NotFound { path: path.to_owned() },
        Errno::NOTDIR => FileFault::NotADirectory { path: path.to_owned() },
        errno => kernel("open", path.as_bytes())(errno),
    })
}

/// An archive on its way.
pub(crate) struct Packer<W: Write> {
    tar: TarWriter<BufWriter<W>>,
    /// The first name of every file with several, by device and number.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl<W: Write> Packer<W> {
    pub(crate) fn new(out: W) -> Packer<W> {
        let tar = TarWriter::new(BufWriter::with_capacity(BUFFER_BYTES, out));
        Packer { tar, links: HashMap::new(), buffer: vec![0; BUFFER_BYTES] }
    }

    pub(crate) fn finish(self) -> Result<(), FileFault> {
        let finished = self.tar.finish().and_then(|mut out| out.flush());
        finished.map_err(|error| stream(&error))
    }

    /// Something and everything below it.
    fn tree(&mut self, name: &[u8], object: &Object, depth: usize) -> Result<(), FileFault> {
        self.object(name, object)?;
        if !object.is_directory() {
            return Ok(());
        }
        deep(name, depth)?;
        for child in object.names().map_err(kernel("list", name))? {
            let path = joined(name, &child);
            // What went away meanwhile is not there.
            if let Some(object) =
                Object::find(object.fd(), &child).map_err(kernel("open", &path))?
            {
                self.tree(&path, &object, depth + 1)?;
            }
        }
        Ok(())
    }

    /// One thing, with its content if it is a regular file. Sockets have no place in archives.
    pub(crate) fn object(&mut self, name: &[u8], object: &Object) -> Result<(), FileFault> {
        let stat = object.stat();
        let device = |class| {
            let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
            EntryKind::Device(Device { class, major, minor })
        };
        let key = (stat.st_dev, stat.st_ino);
        if !object.is_directory()
            && stat.st_nlink > 1
            && let Some(first) = self.links.get(&key)
        {
            let kind = EntryKind::HardLink(first.clone());
            return self.entry(name, object, kind);
        }
        match object.kind() {
            FileType::RegularFile => self.file(name, object)?,
            FileType::Directory => {
                self.entry(&joined(name, b""), object, EntryKind::Directory)?;
            }
            FileType::Symlink => {
                let target = object.link_target().map_err(kernel("read the link", name))?;
                self.entry(name, object, EntryKind::Symlink(target))?;
            }
            FileType::CharacterDevice => {
                self.entry(name, object, device(DeviceClass::Character))?;
            }
            FileType::BlockDevice => self.entry(name, object, device(DeviceClass::Block))?,
            FileType::Fifo => self.entry(name, object, EntryKind::Fifo)?,
            FileType::Socket | FileType::Unknown => return Ok(()),
        }
        if !object.is_directory() && stat.st_nlink > 1 {
            self.links.insert(key, name.to_vec());
        }
        Ok(())
    }

    /// A file that stands for something that is not there.
    pub(crate) fn marker(&mut self, name: &[u8]) -> Result<(), FileFault> {
        let kind = EntryKind::File { size: 0, segments: None };
        let entry = Entry { path: name.to_vec(), attributes: Default::default(), kind };
        self.tar.entry(&entry).map_err(|error| stream(&error))
    }

    fn entry(&mut self, name: &[u8], object: &Object, kind: EntryKind) -> Result<(), FileFault> {
        let entry = Entry { path: name.to_vec(), attributes: object.attributes(), kind };
        self.tar.entry(&entry).map_err(|error| stream(&error))
    }

    fn file(&mut self, name: &[u8], object: &Object) -> Result<(), FileFault> {
        let file = object.open_file().map_err(kernel("open", name))?;
        let size = object.size();
        let segments = object.segments(&file);
        self.entry(name, object, EntryKind::File { size, segments: segments.clone() })?;
        let whole = [Segment { offset: 0, length: size }];
        for segment in segments.as_deref().unwrap_or(&whole) {
            self.data(name, &file, *segment)?;
        }
        Ok(())
    }

    /// As much as the header says: a file that grows is cut, one that shrinks is filled with
    /// zeros.
    fn data(
        &mut self,
        name: &[u8],
        file: &std::fs::File,
        segment: Segment,
    ) -> Result<(), FileFault> {
        let (mut at, end) = (segment.offset, segment.offset + segment.length);
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(self.buffer.len());
            let room = self.buffer.get_mut(..most).unwrap_or_default();
            let read = match file.read_at(room, at) {
                Ok(0) => std::io::repeat(0).read(room).unwrap_or(0),
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(io("read", name)(error)),
            };
            let bytes = room.get(..read).unwrap_or_default();
            self.tar.data(bytes).map_err(|error| stream(&error))?;
            at += read as u64;
        }
        Ok(())
    }
}

/// Refuses to go deeper than [`DEPTH_MAX`].
pub(crate) fn deep(path: &[u8], depth: usize) -> Result<(), FileFault> {
    match depth >= DEPTH_MAX {
        true => Err(FileFault::Deep { path: text(path), most: DEPTH_MAX }),
        false => Ok(()),
    }
}

/// A path and a name in it; with the empty name, the path as a directory's.
pub(crate) fn joined(path: &[u8], name: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if path.is_empty() || path.ends_with(b"/") { b"" } else { b"/" };
    [path, slash, name].concat()
}

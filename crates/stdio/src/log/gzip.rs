//! Older files of a `json-file` log, compressed: `path.1.gz`, `path.2.gz`, …, as Docker names them.
//!
//! A reader knows plain files by their inodes, and a compressed one is another inode: so its
//! header has a comment that says which file it was, and when that was last written to. (Inodes
//! are used again, the moment of the last write is not.)
//!
//! Whoever renames files of a log that is compressed holds a lock on its directory, so that a file
//! keeps its name while it is compressed, by whichever process.
//!
//! Source: RFC 1952; moby, `daemon/logger/loggerutils/logfile.go`, for the names.

use std::{
    fs::{self, File},
    io::{self, Seek as _},
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use flate2::{Compression, GzBuilder, read::GzDecoder};
use rustix::fs::{CWD, FlockOperation, MemfdFlags, Mode, OFlags};

use super::{LogError, files};

/// Which file a file is, or was before it was compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    device: u64,
    pub(crate) inode: u64,
    /// When it was last written to, in seconds and nanoseconds; 0 of one that may yet be.
    modified: (i64, i64),
}

impl Origin {
    /// Of a file that is open to be written, or may be.
    pub(crate) fn plain(metadata: &fs::Metadata) -> Origin {
        Origin { device: metadata.dev(), inode: metadata.ino(), modified: (0, 0) }
    }

    /// Of a file that nobody writes to any more.
    pub(crate) fn final_of(metadata: &fs::Metadata) -> Origin {
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Origin { modified, ..Origin::plain(metadata) }
    }

    fn comment(self) -> String {
        let (seconds, nanoseconds) = self.modified;
        format!("wythe {} {} {seconds} {nanoseconds}", self.device, self.inode)
    }

    fn parse(comment: &[u8]) -> Option<Origin> {
        let mut words = std::str::from_utf8(comment).ok()?.strip_prefix("wythe ")?.split(' ');
        let device = words.next()?.parse().ok()?;
        let inode = words.next()?.parse().ok()?;
        let modified = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Origin { device, inode, modified })
    }
}

/// Held while files of a log are renamed.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "it is held")] OwnedFd);

/// Waits until nobody renames or compresses files of this log.
pub(crate) fn lock(path: &Path) -> io::Result<Lock> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = directory.unwrap_or(Path::new("."));
    let directory = rustix::fs::openat(CWD, directory, flags, Mode::empty())?;
    loop {
        match rustix::fs::flock(&directory, FlockOperation::LockExclusive) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map(|()| Lock(directory)).map_err(io::Error::from),
        }
    }
}

/// Compresses every older file that is not yet. One that a kill left half-made is made anew.
pub(crate) fn compress_older(path: &Path) -> Result<(), LogError> {
    let _lock = lock(path).map_err(|error| LogError::io("lock", path, error))?;
    for number in files::numbers(path)?.into_iter().filter(|number| *number > 0) {
        let name = files::name(path, number);
        compress(path, &name).map_err(|error| LogError::io("compress", &name, error))?;
    }
    Ok(())
}

fn compress(path: &Path, name: &Path) -> io::Result<()> {
    let mut from = File::open(name)?;
    let origin = Origin::final_of(&from.metadata()?);
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".gz.new");
    let mut options = File::options();
    let options = options.write(true).create(true).truncate(true).mode(files::MODE);
    let header = GzBuilder::new().comment(origin.comment());
    let mut to = header.write(options.open(&unfinished)?, Compression::default());
    io::copy(&mut from, &mut to)?;
    // The plain file goes: what takes its place must be there after a crash of the host too.
    to.finish()?.sync_data()?;
    fs::rename(&unfinished, packed_name(name))?;
    fs::remove_file(name)
}

/// The name of a file once it is compressed.
pub(crate) fn packed_name(name: &Path) -> PathBuf {
    let mut name = name.as_os_str().to_owned();
    name.push(".gz");
    name.into()
}

/// Which file a compressed one was. One that somebody else compressed is itself.
pub(crate) fn origin(name: &Path) -> io::Result<Origin> {
    let file = File::open(name)?;
    origin_of(&file, &GzDecoder::new(&file))
}

fn origin_of<R>(file: &File, decoder: &GzDecoder<R>) -> io::Result<Origin> {
    let comment = decoder.header().and_then(|header| header.comment());
    match comment.and_then(Origin::parse) {
        Some(origin) => Ok(origin),
        None => Ok(Origin::final_of(&file.metadata()?)),
    }
}

/// The content of a compressed file, as a file that has no name and goes with its descriptor.
pub(crate) fn inflate(name: &Path) -> io::Result<(File, Origin)> {
    let file = File::open(name)?;
    let mut decoder = GzDecoder::new(&file);
    let origin = origin_of(&file, &decoder)?;
    let mut content = nameless(name)?;
    io::copy(&mut decoder, &mut content)?;
    content.rewind()?;
    Ok((content, origin))
}

/// A file beside this one, or in memory where its file system has none without a name.
fn nameless(beside: &Path) -> io::Result<File> {
    let directory = beside.parent().filter(|parent| !parent.as_os_str().is_empty());
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let made = rustix::fs::openat(
        CWD,
        directory.unwrap_or(Path::new(".")),
        flags,
        Mode::RUSR | Mode::WUSR,
    );
    match made {
        Ok(file) => Ok(file.into()),
        Err(_) => Ok(rustix::fs::memfd_create(c"log", MemfdFlags::CLOEXEC)?.into()),
    }
}

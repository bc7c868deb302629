//! The store's directory: temporary files, and names that appear and go all at once.
//!
//! ```text
//! content/
//!   lock                   held by the one process that has the store open
//!   images.json            the table
//!   blobs/sha256/<hex>     manifests, indexes, configurations, layers as they came
//!   layers/<hex>.erofs     a layer, by its diff id   (or layers/<hex>/ in the directory form)
//!   tmp/                   whatever is not finished; emptied when the store is opened
//! ```
//!
//! A file below `blobs` or `layers` is whole and on the disk, for it gets its name only then.

use std::{
    fs::{self, File, OpenOptions},
    io,
    ops::Deref,
    os::unix::fs::{DirBuilderExt, MetadataExt as _, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use base::Digest;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::fuse::Fuse;

/// Where everything is.
#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    /// Other directories of the same form, which may have the same blobs.
    neighbours: Vec<PathBuf>,
    next: AtomicU64,
    fuse: Fuse,
}

/// A file or directory that has no name yet; it goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Temporary<'d> {
    disk: Held<'d>,
    path: PathBuf,
    kept: bool,
}

/// The disk of something temporary, for as long as that takes.
#[derive(Debug)]
enum Held<'d> {
    Borrowed(&'d Disk),
    Shared(Arc<Disk>),
}

impl Deref for Held<'_> {
    type Target = Disk;

    fn deref(&self) -> &Disk {
        match self {
            Held::Borrowed(disk) => disk,
            Held::Shared(disk) => disk,
        }
    }
}

/// Whether a name was free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It was, and names the new thing.
    New,
    /// It was not; the thing of that name is as good, and the new one is gone.
    Existed,
}

impl Disk {
    /// Makes what is missing of the directory, and empties what is temporary.
    pub(crate) fn open(root: PathBuf, neighbours: Vec<PathBuf>, fuse: Fuse) -> io::Result<Disk> {
        let disk = Disk::open_blobs(root, neighbours, fuse)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(disk.layers())?;
        Ok(disk)
    }

    /// As [`Disk::open`], of a directory that has blobs and no layers.
    pub(crate) fn open_blobs(
        root: PathBuf,
        neighbours: Vec<PathBuf>,
        fuse: Fuse,
    ) -> io::Result<Disk> {
        let disk = Disk { root, neighbours, next: AtomicU64::new(0), fuse };
        for dir in [disk.blobs(), disk.tmp()] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        for leftover in fs::read_dir(disk.tmp())? {
            disk.erase(&leftover?.path())?;
        }
        Ok(disk)
    }

    pub(crate) fn table(&self) -> PathBuf {
        self.root.join("images.json")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// A new file, open for reading and writing.
    pub(crate) fn temporary_file(&self) -> io::Result<(Temporary<'_>, File)> {
        let (path, file) = self.new_file()?;
        Ok((Temporary { disk: Held::Borrowed(self), path, kept: false }, file))
    }

    /// The same, for whoever keeps it longer than a borrow lasts.
    pub(crate) fn shared_file(self: &Arc<Disk>) -> io::Result<(Temporary<'static>, File)> {
        let (path, file) = self.new_file()?;
        Ok((Temporary { disk: Held::Shared(Arc::clone(self)), path, kept: false }, file))
    }

    fn new_file(&self) -> io::Result<(PathBuf, File)> {
        self.fuse.step()?;
        let path = self.temporary_path();
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        Ok((path, file))
    }

    /// Gives a neighbour's blob a name here, if one has it; nothing if none has.
    ///
    /// The file is one from then on, for nobody writes to what has a name; the kernel counts the
    /// names, so that neither has to ask the other before it takes its own away.
    pub(crate) fn share_blob(&self, digest: &Digest, bytes: u64) -> io::Result<Option<Placed>> {
        for neighbour in &self.neighbours {
            let there = neighbour.join("blobs/sha256").join(digest.hex());
            if !fs::symlink_metadata(&there).is_ok_and(|found| is_ours(&found, bytes)) {
                continue;
            }
            self.fuse.step()?;
            match fs::hard_link(&there, self.blob(digest)) {
                Ok(()) => return Ok(Some(Placed::New)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Ok(Some(Placed::Existed));
                }
                // On another file system, or gone meanwhile: then it is kept twice.
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// A new directory.
    pub(crate) fn temporary_directory(&self) -> io::Result<Temporary<'_>> {
        self.fuse.step()?;
        let path = self.temporary_path();
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Temporary { disk: Held::Borrowed(self), path, kept: false })
    }

    fn temporary_path(&self) -> PathBuf {
        self.tmp().join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// Makes the names of blobs durable.
    pub(crate) fn sync_blobs(&self) -> io::Result<()> {
        self.fuse.step()?;
        File::open(self.blobs())?.sync_all()
    }

    /// Makes the names in the directories durable.
    pub(crate) fn sync_names(&self) -> io::Result<()> {
        for dir in [self.blobs(), self.layers(), self.root.clone()] {
            self.fuse.step()?;
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    }

    /// Replaces the table, durably.
    pub(crate) fn replace_table(&self, bytes: &[u8]) -> io::Result<()> {
        let (mut temporary, mut file) = self.temporary_file()?;
        io::Write::write_all(&mut file, bytes)?;
        self.fuse.step()?;
        file.sync_all()?;
        self.fuse.step()?;
        fs::rename(&temporary.path, self.table())?;
        temporary.kept = true;
        self.fuse.step()?;
        File::open(&self.root)?.sync_all()
    }

    /// Takes a name away; what it named is deleted when the answer is dropped.
    pub(crate) fn unname(&self, path: &Path) -> io::Result<Temporary<'_>> {
        self.fuse.step()?;
        let grave = self.temporary_path();
        fs::rename(path, &grave)?;
        Ok(Temporary { disk: Held::Borrowed(self), path: grave, kept: false })
    }

    fn erase(&self, path: &Path) -> io::Result<()> {
        self.fuse.step()?;
        match fs::symlink_metadata(path)?.is_dir() {
            true => fs::remove_dir_all(path),
            false => fs::remove_file(path),
        }
    }
}

/// Whether a neighbour's file is whole, and nobody can write to it who could not write to ours.
fn is_ours(found: &fs::Metadata, bytes: u64) -> bool {
    let closed = found.mode() & 0o022 == 0;
    let own = found.uid() == rustix::process::geteuid().as_raw();
    found.is_file() && found.len() == bytes && own && closed
}

impl Temporary<'_> {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives a file its name, once its bytes are on the disk. A name that exists is left alone.
    pub(crate) fn place_file(self, file: &File, name: &Path) -> io::Result<Placed> {
        self.disk.fuse.step()?;
        file.sync_data()?;
        self.place(name)
    }

    /// As [`Temporary::place_file`], for a directory and all in it.
    pub(crate) fn place_directory(self, name: &Path) -> io::Result<Placed> {
        self.disk.fuse.step()?;
        rustix::fs::syncfs(File::open(&self.path)?)?;
        self.place(name)
    }

    fn place(mut self, name: &Path) -> io::Result<Placed> {
        self.disk.fuse.step()?;
        match renameat_with(CWD, &self.path, CWD, name, RenameFlags::NOREPLACE) {
            Ok(()) => {
                self.kept = true;
                Ok(Placed::New)
            }
            Err(rustix::io::Errno::EXIST) => Ok(Placed::Existed),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be erased now is erased when the store is next opened.
            let _ = self.disk.erase(&self.path);
        }
    }
}

/// Bytes that a file or a tree takes, by length.
pub(crate) fn bytes_of(path: &Path) -> io::Result<u64> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        bytes += bytes_of(&entry?.path())?;
    }
    Ok(bytes)
}

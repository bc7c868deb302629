//! Blobs alone: the same files as the store's in a directory of their own, for a server of images
//! that stands beside the engine.
//!
//! ```text
//! <root>/lock               held by the one process that has it open
//! <root>/blobs/sha256/<hex> whole, verified, on the disk
//! <root>/tmp/               whatever is not finished; emptied when it is opened
//! ```
//!
//! Who needs a blob is for the server to know. Blobs that a neighbour, the engine's store for one,
//! has too are there once: the kernel counts the names of a file, so neither has to ask the other
//! before it takes one away.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use base::Digest;

use super::{
    OpenError,
    collect::{digest_in, files},
    content::NewBlob,
    disk::{Disk, Temporary},
    fuse::Fuse,
    lock,
};

/// A directory of blobs.
#[derive(Debug)]
pub struct Blobs {
    disk: Arc<Disk>,
    /// Dropped last.
    _lock: File,
}

/// A blob on its way in, hashed as it is written. Dropped, it leaves nothing.
#[derive(Debug)]
pub struct GrowingBlob(NewBlob<'static>);

/// Blobs whose names are gone. Their bytes go when this is dropped.
#[derive(Debug)]
pub struct Unnamed<'d> {
    _graves: Vec<Temporary<'d>>,
    /// Which they were, and how long.
    pub blobs: Vec<(Digest, u64)>,
}

impl Blobs {
    /// Opens the directory, makes it where there is none, and empties what a kill left. Its
    /// parent must be there. `neighbours` are other such directories and the engine's `content`.
    ///
    /// # Errors
    /// When another process has it open, or it cannot be read.
    pub fn open(root: &Path, neighbours: Vec<PathBuf>) -> Result<Blobs, OpenError> {
        let lock = lock(root)?;
        let disk = Disk::open_blobs(root.to_owned(), neighbours, Fuse::never());
        let disk = disk.map_err(|source| OpenError::Disk { path: root.to_owned(), source })?;
        Ok(Blobs { disk: Arc::new(disk), _lock: lock })
    }

    /// Begins a blob.
    ///
    /// # Errors
    /// When the disk does not let us.
    pub fn begin(&self) -> io::Result<GrowingBlob> {
        let (temporary, file) = self.disk.shared_file()?;
        Ok(GrowingBlob(NewBlob::new(temporary, file)))
    }

    /// Gives a blob its name, durably, if it is what it should be; else it is gone.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if its digest is another one.
    pub fn place(&self, blob: GrowingBlob, wanted: &Digest) -> io::Result<u64> {
        let sealed = blob.0.seal();
        if sealed.digest != *wanted {
            let why = format!("its digest is {}, not {wanted}", sealed.digest);
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let bytes = sealed.bytes;
        sealed.place_on(&self.disk)?;
        self.disk.sync_blobs()?;
        Ok(bytes)
    }

    /// A blob's bytes, and how many.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if it is not there.
    pub fn read(&self, digest: &Digest) -> io::Result<(File, u64)> {
        let file = File::open(self.disk.blob(digest))?;
        let bytes = file.metadata()?.len();
        Ok((file, bytes))
    }

    /// Length of a blob that is there.
    pub fn bytes(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.disk.blob(digest)).ok().map(|found| found.len())
    }

    /// Takes the names of all blobs that are not needed. Who reads one is not disturbed.
    ///
    /// # Errors
    /// When the disk does not let us; the rest goes the next time.
    pub fn unname(&self, needed: impl Fn(&Digest) -> bool) -> io::Result<Unnamed<'_>> {
        let mut unnamed = Unnamed { _graves: Vec::new(), blobs: Vec::new() };
        for path in files(&self.disk.blobs())? {
            let Some(digest) = digest_in(&path) else { continue };
            if needed(&digest) {
                continue;
            }
            let bytes = fs::symlink_metadata(&path)?.len();
            unnamed._graves.push(self.disk.unname(&path)?);
            unnamed.blobs.push((digest, bytes));
        }
        Ok(unnamed)
    }
}

impl GrowingBlob {
    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.0.bytes()
    }

    /// Another descriptor of the file, to read what is there already.
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub fn watch(&self) -> io::Result<File> {
        self.0.watch()
    }
}

impl Write for GrowingBlob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::store::digest_of;

    fn put(blobs: &Blobs, bytes: &[u8]) -> io::Result<Digest> {
        let mut blob = blobs.begin()?;
        blob.write_all(bytes)?;
        let digest = digest_of(bytes);
        blobs.place(blob, &digest).map(|_| digest)
    }

    #[test]
    fn a_blob_that_a_neighbour_has_is_on_the_disk_once_and_outlives_it() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
        let neighbour = Blobs::open(&theirs, Vec::new()).unwrap();
        let digest = put(&neighbour, b"both").unwrap();
        let blobs = Blobs::open(&ours, vec![theirs.clone()]).unwrap();
        put(&blobs, b"both").unwrap();
        let inode =
            |root: &Path| fs::metadata(root.join("blobs/sha256").join(digest.hex())).unwrap().ino();
        assert_eq!(inode(&ours), inode(&theirs));
        assert_eq!(fs::read_dir(ours.join("tmp")).unwrap().count(), 0);
        drop(neighbour.unname(|_| false).unwrap());
        assert_eq!(io::read_to_string(blobs.read(&digest).unwrap().0).unwrap(), "both");
    }

    #[test]
    fn what_is_not_what_it_should_be_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("blobs");
        let blobs = Blobs::open(&root, Vec::new()).unwrap();
        let mut blob = blobs.begin().unwrap();
        blob.write_all(b"wrong").unwrap();
        let refused = blobs.place(blob, &digest_of(b"right")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 0);
        assert_eq!(blobs.bytes(&digest_of(b"wrong")), None);
        assert!(matches!(Blobs::open(&root, Vec::new()), Err(OpenError::InUse { .. })));
        // A kill leaves a file there.
        drop(blobs);
        fs::write(root.join("tmp/7"), "half").unwrap();
        Blobs::open(&root, Vec::new()).unwrap();
        assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 0);
    }
}

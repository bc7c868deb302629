//! The files of a snapshot for who may open none: one process opens them, another writes or reads
//! them.
//!
//! ```text
//! create ──▶ Machine::save_to ──▶ publish        open ──▶ Snapshot::read
//! ```
//!
//! If it goes back to others, their files are opened too: nobody follows the paths in them.

use std::{
    fs::{self, File},
    os::fd::AsFd,
    path::Path,
};

use rustix::fs::{Mode, OFlags, openat};

use super::{
    SnapshotError,
    document::{self, MANIFEST, MANIFEST_NEW, MEMORY, MEMORY_NEW},
    failed,
};

/// The files of one snapshot.
#[derive(Debug)]
pub struct Files {
    /// The memory.
    pub memory: File,
    /// Everything else.
    pub description: File,
}

impl Files {
    /// Makes them in a directory. It is a snapshot when they are written and
    /// [published](Files::publish).
    ///
    /// # Errors
    /// [`SnapshotError::File`].
    pub fn create(dir: &Path) -> Result<Files, SnapshotError> {
        let create = |name: &str| File::create(dir.join(name));
        let memory = create(MEMORY_NEW).map_err(failed("make the memory's file"))?;
        let description = create(MANIFEST_NEW).map_err(failed("make the description"))?;
        Ok(Files { memory, description })
    }

    /// Gives files of this directory that were written whole their names.
    ///
    /// # Errors
    /// [`SnapshotError::File`].
    pub fn publish(dir: &Path) -> Result<(), SnapshotError> {
        let rename = |from: &str, to: &str| fs::rename(dir.join(from), dir.join(to));
        rename(MEMORY_NEW, MEMORY).map_err(failed("write the memory"))?;
        rename(MANIFEST_NEW, MANIFEST).map_err(failed("write the description"))
    }

    /// Opens those of a directory that is a snapshot.
    ///
    /// # Errors
    /// [`SnapshotError::File`].
    pub fn open(dir: impl AsFd) -> Result<Files, SnapshotError> {
        let open = |name: &str| {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
            document::plain(openat(&dir, name, flags, Mode::empty())?.into())
        };
        let memory = open(MEMORY).map_err(failed("open the memory's file"))?;
        let description = open(MANIFEST).map_err(failed("open the description"))?;
        Ok(Files { memory, description })
    }
}

//! Where a kernel is put together before it is one.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::{Store, StoreError, sync_directory};

const PREFIX: &str = "tmp.";

/// A directory that goes away unless it becomes a kernel; if this process is killed, whoever
/// changes the store next takes it away.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
    /// Says that somebody is at work here.
    _lock: File,
}

impl Staging {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a file in it that is not there yet.
    ///
    /// # Errors
    /// As `open(2)`.
    pub fn create(&self, name: &str) -> io::Result<File> {
        let path = self.path.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // If it became a kernel, it is not there any more.
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Store {
    /// A place for a new kernel. What others have left half-done is taken away.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn stage(&self) -> Result<Staging, StoreError> {
        let _lock = self.lock()?;
        self.sweep();
        let failed = |source| self.io("write to", source);
        let path = self.root.join(temporary_name());
        fs::DirBuilder::new().mode(0o755).create(&path).map_err(failed)?;
        let lock = File::open(&path).map_err(failed)?;
        lock.lock().map_err(failed)?;
        Ok(Staging { path, _lock: lock })
    }

    /// Takes away what nobody works at any more.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.root) else { return };
        for entry in entries.flatten() {
            let abandoned = entry.file_name().to_str().is_some_and(|it| it.starts_with(PREFIX))
                && File::open(entry.path()).is_ok_and(|found| found.try_lock().is_ok());
            if abandoned {
                let _ = match entry.file_type() {
                    Ok(kind) if kind.is_dir() => fs::remove_dir_all(entry.path()),
                    _ => fs::remove_file(entry.path()),
                };
            }
        }
    }
}

/// A name that nobody else has.
pub(super) fn temporary_name() -> String {
    let mut bytes = [0; 8];
    // Without random numbers the name may be taken, and then making it fails.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    format!("{PREFIX}{:016x}", u64::from_le_bytes(bytes))
}

/// Writes a file that is there with all of its content or not at all.
pub(super) fn write_whole(directory: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = directory.join(temporary_name());
    let written = (|| {
        let mut file = File::create_new(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, directory.join(name))?;
        sync_directory(directory)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

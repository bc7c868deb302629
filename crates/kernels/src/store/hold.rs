//! Kernels that are in use, and kernels whose content was looked at.
//!
//! Whoever starts a machine holds a shared lock on the kernel's directory until the machine has
//! ended, in whichever process that is; whoever removes the kernel wants the lock for himself.

use std::{
    fs::{File, TryLockError},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::Arc,
};

use super::{Damage, Kernel, StoreError, manifest::FileEntry};

/// Keeps a kernel from being removed for as long as it or a clone of it lives.
#[derive(Clone, Debug)]
pub struct Held(#[expect(dead_code, reason = "the lock ends with the descriptor")] Arc<File>);

impl Kernel {
    /// Keeps the kernel from being removed.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if it was removed meanwhile.
    pub fn hold(&self) -> Result<Held, StoreError> {
        let path = &self.directory;
        let gone = || StoreError::NotFound(self.manifest.name.clone());
        let failed = |source| StoreError::Io { doing: "lock", path: path.clone(), source };
        let file = File::open(path).map_err(|_| gone())?;
        // Whoever has it alone is about to remove it.
        match file.try_lock_shared() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(gone()),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let still_there = path.metadata().is_ok_and(|found| {
            file.metadata().is_ok_and(|held| (held.dev(), held.ino()) == (found.dev(), found.ino()))
        });
        if still_there { Ok(Held(Arc::new(file))) } else { Err(gone()) }
    }
}

/// Locks a kernel's directory against everybody.
pub(super) fn alone(directory: &Path, name: &str) -> Result<File, StoreError> {
    let failed = |source| StoreError::Io { doing: "lock", path: directory.to_owned(), source };
    let file = File::open(directory).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(name.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// What a file looks like from outside: if that is the same, the content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

/// How all files of a kernel look.
pub(super) fn stamps(kernel: &Kernel) -> Result<Vec<Stamp>, Damage> {
    let of = |file: &FileEntry| {
        let found = kernel.directory.join(&file.path).symlink_metadata();
        let found = found.map_err(|source| Damage::Read { file: file.path.clone(), source })?;
        Ok(Stamp {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.len(),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    };
    kernel.manifest.files.iter().map(of).collect()
}

/// Compares all files with the manifest.
pub(super) fn verify(kernel: &Kernel) -> Result<(), Damage> {
    for file in &kernel.manifest.files {
        file.check_length(&kernel.directory)?;
        let found = FileEntry::of(&kernel.directory, &file.path);
        let found = found.map_err(|source| Damage::Read { file: file.path.clone(), source })?;
        if found != *file {
            return Err(Damage::Digest { file: file.path.clone() });
        }
    }
    Ok(())
}

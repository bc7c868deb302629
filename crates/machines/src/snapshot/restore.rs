//! Going back: the machine's record and its disks as a snapshot has them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{RESTORING, RestoreError, SNAPSHOTS, Snapshot, VERSION, older, written};
use crate::{
    copy::copy,
    disk::{Disk, Place},
    name::Name,
    record, spec,
    store::{Kept, MACHINE},
};

/// Whether a restore was cut off.
pub(crate) fn unfinished(directory: &Path) -> Result<(), RestoreError> {
    let path = directory.join(RESTORING);
    match record::find::<Name>(&path, VERSION) {
        Ok(None) => Ok(()),
        Ok(Some(name)) => Err(RestoreError::Unfinished(name)),
        Err(why) => Err(RestoreError::Host { doing: "read", path, source: io::Error::other(why) }),
    }
}

impl Kept {
    /// Puts back what the machine was and what its disks had. For whoever holds the lock.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub(crate) fn put_back(&mut self, snapshot: &Snapshot) -> Result<(), RestoreError> {
        let failed = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| RestoreError::Host { doing, path, source }
        };
        older(&self.directory, &snapshot.name)?;
        let from = self.directory.join(SNAPSHOTS).join(snapshot.name.as_str());
        let spec = &snapshot.manifest.machine;
        let (mut copies, mut held) = (Vec::new(), Vec::new());
        for (index, disk) in written(spec) {
            let to = disk.path(&self.directory);
            held.extend(alone(&to).map_err(failed("replace", &to))?);
            let new = beside(&to, disk);
            let _ = fs::remove_file(&new);
            let copied = copy(&from.join(index.to_string()), &new).and_then(|new| new.sync_all());
            copied.map_err(failed("copy to", &new))?;
            dress(&to, &new).map_err(failed("make", &new))?;
            copies.push((new, to));
        }
        let note = self.directory.join(RESTORING);
        record::write(&note, VERSION, &snapshot.name).map_err(failed("write", &note))?;
        for (new, to) in copies {
            fs::rename(&new, &to).map_err(failed("replace", &to))?;
            let all = to.parent().unwrap_or(&to);
            fs::File::open(all).and_then(|all| all.sync_all()).map_err(failed("write", all))?;
        }
        let path = self.directory.join(MACHINE);
        record::write(&path, spec::VERSION, spec).map_err(failed("write", &path))?;
        self.spec = spec.clone();
        fs::remove_file(&note).map_err(failed("remove", &note))
    }
}

/// Where a disk's new content is until it takes the place of the old: in the same directory.
fn beside(path: &Path, disk: &Disk) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(match disk.place {
        Place::Own(_) => ".new",
        Place::Outside(_) => ".wythe-restore",
    });
    path.with_file_name(name)
}

/// Keeps other machines from a disk that is replaced, if it is there.
fn alone(path: &Path) -> io::Result<Option<fs::File>> {
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => {
            Err(io::Error::new(io::ErrorKind::WouldBlock, "another machine uses it"))
        }
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Gives a new file the mode and the owner of the one whose place it takes, if that is there.
fn dress(old: &Path, new: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let Ok(found) = old.metadata() else { return Ok(()) };
    let own = new.metadata()?;
    if (found.uid(), found.gid()) != (own.uid(), own.gid()) {
        chown(new, Some(found.uid()), Some(found.gid()))?;
    }
    fs::set_permissions(new, found.permissions())
}

//! Copies of a volume's content at one moment, and copies of volumes.
//!
//! A snapshot of a volume that somebody writes to meanwhile is what a power cut would have left
//! ("crash-consistent") where blocks are shared file by file, and older in its first files than
//! in its last; whoever wants one moment for all of it pauses the writers around the call.

use std::{fs, os::fd::AsFd as _, path::PathBuf};

use base::clock::Timestamp;
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

use crate::{
    How, Store, VolumeError, VolumeName, copy, disk,
    meta::{self, Meta, SnapshotMeta},
    store::{Beside, Kept},
};

/// Where a volume's snapshots are.
const SNAPSHOTS: &str = "snapshots";
/// The content of one.
const DATA: &str = "data";
/// Most snapshots whose names are made up.
const NUMBER_MAX: u32 = 100_000;

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name.
    pub name: VolumeName,
    /// When it was made.
    pub created: Timestamp,
    /// Whether it shares blocks with the volume it was made of.
    pub how: How,
}

impl Store {
    /// Keeps a volume's content as it is now, under this name or one that is made up (`s1`, …).
    ///
    /// # Errors
    /// [`VolumeError::SnapshotExists`], [`VolumeError::NotOurs`]; or the disk's.
    pub fn snapshot(&self, volume: &str, name: Option<&str>) -> Result<Snapshot, VolumeError> {
        let kept = self.kept(volume)?;
        kept.ours("take a snapshot of")?;
        let _shared = kept.shared();
        let home = self.directory(&kept.meta.name).join(SNAPSHOTS);
        let name = self.snapshot_name(&kept, name)?;
        let target = home.join(name.as_str());
        let exists = || VolumeError::SnapshotExists {
            volume: volume.to_owned(),
            snapshot: name.to_string(),
        };
        if target.exists() {
            return Err(exists());
        }
        let staged = self.beside()?;
        let how = self.copy_content(&kept, &staged.path.join(DATA))?;
        let record = SnapshotMeta::new(name.clone(), how == How::Shared);
        meta::write(&staged.path, &record, false).map_err(disk::failed("write", &staged.path))?;
        disk::sync_all(disk::open(&staged.path)?, &staged.path)?;
        disk::make_private(&home)?;
        match disk::rename_new(&staged.path, &target) {
            Err(Errno::EXIST | Errno::NOTEMPTY) => return Err(exists()),
            other => other.map_err(disk::failed("make", &target))?,
        }
        disk::sync(&home)?;
        Ok(Snapshot { name, created: record.created, how })
    }

    fn snapshot_name(&self, kept: &Kept, name: Option<&str>) -> Result<VolumeName, VolumeError> {
        if let Some(name) = name {
            return name.parse();
        }
        let home = self.directory(&kept.meta.name).join(SNAPSHOTS);
        let free = (1..NUMBER_MAX).map(|number| format!("s{number}"));
        let mut free = free.filter(|name| !home.join(name).exists());
        free.next().unwrap_or_default().parse()
    }

    /// A volume's snapshots, oldest first.
    ///
    /// # Errors
    /// [`VolumeError::NoSuchVolume`].
    pub fn snapshots(&self, volume: &str) -> Result<Vec<Snapshot>, VolumeError> {
        let kept = self.kept(volume)?;
        let home = self.directory(&kept.meta.name).join(SNAPSHOTS);
        let listed = fs::read_dir(&home).into_iter().flatten().flatten();
        let mut all: Vec<Snapshot> = listed
            .filter_map(|entry| meta::read::<SnapshotMeta>(&entry.path()).ok())
            .map(|record| Snapshot {
                name: record.name,
                created: record.created,
                how: if record.shared { How::Shared } else { How::Copied },
            })
            .collect();
        all.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        Ok(all)
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// [`VolumeError::NoSuchSnapshot`].
    pub fn remove_snapshot(&self, volume: &str, snapshot: &str) -> Result<(), VolumeError> {
        let kept = self.kept(volume)?;
        let _alone = kept.alone()?;
        let path = self.snapshot_path(&kept, snapshot)?;
        let grave = self.beside()?;
        disk::rename_new(&path, &grave.path.join(DATA)).map_err(disk::failed("remove", &path))?;
        disk::sync(path.parent().unwrap_or(&path))
    }

    /// Puts a snapshot's content in place of a volume's.
    ///
    /// # Errors
    /// [`VolumeError::Running`], [`VolumeError::NoSuchSnapshot`]; or the disk's. The volume is as
    /// it was then.
    pub fn restore(&self, volume: &str, snapshot: &str) -> Result<How, VolumeError> {
        let kept = self.kept(volume)?;
        kept.ours("restore")?;
        let _alone = kept.alone()?;
        self.idle(&kept, "restore")?;
        let from = self.snapshot_path(&kept, snapshot)?.join(DATA);
        let staged = self.beside()?;
        let to = staged.data();
        disk::make(&to, 0o700)?;
        let how = copy::tree(disk::open(&from)?.as_fd(), &[], disk::open(&to)?.as_fd())?;
        self.exchange(&kept, &staged)?;
        Ok(how)
    }

    /// Makes a new volume with a volume's content, labels included.
    ///
    /// # Errors
    /// [`VolumeError::Exists`], [`VolumeError::NotOurs`]; or the disk's.
    pub fn clone_volume(&self, volume: &str, name: &str) -> Result<How, VolumeError> {
        let kept = self.kept(volume)?;
        kept.ours("clone")?;
        let name: VolumeName = name.parse()?;
        let exists = || VolumeError::Exists(name.to_string());
        if self.kept(name.as_str()).is_ok() {
            return Err(exists());
        }
        let _shared = kept.shared();
        let staged = self.beside()?;
        let mut meta = Meta::new(name.clone());
        meta.labels.clone_from(&kept.meta.labels);
        meta.labels.remove(crate::ANONYMOUS_LABEL);
        staged.fill(&meta, false)?;
        let to = disk::open(&staged.data())?;
        let how = copy::tree(disk::open(&self.content(&kept))?.as_fd(), &[], to.as_fd())?;
        disk::sync_all(to, &staged.path)?;
        match self.place(staged, Kept::new(meta, kept.kind.clone()), true)? {
            true => Ok(how),
            false => Err(exists()),
        }
    }

    /// Exchanges a volume's content for what is ready beside it; what was there goes with it.
    pub(crate) fn exchange(&self, kept: &Kept, staged: &Beside) -> Result<(), VolumeError> {
        let (new, old) = (staged.data(), self.content(kept));
        disk::sync_all(disk::open(&new)?, &new)?;
        renameat_with(CWD, &new, CWD, &old, RenameFlags::EXCHANGE)
            .map_err(disk::failed("exchange", &old))?;
        disk::sync(&self.directory(&kept.meta.name))
    }

    fn copy_content(&self, kept: &Kept, to: &std::path::Path) -> Result<How, VolumeError> {
        disk::make(to, 0o700)?;
        copy::tree(disk::open(&self.content(kept))?.as_fd(), &[], disk::open(to)?.as_fd())
    }

    fn snapshot_path(&self, kept: &Kept, snapshot: &str) -> Result<PathBuf, VolumeError> {
        let missing = || VolumeError::NoSuchSnapshot {
            volume: kept.meta.name.to_string(),
            snapshot: snapshot.to_owned(),
        };
        let name: VolumeName = snapshot.parse().map_err(|_| missing())?;
        let path = self.directory(&kept.meta.name).join(SNAPSHOTS).join(name.as_str());
        if path.is_dir() { Ok(path) } else { Err(missing()) }
    }
}

//! Whether what is on disk is what the store knows.

use std::{fs, path::PathBuf};

use super::Store;
use crate::{
    VolumeError, disk,
    meta::{self, Meta},
    options::Kind,
};

impl Store {
    /// What is wrong with volumes, a sentence each: directories that are none, records that cannot
    /// be read, content that is not there. Nobody but their owner can mend that.
    ///
    /// # Errors
    /// [`VolumeError::Disk`] if they cannot be listed.
    pub fn faults(&self) -> Result<Vec<String>, VolumeError> {
        let listed = fs::read_dir(&self.root).map_err(disk::failed("list", &self.root))?;
        let mut names: Vec<_> = listed.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        let known = self.list();
        let mut faults = Vec::new();
        for name in names.iter().map(|name| name.to_string_lossy()) {
            let is = |volume: &&super::Volume| volume.name.as_str() == name;
            // Whatever is made or removed at this moment is beside.
            if name.starts_with('.') || known.iter().any(|volume| is(&volume)) {
                continue;
            }
            let directory = self.root.join(&*name);
            if let Err(why) = meta::read::<Meta>(&directory)
                && directory.exists()
            {
                faults.push(format!("{} is no volume: {why}", directory.display()));
            }
        }
        let lost = known.iter().filter(|v| v.kind == Kind::Kept && !v.path.is_dir());
        // One that was removed since is none any more.
        let lost = lost.filter(|volume| self.get(volume.name.as_str()).is_ok());
        faults.extend(lost.map(|v| format!("the content of volume {} is gone", v.name)));
        Ok(faults)
    }

    /// Mount points of users who do not run, by the store's own knowledge: a kill left them.
    /// [`Store::unmount_idle`] clears them away.
    pub fn idle_mounts(&self) -> Vec<PathBuf> {
        let listed = fs::read_dir(&self.run).into_iter().flatten().flatten();
        let present: Vec<_> =
            listed.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        let inner = self.inner();
        let active: Vec<&str> = inner.active.values().flatten().map(|user| &**user).collect();
        let idle = present.iter().filter(|name| !name.starts_with('.'));
        let idle = idle.filter(|name| !active.contains(&name.as_str()));
        idle.map(|name| self.run.join(name)).collect()
    }
}

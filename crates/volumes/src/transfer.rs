//! Content on its way out of a volume and into one. The format is the caller's.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use crate::{
    NewVolume, Store, Visit, VolumeError, disk,
    meta::Meta,
    options::Kind,
    populate,
    store::{Beside, Kept},
    walk,
};

/// An empty directory that is to become a volume's content; gone again if it does not.
#[derive(Debug)]
pub struct Staged {
    pub(crate) beside: Beside,
    data: OwnedFd,
}

impl Staged {
    /// The directory, to be filled. Nobody else can reach it.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.data.as_fd()
    }
}

impl Store {
    /// Shows everything in a volume.
    ///
    /// # Errors
    /// [`VolumeError::NoSuchVolume`] and what cannot be read, as the visitor has them.
    pub fn export<V>(&self, volume: &str, visitor: &mut V) -> Result<(), V::Error>
    where
        V: Visit,
        V::Error: From<VolumeError>,
    {
        let kept = self.kept(volume)?;
        let _shared = kept.shared();
        let data = disk::open(&self.content(&kept))?;
        let but = [populate::INSIDE.0.as_bytes(), populate::INSIDE.1.as_bytes()];
        walk::walk(data.as_fd(), &but, visitor)
    }

    /// Begins to fill a volume from outside.
    ///
    /// # Errors
    /// [`VolumeError`] at once if [`Store::import`] could not put it there: without `replace` the
    /// volume must be empty, or not be there yet.
    pub fn stage(&self, volume: &str, replace: bool) -> Result<Staged, VolumeError> {
        match self.kept(volume) {
            Ok(kept) => self.may_import(&kept, replace)?,
            Err(_) => drop(volume.parse::<crate::VolumeName>()?),
        }
        let beside = self.beside()?;
        disk::make(&beside.data(), 0o755)?;
        let data = disk::open(&beside.data())?;
        Ok(Staged { beside, data })
    }

    /// Puts what was staged in place of the volume's content, or makes the volume.
    ///
    /// # Errors
    /// As [`Store::stage`]; the volume is as it was then.
    pub fn import(&self, volume: &str, staged: Staged, replace: bool) -> Result<(), VolumeError> {
        let Staged { beside, data } = staged;
        disk::sync_all(data, &beside.path)?;
        if let Ok(kept) = self.kept(volume) {
            let _alone = kept.alone()?;
            self.may_import(&kept, replace)?;
            return self.exchange(&kept, &beside);
        }
        let meta = Meta::new(volume.parse()?);
        crate::meta::write(&beside.path, &meta, true)
            .map_err(disk::failed("write", &beside.path))?;
        disk::sync(&beside.path)?;
        match self.place(beside, Kept::new(meta, Kind::Kept), true)? {
            true => Ok(()),
            false => Err(VolumeError::Exists(volume.to_owned())),
        }
    }

    fn may_import(&self, kept: &Kept, replace: bool) -> Result<(), VolumeError> {
        kept.ours("import into")?;
        self.idle(kept, "import into")?;
        let path = self.content(kept);
        let names = disk::names(disk::open(&path)?).map_err(disk::failed("list", &path))?;
        match replace || names.is_empty() {
            true => Ok(()),
            false => Err(VolumeError::NotEmpty(kept.meta.name.to_string())),
        }
    }
}

impl NewVolume {
    /// An anonymous volume of this made-up name.
    pub fn anonymous(name: &crate::VolumeName) -> NewVolume {
        NewVolume { name: name.to_string(), anonymous: true, ..NewVolume::default() }
    }
}

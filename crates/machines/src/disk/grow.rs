//! Disks that grow, while nobody uses them.

use std::{
    fs::OpenOptions,
    io,
    path::{Path, PathBuf},
};

use virtio::blk::qcow2;

use super::{Disk, Format, Place, open};

/// Why a disk did not grow.
#[derive(Debug, thiserror::Error)]
pub enum GrowError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] super::DiskError),
    /// It is larger.
    #[error("the disk has {has} bytes; it can grow, and not shrink to {wanted}")]
    Shrinks {
        /// How large it is.
        has: u64,
        /// What was wanted.
        wanted: u64,
    },
    /// The guest may not write to it.
    #[error("{} is read-only", .0.display())]
    ReadOnly(PathBuf),
    /// The size of a device is not ours.
    #[error("{} is a device of the host's, whose size is its own", .0.display())]
    Device(PathBuf),
    /// The image cannot.
    #[error("cannot grow {}", path.display())]
    Image {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: qcow2::GrowError,
    },
    /// The host cannot.
    #[error("cannot grow {}", path.display())]
    Host {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Makes a disk of a machine with this directory larger: what is added reads as zeros.
///
/// # Errors
/// [`GrowError`].
pub fn grow(disk: &Disk, directory: &Path, wanted: u64) -> Result<(), GrowError> {
    let path = disk.path(directory);
    if disk.read_only {
        return Err(GrowError::ReadOnly(path));
    }
    let host = |source| GrowError::Host { path: path.clone(), source };
    let is_file = path.metadata().map_err(host)?.is_file();
    if matches!(disk.place, Place::Outside(_)) && !is_file {
        return Err(GrowError::Device(path));
    }
    // Opened as the machine would: whatever may not be, may not be here.
    let image = open(disk, directory)?;
    let has = image.bytes();
    drop(image);
    if wanted < has {
        return Err(GrowError::Shrinks { has, wanted });
    }
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(host)?;
    match disk.format {
        Format::Raw => file.set_len(wanted).and_then(|()| file.sync_all()).map_err(host),
        Format::Qcow2 => qcow2::grow(&file, wanted)
            .map_err(|source| GrowError::Image { path: path.clone(), source }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    fn disk(format: Format) -> Disk {
        let place = Place::Own("a".to_owned());
        Disk { place, format, read_only: false, backing: Vec::new(), seed: false }
    }

    #[test]
    fn disks_grow_and_do_not_shrink() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        for format in [Format::Raw, Format::Qcow2] {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(&path)
                .unwrap();
            match format {
                Format::Raw => file.set_len(1 << 20).unwrap(),
                Format::Qcow2 => qcow2::create(&file, 1 << 20, None).unwrap(),
            }
            let disk = disk(format);
            grow(&disk, dir.path(), 1 << 30).unwrap();
            assert_eq!(open(&disk, dir.path()).unwrap().bytes(), 1 << 30);
            let error = grow(&disk, dir.path(), 1 << 20).unwrap_err();
            assert!(matches!(error, GrowError::Shrinks { has: 0x4000_0000, .. }), "{error}");
        }
        let read_only = Disk { read_only: true, ..disk(Format::Raw) };
        assert!(matches!(grow(&read_only, dir.path(), 1 << 40), Err(GrowError::ReadOnly(_))));
        fs::remove_file(&path).unwrap();
        assert!(grow(&disk(Format::Raw), dir.path(), 1 << 40).is_err());
    }
}

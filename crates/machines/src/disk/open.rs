//! From a record to an image that a guest reads and writes.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use virtio::blk::{
    Image,
    chain::{self, DEPTH_MAX, Layer},
    qcow2::{self, Backing, OpenError},
};

use super::{Disk, Format};

/// How every qcow2 image begins.
const MAGIC: &[u8] = b"QFI\xfb";

/// Why a disk was not opened.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The host did not.
    #[error("cannot open {}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else uses it.
    #[error("{} is used by another machine", .0.display())]
    InUse(PathBuf),
    /// It names an image that its user did not.
    #[error(
        "{} is an image over {name:?}, which it could have for any file: say backing={name} if you \
         trust it", path.display()
    )]
    Unnamed {
        /// Which image.
        path: PathBuf,
        /// What it names.
        name: String,
    },
    /// It is over another one than its user said.
    #[error("{} is an image over {name:?}, and not over {}", path.display(), wanted.display())]
    Another {
        /// Which image.
        path: PathBuf,
        /// What it names.
        name: String,
        /// What was said.
        wanted: PathBuf,
    },
    /// It has fewer images behind it than its user said.
    #[error("{} is no image over {}", path.display(), wanted.display())]
    Alone {
        /// Which image.
        path: PathBuf,
        /// What was said.
        wanted: PathBuf,
    },
    /// It does not say what the image behind it is.
    #[error("{} does not say whether the image behind it is raw or qcow2", .0.display())]
    NoFormat(PathBuf),
    /// More images than a disk may have.
    #[error("{} has more than {DEPTH_MAX} images behind it", .0.display())]
    Depth(PathBuf),
    /// It is no image of its format.
    #[error("cannot use {}", path.display())]
    Image {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: OpenError,
    },
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> DiskError + '_ {
    move |source| DiskError::Open { path: path.to_owned(), source }
}

/// What the bytes of a file seem to mean. For files that no guest has written to.
///
/// # Errors
/// [`DiskError::Open`].
pub fn recognise(path: &Path) -> Result<Format, DiskError> {
    let mut head = Vec::new();
    let file = open_file(path, false).map_err(failed(path))?;
    file.take(MAGIC.len() as u64).read_to_end(&mut head).map_err(failed(path))?;
    Ok(if head == MAGIC { Format::Qcow2 } else { Format::Raw })
}

/// Opens a file that can be a disk. Others are not waited for, as opening a pipe would.
fn open_file(path: &Path, write: bool) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).write(write).custom_flags(flags).open(path)?;
    let kind = file.metadata()?.file_type();
    match kind.is_file() || kind.is_block_device() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file and no disk")),
    }
}

/// Opens a disk of a machine with this directory, and locks its file, for as long as the image
/// lives: many may read it, or one writes to it.
///
/// # Errors
/// [`DiskError`].
pub(crate) fn open(disk: &Disk, directory: &Path) -> Result<Image, DiskError> {
    let path = disk.path(directory);
    let layers = layers(disk, directory)?;
    chain::image(layers, disk.is_written()).map_err(|source| DiskError::Image { path, source })
}

/// The same as files, which nobody has looked into but for what is behind each.
///
/// # Errors
/// [`DiskError`].
pub(crate) fn layers(disk: &Disk, directory: &Path) -> Result<Vec<Layer>, DiskError> {
    let first = disk.path(directory);
    let write = disk.is_written();
    let file = open_file(&first, write).map_err(failed(&first))?;
    let locked = if write { file.try_lock() } else { file.try_lock_shared() };
    locked.map_err(|error| match error {
        std::fs::TryLockError::WouldBlock => DiskError::InUse(first.clone()),
        std::fs::TryLockError::Error(source) => DiskError::Open { path: first.clone(), source },
    })?;
    let mut layers = vec![Layer { file, format: disk.format.into() }];
    let (mut path, mut named) = (first.clone(), disk.backing.iter());
    while let Some(behind) = behind(&layers, &path)? {
        if layers.len() == DEPTH_MAX {
            return Err(DiskError::Depth(first));
        }
        let next = follow(&path, &behind, named.next())?;
        let file = open_file(&next, false).map_err(failed(&next))?;
        layers.push(Layer { file, format: format(&behind).ok_or(DiskError::NoFormat(path))? });
        path = next;
    }
    if let Some(wanted) = named.next() {
        return Err(DiskError::Alone { path, wanted: wanted.clone() });
    }
    Ok(layers)
}

/// What the last of the images names.
fn behind(layers: &[Layer], path: &Path) -> Result<Option<Backing>, DiskError> {
    match layers.last() {
        Some(Layer { file, format: chain::Format::Qcow2 }) => {
            Ok(qcow2::read_header(file).map_err(failed(path))?.backing)
        }
        Some(Layer { format: chain::Format::Raw, .. }) | None => Ok(None),
    }
}

/// Where the image behind another is, if its user named the same one.
fn follow(image: &Path, backing: &Backing, wanted: Option<&PathBuf>) -> Result<PathBuf, DiskError> {
    let (path, name) = (image.to_owned(), backing.name.clone());
    let Some(wanted) = wanted else { return Err(DiskError::Unnamed { path, name }) };
    let plain = backing.name.strip_prefix("file:").unwrap_or(&backing.name);
    let found = image.parent().unwrap_or(Path::new("")).join(plain);
    let same = match (found.canonicalize(), wanted.canonicalize()) {
        (Ok(found), Ok(wanted)) => found == wanted,
        (_, Err(source)) => return Err(DiskError::Open { path: wanted.clone(), source }),
        (Err(_), Ok(_)) => false,
    };
    match same {
        true => Ok(wanted.clone()),
        false => Err(DiskError::Another { path, name, wanted: wanted.clone() }),
    }
}

fn format(backing: &Backing) -> Option<chain::Format> {
    Some(backing.format.as_deref()?.parse::<Format>().ok()?.into())
}

impl From<chain::Format> for Format {
    fn from(format: chain::Format) -> Format {
        match format {
            chain::Format::Raw => Format::Raw,
            chain::Format::Qcow2 => Format::Qcow2,
        }
    }
}

impl From<Format> for chain::Format {
    fn from(format: Format) -> chain::Format {
        match format {
            Format::Raw => chain::Format::Raw,
            Format::Qcow2 => chain::Format::Qcow2,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::disk::Place;

    fn image(path: &Path, backing: Option<(&str, Option<&str>)>) {
        let backing = backing.map(|(name, format)| Backing {
            name: name.to_owned(),
            format: format.map(str::to_owned),
        });
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .unwrap();
        qcow2::create(&file, 1 << 20, backing).unwrap();
    }

    fn disk(name: &str, format: Format, backing: &[&Path]) -> Disk {
        Disk {
            place: Place::Own(name.to_owned()),
            format,
            read_only: false,
            backing: backing.iter().map(|path| path.to_path_buf()).collect(),
            seed: false,
        }
    }

    #[test]
    fn an_image_reads_nothing_but_what_its_user_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let refused = |disk: &Disk| open(disk, dir.path()).unwrap_err();
        fs::write(at("base"), [0; 1024]).unwrap();
        fs::write(at("other"), [0; 1024]).unwrap();
        image(&at("a"), Some((at("base").to_str().unwrap(), Some("raw"))));
        assert!(matches!(
            refused(&disk("a", Format::Qcow2, &[])),
            DiskError::Unnamed { name, .. } if name == at("base").to_str().unwrap()
        ));
        let other = disk("a", Format::Qcow2, &[&at("other")]);
        assert!(matches!(refused(&other), DiskError::Another { .. }));
        let right = disk("a", Format::Qcow2, &[&at("base")]);
        assert_eq!(open(&right, dir.path()).unwrap().bytes(), 1 << 20);
        let more = disk("a", Format::Qcow2, &[&at("base"), &at("other")]);
        assert!(matches!(refused(&more), DiskError::Alone { .. }));
        // By another path it is the same file.
        fs::create_dir(at("d")).unwrap();
        let around = disk("a", Format::Qcow2, &[&at("d/../base")]);
        assert!(open(&around, dir.path()).is_ok());
        image(&at("c"), Some(("base", None)));
        let silent = disk("c", Format::Qcow2, &[&at("base")]);
        assert!(matches!(refused(&silent), DiskError::NoFormat(_)));
    }

    #[test]
    fn images_in_a_circle_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        image(&path, Some(("a", Some("qcow2"))));
        let all = vec![path.as_path(); 40];
        let error = open(&disk("a", Format::Qcow2, &all), dir.path()).unwrap_err();
        assert!(matches!(error, DiskError::Depth(_)), "{error}");
    }

    #[test]
    fn formats_are_recognised_once_and_then_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        image(&path, None);
        assert_eq!(recognise(&path).unwrap(), Format::Qcow2);
        // What a guest writes to its raw disk is data.
        let file_bytes = fs::metadata(&path).unwrap().len();
        assert_eq!(open(&disk("a", Format::Raw, &[]), dir.path()).unwrap().bytes(), file_bytes);
        for head in ["", "QFI", "#!/bin/sh"] {
            fs::write(&path, head).unwrap();
            assert_eq!(recognise(&path).unwrap(), Format::Raw, "{head}");
        }
        assert!(recognise(dir.path()).is_err(), "a directory is no disk");
    }

    #[test]
    fn two_machines_do_not_write_to_one_disk() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), [0; 1024]).unwrap();
        let writes = disk("a", Format::Raw, &[]);
        let reads = Disk { read_only: true, ..writes.clone() };
        let one = open(&writes, dir.path()).unwrap();
        assert!(matches!(open(&writes, dir.path()), Err(DiskError::InUse(_))));
        assert!(matches!(open(&reads, dir.path()), Err(DiskError::InUse(_))));
        drop(one);
        let both = [open(&reads, dir.path()).unwrap(), open(&reads, dir.path()).unwrap()];
        assert!(both.iter().all(Image::is_read_only));
    }
}

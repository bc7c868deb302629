//! The disk on which a machine keeps what it changes.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::{
    fs::{MemfdFlags, SeekFrom, ftruncate, ioctl_ficlone, memfd_create, seek},
    io::Errno,
    rand::{GetRandomFlags, getrandom},
};
use workload::DriverError;

/// Size of the disk as the machine sees it: 64 GiB. It takes as much room as was written.
const BYTES: u64 = 64 << 30;

/// Makes the disk where it is missing. It appears whole.
pub(crate) fn make(path: &Path) -> Result<(), DriverError> {
    if path.exists() {
        return Ok(());
    }
    let failed =
        |error: io::Error| DriverError::step(format!("make the disk {}", path.display()), &error);
    let part = path.with_extension("part");
    format(&part).and_then(|()| fs::rename(&part, path)).map_err(failed)
}

fn format(path: &Path) -> io::Result<()> {
    let mut random = [0; 32];
    getrandom(&mut random, GetRandomFlags::empty())?;
    let half = |from: usize| std::array::from_fn(|n| random[from + n]);
    let identity = ext4::Identity { uuid: half(0), hash_seed: half(16) };
    let image = ext4::format(BYTES, &identity).map_err(io::Error::other)?;
    image.write_to(&File::create(path)?)
}

/// A disk as large as others, in memory and without anything on it.
pub(crate) fn scratch() -> io::Result<OwnedFd> {
    let disk = memfd_create("scratch disk", MemfdFlags::CLOEXEC)?;
    ftruncate(&disk, BYTES)?;
    Ok(disk)
}

/// Copies a disk that stands still; the copy appears whole. The two share what the file system can
/// share, and what takes no room in the one takes none in the other.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), DriverError> {
    let failed =
        |error: io::Error| DriverError::step(format!("copy the disk {}", from.display()), &error);
    let part = to.with_extension("part");
    copy_sparse(from, &part).and_then(|()| fs::rename(&part, to)).map_err(failed)
}

fn copy_sparse(from: &Path, to: &Path) -> io::Result<()> {
    let (mut from, mut to) = (File::open(from)?, File::create(to)?);
    if ioctl_ficlone(&to, &from).is_ok() {
        return Ok(());
    }
    to.set_len(from.metadata()?.len())?;
    let mut at = 0;
    loop {
        let begin = match seek(&from, SeekFrom::Data(at)) {
            Ok(begin) => begin,
            // Behind this there is nothing but holes.
            Err(Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        at = seek(&from, SeekFrom::Hole(begin))?;
        from.seek(io::SeekFrom::Start(begin))?;
        to.seek(io::SeekFrom::Start(begin))?;
        io::copy(&mut (&from).take(at - begin), &mut to)?;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    use super::*;

    #[test]
    fn a_disk_is_made_once_and_is_sparse() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.ext4");
        make(&path).unwrap();
        let made = fs::metadata(&path).unwrap();
        assert_eq!(made.len(), BYTES);
        assert!(made.blocks() * 512 < 4 << 20, "{} sectors", made.blocks());
        make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), made.ino());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_copied_disk_is_the_same_and_as_sparse() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        make(&one).unwrap();
        let written = File::options().write(true).open(&one).unwrap();
        written.write_all_at(b"far away", BYTES - 8).unwrap();
        written.write_all_at(&[7; 100_000], 5 << 30).unwrap();
        copy(&one, &other).unwrap();
        let (from, to) = (File::open(&one).unwrap(), File::open(&other).unwrap());
        assert!(to.metadata().unwrap().blocks() <= from.metadata().unwrap().blocks() + 64);
        for (at, bytes) in [(0, 1 << 20), (5 << 30, 100_000), (BYTES - 4096, 4096)] {
            let read = |file: &File| {
                let mut piece = vec![0; bytes];
                file.read_exact_at(&mut piece, at).map(|()| piece).unwrap()
            };
            assert!(read(&from) == read(&to), "at {at}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}

//! Copies of disks: blocks are shared where the file system can (btrfs, xfs), else what is not a
//! hole is copied.
//!
//! Source: ioctl_ficlonerange(2); lseek(2), `SEEK_DATA`, Linux 3.1.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use rustix::{
    fs::{SeekFrom, ioctl_ficlone, seek},
    io::Errno,
};

/// Copied at once.
const CHUNK: usize = 1 << 20;

/// Copies a file to a new one, an own one of this user alone, and gives that. It is not on the disk
/// until it is synced.
pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<File> {
    let from = File::open(from)?;
    let to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let bytes = from.metadata()?.len();
    if ioctl_ficlone(&to, &from).is_err() {
        to.set_len(bytes)?;
        let mut buffer = vec![0; CHUNK];
        let mut at = 0;
        while let Some((start, end)) = data(&from, at, bytes)? {
            piece(&from, &to, start, end, &mut buffer)?;
            at = end;
        }
    }
    Ok(to)
}

/// The first run of data from a place on. A file system without holes has one run.
fn data(file: &File, at: u64, bytes: u64) -> io::Result<Option<(u64, u64)>> {
    let start = match seek(file, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(Errno::INVAL | Errno::OPNOTSUPP) if at < bytes => return Ok(Some((at, bytes))),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let end = seek(file, SeekFrom::Hole(start))?.min(bytes);
    Ok((start < end).then_some((start, end)))
}

/// Copies a run; what is all zeros in it stays a hole.
fn piece(from: &File, to: &File, start: u64, end: u64, buffer: &mut [u8]) -> io::Result<()> {
    let mut at = start;
    while at < end {
        let step = usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        let there = from.read_at(&mut buffer[..step], at)?;
        if there == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if buffer[..there].iter().any(|byte| *byte != 0) {
            to.write_all_at(&buffer[..there], at)?;
        }
        at += there as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _};

    use super::*;

    #[test]
    fn a_copy_is_the_same_and_no_larger() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        let file = File::create(&a).unwrap();
        file.set_len((64 << 20) + 3).unwrap();
        for at in [0, 5 << 20, (64 << 20) + 1] {
            file.write_all_at(b"xy", at).unwrap();
        }
        copy(&a, &b).unwrap();
        assert!(fs::read(&a).unwrap() == fs::read(&b).unwrap());
        assert!(b.metadata().unwrap().blocks() * 512 < 8 << 20);
        assert!(copy(&a, &b).is_err(), "nothing is written over");
        let empty = dir.path().join("empty");
        File::create(&empty).unwrap();
        copy(&empty, &dir.path().join("c")).unwrap();
    }
}

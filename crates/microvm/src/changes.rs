//! The disk on which a machine keeps what it changes.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use rustix::rand::{GetRandomFlags, getrandom};
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

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
}

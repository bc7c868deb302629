//! Chores, carried out.

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    time::Duration,
};

use base::{Deadline, chain};
use net::machine::take_over;
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, open, statx},
    io::Errno,
    mount::{MountFlags, UnmountFlags},
    time::{ClockId, Timespec, clock_settime},
};
use shim::protocol::Chore;
use workload::DriverError;

use crate::{ground, identity, names};

/// Where the kernel tells of disks.
const BLOCK: &str = "/sys/block";

/// Bytes of a sector, in which sizes are told. Source: Linux, Documentation/ABI/stable/sysfs-block.
const SECTOR: u64 = 512;

/// Between two looks for a disk that is on its way.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Does one.
pub(crate) async fn carry_out(chore: Chore, by: Deadline) -> Result<(), DriverError> {
    match chore {
        Chore::Mount { serial, bytes, filesystem, target, read_only, options } => {
            let source = match (serial.as_str(), filesystem.as_str()) {
                ("", filesystem) => filesystem.to_owned(),
                // Of shared directories it is the tag.
                (tag, "virtiofs") => tag.to_owned(),
                (serial, _) => disk(serial, bytes, by).await?,
            };
            let flags = if read_only { MountFlags::RDONLY } else { MountFlags::empty() };
            let mounted = ground::mount_at(&source, &filesystem, &target, &options, flags);
            mounted.map_err(|error| step(&error.to_string(), &error))
        }
        Chore::Unmount { serial, target } => unmount(&serial, &target, by).await,
        Chore::Directories(all) => {
            all.iter().try_for_each(|path| make(path)).map_err(|(path, error)| {
                DriverError::step(format!("make the directory {}", path.display()), &error)
            })
        }
        Chore::Remove(all) => all.iter().try_for_each(|path| match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(DriverError::step(format!("remove {}", path.display()), &error))
            }
            Ok(()) | Err(_) => Ok(()),
        }),
        Chore::Interfaces(all) => {
            all.iter().enumerate().try_for_each(|(n, one)| take_over(n, one)).map_err(|error| {
                DriverError::Invalid { what: "network".to_owned(), why: chain(&error) }
            })
        }
        Chore::Names => names::answer().map_err(|error| step(&chain(&error), &error)),
        Chore::Clock(nanoseconds) => {
            set_clock(nanoseconds).map_err(|error| DriverError::step("set the clock", &error))
        }
        Chore::Seed(bytes) => {
            sys::random::stir(&bytes).map_err(|error| DriverError::step("stir in a seed", &error))
        }
        Chore::Freeze(at) => stand_still(&at, true)
            .map_err(|error| DriverError::step(format!("freeze {}", at.display()), &error)),
        Chore::Thaw(at) => stand_still(&at, false)
            .map_err(|error| DriverError::step(format!("thaw {}", at.display()), &error)),
        Chore::Reread(at) => reread(&at)
            .map_err(|error| DriverError::step(format!("reread {}", at.display()), &error)),
        Chore::Identity(identity) => identity::take(&identity),
    }
}

fn step(doing: &str, error: &dyn std::error::Error) -> DriverError {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    let errno = source.and_then(io::Error::raw_os_error).unwrap_or_default();
    DriverError::Step { step: doing.to_owned(), errno }
}

fn make(path: &PathBuf) -> Result<(), (&PathBuf, io::Error)> {
    fs::create_dir_all(path).map_err(|error| (path, error))
}

/// The device of the disk with this serial number, when it is there and as large as it should be:
/// of a place that another disk was in, the kernel hears a moment later than it can be read.
async fn disk(serial: &str, bytes: u64, by: Deadline) -> Result<String, DriverError> {
    loop {
        let found = find(Path::new(BLOCK), serial);
        if let Some((name, _)) = found.filter(|(_, found)| *found == bytes.div_ceil(SECTOR)) {
            return Ok(format!("/dev/{name}"));
        }
        if by.passed() {
            let doing = format!("waiting for the disk {serial}");
            return Err(DriverError::DeadlinePassed { doing });
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The name of a disk, and how many sectors it has.
fn find(disks: &Path, serial: &str) -> Option<(String, u64)> {
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    fs::read_dir(disks).ok()?.flatten().find_map(|disk| {
        let here = read(disk.path().join("serial"));
        let found = here.trim_end() == serial && !serial.is_empty();
        let sectors = || read(disk.path().join("size")).trim_end().parse().ok();
        found.then(|| Some((disk.file_name().into_string().ok()?, sectors()?)))?
    })
}

/// Unmounts a disk. What was mounted from it elsewhere goes a moment later than who had it; until
/// then it cannot be had alone.
///
/// Source: open(2), `O_EXCL`.
async fn unmount(serial: &str, target: &Path, by: Deadline) -> Result<(), DriverError> {
    let doing = || format!("unmount {}", target.display());
    match rustix::mount::unmount(target, UnmountFlags::empty()) {
        // It is not mounted, or not even there.
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
        Err(error) => return Err(DriverError::step(doing(), &error.into())),
    }
    let Some((name, _)) = find(Path::new(BLOCK), serial) else { return Ok(()) };
    let alone = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC;
    while let Err(error) = open(format!("/dev/{name}"), alone, Mode::empty()) {
        if error != Errno::BUSY || by.passed() {
            return Err(DriverError::step(doing(), &error.into()));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    // Where it was mounted is for nothing else.
    let _ = fs::remove_dir(target);
    Ok(())
}

/// Has a file system stand still, or go on; one that does already stays so.
fn stand_still(at: &Path, still: bool) -> io::Result<()> {
    let directory = File::open(at)?;
    let (done, already) = match still {
        true => (sys::freeze::freeze(directory.as_fd()), Errno::BUSY),
        false => (sys::freeze::thaw(directory.as_fd()), Errno::INVAL),
    };
    match done {
        Err(error) if error.raw_os_error() == Some(already.raw_os_error()) => Ok(()),
        other => other,
    }
}

/// Asks for the attributes of something of the host: if it is not as it was it is read anew. By
/// itself the kernel believes what it was told for a while.
///
/// Source: statx(2), `AT_STATX_FORCE_SYNC`.
fn reread(at: &Path) -> io::Result<()> {
    let flags = AtFlags::STATX_FORCE_SYNC | AtFlags::SYMLINK_NOFOLLOW;
    statx(CWD, at, flags, StatxFlags::BASIC_STATS)?;
    Ok(())
}

fn set_clock(nanoseconds: u64) -> io::Result<()> {
    let seconds = i64::try_from(nanoseconds / 1_000_000_000).map_err(io::Error::other)?;
    let rest = i64::try_from(nanoseconds % 1_000_000_000).map_err(io::Error::other)?;
    Ok(clock_settime(ClockId::Realtime, Timespec { tv_sec: seconds, tv_nsec: rest })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_found_by_its_serial_number() {
        let dir = tempfile::tempdir().unwrap();
        let disk = |name: &str, serial: &str, size: &str| {
            let at = dir.path().join(name);
            fs::create_dir_all(&at).unwrap();
            fs::write(at.join("serial"), serial).unwrap();
            fs::write(at.join("size"), size).unwrap();
        };
        disk("vda", "layer-1\n", "2048\n");
        disk("vdb", "layer-2\n", "0\n");
        fs::create_dir_all(dir.path().join("loop0")).unwrap();
        assert_eq!(find(dir.path(), "layer-1"), Some(("vda".to_owned(), 2048)));
        assert_eq!(find(dir.path(), "layer-2"), Some(("vdb".to_owned(), 0)));
        assert_eq!(find(dir.path(), "layer-3"), None);
        assert_eq!(find(dir.path(), ""), None, "no serial number is no name");
    }

    #[test]
    fn directories_are_made_with_those_above_them() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        assert!(make(&deep).is_ok() && make(&deep).is_ok());
        fs::write(dir.path().join("file"), "").unwrap();
        let under = dir.path().join("file/c");
        assert_eq!(make(&under).unwrap_err().0, &under);
    }
}

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
    fs::{AtFlags, CWD, StatxFlags, statx},
    io::Errno,
    mount::MountFlags,
    time::{ClockId, Timespec, clock_settime},
};
use shim::protocol::Chore;
use workload::DriverError;

use crate::{ground, identity, names};

/// Between two looks for a disk that is on its way.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Does one.
pub(crate) async fn carry_out(chore: Chore, by: Deadline) -> Result<(), DriverError> {
    match chore {
        Chore::Mount { serial, filesystem, target, read_only, options } => {
            let source = match (serial.as_str(), filesystem.as_str()) {
                ("", filesystem) => filesystem.to_owned(),
                // Of shared directories it is the tag.
                (tag, "virtiofs") => tag.to_owned(),
                (serial, _) => disk(serial, by).await?,
            };
            let flags = if read_only { MountFlags::RDONLY } else { MountFlags::empty() };
            let mounted = ground::mount_at(&source, &filesystem, &target, &options, flags);
            mounted.map_err(|error| step(&error.to_string(), &error))
        }
        Chore::Directories(all) => {
            all.iter().try_for_each(|path| make(path)).map_err(|(path, error)| {
                DriverError::step(format!("make the directory {}", path.display()), &error)
            })
        }
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

/// The device of the disk with this serial number, when it is there and has a size.
async fn disk(serial: &str, by: Deadline) -> Result<String, DriverError> {
    loop {
        if let Some(name) = find(Path::new("/sys/block"), serial) {
            return Ok(format!("/dev/{name}"));
        }
        if by.passed() {
            let doing = format!("waiting for the disk {serial}");
            return Err(DriverError::DeadlinePassed { doing });
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn find(disks: &Path, serial: &str) -> Option<String> {
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    fs::read_dir(disks).ok()?.flatten().find_map(|disk| {
        let here = read(disk.path().join("serial"));
        let size = read(disk.path().join("size"));
        let found = here.trim_end() == serial && size.trim_end() != "0";
        (found && !serial.is_empty()).then(|| disk.file_name().into_string().ok())?
    })
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

/// Asks for the attributes of everything in a directory of the host: what is not as it was is read
/// anew. By itself the kernel believes what it was told for a while.
///
/// Source: statx(2), `AT_STATX_FORCE_SYNC`.
fn reread(at: &Path) -> io::Result<()> {
    for entry in fs::read_dir(at)? {
        let flags = AtFlags::STATX_FORCE_SYNC | AtFlags::SYMLINK_NOFOLLOW;
        statx(CWD, entry?.path(), flags, StatxFlags::BASIC_STATS)?;
    }
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
    fn a_disk_is_found_by_its_serial_number_once_it_has_a_size() {
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
        assert_eq!(find(dir.path(), "layer-1"), Some("vda".to_owned()));
        assert_eq!(find(dir.path(), "layer-2"), None);
        disk("vdb", "layer-2\n", "8\n");
        assert_eq!(find(dir.path(), "layer-2"), Some("vdb".to_owned()));
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

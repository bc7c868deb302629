//! A tmpfs that begins with what the image has at its place (`tmpcopyup`).
//!
//! The image's files are hostile: nothing is followed, everything is opened by its name in its
//! directory. Contents, owners, modes, links and times of files are copied; extended attributes
//! and hard links are not, and holes are filled.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid},
    io::{Errno, Result},
};
use sys::mount::{Change, attribute, set_attributes};
use workload::DriverError;

use crate::{beneath, init::mount::detached, op::NewMount};

/// Deepest directory that is copied.
const DEPTH_MAX: usize = files::DEPTH_MAX;
/// Most bytes of one file where the tmpfs has no limit: an image must not fill the memory.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// A tmpfs with what the root has at its target, if that is a directory there.
pub(super) fn mount(
    root: Option<&OwnedFd>,
    target: &CStr,
    mount: &NewMount,
) -> std::result::Result<OwnedFd, DriverError> {
    let step = |error: Errno| {
        let step = format!("copy up {}", target.to_string_lossy());
        DriverError::step(step, &error.into())
    };
    let root = root.ok_or_else(|| step(Errno::BADF))?;
    let read_only = mount.attributes & attribute::READ_ONLY;
    // It is filled before it is made read-only.
    let writable = NewMount { attributes: mount.attributes & !read_only, ..mount.clone() };
    let made = detached(&writable).map_err(step)?;
    match beneath::open(root.as_fd(), target, OFlags::DIRECTORY) {
        Ok(from) => {
            // A mount's own descriptor is for a path only.
            let to = rustix::fs::openat(&made, c".", flags(), Mode::empty()).map_err(step)?;
            copy(from.as_fd(), to.as_fd()).map_err(step)?;
            if let Some(mode) = mode_of(mount) {
                rustix::fs::fchmod(&to, mode).map_err(step)?;
            }
        }
        Err(Errno::NOENT | Errno::NOTDIR) => {}
        Err(error) => return Err(step(error)),
    }
    let change = Change { set: read_only, ..mount.propagation.unwrap_or_default() };
    if change != Change::default() {
        set_attributes(made.as_fd(), change, None)
            .map_err(|error| DriverError::step("set attributes of a tmpfs", &error))?;
    }
    Ok(made)
}

/// The mode of the top directory, where it is not to be the image's.
fn mode_of(mount: &NewMount) -> Option<Mode> {
    let (_, value) = mount.parameters.iter().find(|(key, _)| key.as_c_str() == c"mode")?;
    let digits = value.as_ref()?.to_str().ok()?;
    u32::from_str_radix(digits, 8).ok().map(Mode::from_raw_mode)
}

fn flags() -> OFlags {
    OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// Copies what is in one directory into another.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    directory(from, to, 0)
}

fn directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(Errno::LOOP);
    }
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            one(from, to, name, depth)?;
        }
    }
    let stat = rustix::fs::fstat(from)?;
    rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))
}

fn one(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result<()> {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            rustix::fs::mkdirat(to, name, Mode::RWXU)?;
            let (from, to) = (open_directory(from, name)?, open_directory(to, name)?);
            return directory(from.as_fd(), to.as_fd(), depth + 1);
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, name, Vec::new())?;
            rustix::fs::symlinkat(&target, to, name)?;
            return own(to, name, &stat);
        }
        FileType::RegularFile => contents(from, to, name)?,
        kind @ (FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown) => rustix::fs::mknodat(to, name, kind, Mode::RUSR, stat.st_rdev)?,
    }
    own(to, name, &stat)?;
    // After the owner, whose change takes set-user-id away.
    rustix::fs::chmodat(to, name, mode, AtFlags::empty())?;
    rustix::fs::utimensat(to, name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)
}

fn contents(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let read = OFlags::RDONLY | OFlags::NONBLOCK;
    let source = rustix::fs::openat(from, name, flags | read, Mode::empty())?;
    let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let target = rustix::fs::openat(to, name, flags | write, Mode::RUSR | Mode::WUSR)?;
    let kernel = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let mut source = File::from(source).take(FILE_BYTES_MAX);
    io::copy(&mut source, &mut File::from(target)).map_err(kernel)?;
    // What does not fit is said, never cut off.
    let rest = source.into_inner().read(&mut [0]).map_err(kernel)?;
    if rest > 0 { Err(Errno::FBIG) } else { Ok(()) }
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.try_into().unwrap_or(0),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

fn own(at: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

fn open_directory(at: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    rustix::fs::openat(at, name, flags(), Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    #[test]
    fn a_tree_is_copied_and_links_are_not_followed() {
        let top = tempfile::tempdir().unwrap();
        let (from, to) = (top.path().join("from"), top.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("a/b/file"), "text").unwrap();
        fs::set_permissions(from.join("a/b/file"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink("/etc/passwd", from.join("link")).unwrap();
        let open = |path| fs::File::open(path).unwrap();
        copy(open(&from).as_fd(), open(&to).as_fd()).unwrap();
        assert_eq!(fs::read_to_string(to.join("a/b/file")).unwrap(), "text");
        let mode = fs::metadata(to.join("a/b/file")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_eq!(fs::read_link(to.join("link")).unwrap().to_str(), Some("/etc/passwd"));
    }
}

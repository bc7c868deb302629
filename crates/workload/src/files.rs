//! Files of a container, where the driver can reach them: an optional ability of a sandbox.

use std::os::fd::OwnedFd;

use base::{ErrorKind, ProcessId};
use serde::{Deserialize, Serialize};

use crate::{DriverError, Pending};

/// A sandbox whose files can be looked at, read and written from outside.
///
/// Paths are a process's: whatever is mounted in its container is seen as it sees it. They are
/// resolved beneath its root, whatever it does to them meanwhile.
pub trait Files: Send + Sync {
    /// What is at a path; the last name is not followed unless a slash comes after it.
    ///
    /// # Errors
    /// [`DriverError::File`]; [`DriverError::State`] if the process has ended.
    fn stat(&self, process: &ProcessId, path: &str) -> Pending<'_, Result<FileStat, DriverError>>;

    /// Writes what is at a path to a pipe or socket, as a tar archive whose only top name is
    /// `name`. It takes as long as the reader does.
    ///
    /// # Errors
    /// As [`Files::stat`]; the archive is cut off then.
    fn read(
        &self,
        process: &ProcessId,
        path: &str,
        name: &str,
        to: OwnedFd,
    ) -> Pending<'_, Result<(), DriverError>>;

    /// Unpacks a tar archive into a directory.
    ///
    /// # Errors
    /// As [`Files::stat`]; entries before the failing one are there then.
    fn write(
        &self,
        process: &ProcessId,
        path: &str,
        from: OwnedFd,
        unpack: Unpack,
    ) -> Pending<'_, Result<(), DriverError>>;
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStat {
    /// The last name of the path that was asked for.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Kind and permissions, as `st_mode` has them (inode(7)).
    pub mode: u32,
    /// Last change of the content: seconds since 1970 and nanoseconds.
    pub modified: (i64, u32),
    /// Owner, as seen inside.
    pub uid: u32,
    /// Group, as seen inside.
    pub gid: u32,
    /// Of a symbolic link: where it leads in the end, as an absolute path inside.
    pub link_target: Option<String>,
}

impl FileStat {
    /// Bits of `st_mode` that say the kind. Source: inode(7).
    const KIND: u32 = 0o170_000;

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.mode & FileStat::KIND == 0o040_000
    }

    /// Whether it is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.mode & FileStat::KIND == 0o120_000
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.mode & FileStat::KIND == 0o100_000
    }
}

/// How an archive is unpacked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpack {
    /// Refuse to put something else in a directory's place, or a directory in something else's.
    pub keep_kinds: bool,
    /// To whom it belongs.
    pub owner: Owner,
}

/// To whom unpacked files belong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// To whom the archive says.
    #[default]
    Archive,
    /// To these, whatever the archive says.
    Given {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// To `user[:group]`, looked up beneath the root that they are unpacked into.
    User {
        /// Each a name or a number.
        name: String,
    },
}

/// Why files were not read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileFault {
    /// There is nothing at the path.
    #[error("Could not find the file {path}")]
    NotFound {
        /// As it was asked for.
        path: String,
    },
    /// Something other than a directory is at the path.
    #[error("not a directory: {path}")]
    NotADirectory {
        /// As it was asked for.
        path: String,
    },
    /// An archive is unpacked into directories only.
    #[error("extraction point is not a directory")]
    Target,
    /// A directory would have to make room for something else.
    #[error("cannot overwrite directory \"{path}\" with non-directory")]
    OverDirectory {
        /// Where.
        path: String,
    },
    /// Something would have to make room for a directory.
    #[error("cannot overwrite non-directory \"{path}\" with directory")]
    OverOther {
        /// Where.
        path: String,
    },
    /// The root is read-only.
    #[error("container rootfs is marked read-only")]
    ReadOnlyRoot,
    /// What is mounted there is read-only.
    #[error("mounted volume is marked read-only")]
    ReadOnlyMount,
    /// A path leads out of the directory it belongs to.
    #[error("\"{path}\" leads out of its directory")]
    Escapes {
        /// Which.
        path: String,
    },
    /// Directories are nested too deep.
    #[error("\"{path}\" is nested deeper than {most} directories")]
    Deep {
        /// Where.
        path: String,
        /// The limit.
        most: usize,
    },
    /// An archive is malformed.
    #[error("the archive cannot be unpacked: {why}")]
    Archive {
        /// What is wrong with it.
        why: String,
    },
    /// To whom the files should belong is nobody there.
    #[error("{why}")]
    User {
        /// Who is not there.
        why: String,
    },
    /// Whoever should read the archive has gone, or cannot be written to.
    #[error("the archive cannot be written: {}", std::io::Error::from_raw_os_error(*.errno))]
    Stream {
        /// The error number.
        errno: i32,
    },
    /// The kernel refused.
    #[error("{doing} \"{path}\": {}", std::io::Error::from_raw_os_error(*.errno))]
    Kernel {
        /// What was being done.
        doing: String,
        /// To what.
        path: String,
        /// The error number.
        errno: i32,
    },
}

impl FileFault {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            FileFault::NotFound { .. } => ErrorKind::NotFound,
            FileFault::NotADirectory { .. }
            | FileFault::Target
            | FileFault::OverDirectory { .. }
            | FileFault::OverOther { .. }
            | FileFault::Escapes { .. }
            | FileFault::User { .. }
            | FileFault::Archive { .. } => ErrorKind::InvalidInput,
            FileFault::ReadOnlyRoot | FileFault::ReadOnlyMount => ErrorKind::PermissionDenied,
            FileFault::Deep { .. } => ErrorKind::Exhausted,
            FileFault::Stream { .. } => ErrorKind::Unavailable,
            FileFault::Kernel { .. } => ErrorKind::Internal,
        }
    }
}

impl From<FileFault> for DriverError {
    fn from(fault: FileFault) -> DriverError {
        DriverError::File(fault)
    }
}

//! mount_setattr(2): attributes and id maps of mounts. The rest of the mount API is rustix's.

#![expect(unsafe_code, reason = "UNSAFETY: mount_setattr(2) has no safe wrapper")]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// Per-mount attributes, `MOUNT_ATTR_…` of linux/mount.h.
pub mod attribute {
    /// No writing.
    pub const READ_ONLY: u64 = 0x1;
    /// No set-user-id.
    pub const NO_SUID: u64 = 0x2;
    /// No device files.
    pub const NO_DEV: u64 = 0x4;
    /// No execution.
    pub const NO_EXEC: u64 = 0x8;
    /// The bits that say how access times are kept; 0 is relatime.
    pub const ACCESS_TIME: u64 = 0x70;
    /// Access times are not kept.
    pub const NO_ATIME: u64 = 0x10;
    /// Access times are always kept.
    pub const STRICT_ATIME: u64 = 0x20;
    /// Access times of directories are not kept.
    pub const NO_DIRATIME: u64 = 0x80;
    /// Ids are mapped.
    pub const IDMAP: u64 = 0x0010_0000;
    /// Symbolic links are not followed.
    pub const NO_SYMFOLLOW: u64 = 0x0020_0000;
}

/// How mounts travel between namespaces, `MS_…` of mount(2).
pub mod propagation {
    /// Neither way, and it cannot be bound.
    pub const UNBINDABLE: u64 = 1 << 17;
    /// Neither way.
    pub const PRIVATE: u64 = 1 << 18;
    /// From the original only.
    pub const SLAVE: u64 = 1 << 19;
    /// Both ways.
    pub const SHARED: u64 = 1 << 20;
}

/// A change of attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Attributes to set.
    pub set: u64,
    /// Attributes to clear.
    pub clear: u64,
    /// Propagation, 0 to leave it.
    pub propagation: u64,
    /// Every mount below too.
    pub recursive: bool,
}

/// `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Changes the attributes of a mount; with `user_namespace` also the ids seen through it, which
/// must be a detached mount then. Child-safe.
///
/// # Errors
/// `EBUSY` if files are open for writing and it is to be read-only, `EINVAL` if the file system
/// cannot map ids, `EPERM` for a locked flag or without privileges, `ENOSYS` before Linux 5.12.
///
/// Source: mount_setattr(2), Linux 5.12.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    change: Change,
    user_namespace: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut attr = MountAttr {
        set: change.set,
        clear: change.clear,
        propagation: change.propagation,
        user_namespace: 0,
    };
    if let Some(namespace) = user_namespace {
        attr.set |= attribute::IDMAP;
        attr.user_namespace = u64::from(namespace.as_raw_fd().unsigned_abs());
    }
    let recursive = if change.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is empty and ends in a zero; `attr` lives until the call returns and is
    // as long as its size says.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

//! Paths of a root that somebody hostile may have filled.
//!
//! Source: openat2(2), Linux 5.6.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::{
    fs::{OFlags, ResolveFlags},
    io::Result,
};

/// Opens a path as if `root` were the root directory: `..` and absolute links stay inside, and
/// the magic links of `/proc` are refused.
pub(crate) fn open_in_root(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd> {
    open(root, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Opens a path; `resolve` says what keeps it inside.
pub(crate) fn open(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    sys::beneath::open(root, path, flags, resolve)
}

//! Paths of a root that somebody hostile may have filled.
//!
//! Source: openat2(2), Linux 5.6.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags, openat2},
    io::{Errno, Result},
};

/// How often a lookup is tried again that a rename somewhere made undecidable. Source:
/// openat2(2), `EAGAIN`.
const RETRIES_MAX: u32 = 64;

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
    let mut tries = 0;
    loop {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < RETRIES_MAX => tries += 1,
            answer => return answer,
        }
    }
}

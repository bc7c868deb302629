//! File systems that stand still.
//!
//! Source: ioctl_fsfreeze(2); Linux `include/uapi/linux/fs.h`.
#![expect(unsafe_code, reason = "UNSAFETY: rustix has no ioctls that freeze file systems")]

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// `FIFREEZE`, `_IOWR('X', 119, int)`.
const FREEZE: libc::c_ulong = 0xc004_5877;

/// `FITHAW`, `_IOWR('X', 120, int)`.
const THAW: libc::c_ulong = 0xc004_5878;

/// Writes out everything that a file system holds, and holds back whoever wants to change it from
/// then on. `at`: any open file or directory of it.
///
/// # Errors
/// `EBUSY` if it stands still already, `EOPNOTSUPP` if it cannot, `EPERM` without `CAP_SYS_ADMIN`.
pub fn freeze(at: BorrowedFd<'_>) -> io::Result<()> {
    order(at, FREEZE)
}

/// Lets a file system go on.
///
/// # Errors
/// `EINVAL` if it does not stand still, `EPERM` without `CAP_SYS_ADMIN`.
pub fn thaw(at: BorrowedFd<'_>) -> io::Result<()> {
    order(at, THAW)
}

fn order(at: BorrowedFd<'_>, order: libc::c_ulong) -> io::Result<()> {
    // SAFETY: neither ioctl looks at its argument, and the descriptor is open.
    let answer = unsafe { libc::ioctl(at.as_raw_fd(), order, 0) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd as _};

    use super::*;

    #[test]
    fn what_cannot_stand_still_says_so() {
        let proc = File::open("/proc/self").unwrap();
        let refused = freeze(proc.as_fd()).unwrap_err().raw_os_error();
        assert!(matches!(refused, Some(libc::EOPNOTSUPP | libc::EPERM)), "{refused:?}");
        let refused = thaw(proc.as_fd()).unwrap_err().raw_os_error();
        assert!(matches!(refused, Some(libc::EINVAL | libc::EPERM)), "{refused:?}");
    }
}

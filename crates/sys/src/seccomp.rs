//! Loading a seccomp filter.
#![expect(unsafe_code, reason = "UNSAFETY: seccomp(2) has no safe wrapper")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// One instruction of classic BPF (linux/filter.h, `struct sock_filter`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SockFilter {
    /// What it does.
    pub code: u16,
    /// How many instructions to skip if a test holds.
    pub jt: u8,
    /// How many instructions to skip if it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// The kernel's `struct sock_fprog`.
#[repr(C)]
struct SockProgram {
    length: u16,
    filter: *const SockFilter,
}

const SET_MODE_FILTER: libc::c_uint = 1;
const FLAG_NEW_LISTENER: u32 = 1 << 3;

/// Puts a filter in force for the calling thread and its children, for good.
///
/// `flags` are `SECCOMP_FILTER_FLAG_…`; with `NEW_LISTENER` the descriptor of the listener is
/// returned, close-on-exec. Neither allocates nor takes a lock, so it may be called between
/// clone(2) and execve(2).
///
/// # Errors
/// `EINVAL` if the program is not a filter, is empty or too long (4,096 instructions) or a flag
/// is not known; `EACCES` without `CAP_SYS_ADMIN` and without no-new-privileges; `ESRCH` if
/// another thread could not be brought along (`TSYNC`).
///
/// Source: seccomp(2), Linux 3.17; listener 5.0.
pub fn load(filter: &[SockFilter], flags: u32) -> io::Result<Option<OwnedFd>> {
    let length =
        u16::try_from(filter.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = SockProgram { length, filter: filter.as_ptr() };
    // SAFETY: `program` and the instructions it points to live until the call returns, and the
    // kernel only reads them.
    let answer =
        unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const program) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    if flags & FLAG_NEW_LISTENER == 0 {
        // With TSYNC a positive answer names the thread that could not follow.
        return if answer == 0 { Ok(None) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) };
    }
    let fd = i32::try_from(answer).expect("a descriptor fits in an int");
    // SAFETY: the kernel has just returned this descriptor, so nobody else owns it.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

//! Session keyrings.

#![expect(unsafe_code, reason = "UNSAFETY: keyctl(2) has no safe wrapper")]

use std::{ffi::CStr, io};

const JOIN_SESSION_KEYRING: u32 = 1;

/// Gives the calling process a new session keyring of this name, so that it sees none of its
/// parent's keys. Child-safe.
///
/// # Errors
/// `ENOSYS` where the kernel has no keyrings, `EDQUOT` or `ENOMEM` at their limits.
///
/// Source: keyctl(2), `KEYCTL_JOIN_SESSION_KEYRING`.
pub fn join_session(name: &CStr) -> io::Result<()> {
    // SAFETY: the name ends in a zero and is only read.
    let answer = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

//! What a process says about itself, by number where rustix has names.

#![expect(unsafe_code, reason = "UNSAFETY: prlimit(2), close_range(2), _exit(2), dup3(2)")]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// Ends the process at once: no destructors, no buffers. Child-safe.
///
/// Source: _exit(2).
pub fn exit_now(code: u8) -> ! {
    // SAFETY: exit_group never returns and touches no memory of ours.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Closes every descriptor in a range, for a process that is about to become another program:
/// nothing here may use them afterwards, their owners least of all. Child-safe.
///
/// # Errors
/// `EINVAL` if the range is empty, `ENOSYS` before Linux 5.9.
///
/// Source: close_range(2).
pub fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: closing descriptors touches no memory. The caller, a child that is about to exec,
    // has promised not to use the owners of these descriptors again.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0_u32) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A second descriptor for the same file at this very number, which is closed first if it is in
/// use; close-on-exec or not. Child-safe.
///
/// The new descriptor belongs to nobody: it lives until execve(2) or the end of the process. So
/// it is for processes about to become another program.
///
/// # Errors
/// `EBADF` if the number is above the limit.
///
/// Source: dup3(2).
pub fn place(fd: BorrowedFd<'_>, number: i32, close_on_exec: bool) -> io::Result<()> {
    if fd.as_raw_fd() == number {
        let flags = if close_on_exec { libc::FD_CLOEXEC } else { 0 };
        // SAFETY: F_SETFD takes an integer.
        let answer = unsafe { libc::fcntl(number, libc::F_SETFD, flags) };
        return if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    }
    let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
    // SAFETY: the caller gives up whatever had this number, as the documentation says.
    let answer = unsafe { libc::dup3(fd.as_raw_fd(), number, flags) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A descriptor that this process was handed under this number by whoever executed it.
///
/// # Errors
/// `EBADF` if there is none.
pub fn inherited(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes an integer and fails for a number that is not open.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Sets a resource limit of the calling process by the kernel's number. Child-safe.
///
/// # Errors
/// `EINVAL` if the number is not known or soft is above hard, `EPERM` to raise the hard limit.
///
/// Source: prlimit(2), Linux 2.6.36.
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    let old: *mut libc::rlimit64 = std::ptr::null_mut();
    // SAFETY: the new limit lives until the call returns; the old one is not asked for.
    let answer = unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, old) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sends a signal by number to the process that a pidfd means.
///
/// # Errors
/// `ESRCH` if it has ended, `EPERM` without the right to.
///
/// Source: pidfd_send_signal(2), Linux 5.1.
pub fn signal(pidfd: BorrowedFd<'_>, number: u8) -> io::Result<()> {
    let info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: a null `info` asks for what kill(2) would send.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            i32::from(number),
            info,
            0_u32,
        )
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Resets every signal to its default action and blocks none, as a new program expects.
/// Child-safe.
///
/// # Errors
/// None for the signals that exist.
///
/// Source: sigaction(2), sigprocmask(2). execve(2) resets handlers but keeps ignored signals
/// ignored, and Rust's runtime ignores `SIGPIPE`.
pub fn default_signals() -> io::Result<()> {
    // SAFETY: the default action needs no handler that could be wrong.
    let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    if before == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    let none: u64 = 0;
    let old: *mut u64 = std::ptr::null_mut();
    // SAFETY: the kernel's signal set is 8 bytes long, which `none` has.
    let answer = unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, old, 8_usize)
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets the execution domain, such as `PER_LINUX32`. Child-safe.
///
/// # Errors
/// `EINVAL` if the kernel does not know it.
///
/// Source: personality(2).
pub fn set_personality(domain: u32) -> io::Result<()> {
    // SAFETY: personality takes an integer.
    let answer = unsafe { libc::personality(libc::c_ulong::from(domain)) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Has the calling process killed when its parent ends, or not any more. Child-safe.
///
/// # Errors
/// None.
///
/// Source: `PR_SET_PDEATHSIG`.
pub fn die_with_parent(die: bool) -> io::Result<()> {
    let signal = if die { libc::SIGKILL } else { 0 };
    prctl(libc::PR_SET_PDEATHSIG, signal)
}

/// Keeps others from tracing this process, from reading its memory and from following its
/// links in `/proc`, until execve(2). Children inherit it. Child-safe.
///
/// # Errors
/// None.
///
/// Source: `PR_SET_DUMPABLE`; proc(5); ptrace(2), "Ptrace access mode checking".
pub fn hide() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0)
}

/// Makes orphans below this process its children.
///
/// # Errors
/// None.
///
/// Source: `PR_SET_CHILD_SUBREAPER`, Linux 3.4.
pub fn adopt_orphans() -> io::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
}

fn prctl(option: i32, value: i32) -> io::Result<()> {
    // SAFETY: none of the options used here takes a pointer.
    let answer = unsafe { libc::syscall(libc::SYS_prctl, option, value, 0_u64, 0_u64, 0_u64) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The working directory, in the buffer, without its zero. Child-safe.
///
/// # Errors
/// `ERANGE` if it is longer than the buffer, `ENOENT` if it was removed.
///
/// Source: getcwd(2).
pub fn current_directory(buffer: &mut [u8]) -> io::Result<&[u8]> {
    // SAFETY: the kernel writes at most as many bytes as the buffer has.
    let length = unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    Ok(buffer.get(..length.saturating_sub(1)).unwrap_or_default())
}

/// Makes file systems take this thread for another user and group, with all the capabilities it
/// has: leaving user 0 for them would put those on files out of force.
///
/// # Errors
/// `EINVAL` if the kernel did not take the ids; the thread is then as it was.
///
/// Source: setfsuid(2), capabilities(7), "Effect of user ID changes on capabilities".
pub fn set_file_ids(uid: u32, gid: u32) -> io::Result<()> {
    /// No id at all: asked for, the kernel changes nothing and tells the one in force.
    const ASK: libc::uid_t = libc::uid_t::MAX;
    let sets = crate::capability::get()?;
    // SAFETY: takes a number and changes this thread's credentials only.
    let old_gid = unsafe { libc::setfsgid(gid) };
    // SAFETY: as above.
    let old_uid = unsafe { libc::setfsuid(uid) };
    // SAFETY: as above.
    let new_gid = unsafe { libc::setfsgid(ASK) };
    // SAFETY: as above.
    let new_uid = unsafe { libc::setfsuid(ASK) };
    let taken = u32::try_from(new_uid) == Ok(uid) && u32::try_from(new_gid) == Ok(gid);
    if !taken {
        // SAFETY: as above; these were in force.
        unsafe { libc::setfsgid(old_gid.unsigned_abs()) };
        // SAFETY: as above.
        unsafe { libc::setfsuid(old_uid.unsigned_abs()) };
    }
    crate::capability::set(sets)?;
    if taken { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EINVAL)) }
}

//! clone3(2): a child process with its namespaces, control group and pidfd in one call.

#![expect(unsafe_code, reason = "UNSAFETY: clone3(2) and clone(2) have no safe wrapper")]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// New namespaces of a child, as `CLONE_NEW…` bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces(pub u64);

impl Namespaces {
    /// Mounts.
    pub const MOUNT: u64 = 0x0002_0000;
    /// Control group root.
    pub const CGROUP: u64 = 0x0200_0000;
    /// Host and domain name.
    pub const UTS: u64 = 0x0400_0000;
    /// Inter-process communication.
    pub const IPC: u64 = 0x0800_0000;
    /// User and group ids.
    pub const USER: u64 = 0x1000_0000;
    /// Process ids.
    pub const PID: u64 = 0x2000_0000;
    /// Network.
    pub const NET: u64 = 0x4000_0000;
    /// Clocks.
    pub const TIME: u64 = 0x0000_0080;
}

/// `struct clone_args`, version 2 (Linux 5.7).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_PARENT: u64 = 0x8000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A process that was just made, as its maker sees it.
#[derive(Debug)]
pub struct Child {
    /// Its number in the maker's process id namespace.
    pub pid: u32,
    /// A descriptor that means it and nothing else, whatever happens to the number.
    pub pidfd: OwnedFd,
}

/// Ends the process when it is dropped by an unwinding panic: a child must never return into
/// its parent's code.
struct NeverReturn;

impl Drop for NeverReturn {
    fn drop(&mut self) {
        crate::process::exit_now(255);
    }
}

/// Makes a child process in the given new namespaces, and in the control group of version 2
/// whose directory is `cgroup`. The child runs `child` and nothing else.
///
/// The child has a copy of this process's memory in which only the calling thread exists. What
/// other threads hold locked stays locked there for good, the allocator included; so `child`
/// must neither allocate nor take locks unless this process has a single thread. Breaking the
/// rule can hang the child, it cannot break memory safety.
///
/// # Errors
/// `EAGAIN` at a process limit, `ENOSPC` at a namespace limit, `EPERM` without privileges,
/// `EINVAL` where the kernel lacks one of the namespaces, `ENOSYS` before Linux 5.3.
///
/// Source: clone3(2), Linux 5.7 for `cgroup`.
pub fn spawn(
    namespaces: Namespaces,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> u8,
) -> io::Result<Child> {
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs {
        flags: namespaces.0 | CLONE_PIDFD,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        ..CloneArgs::default()
    };
    if let Some(directory) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(directory.as_raw_fd().unsigned_abs());
    }
    // SAFETY: without CLONE_VM and with no stack of its own the child is a copy, as after
    // fork(2); `args` and `pidfd` live until the call returns.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match u32::try_from(pid) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(0) => run(child),
        Ok(pid) => {
            // SAFETY: the kernel has just stored this descriptor, so nobody else owns it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child { pid, pidfd })
        }
    }
}

/// Makes a sibling: a child of this process's parent, in the process id namespace that this
/// process chose for its children. Answers `None` in the sibling. Child-safe.
///
/// It is the old clone(2), because filters of system calls often refuse clone3(2), whose flags
/// they cannot see.
///
/// # Errors
/// As [`spawn`].
///
/// Source: clone(2), Linux 5.2 for `CLONE_PIDFD`.
pub fn sibling() -> io::Result<Option<Child>> {
    let mut pidfd: i32 = -1;
    let flags = CLONE_PARENT | CLONE_PIDFD;
    // SAFETY: without CLONE_VM and with no stack of its own the child is a copy, as after
    // fork(2); `pidfd` lives until the call returns.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0_u64, &raw mut pidfd, 0_u64, 0_u64) };
    match u32::try_from(pid) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(0) => Ok(None),
        Ok(pid) => {
            // SAFETY: the kernel has just stored this descriptor, so nobody else owns it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Some(Child { pid, pidfd }))
        }
    }
}

fn run(child: impl FnOnce() -> u8) -> ! {
    let guard = NeverReturn;
    let code = child();
    std::mem::forget(guard);
    crate::process::exit_now(code)
}

#[cfg(test)]
mod tests {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_child_runs_its_closure_and_leaves_with_its_code() {
        let child = spawn(Namespaces::default(), None, || 7).unwrap();
        let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
        assert_eq!(status.and_then(|s| s.exit_status()), Some(7));
    }

    #[test]
    fn a_panicking_child_does_not_return() {
        let child = spawn(Namespaces::default(), None, || {
            // Without the default hook, which would print.
            std::panic::resume_unwind(Box::new(()))
        })
        .unwrap();
        let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
        assert_eq!(status.and_then(|s| s.exit_status()), Some(255));
    }
}

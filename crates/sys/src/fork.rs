//! Processes that fork without exec, and what they must put in order afterwards.
#![expect(
    unsafe_code,
    reason = "UNSAFETY: fork(2), close_range(2) and signal(2) have no safe form"
)]

use std::io;

/// Which side of a fork this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// The process that forked, and its child's process id.
    Parent(u32),
    /// The new process.
    Child,
}

/// Makes a copy of this process that goes on from here.
///
/// To be called in a process with one thread: the child has only the calling thread, so a lock
/// that another one held is held there for ever. (glibc's own, malloc's too, are put in order.)
///
/// # Errors
/// `EAGAIN` or `ENOMEM` if there may be no more processes.
///
/// Source: fork(2).
pub fn fork() -> io::Result<Fork> {
    // SAFETY: fork(2) has no memory-safety conditions; the child's memory is a copy.
    match unsafe { libc::fork() } {
        0 => Ok(Fork::Child),
        pid => u32::try_from(pid).map(Fork::Parent).map_err(|_| io::Error::last_os_error()),
    }
}

/// Closes every descriptor from `first` on.
///
/// To be called at the beginning of a process's work, when nothing in it owns a descriptor yet:
/// whatever does would go on using its number.
///
/// # Errors
/// `ENOSYS` before Linux 5.9.
///
/// Source: close_range(2).
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: close_range(2) touches no memory; that no owner is left is the caller's, see above.
    match unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What becomes of this process's children when they have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Children {
    /// They are kept until they are waited for.
    Kept,
    /// They vanish; nobody can wait for them.
    Forgotten,
}

/// Sets what becomes of children that have ended. It is inherited over fork and exec.
///
/// # Errors
/// None that the kernel documents for `SIGCHLD`.
///
/// Source: sigaction(2), "SIGCHLD … SIG_IGN" (POSIX.1-2001).
pub fn on_child_exit(children: Children) -> io::Result<()> {
    let action = match children {
        Children::Kept => libc::SIG_DFL,
        Children::Forgotten => libc::SIG_IGN,
    };
    // SAFETY: neither SIG_DFL nor SIG_IGN is a function that could run at a wrong time.
    match unsafe { libc::signal(libc::SIGCHLD, action) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Gives memory that the allocator holds and nobody uses back to the kernel.
///
/// Source: malloc_trim(3).
pub fn trim_memory() {
    // SAFETY: malloc_trim(3) is thread-safe and touches only free memory.
    unsafe { libc::malloc_trim(0) };
}

/// Lets all threads share this many pools of free memory, instead of eight for each processor:
/// what one thread gives back, another can use.
///
/// Source: mallopt(3), `M_ARENA_MAX`.
pub fn share_memory(pools: u8) {
    // SAFETY: mallopt(3) takes two numbers, and is called before there are other threads.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, libc::c_int::from(pools)) };
}

/// Has blocks of so many bytes and more be mappings of their own, always: the kernel has them back
/// when they are given back. Without this the allocator keeps ever larger ones.
///
/// Source: mallopt(3), `M_MMAP_THRESHOLD`.
pub fn map_memory_from(bytes: u16) {
    // SAFETY: mallopt(3) takes two numbers.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, libc::c_int::from(bytes)) };
}

//! The few system calls that the standard library lacks.

#![expect(unsafe_code, reason = "UNSAFETY: foreign functions of the C library that std links")]

use std::{
    ffi::{c_int, c_ulong},
    io,
    os::unix::process::CommandExt as _,
    process::{Child, Command},
};

/// Room for the kernel's and the C library's signal set on every Linux.
#[repr(C, align(8))]
pub(crate) struct SignalSet([u8; 128]);

/// Size of a terminal in characters and in pixels.
///
/// Source: ioctl_tty(2), `struct winsize`.
#[repr(C)]
#[derive(Default)]
struct WindowSize {
    rows: u16,
    columns: u16,
    width: u16,
    height: u16,
}

unsafe extern "C" {
    fn sigfillset(set: *mut SignalSet) -> c_int;
    fn sigprocmask(how: c_int, set: *const SignalSet, old: *mut SignalSet) -> c_int;
    fn sigwait(set: *const SignalSet, signal: *mut c_int) -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
    fn signal(signal: c_int, handler: usize) -> usize;
    fn ioctl(fd: c_int, request: c_ulong, size: *mut WindowSize) -> c_int;
    fn tcsetpgrp(fd: c_int, group: c_int) -> c_int;
}

/// Source: linux/signal.h.
const SIG_BLOCK: c_int = 0;
/// Source: linux/signal.h.
const SIG_UNBLOCK: c_int = 1;
/// Source: waitpid(2).
const WNOHANG: c_int = 1;

/// Lets a closed pipe end this program quietly, as it does every other tool. The standard library
/// has it ignored, and then panics while printing.
pub(crate) fn end_on_closed_pipe() {
    const SIGPIPE: c_int = 13;
    const SIG_DFL: usize = 0;
    // SAFETY: restores the default action; no handler of ours can be called.
    unsafe { signal(SIGPIPE, SIG_DFL) };
}

/// Blocks every signal of this thread, so that [`next_signal`] takes them one by one.
pub(crate) fn block_signals() -> io::Result<SignalSet> {
    let mut set = SignalSet([0; 128]);
    // SAFETY: the set is large enough for the C library's sigset_t (128 bytes on Linux).
    check(unsafe { sigfillset(&raw mut set) })?;
    // SAFETY: the set was filled just above; the old one is not asked for.
    check(unsafe { sigprocmask(SIG_BLOCK, &raw const set, std::ptr::null_mut()) })?;
    Ok(set)
}

/// Starts a command with no signal blocked: a child inherits the mask of its parent.
pub(crate) fn spawn_unblocked(command: &mut Command) -> io::Result<Child> {
    let unblock = || {
        let mut set = SignalSet([0; 128]);
        // SAFETY: the set is large enough, and this is one of the calls allowed after fork.
        check(unsafe { sigfillset(&raw mut set) })?;
        // SAFETY: as above; the old set is not asked for.
        check(unsafe { sigprocmask(SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) })
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe { command.pre_exec(unblock) }.spawn()
}

/// Waits for the next blocked signal.
pub(crate) fn next_signal(set: &SignalSet) -> io::Result<i32> {
    let mut signal = 0;
    // SAFETY: both pointers are to live values of the right size.
    match unsafe { sigwait(&raw const *set, &raw mut signal) } {
        0 => Ok(signal),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// A child that has ended, if there is one: process id and wait status.
pub(crate) fn reap() -> Option<(i32, i32)> {
    let mut status = 0;
    // SAFETY: the status is a live int.
    let pid = unsafe { waitpid(-1, &raw mut status, WNOHANG) };
    (pid > 0).then_some((pid, status))
}

/// Sends a signal.
pub(crate) fn send(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { kill(pid, signal) })
}

/// Puts a process group in the foreground of the terminal on standard input.
pub(crate) fn foreground(group: i32) -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { tcsetpgrp(0, group) })
}

/// Rows and columns of the terminal on standard input; an error where it is none.
pub(crate) fn terminal_size() -> io::Result<(u16, u16)> {
    const TIOCGWINSZ: c_ulong = 0x5413;
    let mut size = WindowSize::default();
    // SAFETY: this request fills a winsize, which is what the pointer leads to.
    check(unsafe { ioctl(0, TIOCGWINSZ, &raw mut size) })?;
    Ok((size.rows, size.columns))
}

fn check(answer: c_int) -> io::Result<()> {
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

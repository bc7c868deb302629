//! Signals as things to read.

#![expect(unsafe_code, reason = "UNSAFETY: sigprocmask(2), signalfd(2) have no safe wrapper")]

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// The signals of this process, read one after the other in place of being delivered.
#[derive(Debug)]
pub struct Signals(OwnedFd);

impl Signals {
    /// Blocks every signal for the calling thread, and reads them from here on. Child processes
    /// inherit the block, but not those of `std::process::Command`.
    ///
    /// # Errors
    /// `EMFILE` and the like.
    ///
    /// Source: sigprocmask(2), signalfd(2), Linux 2.6.27.
    pub fn block() -> io::Result<Signals> {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigfillset initializes the set it is given.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        // SAFETY: the set was initialized by the call before.
        let all = unsafe { all.assume_init() };
        let old: *mut libc::sigset_t = std::ptr::null_mut();
        // SAFETY: the set lives until the call returns; the old one is not asked for.
        let answer = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, old) };
        if answer != 0 {
            return Err(io::Error::from_raw_os_error(answer));
        }
        // SAFETY: the set lives until the call returns; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const all, libc::SFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just returned this descriptor, so nobody else owns it.
        Ok(Signals(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Waits for the next signal; its number. Several of one number may have become one.
    ///
    /// # Errors
    /// None that the kernel gives for such a descriptor.
    ///
    /// Source: signalfd(2).
    pub fn next(&self) -> io::Result<u8> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        loop {
            // SAFETY: there is room for as many bytes as are asked for.
            let read = unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), size) };
            if usize::try_from(read) == Ok(size) {
                break;
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        // SAFETY: the kernel has just filled all of it.
        let info = unsafe { info.assume_init() };
        u8::try_from(info.ssi_signo).map_err(|_| io::ErrorKind::InvalidData.into())
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_is_read() {
        let thread = std::thread::spawn(|| {
            let signals = Signals::block().unwrap();
            // To this thread alone: others of the test runner do not block it.
            let own = rustix::thread::gettid();
            // SAFETY: tkill takes two numbers.
            let sent = unsafe {
                libc::syscall(libc::SYS_tkill, own.as_raw_nonzero().get(), libc::SIGUSR1)
            };
            assert_eq!(sent, 0);
            signals.next().unwrap()
        });
        assert_eq!(i32::from(thread.join().unwrap()), libc::SIGUSR1);
    }
}

//! The mount namespace that containers' own are copied from: one empty, read-only file system.
//!
//! A copy of the host's namespace has the host's whole tree in it, which has to be taken away once
//! the container's root is in place; the kernel makes whoever does that wait for all processors
//! (`namespace_unlock` in `fs/namespace.c`: milliseconds, more than everything else between
//! clone(2) and execve(2) together). Here nothing has to be taken away: the root is mounted over
//! nothing, as a host's own is over its initial RAM file system, and nothing of the host's was
//! ever there to be reached.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::io::Errno;
use sys::clone::Namespaces;

use crate::{launch, report};

/// Makes one; it lasts as long as its descriptor, and copies of it are made by who enters it.
///
/// To be called by a process with a single thread.
///
/// # Errors
/// What the kernel refused.
pub(crate) fn make() -> io::Result<OwnedFd> {
    let (ours, theirs) = report::channel()?;
    let child = sys::clone::spawn(Namespaces(Namespaces::MOUNT), None, || {
        let made = sys::process::die_with_parent(true)
            .and_then(|()| walls::ground::clear())
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
        let code = u8::from(made.is_err());
        if made.is_ok() && report::go(theirs.as_fd()).is_ok() {
            // Until its namespace has been opened from outside, and it is killed.
            let _ = report::await_go(theirs.as_fd());
        }
        code
    })?;
    drop(theirs);
    rustix::io::ioctl_fionbio(&ours, false)?;
    let made = report::await_go(ours.as_fd())
        .map_err(io::Error::from)
        .and_then(|()| File::open(format!("/proc/{}/ns/mnt", child.pid)));
    // It has ended if nothing could be made. A word to it might not arrive, and it would be waited
    // for without end.
    let _ = sys::process::signal(child.pidfd.as_fd(), 9);
    launch::reap(&child);
    made.map(OwnedFd::from)
}

#[cfg(test)]
mod tests {
    use rustix::fs::Mode;

    use super::*;

    #[test]
    fn nothing_is_in_it() {
        if !testkit::need::root() {
            return;
        }
        let ground = make().unwrap();
        let look = sys::clone::spawn(Namespaces(0), None, || {
            let entered =
                sys::namespace::enter(ground.as_fd(), Namespaces(Namespaces::MOUNT)).is_ok();
            // The child of a process with threads must not allocate.
            let found = |path| rustix::fs::access(path, rustix::fs::Access::EXISTS);
            let empty = found(c"/").is_ok() && found(c"/proc") == Err(Errno::NOENT);
            let closed = rustix::fs::mkdir(c"/made", Mode::empty()) == Err(Errno::ROFS);
            u8::from(entered && empty && closed)
        });
        let look = look.unwrap();
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        let status = waitid(WaitId::PidFd(look.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
        assert_eq!(status.and_then(|status| status.exit_status()), Some(1));
    }
}

//! Network namespaces, each held by a descriptor and entered only by threads made for it.
//!
//! But for [`enter`], the calling thread's namespace never changes: namespaces belong to threads, and a pool's
//! thread that stayed in the wrong one would hand it to whatever runs there next.
//!
//! Source: network_namespaces(7), setns(2), unshare(2).

#![expect(unsafe_code, reason = "UNSAFETY: unshare(2) is unsafe in rustix for its other flags")]

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    thread,
};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// The network namespace of the thread that reads it. Source: proc_pid_ns(5).
const OWN: &str = "/proc/thread-self/ns/net";

/// Makes a network namespace, runs `inside` in it, and returns its descriptor with the result.
///
/// The descriptor is the only reference: when the last copy of it, and the last process and
/// socket in the namespace, are gone, the kernel removes the namespace and what is in it.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`, `ENOSPC` at `user.max_net_namespaces`, or what `inside` says.
pub fn create<T: Send>(inside: impl FnOnce() -> io::Result<T> + Send) -> io::Result<(OwnedFd, T)> {
    on_own_thread(|| {
        // SAFETY: of unshare's flags only CLONE_FILES can break safe code, and it is not given.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
        let namespace = current()?;
        Ok((namespace, inside()?))
    })
}

/// Runs `inside` in a network namespace, on a thread of its own. Sockets it opens stay in the
/// namespace whoever uses them later.
///
/// # Errors
/// `EINVAL` if the descriptor is not a network namespace, `EPERM` without `CAP_SYS_ADMIN`, or
/// what `inside` says.
pub fn run<T: Send>(
    namespace: BorrowedFd<'_>,
    inside: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    on_own_thread(|| {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        inside()
    })
}

/// Moves the calling thread into a network namespace, for good. Only for a thread whose namespace
/// nothing depends on but the sockets that it makes next: what it made before stays where it was.
///
/// # Errors
/// As [`run`].
pub fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    Ok(move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?)
}

/// The calling thread's network namespace.
///
/// # Errors
/// What open(2) says; `ENOENT` where `/proc` is not mounted.
pub fn current() -> io::Result<OwnedFd> {
    File::open(OWN).map(OwnedFd::from)
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(fd: &OwnedFd) -> u64 {
        rustix::fs::fstat(fd).unwrap().st_ino
    }

    #[test]
    fn the_caller_stays_where_it_was() {
        if !testkit::need::root() {
            return;
        }
        let before = identity(&current().unwrap());
        let (made, inside) = create(current).unwrap();
        assert_eq!(identity(&made), identity(&inside));
        assert_ne!(identity(&made), before);
        let entered = run(made.as_fd(), current).unwrap();
        assert_eq!(identity(&made), identity(&entered));
        assert_eq!(identity(&current().unwrap()), before);
    }

    #[test]
    fn a_descriptor_of_something_else_is_refused() {
        if !testkit::need::root() {
            return;
        }
        let file = File::open("/proc/self/ns/uts").unwrap();
        let ran = run(file.as_fd(), || Ok(()));
        assert_eq!(ran.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}

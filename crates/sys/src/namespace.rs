//! Moving the calling thread between namespaces.

#![expect(unsafe_code, reason = "UNSAFETY: setns(2) and unshare(2), ioctl(2) for loopback")]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use rustix::{
    net::{AddressFamily, SocketFlags, SocketType},
    thread::{UnshareFlags, unshare_unsafe},
};

use crate::clone::Namespaces;

/// Enters the namespaces that `fd` means: the one of a namespace file, or those of a pidfd's
/// process that `kinds` names. Child-safe.
///
/// # Errors
/// `EPERM` without privileges over the namespace, `EINVAL` if it is of another kind or cannot be
/// entered from here, `ESRCH` if the process has ended.
///
/// Source: setns(2), Linux 5.8 for a pidfd.
pub fn enter(fd: BorrowedFd<'_>, kinds: Namespaces) -> io::Result<()> {
    let kinds = libc::c_int::try_from(kinds.0).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: setns changes what the calling thread sees and touches no memory.
    let answer = unsafe { libc::setns(fd.as_raw_fd(), kinds) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Enters new namespaces. Child-safe.
///
/// # Errors
/// `EPERM` without privileges, `ENOSPC` at a namespace limit, `EINVAL` where the kernel has none
/// such.
///
/// Source: unshare(2).
pub fn leave(kinds: Namespaces) -> io::Result<()> {
    let kinds = u32::try_from(kinds.0).map_err(|_| io::ErrorKind::InvalidInput)?;
    let flags = UnshareFlags::from_bits_retain(kinds) - UnshareFlags::FILES;
    // SAFETY: of unshare's flags only CLONE_FILES can break safe code, and it was taken out.
    unsafe { unshare_unsafe(flags) }?;
    Ok(())
}

/// Lets the calling thread have a root and a working directory of its own, which no other thread
/// shares: only such a one enters a mount namespace. Child-safe.
///
/// # Errors
/// None but for want of memory.
///
/// Source: unshare(2), `CLONE_FS`; setns(2), "mount namespace".
pub fn own_root() -> io::Result<()> {
    // SAFETY: of unshare's flags only CLONE_FILES can break safe code, and it is not given.
    Ok(unsafe { unshare_unsafe(UnshareFlags::FS) }?)
}

/// `struct ifreq` with flags.
#[repr(C)]
struct InterfaceFlags {
    name: [u8; libc::IFNAMSIZ],
    flags: i16,
    rest: [u8; 22],
}

/// Brings up `lo` in the calling thread's network namespace. Child-safe.
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN` over the namespace.
///
/// Source: netdevice(7), `SIOCSIFFLAGS`.
pub fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let mut request = InterfaceFlags { name: [0; libc::IFNAMSIZ], flags: 0, rest: [0; 22] };
    request.name[..2].copy_from_slice(b"lo");
    let up = libc::IFF_UP | libc::IFF_RUNNING;
    request.flags = i16::try_from(up).expect("both flags are below 2^15");
    // SAFETY: the kernel reads a `struct ifreq`, whose 40 bytes `request` has.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd as _, thread};

    use super::*;

    #[test]
    fn a_thread_with_a_root_of_its_own_enters_a_mount_namespace() {
        if !testkit::need::root() {
            return;
        }
        // This process has more than one thread here.
        let entered = |prepare: fn() -> io::Result<()>| {
            thread::spawn(move || {
                let own = File::open("/proc/thread-self/ns/mnt").unwrap();
                prepare().unwrap();
                enter(own.as_fd(), Namespaces(Namespaces::MOUNT)).map_err(|error| error.kind())
            })
            .join()
            .unwrap()
        };
        assert_eq!(entered(|| Ok(())), Err(io::ErrorKind::InvalidInput));
        assert_eq!(entered(own_root), Ok(()));
    }
}

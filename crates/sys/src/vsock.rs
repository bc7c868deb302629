//! Stream sockets between a machine and its host.
//!
//! Source: vsock(7); Linux `include/uapi/linux/vm_sockets.h`.
#![expect(unsafe_code, reason = "UNSAFETY: rustix has no addresses of this family")]

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
};

/// Any port that is free, or anybody.
const ANY: u32 = u32::MAX;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;

fn socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: it takes no pointers.
    let fd = unsafe { libc::socket(libc::AF_VSOCK, kind, 0) };
    own(fd)
}

fn own(fd: i32) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn address(cid: u32, port: u32) -> libc::sockaddr_vm {
    libc::sockaddr_vm {
        svm_family: FAMILY,
        svm_reserved1: 0,
        svm_port: port,
        svm_cid: cid,
        svm_zero: [0; 4],
    }
}

/// `AF_VSOCK`, as it stands in an address.
const FAMILY: libc::sa_family_t = 40;

/// Size of an address of this family.
const ADDRESS_BYTES: libc::socklen_t = 16;

const _: () = assert!(size_of::<libc::sockaddr_vm>() == 16 && libc::AF_VSOCK == 40);

/// Listens at a port of this machine.
///
/// # Errors
/// `EAFNOSUPPORT` without vsock, `EADDRINUSE` if somebody listens there.
pub fn listen(port: u32) -> io::Result<OwnedFd> {
    let socket = socket()?;
    let address = address(ANY, port);
    // SAFETY: the address is one of this family and as long as it is said to be.
    let bound =
        unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), ADDRESS_BYTES) };
    done(bound)?;
    // SAFETY: it takes no pointers.
    done(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })?;
    Ok(socket)
}

/// The next who has connected; closed at exec.
///
/// # Errors
/// Those of accept4(2).
pub fn accept(listener: impl AsFd) -> io::Result<OwnedFd> {
    let listener = listener.as_fd().as_raw_fd();
    // SAFETY: the kernel is asked for no address.
    let fd = unsafe {
        libc::accept4(listener, std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_CLOEXEC)
    };
    own(fd)
}

/// Connects to a port of a machine; the host is [`HOST`].
///
/// # Errors
/// `ECONNRESET` if nobody listens there, `ENODEV` without a device.
pub fn connect(cid: u32, port: u32) -> io::Result<OwnedFd> {
    let socket = socket()?;
    let address = address(cid, port);
    // SAFETY: as for `bind`.
    let connected =
        unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), ADDRESS_BYTES) };
    done(connected)?;
    Ok(socket)
}

/// The host's number.
pub const HOST: u32 = libc::VMADDR_CID_HOST;

fn done(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_listened_at_once() {
        // Where there is no vsock, that is what is said.
        match listen(0x7777_7778) {
            Ok(_listener) => {
                let again = listen(0x7777_7778).unwrap_err();
                assert_eq!(again.raw_os_error(), Some(libc::EADDRINUSE));
            }
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EAFNOSUPPORT)),
        }
    }
}

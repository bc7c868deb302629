//! Tap devices: an interface whose frames a process reads and writes.
//!
//! Source: Linux, `Documentation/networking/tuntap.rst`, `include/uapi/linux/if_tun.h`.
#![expect(unsafe_code, reason = "UNSAFETY: rustix has no ioctls of tap devices")]

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

/// Where they are made.
pub const DEVICE: &str = "/dev/net/tun";

const TUNSETIFF: libc::c_ulong = 0x4004_54CA;
const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54D0;
const TUNSETVNETHDRSZ: libc::c_ulong = 0x4004_54D8;
const TUNSETVNETLE: libc::c_ulong = 0x4004_54DC;
const TUN_F_CSUM: libc::c_ulong = 0x01;
const TUN_F_TSO4: libc::c_ulong = 0x02;
const TUN_F_TSO6: libc::c_ulong = 0x04;
const TUN_F_TSO_ECN: libc::c_ulong = 0x08;

/// `struct ifreq` with its flags.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: i16,
    rest: [u8; 22],
}

/// Makes a tap device in the calling thread's network namespace, which is there as long as the
/// descriptor. Each read is a frame and each write, behind a `struct virtio_net_hdr` of 10 bytes in
/// little endian: TCP segments over IPv4 may be as large as a packet, and sums may be left out.
///
/// # Errors
/// `ENOENT` or `EACCES` for [`DEVICE`], `EPERM` without `CAP_NET_ADMIN` over the namespace, `EBUSY`
/// if the name is taken, `EINVAL` if it is none.
pub fn open(name: &str) -> io::Result<OwnedFd> {
    let device = File::options().read(true).write(true).open(DEVICE)?;
    let mut request = Request { name: [0; libc::IFNAMSIZ], flags: 0, rest: [0; 22] };
    let (bytes, most) = (name.as_bytes(), libc::IFNAMSIZ - 1);
    let place = request.name.get_mut(..bytes.len()).filter(|_| bytes.len() <= most);
    place.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(bytes);
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.flags = i16::try_from(flags).expect("all three are below 2^15");
    // SAFETY: the kernel reads and writes a `struct ifreq`, whose 40 bytes `request` has.
    check(unsafe { libc::ioctl(device.as_raw_fd(), TUNSETIFF, &raw mut request) })?;
    let little: libc::c_int = 1;
    // SAFETY: the kernel reads an int, which `little` is.
    check(unsafe { libc::ioctl(device.as_raw_fd(), TUNSETVNETLE, &raw const little) })?;
    // SAFETY: the argument is a number.
    check(unsafe { libc::ioctl(device.as_raw_fd(), TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4) })?;
    Ok(device.into())
}

/// What whoever reads the frames of a tap device does by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Fills in checksums. Without it, nothing of the rest counts.
    pub checksums: bool,
    /// Takes TCP segments over IPv4 as large as a packet.
    pub tcp4: bool,
    /// The same over IPv6.
    pub tcp6: bool,
    /// The same of segments that say that there was congestion.
    pub congestion: bool,
}

/// Says what the reader of a tap device's frames does by itself; the kernel does the rest before
/// it hands them over.
///
/// # Errors
/// `EINVAL` or `ENOTTY` if it is no tap device.
pub fn set_offload(tap: BorrowedFd<'_>, offload: Offload) -> io::Result<()> {
    let bit = |set, bit| if set && offload.checksums { bit } else { 0 };
    let any_tcp = offload.tcp4 || offload.tcp6;
    let bits = bit(true, TUN_F_CSUM)
        | bit(offload.tcp4, TUN_F_TSO4)
        | bit(offload.tcp6, TUN_F_TSO6)
        | bit(offload.congestion && any_tcp, TUN_F_TSO_ECN);
    // SAFETY: the argument is a number.
    check(unsafe { libc::ioctl(tap.as_raw_fd(), TUNSETOFFLOAD, bits) })
}

/// Has the headers of a tap device's frames take so many bytes: 10, or the 12 of
/// `struct virtio_net_hdr_v1`, the last two of which the kernel does not look at.
///
/// # Errors
/// `EINVAL` if it is less than 10; `EINVAL` or `ENOTTY` if it is no tap device.
pub fn set_header_bytes(tap: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the kernel reads an int, which `bytes` is.
    check(unsafe { libc::ioctl(tap.as_raw_fd(), TUNSETVNETHDRSZ, &raw const bytes) })
}

fn check(answer: libc::c_int) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

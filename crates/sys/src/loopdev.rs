//! Loop devices: a file as a block device.
//!
//! Source: loop(4); `LOOP_CONFIGURE` is Linux 5.8.
#![expect(unsafe_code, reason = "UNSAFETY: rustix has no loop device ioctls")]

use std::{
    fs::{File, OpenOptions},
    io, mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

/// include/uapi/linux/loop.h.
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// Devices tried before giving up: another process may take a free one first.
const TRIES: u32 = 16;

/// A loop device. The kernel frees it when this and all mounts of it are gone.
#[derive(Debug)]
pub struct LoopDevice {
    /// The open device.
    pub fd: OwnedFd,
    /// `/dev/loopN`.
    pub path: String,
}

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

const _: () = assert!(mem::size_of::<LoopInfo64>() == 232 && mem::size_of::<LoopConfig>() == 304);

/// Makes a read-only loop device of a file.
///
/// # Errors
/// When the host has no loop devices (`ENOENT`), or they may not be used (`EPERM`), or other
/// processes took every free one that was tried (`EBUSY`).
pub fn attach_read_only(file: BorrowedFd<'_>) -> io::Result<LoopDevice> {
    let control = File::options().read(true).write(true).open("/dev/loop-control")?;
    let mut last = io::Error::from_raw_os_error(libc::EBUSY);
    for _ in 0..TRIES {
        let number = free(&control)?;
        let path = format!("/dev/loop{number}");
        let device = OpenOptions::new().read(true).open(&path)?;
        match configure(&device, file) {
            Ok(()) => return Ok(LoopDevice { fd: device.into(), path }),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// The number of a device that nobody uses at this moment.
fn free(control: &File) -> io::Result<u32> {
    // SAFETY: the ioctl takes no argument, and the descriptor is open.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
    u32::try_from(number).map_err(|_| io::Error::last_os_error())
}

fn configure(device: &File, file: BorrowedFd<'_>) -> io::Result<()> {
    let fd = u32::try_from(file.as_fd().as_raw_fd())
        .map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    let info = LoopInfo64 {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        sizelimit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
    let config = LoopConfig { fd, block_size: 0, info, reserved: [0; 8] };
    // SAFETY: `config` is a whole `struct loop_config` that outlives the call, which only reads it.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

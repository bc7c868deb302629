//! What the kernel draws random numbers from.
//!
//! Source: random(4); Linux `include/uapi/linux/random.h`.
#![expect(unsafe_code, reason = "UNSAFETY: rustix has no ioctls of /dev/urandom")]

use std::{fs::OpenOptions, io, os::fd::AsRawFd as _};

/// Stirs in bytes, and counts them as random (`RNDADDENTROPY`).
const ADD: libc::c_ulong = 0x4008_5203;

/// Draws from all that was stirred in from now on (`RNDRESEEDCRNG`, Linux 4.14).
const RESEED: libc::c_ulong = 0x5207;

/// Most bytes at once.
pub const SEED_BYTES_MAX: usize = 256;

/// `struct rand_pool_info`, with room for its bytes.
#[repr(C)]
struct Pool {
    bits: i32,
    bytes: i32,
    buffer: [u8; SEED_BYTES_MAX],
}

/// Stirs bytes that nobody else knows into the kernel's random numbers, so that all that are drawn
/// from now on depend on them: what a machine needs that was copied. No more than
/// [`SEED_BYTES_MAX`] of them are used.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`; `ENODATA` as long as the kernel has no random numbers.
pub fn stir(seed: &[u8]) -> io::Result<()> {
    let device = OpenOptions::new().write(true).open("/dev/urandom")?;
    let mut pool = Pool { bits: 0, bytes: 0, buffer: [0; SEED_BYTES_MAX] };
    for (to, from) in pool.buffer.iter_mut().zip(seed) {
        *to = *from;
        (pool.bits, pool.bytes) = (pool.bits + 8, pool.bytes + 1);
    }
    // SAFETY: the structure is as the kernel wants it, and has as many bytes as it says.
    check(unsafe { libc::ioctl(device.as_raw_fd(), ADD, &raw const pool) })?;
    // SAFETY: the ioctl takes no argument, and the descriptor is open.
    check(unsafe { libc::ioctl(device.as_raw_fd(), RESEED) })
}

fn check(answer: i32) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_a_seed() {
        if !testkit::need::root() {
            return;
        }
        stir(&[7; 64]).unwrap();
        stir(&[7; 2 * SEED_BYTES_MAX]).unwrap();
    }
}

//! Capability sets by kernel number: rustix names them, containers count them.

#![expect(unsafe_code, reason = "UNSAFETY: capset(2) and prctl(2) by number")]

use std::io;

/// Three of a thread's capability sets, as bit masks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    /// What is in force.
    pub effective: u64,
    /// What may be put in force.
    pub permitted: u64,
    /// What survives execve(2) of a file that inherits it.
    pub inheritable: u64,
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`.
const VERSION: u32 = 0x2008_0522;

fn words(mask: u64) -> (u32, u32) {
    let low = u32::try_from(mask & u64::from(u32::MAX)).expect("it was masked to 32 bits");
    let high = u32::try_from(mask >> 32).expect("a 64-bit number has 32 bits above 32");
    (low, high)
}

/// Sets the calling thread's sets. Child-safe.
///
/// # Errors
/// `EPERM` for a capability that it has not.
///
/// Source: capset(2), Linux 2.6.26.
pub fn set(sets: Sets) -> io::Result<()> {
    let header = Header { version: VERSION, pid: 0 };
    let (effective, permitted, inheritable) =
        (words(sets.effective), words(sets.permitted), words(sets.inheritable));
    let data = [
        Data { effective: effective.0, permitted: permitted.0, inheritable: inheritable.0 },
        Data { effective: effective.1, permitted: permitted.1, inheritable: inheritable.1 },
    ];
    // SAFETY: version 3 takes a header and two data words, which live until the call returns.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })
}

/// The calling thread's sets.
///
/// # Errors
/// None that a kernel since 2.6.26 gives.
///
/// Source: capget(2).
pub fn get() -> io::Result<Sets> {
    let mut header = Header { version: VERSION, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 fills two data words, and `data` has two.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let [low, high] = data;
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Ok(Sets {
        effective: join(low.effective, high.effective),
        permitted: join(low.permitted, high.permitted),
        inheritable: join(low.inheritable, high.inheritable),
    })
}

/// Takes one capability out of the bounding set, for good. Child-safe.
///
/// # Errors
/// `EINVAL` if the kernel has no such capability, `EPERM` without `CAP_SETPCAP`.
///
/// Source: `PR_CAPBSET_DROP`, Linux 2.6.25.
pub fn drop_bounding(capability: u8) -> io::Result<()> {
    prctl(libc::PR_CAPBSET_DROP, u64::from(capability), 0)
}

/// Puts one capability into the ambient set. Child-safe.
///
/// # Errors
/// `EPERM` if it is not both permitted and inheritable, `EINVAL` if the kernel has none such.
///
/// Source: `PR_CAP_AMBIENT_RAISE`, Linux 4.3.
pub fn raise_ambient(capability: u8) -> io::Result<()> {
    let raise = u64::from(libc::PR_CAP_AMBIENT_RAISE.unsigned_abs());
    prctl(libc::PR_CAP_AMBIENT, raise, u64::from(capability))
}

/// Empties the ambient set. Child-safe.
///
/// # Errors
/// None since Linux 4.3.
///
/// Source: `PR_CAP_AMBIENT_CLEAR_ALL`.
pub fn clear_ambient() -> io::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, u64::from(libc::PR_CAP_AMBIENT_CLEAR_ALL.unsigned_abs()), 0)
}

/// Whether permitted capabilities survive a change of all user ids to non-zero. Child-safe.
///
/// # Errors
/// `EPERM` if the choice is locked.
///
/// Source: `PR_SET_KEEPCAPS`.
pub fn keep_over_setuid(keep: bool) -> io::Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, u64::from(keep), 0)
}

fn prctl(option: i32, second: u64, third: u64) -> io::Result<()> {
    // SAFETY: none of the options used here takes a pointer.
    check(unsafe { libc::syscall(libc::SYS_prctl, option, second, third, 0_u64, 0_u64) })
}

fn check(answer: libc::c_long) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

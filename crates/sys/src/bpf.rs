//! eBPF programs that judge device access of a control group.
#![expect(unsafe_code, reason = "UNSAFETY: bpf(2) has no safe wrapper")]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

// linux/bpf.h: commands, program and attach types, flags.
const PROG_LOAD: c_int = 5;
const PROG_ATTACH: c_int = 8;
const PROG_DETACH: c_int = 9;
const PROG_GET_FD_BY_ID: c_int = 13;
const PROG_QUERY: c_int = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_TYPE_CGROUP_DEVICE: u32 = 6;
const FLAG_ALLOW_MULTI: u32 = 2;

/// Most programs that one group can have (`BPF_CGROUP_MAX_PROGS`).
const PROGRAMS_MAX: usize = 64;

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` reads.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// The part that `BPF_PROG_ATTACH` and `BPF_PROG_DETACH` read.
#[repr(C)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// The part that `BPF_PROG_QUERY` reads and writes.
#[repr(C)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// The part that `BPF_PROG_GET_FD_BY_ID` reads.
#[repr(C)]
struct IdAttr {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Loads a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`, one instruction per number in the
/// machine's byte order.
///
/// # Errors
/// `EPERM` without `CAP_BPF`; `EINVAL` or `EACCES` if the verifier refuses it.
///
/// Source: bpf(2), Linux 4.15.
pub fn load_device_filter(program: &[u64]) -> io::Result<OwnedFd> {
    let attr = LoadAttr {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).map_err(|_| einval())?,
        insns: address(program.as_ptr()),
        license: address(c"Apache-2.0".as_ptr()),
        prog_name: *b"wythe_devices\0\0\0",
        ..LoadAttr::default()
    };
    // SAFETY: `attr` points to the instructions and a C string, both alive until the call
    // returns and only read by the kernel.
    let fd = unsafe { bpf(PROG_LOAD, &raw const attr) }?;
    // SAFETY: the kernel has just returned this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a program to a group, beside what is attached already.
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN`, or if a group above forbids it.
///
/// Source: bpf(2), Linux 4.15.
pub fn attach_device_filter(group: impl AsFd, program: impl AsFd) -> io::Result<()> {
    let attr = attach_attr(group, program, FLAG_ALLOW_MULTI);
    // SAFETY: `attr` holds no pointers.
    unsafe { bpf(PROG_ATTACH, &raw const attr) }.map(drop)
}

/// Detaches the program of this id, if it is still there.
///
/// # Errors
/// As [`attach_device_filter`].
pub fn detach_device_filter(group: impl AsFd, id: u32) -> io::Result<()> {
    let attr = IdAttr { prog_id: id, next_id: 0, open_flags: 0 };
    // SAFETY: `attr` holds no pointers.
    let fd = match unsafe { bpf(PROG_GET_FD_BY_ID, &raw const attr) } {
        Ok(fd) => fd,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    // SAFETY: the kernel has just returned this descriptor, so nobody else owns it.
    let program = unsafe { OwnedFd::from_raw_fd(fd) };
    let attr = attach_attr(group, program.as_fd(), 0);
    // SAFETY: `attr` holds no pointers; `program` is open until the call returns.
    match unsafe { bpf(PROG_DETACH, &raw const attr) } {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Ids of the device programs attached to this group itself.
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN`.
///
/// Source: bpf(2), Linux 4.15.
pub fn attached_device_filters(group: impl AsFd) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; PROGRAMS_MAX];
    let mut attr = QueryAttr {
        target_fd: number(group.as_fd()),
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr().expose_provenance() as u64,
        prog_cnt: 64,
        padding: 0,
    };
    // SAFETY: `attr` may be written and points to room for as many ids as it says.
    unsafe { bpf(PROG_QUERY, &raw mut attr) }?;
    let count = usize::try_from(attr.prog_cnt).unwrap_or(PROGRAMS_MAX).min(PROGRAMS_MAX);
    Ok(ids.iter().copied().take(count).collect())
}

fn attach_attr(group: impl AsFd, program: impl AsFd, attach_flags: u32) -> AttachAttr {
    AttachAttr {
        target_fd: number(group.as_fd()),
        attach_bpf_fd: number(program.as_fd()),
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        attach_flags,
    }
}

fn number(fd: impl AsFd) -> u32 {
    fd.as_fd().as_raw_fd().cast_unsigned()
}

fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

fn einval() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

/// The system call.
///
/// # Safety
/// `attr` must be what the command takes, and every address in it must be good for what the
/// command does with it.
unsafe fn bpf<T>(command: c_int, attr: *const T) -> io::Result<c_int> {
    // SAFETY: the caller vouches for `attr`; its size is given, and the kernel takes missing
    // fields as zero.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<T>()) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    c_int::try_from(answer).map_err(|_| einval())
}

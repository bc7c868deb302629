//! Doorbells and lines that eventfds ring, which kvm-ioctls has for one kind of eventfd only.
#![allow(unsafe_code, reason = "two calls of the kernel's")]

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use kvm_bindings::{
    kvm_ioeventfd, kvm_ioeventfd_flag_nr_datamatch, kvm_ioeventfd_flag_nr_pio, kvm_irqfd,
};
use kvm_ioctls::VmFd;

use crate::{Doorbell, Place};

/// `_IOW(0xae, number, T)`.
///
/// Source: Linux `include/uapi/asm-generic/ioctl.h`.
const fn request<T>(number: libc::c_ulong) -> libc::c_ulong {
    1 << 30 | (size_of::<T>() as libc::c_ulong) << 16 | 0xae << 8 | number
}

/// Source: KVM API, `KVM_IOEVENTFD`.
pub(super) fn doorbell(vm: &VmFd, at: Doorbell, ring: BorrowedFd<'_>) -> io::Result<()> {
    let (addr, port) = match at.place {
        Place::Memory(address) => (address, 0),
        Place::Port(port) => (port.into(), 1 << kvm_ioeventfd_flag_nr_pio),
    };
    let flags = match at.value {
        Some(_) => port | 1 << kvm_ioeventfd_flag_nr_datamatch,
        None => port,
    };
    let ioeventfd = kvm_ioeventfd {
        datamatch: at.value.unwrap_or_default(),
        addr,
        len: at.bytes.into(),
        fd: ring.as_raw_fd(),
        flags,
        ..Default::default()
    };
    // SAFETY: the kernel reads the structure; both descriptors are open.
    done(unsafe {
        libc::ioctl(vm.as_raw_fd(), request::<kvm_ioeventfd>(0x79), &raw const ioeventfd)
    })
}

/// Source: KVM API, `KVM_IRQFD`.
pub(super) fn line(vm: &VmFd, line: u32, ring: BorrowedFd<'_>) -> io::Result<()> {
    let irqfd = kvm_irqfd { fd: ring.as_raw_fd().unsigned_abs(), gsi: line, ..Default::default() };
    // SAFETY: the kernel reads the structure; both descriptors are open.
    done(unsafe { libc::ioctl(vm.as_raw_fd(), request::<kvm_irqfd>(0x76), &raw const irqfd) })
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

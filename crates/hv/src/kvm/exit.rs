//! What the kernel leaves in the page that it shares with a processor's thread.
#![allow(unsafe_code, reason = "unions, and bytes after the structure")]

use std::slice;

use kvm_bindings::{
    KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_IO, KVM_EXIT_IO_OUT,
    KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN, kvm_run,
};
use kvm_ioctls::VcpuFd;

use crate::{Exit, HvError};

/// How many steps an access to a port has (`rep outs`): what has to be given one by one.
pub(super) fn steps(run: &kvm_run) -> u32 {
    if run.exit_reason != KVM_EXIT_IO {
        return 1;
    }
    // SAFETY: the reason says that it is this one.
    unsafe { run.__bindgen_anon_1.io }.count
}

/// Why the processor came back; of an access to a port, one step. `bytes` is how much memory is
/// mapped there.
pub(super) fn decode(fd: &mut VcpuFd, bytes: usize, step: u32) -> Result<Exit<'_>, HvError> {
    let run = fd.get_kvm_run();
    match run.exit_reason {
        KVM_EXIT_IO => port(run, bytes, step),
        KVM_EXIT_MMIO => mmio(run),
        KVM_EXIT_SHUTDOWN => Ok(Exit::TripleFault),
        KVM_EXIT_HLT => Ok(Exit::Stuck),
        KVM_EXIT_INTERNAL_ERROR => {
            // SAFETY: the reason says that it is this one.
            let error = unsafe { run.__bindgen_anon_1.internal }.suberror;
            Err(HvError::Invalid(format!("KVM gave up on an instruction (internal error {error})")))
        }
        KVM_EXIT_FAIL_ENTRY => {
            // SAFETY: as above.
            let entry = unsafe { run.__bindgen_anon_1.fail_entry };
            let reason = entry.hardware_entry_failure_reason;
            Err(HvError::Invalid(format!("the processor refused its state ({reason:#x})")))
        }
        other => Err(HvError::Invalid(format!("KVM stopped for a reason unknown here ({other})"))),
    }
}

fn port(run: &mut kvm_run, bytes: usize, step: u32) -> Result<Exit<'_>, HvError> {
    // SAFETY: the reason says that it is this one.
    let io = unsafe { run.__bindgen_anon_1.io };
    let size = usize::from(io.size);
    let offset = usize::try_from(io.data_offset).unwrap_or(usize::MAX);
    let start = offset.saturating_add(step as usize * size);
    if step >= io.count || start.saturating_add(size) > bytes {
        return Err(HvError::Invalid(format!("KVM put a port's bytes at {start} of {bytes}")));
    }
    let first = std::ptr::from_mut(run).cast::<u8>().wrapping_add(start);
    // SAFETY: within the mapping, which is there as long as `run` is borrowed; nothing else
    // refers to these bytes, which lie behind the structure.
    let data = unsafe { slice::from_raw_parts_mut(first, size) };
    let port = io.port;
    Ok(if u32::from(io.direction) == KVM_EXIT_IO_OUT {
        Exit::PortWrite { port, data }
    } else {
        Exit::PortRead { port, data }
    })
}

fn mmio(run: &mut kvm_run) -> Result<Exit<'_>, HvError> {
    // SAFETY: the reason says that it is this one.
    let mmio = unsafe { &mut run.__bindgen_anon_1.mmio };
    let (address, length) = (mmio.phys_addr, mmio.len as usize);
    let data = mmio
        .data
        .get_mut(..length)
        .ok_or_else(|| HvError::Invalid(format!("KVM asks for {length} bytes at {address:#x}")))?;
    Ok(if mmio.is_write != 0 {
        Exit::MmioWrite { address, data }
    } else {
        Exit::MmioRead { address, data }
    })
}

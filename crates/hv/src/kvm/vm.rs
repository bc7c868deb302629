//! What the processors of a machine share, in the kernel's hands.
#![allow(unsafe_code, reason = "the kernel is given addresses of this process")]

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use kvm_bindings::{
    CpuId, KVM_MEM_LOG_DIRTY_PAGES, KVM_PIT_SPEAKER_DUMMY, kvm_clock_data, kvm_msi, kvm_pit_config,
    kvm_userspace_memory_region,
};
use kvm_ioctls::VmFd;
use rustix::time::{ClockId, clock_gettime};

use super::{chips, cpuid, events, host, vcpu::KvmVcpu};
use crate::{
    ChipState, Clock, Doorbell, GuestMemory, HvError, Shape, Vcpu, Vm,
    memory::{PAGE, Range},
};

/// Pages that older processors need for real mode, in the hole where no memory is.
const IDENTITY_MAP: u64 = 0xfffb_c000;
const TASK_SEGMENT: usize = 0xfffb_d000;

/// Where local APICs hear messages.
const MESSAGES: u64 = 0xfee;

/// What the host can do for processors.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) cpuid: cpuid::Host,
    /// Whether floating point comes in an `xsave` area.
    pub(super) xsave: bool,
    /// Whether there are to be interrupt chips.
    pub(super) chips: bool,
}

#[derive(Debug)]
pub(super) struct KvmVm {
    shared: Arc<Shared>,
    vcpus: Vec<Mutex<Option<KvmVcpu>>>,
    watched: AtomicBool,
}

/// What has to be there as long as a processor is.
pub(super) struct Shared {
    fd: VmFd,
    memory: GuestMemory,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("memory", &self.memory).finish_non_exhaustive()
    }
}

fn create_chips(fd: &VmFd) -> Result<(), HvError> {
    fd.create_irq_chip().map_err(host("create the interrupt chips"))?;
    chips::mask_pics(fd)?;
    let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
    fd.create_pit2(pit).map_err(host("create the timer chip"))?;
    fd.set_gsi_routing(&chips::routes()?).map_err(host("route the interrupts"))
}

impl KvmVm {
    pub(super) fn new(
        fd: VmFd,
        memory: GuestMemory,
        shape: &Shape,
        has: &Host,
    ) -> Result<KvmVm, HvError> {
        fd.set_identity_map_address(IDENTITY_MAP).map_err(host("place the identity map"))?;
        fd.set_tss_address(TASK_SEGMENT).map_err(host("place the task segment"))?;
        if has.chips {
            create_chips(&fd)?;
        }
        let shared = Arc::new(Shared { fd, memory });
        shared.map(0)?;
        let vcpus = (0..shape.vcpus).map(|n| shared.create(n, shape, has).map(Some));
        let vcpus = vcpus.map(|vcpu| vcpu.map(Mutex::new)).collect::<Result<_, _>>()?;
        Ok(KvmVm { shared, vcpus, watched: AtomicBool::new(false) })
    }

    fn fd(&self) -> &VmFd {
        &self.shared.fd
    }

    fn now(&self) -> Result<chips::Now, HvError> {
        let time = clock_gettime(ClockId::Monotonic);
        let seconds = time.tv_sec.unsigned_abs();
        let host = seconds * 1_000_000_000 + time.tv_nsec.unsigned_abs();
        Ok(chips::Now { machine: self.clock()?.nanoseconds, host })
    }
}

impl Shared {
    /// Tells the kernel where memory is.
    ///
    /// Source: KVM API, `KVM_SET_USER_MEMORY_REGION`.
    fn map(&self, flags: u32) -> Result<(), HvError> {
        for (slot, range) in (0..).zip(self.memory.ranges()) {
            let region = kvm_userspace_memory_region {
                slot,
                flags,
                guest_phys_addr: range.guest,
                memory_size: range.bytes as u64,
                userspace_addr: self.memory.host_address() + range.offset as u64,
            };
            // SAFETY: all of it is within the mapping, which lives as long as the machine: whoever
            // holds the descriptor holds the memory (`Shared`). What the guest writes there is
            // read and written by single accesses only.
            let mapped = unsafe { self.fd.set_user_memory_region(region) };
            mapped.map_err(host("give the guest its memory"))?;
        }
        Ok(())
    }

    fn create(self: &Arc<Self>, n: u8, shape: &Shape, has: &Host) -> Result<KvmVcpu, HvError> {
        let fd = self.fd.create_vcpu(n.into()).map_err(host("create a processor"))?;
        let entries = cpuid::offered(shape.model, n, shape.vcpus, &has.cpuid);
        let cpuid = CpuId::from_entries(&entries)
            .map_err(|error| HvError::Invalid(format!("cpuid: {error:?}")))?;
        fd.set_cpuid2(&cpuid).map_err(host("say what cpuid says"))?;
        KvmVcpu::new(fd, shape.model, self.fd.run_size(), has.xsave, Arc::clone(self))
    }

    /// Pages of a range that were written since the last time.
    fn dirty(&self, slot: u32, range: &Range) -> Result<(), HvError> {
        let log = self.fd.get_dirty_log(slot, range.bytes);
        let first = range.offset / PAGE / 64;
        for (n, bits) in log.map_err(host("read which pages were written"))?.iter().enumerate() {
            if *bits != 0 && (first + n) * 64 < self.memory.dirty().pages() {
                self.memory.dirty().merge(first + n, *bits);
            }
        }
        Ok(())
    }
}

impl Vm for KvmVm {
    fn vcpu(&self, index: u8) -> Result<Box<dyn Vcpu>, HvError> {
        let place = self.vcpus.get(usize::from(index));
        let taken =
            place.and_then(|vcpu| vcpu.lock().unwrap_or_else(PoisonError::into_inner).take());
        match taken {
            Some(vcpu) => Ok(Box::new(vcpu)),
            None => Err(HvError::Invalid(format!("processor {index} is not there, or taken"))),
        }
    }

    fn line(&self, line: u32, raised: bool) -> Result<(), HvError> {
        if line >= chips::LINES || line == chips::CASCADE {
            return Ok(());
        }
        self.fd().set_irq_line(line, raised).map_err(host("raise or lower a line"))
    }

    fn message(&self, address: u64, data: u32) -> Result<(), HvError> {
        let Some(address_lo) = u32::try_from(address).ok().filter(|_| address >> 20 == MESSAGES)
        else {
            return Ok(());
        };
        let msi = kvm_msi { address_lo, data, ..Default::default() };
        self.fd().signal_msi(msi).map(|_| ()).map_err(host("send a message"))
    }

    fn doorbell(&self, at: Doorbell, ring: OwnedFd) -> Result<(), HvError> {
        let step = |source| HvError::Host { step: "hang up a doorbell", source };
        events::doorbell(self.fd(), at, ring.as_fd()).map_err(step)
    }

    fn line_event(&self, line: u32, ring: BorrowedFd<'_>) -> Result<(), HvError> {
        let step = |source| HvError::Host { step: "tie an eventfd to a line", source };
        events::line(self.fd(), line, ring).map_err(step)
    }

    fn log_dirty(&self) -> Result<(), HvError> {
        if !self.watched.swap(true, Ordering::Relaxed) {
            return self.shared.map(KVM_MEM_LOG_DIRTY_PAGES);
        }
        let ranges = self.shared.memory.ranges();
        (0..).zip(ranges).try_for_each(|(slot, range)| self.shared.dirty(slot, range))
    }

    fn clock(&self) -> Result<Clock, HvError> {
        let clock = self.fd().get_clock().map_err(host("read the guest's clock"))?;
        Ok(Clock { nanoseconds: clock.clock })
    }

    fn set_clock(&self, clock: Clock) -> Result<(), HvError> {
        let clock = kvm_clock_data { clock: clock.nanoseconds, ..Default::default() };
        self.fd().set_clock(&clock).map_err(host("set the guest's clock"))
    }

    fn chips(&self) -> Result<ChipState, HvError> {
        chips::read(self.fd(), self.now()?)
    }

    fn set_chips(&self, chips: &ChipState) -> Result<(), HvError> {
        chips::write(self.fd(), chips, self.now()?)
    }
}

/// An error of the host's own calls.
pub(super) fn io_step(step: &'static str) -> impl Fn(io::Error) -> HvError {
    move |source| HvError::Host { step, source }
}

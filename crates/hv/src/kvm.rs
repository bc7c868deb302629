//! The host's processor, through KVM.
//!
//! ```text
//! Kvm ──create──▶ KvmVm (slots, chips, doorbells) ──vcpu──▶ KvmVcpu ──run──▶ Exit
//! ```
//!
//! The interrupt chips are the kernel's own, so a processor that waits waits in the kernel, and
//! one that waits for ever (`hlt` with interrupts off) is not told from one that sleeps:
//! [`Exit::Stuck`](crate::Exit::Stuck) never comes from here.
//!
//! Source: Linux `Documentation/virt/kvm/api.rst`.

mod area;
mod chips;
mod cpuid;
mod events;
mod exit;
mod kick;
mod msrs;
mod registers;
mod vcpu;
mod vm;

use std::{io, sync::Arc};

use kvm_ioctls::Cap;

use crate::{Accel, GuestMemory, HvError, Hypervisor, Model, Shape, Vcpu, Vm};

/// `/dev/kvm`, opened.
#[derive(Debug)]
pub struct Kvm(Handle);

/// The same without a `Debug` of its own.
struct Handle(kvm_ioctls::Kvm);

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("/dev/kvm")
    }
}

/// The version that has been the only one since Linux 2.6.22.
const API_VERSION: i32 = 12;

/// What a machine here needs of the kernel.
const NEEDED: &[(Cap, &str)] = &[
    (Cap::Irqchip, "interrupt chips"),
    (Cap::Pit2, "a timer chip"),
    (Cap::UserMemory, "memory of processes"),
    (Cap::SetTssAddr, "an address for its task segment"),
    (Cap::ExtCpuid, "cpuid of our own"),
    (Cap::MpState, "the state of waiting processors"),
    (Cap::IrqRouting, "interrupt routes"),
    (Cap::Irqfd, "interrupts from eventfds"),
    (Cap::Ioeventfd, "doorbells"),
    (Cap::SignalMsi, "message-signalled interrupts"),
    (Cap::AdjustClock, "the guest's clock"),
    (Cap::VcpuEvents, "pending events"),
    (Cap::Debugregs, "debug registers"),
    (Cap::ImmediateExit, "kicks that are not lost"),
];

impl Kvm {
    /// Opens it.
    ///
    /// # Errors
    /// [`HvError::Host`], if there is none or this process may not (the source's kind says which);
    /// [`HvError::Invalid`], if it lacks something.
    pub fn open() -> Result<Kvm, HvError> {
        let kvm = kvm_ioctls::Kvm::new().map_err(host("open /dev/kvm"))?;
        let version = kvm.get_api_version();
        if version != API_VERSION {
            return Err(HvError::Invalid(format!(
                "/dev/kvm speaks version {version}, not {API_VERSION}"
            )));
        }
        let lacks: Vec<&str> = NEEDED
            .iter()
            .filter(|(capability, _)| !kvm.check_extension(*capability))
            .map(|(_, what)| *what)
            .collect();
        if lacks.is_empty() {
            return Ok(Kvm(Handle(kvm)));
        }
        Err(HvError::Invalid(format!("/dev/kvm lacks {}", lacks.join(", "))))
    }

    fn fd(&self) -> &kvm_ioctls::Kvm {
        &self.0.0
    }

    /// Source: KVM API, `KVM_GET_SUPPORTED_CPUID`.
    fn cpuid(&self) -> Result<cpuid::Host, HvError> {
        let entries = self
            .fd()
            .get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)
            .map_err(host("read what cpuid can say"))?;
        let deadline = self.fd().check_extension(Cap::TscDeadlineTimer);
        Ok(cpuid::Host { entries: entries.as_slice().to_vec(), deadline })
    }

    /// What the host lacks to be a model.
    ///
    /// # Errors
    /// [`HvError::Host`].
    pub fn lacks(&self, model: Model) -> Result<Vec<&'static str>, HvError> {
        Ok(self.cpuid()?.lacks(model))
    }

    fn make(
        &self,
        memory: GuestMemory,
        shape: &Shape,
        cpuid: cpuid::Host,
        chips: bool,
    ) -> Result<vm::KvmVm, HvError> {
        let xsave = self.fd().check_extension(Cap::Xsave) && self.fd().check_extension(Cap::Xcrs);
        let fd = self.fd().create_vm().map_err(host("create a virtual machine"))?;
        vm::KvmVm::new(fd, memory, shape, &vm::Host { cpuid, xsave, chips })
    }

    /// A processor and memory, and nothing else: no chips, which take most of the time.
    pub(crate) fn bare(&self, memory: GuestMemory, model: Model) -> Result<Box<dyn Vcpu>, HvError> {
        self.make(memory, &Shape { vcpus: 1, model }, self.cpuid()?, false)?.vcpu(0)
    }
}

impl Hypervisor for Kvm {
    fn accel(&self) -> Accel {
        Accel::Kvm
    }

    fn create(&self, memory: GuestMemory, shape: &Shape) -> Result<Arc<dyn Vm>, HvError> {
        let can = self.cpuid()?;
        let lacks = can.lacks(shape.model);
        if !lacks.is_empty() {
            return Err(HvError::Invalid(format!(
                "the host's processor cannot be an {}: it lacks {}",
                shape.model,
                lacks.join(", ")
            )));
        }
        let most = self.fd().get_max_vcpus();
        if shape.vcpus == 0 || usize::from(shape.vcpus) > most {
            return Err(HvError::Invalid(format!("{} processors: it is 1 to {most}", shape.vcpus)));
        }
        Ok(Arc::new(self.make(memory, shape, can, true)?))
    }
}

/// Names the step that an error of the kernel's ended.
fn host(step: &'static str) -> impl Fn(kvm_ioctls::Error) -> HvError {
    move |error| HvError::Host { step, source: io::Error::from_raw_os_error(error.errno()) }
}

//! The cut: what a backend is to a machine.

use std::{
    fmt::Debug,
    fs::File,
    io,
    os::fd::{BorrowedFd, OwnedFd},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{ChipState, CpuState, GuestMemory};

/// What carries out the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// The host's processor, through KVM.
    Kvm,
    /// A processor in software.
    Soft,
}

/// What processors a machine has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// How many.
    pub vcpus: u8,
    /// Which model.
    pub model: crate::model::Model,
}

/// Why a backend could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum HvError {
    /// The host refused a step.
    #[error("{step}")]
    Host {
        /// What was to be done.
        step: &'static str,
        /// The host's word.
        #[source]
        source: io::Error,
    },
    /// What was asked cannot be.
    #[error("{0}")]
    Invalid(String),
}

/// Makes machines' cores.
pub trait Hypervisor: Debug + Send + Sync {
    /// Which one it is.
    fn accel(&self) -> Accel;

    /// A machine without devices: its memory, interrupt chips (local APICs, I/O APIC at
    /// 0xfec0_0000, PICs, PIT) and processors in the state of a reset.
    ///
    /// # Errors
    /// [`HvError`]; nothing is left.
    fn create(&self, memory: GuestMemory, shape: &Shape) -> Result<Arc<dyn Vm>, HvError>;
}

/// What all processors of a machine share. Its methods may be called by any thread at any time.
pub trait Vm: Debug + Send + Sync {
    /// Takes a processor, once; the thread that runs it should be its own.
    ///
    /// # Errors
    /// [`HvError::Invalid`] if there is no such processor or it was taken.
    fn vcpu(&self, index: u8) -> Result<Box<dyn Vcpu>, HvError>;

    /// Raises or lowers a line of the interrupt chips: 0 to 15 at the PICs, and 0 to 23 at the
    /// I/O APIC (the PIT's line 0 is its line 2).
    ///
    /// # Errors
    /// [`HvError`].
    fn line(&self, line: u32, raised: bool) -> Result<(), HvError>;

    /// A message-signalled interrupt: what a device would write to this address.
    ///
    /// # Errors
    /// [`HvError`].
    fn message(&self, address: u64, data: u32) -> Result<(), HvError>;

    /// From now on what the guest writes at this place is counted in the eventfd and no exit.
    ///
    /// # Errors
    /// [`HvError`].
    ///
    /// Source: KVM API, `KVM_IOEVENTFD`; eventfd(2).
    fn doorbell(&self, at: Doorbell, ring: OwnedFd) -> Result<(), HvError>;

    /// From now on an eventfd that is written to raises this line for an instant.
    ///
    /// # Errors
    /// [`HvError`].
    ///
    /// Source: KVM API, `KVM_IRQFD`.
    fn line_event(&self, line: u32, ring: BorrowedFd<'_>) -> Result<(), HvError>;

    /// Has every page that processors wrote since the last time marked in the memory's
    /// [`DirtyBitmap`](crate::memory::DirtyBitmap), and begins to watch if it did not. All
    /// processors stand still meanwhile.
    ///
    /// # Errors
    /// [`HvError`].
    fn log_dirty(&self) -> Result<(), HvError>;

    /// The clock that the guest reads.
    ///
    /// # Errors
    /// [`HvError`].
    fn clock(&self) -> Result<Clock, HvError>;

    /// Sets it; processors stand still.
    ///
    /// # Errors
    /// [`HvError`].
    fn set_clock(&self, clock: Clock) -> Result<(), HvError>;

    /// The shared chips; processors stand still.
    ///
    /// # Errors
    /// [`HvError`].
    fn chips(&self) -> Result<ChipState, HvError>;

    /// Sets them; processors stand still.
    ///
    /// # Errors
    /// [`HvError`].
    fn set_chips(&self, chips: &ChipState) -> Result<(), HvError>;
}

/// A processor, in the hands of the thread that runs it.
pub trait Vcpu: Send {
    /// Carries out instructions until there is something for the caller to do. A processor that
    /// waits (`hlt`, not yet started) waits in here and costs nothing.
    ///
    /// What the caller puts into an exit's bytes is what the guest reads when it goes on.
    ///
    /// # Errors
    /// [`HvError`]; the machine cannot go on.
    fn run(&mut self) -> Result<Exit<'_>, HvError>;

    /// What makes [`Vcpu::run`] come back soon, from any thread.
    fn kick(&self) -> Arc<dyn Kick>;

    /// Everything in it. After an exit, what was begun has to be carried to its end first: kick it,
    /// and run it until it says so. It comes back at once, but for what is left of an access of
    /// several steps (`rep ins`).
    ///
    /// # Errors
    /// [`HvError`].
    fn state(&self) -> Result<CpuState, HvError>;

    /// Replaces everything in it.
    ///
    /// # Errors
    /// [`HvError::Invalid`] for a state that no processor of this model can have.
    fn set_state(&mut self, state: &CpuState) -> Result<(), HvError>;

    /// How many instructions it has carried out, as near as a few in a hundred; nothing of one that
    /// does not count.
    fn instructions(&self) -> Option<u64> {
        None
    }

    /// Writes what it has made of the guest's instructions to a file that is empty, for processors
    /// of machines that begin with the memory as it is now. One that carries them out as they are
    /// has nothing to write.
    ///
    /// # Errors
    /// [`HvError::Host`]; the file is of no use then.
    fn save_code(&mut self, _to: &File) -> Result<(), HvError> {
        Ok(())
    }

    /// Uses what another one has written, for memory that begins as that one's was then. What is in
    /// the file is to be as safe as the memory.
    ///
    /// # Errors
    /// [`HvError::Host`], with `InvalidData` for one that another version has written. It runs as
    /// well without.
    fn load_code(&mut self, _from: &File) -> Result<(), HvError> {
        Ok(())
    }
}

/// Ends a [`Vcpu::run`].
pub trait Kick: Debug + Send + Sync {
    /// The run that goes on, or else the next one, ends with [`Exit::Kicked`]. Several kicks may
    /// be one.
    fn kick(&self);
}

/// Why a processor came back.
#[derive(Debug, PartialEq, Eq)]
pub enum Exit<'a> {
    /// The guest reads from where no memory is; 1, 2, 4 or 8 bytes.
    MmioRead {
        /// Guest-physical address.
        address: u64,
        /// What it reads, to be filled in.
        data: &'a mut [u8],
    },
    /// The guest writes to where no memory is.
    MmioWrite {
        /// Guest-physical address.
        address: u64,
        /// What it writes.
        data: &'a [u8],
    },
    /// `in`, or one step of `ins`; 1, 2 or 4 bytes.
    PortRead {
        /// Which port.
        port: u16,
        /// What it reads, to be filled in.
        data: &'a mut [u8],
    },
    /// `out`, or one step of `outs`.
    PortWrite {
        /// Which port.
        port: u16,
        /// What it writes.
        data: &'a [u8],
    },
    /// Somebody kicked it.
    Kicked,
    /// It waits with interrupts off, and nothing but another processor can wake it (an NMI, INIT):
    /// how a kernel stops that has nothing to power off, and how it parks a processor. Said once
    /// for each `hlt`; who runs it again has it wait for that inside.
    Stuck,
    /// A fault while a double fault was delivered; a real machine resets.
    TripleFault,
}

/// Where a doorbell is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doorbell {
    /// The place that is written to.
    pub place: Place,
    /// How many bytes are written: 1, 2, 4 or 8.
    pub bytes: u8,
    /// Which value counts; any, if there is none.
    pub value: Option<u64>,
}

/// A place that devices answer at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A guest-physical address.
    Memory(u64),
    /// A port.
    Port(u16),
}

/// The guest's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Nanoseconds since the machine began, as `kvm-clock` shows them.
    pub nanoseconds: u64,
}

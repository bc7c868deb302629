//! A machine that runs: one thread for each processor, one for all devices.
//!
//! ```text
//! Builder ──boot──────▶ Machine, paused ──resume──▶ runs ──▶ End
//!    ▲     └─restore──▶      ▲   │snapshot            │
//!  attach(device)            └───┴──────pause─────────┘
//! ```
//!
//! Nothing moves while it is paused, no processor and no device, so what is saved then belongs
//! together.

mod builder;
mod bus;
mod census;
mod console;
mod control;
mod events;
mod lines;
mod ports;
mod processor;

use std::{
    fs::File,
    io,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use base::Deadline;
use hv::{CpuState, GuestMemory, HvError, Shape, Vcpu, Vm};
use virtio::{Device, Mmio};

use self::{census::Census, control::Control, ports::Ports};
use crate::snapshot::{Id, Manifest, SnapshotError};

pub use builder::{Announce, BuildError, Builder, Cargo};
pub use console::Console;
pub use control::{End, PauseError};

/// What all threads of a machine share.
#[derive(Debug)]
struct Shared {
    shape: Shape,
    memory: GuestMemory,
    vm: Arc<dyn Vm>,
    /// Each is locked by its thread while it runs.
    cpus: Vec<Mutex<Cpu>>,
    census: Mutex<Census>,
    ports: Ports,
    bus: bus::Bus,
    bells: events::Bells,
    control: Arc<Control>,
    /// The snapshot since which written pages are marked in the memory, if there is one.
    since: Mutex<Option<Id>>,
}

/// A processor that can be shown.
struct Cpu(Box<dyn Vcpu>);

impl std::fmt::Debug for Cpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cpu")
    }
}

/// Why a machine's state could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// It runs, or it has ended.
    #[error("the machine is not paused")]
    NotPaused,
    /// The backend could not say.
    #[error("cannot read the state of the {what}")]
    Backend {
        /// Of what.
        what: &'static str,
        /// Why.
        #[source]
        source: HvError,
    },
    /// A device could not put away what it holds back.
    #[error("device {index} cannot write what it holds back")]
    Device {
        /// Which, in the order in which they were attached.
        index: usize,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A machine. Dropping it stops it.
#[derive(Debug)]
pub struct Machine {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Machine {
    /// Lets it run, or run on.
    pub fn resume(&self) {
        self.shared.control.resume();
    }

    /// Stops everything between two instructions; afterwards nothing in it moves.
    ///
    /// # Errors
    /// [`PauseError`]: it has ended, or a processor or device did not stop in time; then it runs
    /// on.
    pub fn pause(&self, by: Deadline) -> Result<(), PauseError> {
        self.shared.control.pause(by)
    }

    /// Ends it from outside.
    pub fn stop(&self) {
        self.shared.control.finish(End::Stopped);
    }

    /// Waits for its end, and until the last words of its console are written, as far as somebody
    /// takes them; `None` if the end has not come in time.
    pub fn wait(&self, by: Deadline) -> Option<End> {
        self.shared.control.wait(by)
    }

    /// Presses the power button: a guest that listens shuts itself down.
    pub fn press_power_button(&self) {
        self.shared.ports.board(|board| board.power.press());
    }

    /// Its memory. Which pages of it are marked as written belongs to its snapshots.
    pub fn memory(&self) -> &GuestMemory {
        &self.shared.memory
    }

    /// How many instructions the first processor of a paused machine has carried out, as near as a
    /// few in a hundred; nothing of one that does not count, or while it runs.
    pub fn instructions(&self) -> Option<u64> {
        let count = || {
            let first = self.shared.cpus.first()?;
            first.lock().unwrap_or_else(PoisonError::into_inner).0.instructions()
        };
        self.shared.control.while_paused(count).flatten()
    }

    /// Writes what the first processor of a paused machine has made of the guest's instructions to a
    /// file that is empty, for machines that are restored with the memory that this one has now
    /// ([`Builder::load_code`]). Of KVM's processors that is nothing.
    ///
    /// # Errors
    /// [`SaveError`]; the file is of no use then.
    pub fn save_code(&self, to: &File) -> Result<(), SaveError> {
        let failed = |source| SaveError::Backend { what: "decoded instructions", source };
        let save = || {
            let Some(first) = self.shared.cpus.first() else { return Ok(()) };
            let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
            first.0.save_code(to).map_err(failed)
        };
        self.shared.control.while_paused(save).ok_or(SaveError::NotPaused)?
    }

    /// Everything but the memory, of a machine that is paused.
    ///
    /// # Errors
    /// [`SaveError`].
    pub fn manifest(&self) -> Result<Manifest, SaveError> {
        let save = || self.shared.manifest();
        self.shared.control.while_paused(save).ok_or(SaveError::NotPaused)?
    }
}

impl Machine {
    /// Writes to a device as a driver does.
    pub(crate) fn store(&self, address: u64, value: u32) {
        self.shared.bus.write(address, &value.to_le_bytes());
    }

    /// How often it was resumed.
    pub(crate) fn resumed(&self) -> u64 {
        self.shared.control.resumed()
    }

    /// Has `save` save the machine, which is paused, as a snapshot of this id. It is handed
    /// everything but the memory, and the pages that were written since the snapshot that it is
    /// told.
    pub(crate) fn written_since(
        &self,
        id: Id,
        save: impl FnOnce(Manifest, &[usize], Option<Id>) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let mut since = self.shared.since.lock().unwrap_or_else(PoisonError::into_inner);
        let take = || {
            let manifest = self.shared.manifest()?;
            let failed = |source| SaveError::Backend { what: "written pages", source };
            self.shared.vm.log_dirty().map_err(failed)?;
            Ok::<_, SaveError>((manifest, self.memory().dirty().take()))
        };
        let taken = self.shared.control.while_paused(take);
        let (manifest, pages) = taken.ok_or(SaveError::NotPaused)??;
        let saved = save(manifest, &pages, *since);
        match &saved {
            Ok(()) => *since = Some(id),
            Err(_) => self.memory().dirty().put_back(&pages),
        }
        saved
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so, and ended the machine.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn devices(&self) -> &[Arc<Mmio<dyn Device>>] {
        self.bus.devices()
    }

    fn manifest(&self) -> Result<Manifest, SaveError> {
        let failed = |what| move |source| SaveError::Backend { what, source };
        let state = |cpu: &Mutex<Cpu>| -> Result<CpuState, HvError> {
            cpu.lock().unwrap_or_else(PoisonError::into_inner).0.state()
        };
        let cpus: Result<Vec<_>, _> = self.cpus.iter().map(state).collect();
        let device = |(index, device): (usize, &Arc<Mmio<dyn Device>>)| {
            device.save().map_err(|source| SaveError::Device { index, source })
        };
        let devices = self.devices().iter().enumerate().map(device).collect::<Result<_, _>>()?;
        Ok(Manifest {
            id: None,
            shape: self.shape.clone(),
            memory_bytes: self.memory.bytes() as u64,
            clock: self.vm.clock().map_err(failed("clock"))?,
            cpus: cpus.map_err(failed("processors"))?,
            chips: self.vm.chips().map_err(failed("interrupt chips"))?,
            board: self.ports.board(|board| board.clone()),
            devices,
            disks: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests;

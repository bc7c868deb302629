//! The processor behind the traits of `hv`.

use std::{
    fs::File,
    os::fd::{BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use hv::{
    Accel, ChipState, Clock, CpuState, Doorbell, Exit, GuestMemory, HvError, Hypervisor, Kick,
    Model, Place, Shape, Vcpu, Vm,
};

use crate::{
    cpu::Cpu,
    device::{Post, Query},
    lines::Lines,
    machine::{Kicker, Machine},
    run::{Ending, Processor},
};

/// Most processors of a machine.
const VCPUS_MAX: u8 = 16;

/// Most doorbells and interrupt lines by eventfd.
const DOORBELLS_MAX: usize = 1024;

/// Machines whose processors are software.
#[derive(Clone, Copy, Debug, Default)]
pub struct Soft;

impl Hypervisor for Soft {
    fn accel(&self) -> Accel {
        Accel::Soft
    }

    fn create(&self, memory: GuestMemory, shape: &Shape) -> Result<Arc<dyn Vm>, HvError> {
        if shape.model > Model::V2 {
            return Err(HvError::Invalid(format!(
                "the software processor has no {}: x86-64-v2 is its highest model",
                shape.model
            )));
        }
        if !(1..=VCPUS_MAX).contains(&shape.vcpus) {
            return Err(HvError::Invalid(format!(
                "{} processors: it is 1 to {VCPUS_MAX}",
                shape.vcpus
            )));
        }
        let machine = Machine::new(memory, shape.vcpus)?;
        let vcpus = (0..shape.vcpus).map(|_| Some(())).collect();
        Ok(Arc::new(SoftVm {
            machine,
            model: shape.model,
            untaken: Mutex::new(vcpus),
            lines: Mutex::new(None),
        }))
    }
}

/// A machine.
#[derive(Debug)]
struct SoftVm {
    machine: Arc<Machine>,
    model: Model,
    /// Which processors nobody has taken.
    untaken: Mutex<Vec<Option<()>>>,
    /// The thread that waits for eventfds, once there are any.
    lines: Mutex<Option<Lines>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Vm for SoftVm {
    fn vcpu(&self, index: u8) -> Result<Box<dyn Vcpu>, HvError> {
        let mut untaken = lock(&self.untaken);
        let taken = untaken.get_mut(usize::from(index)).and_then(Option::take);
        taken.ok_or_else(|| {
            HvError::Invalid(format!("processor {index} is not there or was taken"))
        })?;
        let cpu = Cpu::new(Arc::clone(&self.machine), index, self.model);
        Ok(Box::new(SoftVcpu::new(cpu)))
    }

    fn line(&self, line: u32, raised: bool) -> Result<(), HvError> {
        self.machine.chips.line(line, raised);
        Ok(())
    }

    fn message(&self, address: u64, data: u32) -> Result<(), HvError> {
        self.machine.chips.message(address, data);
        Ok(())
    }

    fn doorbell(&self, at: Doorbell, ring: OwnedFd) -> Result<(), HvError> {
        if !matches!(at.bytes, 1 | 2 | 4 | 8) {
            return Err(HvError::Invalid(format!("a doorbell of {} bytes", at.bytes)));
        }
        let doorbells = &self.machine.doorbells;
        let mut doorbells = doorbells.write().unwrap_or_else(PoisonError::into_inner);
        if doorbells.len() >= DOORBELLS_MAX {
            return Err(HvError::Invalid(format!("more than {DOORBELLS_MAX} doorbells")));
        }
        doorbells.push((at, ring));
        Ok(())
    }

    fn line_event(&self, line: u32, ring: BorrowedFd<'_>) -> Result<(), HvError> {
        let mut lines = lock(&self.lines);
        let there = match lines.take() {
            Some(there) => there,
            None => Lines::new(Arc::downgrade(&self.machine))?,
        };
        let added = there.add(line, ring);
        *lines = Some(there);
        added
    }

    fn log_dirty(&self) -> Result<(), HvError> {
        // Every page is marked when it first becomes writable; from now on each has to become it
        // anew, which processors see to when they next run.
        self.machine.dirty_asked.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn clock(&self) -> Result<Clock, HvError> {
        Ok(Clock { nanoseconds: self.machine.now() })
    }

    fn set_clock(&self, clock: Clock) -> Result<(), HvError> {
        self.machine.set_now(clock.nanoseconds);
        Ok(())
    }

    fn chips(&self) -> Result<ChipState, HvError> {
        Ok(self.machine.chips.state(self.machine.now()))
    }

    fn set_chips(&self, chips: &ChipState) -> Result<(), HvError> {
        self.machine.chips.set_state(chips, self.machine.now());
        Ok(())
    }
}

/// A processor.
#[derive(Debug)]
pub struct SoftVcpu {
    processor: Processor,
    kicker: Arc<Kicker>,
    /// The bytes of the last exit, which the caller may fill.
    data: [u8; 8],
    /// What it was an answer to.
    asked: Option<Query>,
}

impl SoftVcpu {
    fn new(cpu: Cpu) -> SoftVcpu {
        let kicker = Kicker { seats: Arc::clone(&cpu.machine.seats), vcpu: cpu.index };
        SoftVcpu {
            processor: Processor::new(cpu),
            kicker: Arc::new(kicker),
            data: [0; 8],
            asked: None,
        }
    }

    /// How many instructions it has carried out, roughly: those of a block that was left early
    /// count.
    pub fn instructions(&self) -> u64 {
        self.processor.cpu.instructions
    }
}

fn length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(8).min(8)
}

impl Vcpu for SoftVcpu {
    fn run(&mut self) -> Result<Exit<'_>, HvError> {
        if let Some(query) = self.asked.take() {
            let mut data = [0; 8];
            let length = length(query.bytes);
            data[..length].copy_from_slice(&self.data[..length]);
            let device = &mut self.processor.cpu.device;
            device.asked = None;
            device.answers.push((query, u64::from_le_bytes(data)));
        }
        Ok(match self.processor.run()? {
            Ending::Read(query) => {
                self.asked = Some(query);
                self.data = [0; 8];
                let data = &mut self.data[..length(query.bytes)];
                match query.place {
                    Place::Memory(address) => Exit::MmioRead { address, data },
                    Place::Port(port) => Exit::PortRead { port, data },
                }
            }
            Ending::Write(Post { place, bytes, value }) => {
                self.data = value.to_le_bytes();
                let data = &self.data[..length(bytes)];
                match place {
                    Place::Memory(address) => Exit::MmioWrite { address, data },
                    Place::Port(port) => Exit::PortWrite { port, data },
                }
            }
            Ending::Kicked => Exit::Kicked,
            Ending::Stuck => Exit::Stuck,
            Ending::TripleFault => Exit::TripleFault,
        })
    }

    fn kick(&self) -> Arc<dyn Kick> {
        Arc::<Kicker>::clone(&self.kicker)
    }

    fn state(&self) -> Result<CpuState, HvError> {
        Ok(self.processor.cpu.save())
    }

    fn instructions(&self) -> Option<u64> {
        Some(self.processor.cpu.instructions)
    }

    fn save_code(&mut self, to: &File) -> Result<(), HvError> {
        let saved = self.processor.save_code(to);
        saved.map_err(|source| HvError::Host { step: "write what was decoded", source })
    }

    fn load_code(&mut self, from: &File) -> Result<(), HvError> {
        let loaded = self.processor.load_code(from);
        loaded.map_err(|source| HvError::Host { step: "read what was decoded", source })
    }

    fn set_state(&mut self, state: &CpuState) -> Result<(), HvError> {
        self.asked = None;
        self.processor.cpu.restore(state)?;
        self.processor.renew();
        Ok(())
    }
}

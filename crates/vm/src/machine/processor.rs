//! A processor's thread.

use std::sync::PoisonError;

use hv::{Exit, HvError, Vcpu};
use virtio::device::Again;

use super::{
    Shared,
    census::{self, Verdict},
    control::{End, Watch},
    events::broken,
};
use crate::legacy::Effect;

/// Why a processor came back from its work.
enum Back {
    Kicked,
    Stopped,
    Ended(End),
}

/// Runs a processor until the machine ends.
pub(super) fn run(shared: &Shared, index: usize) {
    let _watch = Watch(&shared.control);
    let Some(cpu) = shared.cpus.get(index) else { return };
    while shared.control.pass() {
        let mut cpu = cpu.lock().unwrap_or_else(PoisonError::into_inner);
        let end = match shared.work(cpu.0.as_mut()) {
            Ok(Back::Kicked) => shared.asked(index, cpu.0.as_ref()),
            Ok(Back::Stopped) => shared.stopped(index),
            Ok(Back::Ended(end)) => Some(end),
            Err(error) => Some(failed(index, &error)),
        };
        drop(cpu);
        if let Some(end) = end {
            shared.control.finish(end);
        }
    }
}

fn failed(index: usize, error: &HvError) -> End {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    End::Failed { why: format!("processor {index}: {error}{}", source.unwrap_or_default()) }
}

impl Shared {
    /// Carries out what the guest asks of the machine until there is something else to do.
    fn work(&self, cpu: &mut dyn Vcpu) -> Result<Back, HvError> {
        loop {
            match cpu.run()? {
                Exit::MmioRead { address, data } => self.bus.read(address, data),
                Exit::MmioWrite { address, data } => self.written(address, data),
                Exit::PortRead { port, data } => self.ports.read(port, data),
                Exit::PortWrite { port, data } => {
                    if let Some(effect) = self.ports.write(port, data) {
                        return Ok(Back::Ended(end(effect)));
                    }
                }
                Exit::Kicked => return Ok(Back::Kicked),
                Exit::Stuck => return Ok(Back::Stopped),
                Exit::TripleFault => return Ok(Back::Ended(End::TripleFault)),
            }
        }
    }

    fn written(&self, address: u64, data: &[u8]) {
        if let Some((device, queue)) = self.bus.write(address, data)
            && !self.answered(device, queue)
        {
            self.bells.ring(device, queue);
        }
    }

    /// Answers a driver that waits for it; whether that is all there was to do.
    fn answered(&self, device: usize, queue: u16) -> bool {
        let Some(mmio) = self.bus.devices().get(device).filter(|mmio| mmio.is_awaited(queue))
        else {
            return false;
        };
        match mmio.process(queue) {
            Ok(Again(more)) => more.is_empty(),
            Err(error) => {
                broken(mmio, &error);
                true
            }
        }
    }

    /// A processor was kicked, perhaps because another one wants to know whether it moves.
    fn asked(&self, index: usize, cpu: &dyn Vcpu) -> Option<End> {
        let mut census = self.census.lock().unwrap_or_else(PoisonError::into_inner);
        if !census.wants(index) {
            return None;
        }
        match cpu.state() {
            Ok(state) if census::motionless(&state) => self.follow(census.still(index)),
            Ok(_) => None,
            Err(error) => Some(failed(index, &error)),
        }
    }

    /// A processor has stopped for good.
    fn stopped(&self, index: usize) -> Option<End> {
        let mut census = self.census.lock().unwrap_or_else(PoisonError::into_inner);
        self.follow(census.stopped(index))
    }

    fn follow(&self, verdict: Verdict) -> Option<End> {
        match verdict {
            Verdict::Unknown => None,
            Verdict::Ask => {
                self.control.kick_all();
                None
            }
            Verdict::Stuck => Some(End::Stuck),
        }
    }
}

fn end(effect: Effect) -> End {
    match effect {
        Effect::PowerOff => End::PoweredOff,
        Effect::Reset => End::Reset,
        Effect::Panicked => End::Panicked,
    }
}

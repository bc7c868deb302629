//! The interrupt chips and timers of a machine: local APICs, I/O APIC, PICs, PIT.
//!
//! ```text
//! line ──▶ PICs ──────────LINT0──▶ local APIC ──▶ pending ──▶ the processor takes it
//!   ▲ └──▶ I/O APIC ──┐                 ▲
//!  PIT                ├── messages ─────┤
//! message (MSI) ──────┘    (IPIs) ◀─────┘
//! ```
//!
//! State machines only: no thread, no clock. Whoever calls says what time it is, in nanoseconds of
//! the machine's clock; [`Chips::next_deadline`] says when a processor's thread has to come back
//! with [`Chips::tick`], and [`Wake`] tells a processor, asleep or running, that it should look.
//!
//! One lock for all of them: an access takes a fraction of what leaving the guest's code takes,
//! and a processor that has nothing to do here does not take it ([`Chips::next_deadline`] is one
//! load).

#[doc(hidden)]
pub mod fuzzing;
mod ioapic;
mod lapic;
mod message;
mod pic;
mod pit;
mod state;

use std::{
    fmt::Debug,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use hv::{ChipState, HvError};
pub use lapic::{Moment, Refused};
use state::State;

/// Tells a processor's thread to look at [`Chips::pending`] and [`Chips::next_deadline`].
pub trait Wake: Debug + Send + Sync {
    /// Something may have changed for this processor. Called without a lock held, by whichever
    /// thread changed it, the processor's own among them; may be for nothing.
    fn wake(&self, vcpu: u8);
}

/// What waits for a processor, in the order in which it is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// INIT: [`Chips::take_init`], then a reset of the processor.
    pub init: bool,
    /// Where to begin: [`Chips::take_startup`]. Means something to a processor that waits for it
    /// only; others take it and do nothing.
    pub startup: bool,
    /// [`Chips::take_nmi`].
    pub nmi: bool,
    /// [`Chips::take_interrupt`], where the processor lets interrupts in.
    pub interrupt: bool,
}

impl Pending {
    /// Whether there is anything.
    pub fn any(self) -> bool {
        self != Pending::default()
    }
}

/// The chips of one machine.
#[derive(Debug)]
pub struct Chips {
    state: Mutex<State>,
    /// When each processor's thread has to come back; `u64::MAX` for never.
    deadlines: Box<[AtomicU64]>,
    tsc_khz: u32,
    wake: Box<dyn Wake>,
}

/// `IA32_APIC_BASE`, `IA32_TSC_DEADLINE`, and the registers of an x2APIC.
const APIC_BASE: u32 = 0x1b;
const TSC_DEADLINE: u32 = 0x6e0;
const X2APIC: std::ops::Range<u32> = 0x800..0x900;

impl Chips {
    /// Chips as after power-up, for so many processors with a time stamp counter of this
    /// frequency.
    ///
    /// # Errors
    /// [`HvError::Invalid`] for no processors, or more than 64.
    pub fn new(vcpus: u8, tsc_khz: u32, wake: Box<dyn Wake>) -> Result<Chips, HvError> {
        if !(1..=message::VCPUS_MAX).contains(&vcpus) {
            let most = message::VCPUS_MAX;
            return Err(HvError::Invalid(format!("{vcpus} processors: it is 1 to {most}")));
        }
        let deadlines = (0..vcpus).map(|_| AtomicU64::new(u64::MAX)).collect();
        Ok(Chips { state: Mutex::new(State::new(vcpus)), deadlines, tsc_khz, wake })
    }

    /// Does something with the chips, then wakes whom it concerns.
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut state);
        let mut wake = state.take_woken();
        for (n, published) in self.deadlines.iter().enumerate() {
            let deadline = state.deadline(n).unwrap_or(u64::MAX);
            if deadline < published.swap(deadline, Ordering::Relaxed) {
                wake |= 1 << n;
            }
        }
        drop(state);
        for n in message::members(wake) {
            self.wake.wake(n.to_le_bytes()[0]);
        }
        result
    }

    /// Raises or lowers a line: 0 to 15 at the PICs, 0 to 23 at the I/O APIC, where line 0 is 2.
    /// Others are nothing, and line 2 is where the second PIC hangs at the first.
    pub fn line(&self, line: u32, raised: bool) {
        self.with(|state| state.line(line, raised));
    }

    /// A message-signalled interrupt; nothing, if the address is not that of local APICs.
    pub fn message(&self, address: u64, data: u32) {
        self.with(|state| state.message(address, data));
    }

    /// An NMI for a processor, from outside or because a saved one had it waiting.
    pub fn nmi(&self, vcpu: u8) {
        self.with(|state| state.nmi(vcpu.into()));
    }

    /// What waits for a processor.
    pub fn pending(&self, vcpu: u8) -> Pending {
        self.with(|state| state.pending(vcpu.into()))
    }

    /// The processor takes an interrupt: its vector. None, if it went away meanwhile.
    pub fn take_interrupt(&self, vcpu: u8) -> Option<u8> {
        self.with(|state| state.take_interrupt(vcpu.into()))
    }

    /// The processor takes an NMI, if there is one.
    pub fn take_nmi(&self, vcpu: u8) -> bool {
        self.with(|state| state.take_nmi(vcpu.into()))
    }

    /// The processor takes INIT, if there is one; its local APIC is as after INIT then. If a
    /// start-up message has come after it, the processor is woken once more for that.
    pub fn take_init(&self, vcpu: u8) -> bool {
        self.with(|state| state.take_init(vcpu.into()))
    }

    /// The processor takes a start-up message: the page where it is to begin.
    pub fn take_startup(&self, vcpu: u8) -> Option<u8> {
        self.with(|state| state.take_startup(vcpu.into()))
    }

    /// When this processor's thread has to call [`Chips::tick`], in nanoseconds of the machine's
    /// clock. The first processor's thread serves the PIT too.
    #[inline]
    pub fn next_deadline(&self, vcpu: u8) -> Option<u64> {
        let at = self.deadlines.get(usize::from(vcpu))?.load(Ordering::Relaxed);
        (at != u64::MAX).then_some(at)
    }

    /// Time has passed: every timer that has come to its end interrupts.
    pub fn tick(&self, now: u64) {
        self.with(|state| state.tick(now));
    }

    /// Reads guest-physical memory where chips answer; whether they do. `now` is asked for only
    /// where time matters.
    pub fn memory_read(
        &self,
        vcpu: u8,
        address: u64,
        data: &mut [u8],
        now: impl FnOnce() -> u64,
    ) -> bool {
        self.with(|state| state.memory_read(vcpu.into(), address, data, now))
    }

    /// Writes guest-physical memory where chips answer; whether they do.
    pub fn memory_write(
        &self,
        vcpu: u8,
        address: u64,
        data: &[u8],
        now: impl FnOnce() -> u64,
    ) -> bool {
        self.with(|state| state.memory_write(vcpu.into(), address, data, now))
    }

    /// Whether [`Chips::memory_read`] and [`Chips::memory_write`] of this processor would answer
    /// for an address: its local APIC's page, where it has one, and the I/O APIC's. These lie
    /// before all memory.
    pub fn answers(&self, vcpu: u8, address: u64) -> bool {
        self.with(|state| state.place(vcpu.into(), address).is_some())
    }

    /// Where a processor's local APIC has its page, if it has one.
    pub fn apic_page(&self, vcpu: u8) -> Option<u64> {
        self.with(|state| state.lapic(vcpu.into())?.page_address())
    }

    /// Reads a port, if it is one of the chips'.
    pub fn port_read(&self, port: u16, now: impl FnOnce() -> u64) -> Option<u8> {
        state::is_port(port).then(|| self.with(|state| state.port_read(port, now())))?
    }

    /// Writes a port; whether it is one of the chips'.
    pub fn port_write(&self, port: u16, value: u8, now: impl FnOnce() -> u64) -> bool {
        state::is_port(port) && self.with(|state| state.port_write(port, value, now()))
    }

    /// Whether a model-specific register is one of the chips': `IA32_APIC_BASE`,
    /// `IA32_TSC_DEADLINE`, and the 256 that belong to x2APICs.
    pub fn is_msr(msr: u32) -> bool {
        matches!(msr, APIC_BASE | TSC_DEADLINE) || X2APIC.contains(&msr)
    }

    /// Reads a model-specific register of the chips.
    ///
    /// # Errors
    /// [`Refused`], if there is none, or it cannot be read, or not now.
    pub fn read_msr(&self, vcpu: u8, msr: u32, now: Moment) -> Result<u64, Refused> {
        self.with(|state| state.read_msr(vcpu.into(), msr, now))
    }

    /// Writes a model-specific register of the chips.
    ///
    /// # Errors
    /// [`Refused`], as [`Chips::read_msr`], and for values that it cannot have.
    pub fn write_msr(&self, vcpu: u8, msr: u32, value: u64, now: Moment) -> Result<(), Refused> {
        self.with(|state| state.write_msr(vcpu.into(), msr, value, now, self.tsc_khz))
    }

    /// The time stamp counter was set: a deadline in its terms is at another moment.
    pub fn tsc_moved(&self, vcpu: u8, now: Moment) {
        self.with(|state| state.tsc_moved(vcpu.into(), now, self.tsc_khz));
    }

    /// cr8: the upper half of the task priority.
    pub fn cr8(&self, vcpu: u8) -> u8 {
        self.with(|state| state.cr8(vcpu.into()))
    }

    /// Sets cr8.
    ///
    /// # Errors
    /// [`Refused`] for more than 15.
    pub fn set_cr8(&self, vcpu: u8, value: u64) -> Result<(), Refused> {
        self.with(|state| state.set_cr8(vcpu.into(), value))
    }

    /// The chips that all processors share; timers are brought to this moment first.
    pub fn state(&self, now: u64) -> ChipState {
        self.with(|state| state.save(now))
    }

    /// Sets the shared chips as they were saved; the machine's clock goes on from where it was.
    pub fn set_state(&self, chips: &ChipState, now: u64) {
        self.with(|state| state.restore(chips, now));
    }

    /// A processor's local APIC as [`hv::CpuState::apic`] has it. What waits beside it is the
    /// processor's: INIT and start-up messages are taken before, NMIs go to
    /// [`hv::state::Events`], the two MSRs to [`hv::CpuState::msrs`].
    pub fn apic(&self, vcpu: u8, now: u64) -> Vec<u8> {
        self.with(|state| state.save_apic(vcpu.into(), now))
    }

    /// Sets a processor's local APIC: the page, and `IA32_APIC_BASE`. An empty page is a local
    /// APIC as after power-up. `IA32_TSC_DEADLINE` is written afterwards, NMIs given anew.
    ///
    /// # Errors
    /// [`HvError::Invalid`] for what no local APIC can have.
    pub fn set_apic(&self, vcpu: u8, page: &[u8], base: u64, now: u64) -> Result<(), HvError> {
        self.with(|state| state.restore_apic(vcpu.into(), page, base, now)).map_err(|Refused| {
            HvError::Invalid(format!(
                "a local APIC of {} bytes with base {base:#x} cannot be",
                page.len()
            ))
        })
    }
}

#[cfg(test)]
mod tests;

//! The local APIC's timer: counts down once, again and again, or waits for the time stamp counter
//! to reach a value.
//!
//! Counts at 1 GHz before its divider, as KVM's does, so that a count goes on at the same speed
//! wherever it is restored.
//!
//! Source: Intel SDM volume 3, 11.5.4.

use super::{Lapic, MASKED, reg};

/// What the registers do not say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timer {
    /// When it ends, in nanoseconds of the machine's clock.
    deadline: Option<u64>,
    /// `IA32_TSC_DEADLINE`.
    tsc: u64,
}

/// A moment, on both clocks that timers go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Nanoseconds of the machine's clock.
    pub nanoseconds: u64,
    /// What `rdtsc` gives on this processor at that moment.
    pub tsc: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Once,
    Periodic,
    Tsc,
}

fn kind(entry: u32) -> Kind {
    match entry >> 17 & 3 {
        0 => Kind::Once,
        1 => Kind::Periodic,
        // 3 is reserved.
        _ => Kind::Tsc,
    }
}

impl Lapic {
    fn kind(&self) -> Kind {
        kind(self.page[reg::LVT_TIMER])
    }

    /// Nanoseconds of one count.
    fn step(&self) -> u64 {
        let divide = self.page[reg::TIMER_DIVIDE];
        let power = (divide & 3 | divide >> 1 & 4) + 1;
        1 << (power & 7)
    }

    /// When the timer ends.
    pub(in super::super) fn deadline(&self) -> Option<u64> {
        self.timer.deadline
    }

    /// The current count.
    pub(super) fn count(&self, now: u64) -> u32 {
        if self.kind() == Kind::Tsc {
            return 0;
        }
        let left = self.timer.deadline.map_or(0, |at| at.saturating_sub(now));
        u32::try_from(left.div_ceil(self.step())).unwrap_or(u32::MAX)
    }

    /// Begins to count.
    pub(super) fn set_count(&mut self, count: u32, now: u64) {
        if self.kind() == Kind::Tsc {
            return;
        }
        self.page[reg::TIMER_INITIAL] = count;
        self.count_from(count, now);
    }

    /// Goes on from a count on the way to zero.
    pub(super) fn count_from(&mut self, count: u32, now: u64) {
        let length = u64::from(count) * self.step();
        self.timer.deadline = (count != 0).then(|| now.saturating_add(length));
    }

    /// What was left is counted at the new speed.
    pub(super) fn set_divide(&mut self, value: u32, now: u64) {
        let count = self.count(now);
        self.page[reg::TIMER_DIVIDE] = value & 0xb;
        if self.kind() != Kind::Tsc {
            self.count_from(count, now);
        }
    }

    /// Between deadline mode and the others, the timer stops.
    pub(super) fn set_timer_entry(&mut self, entry: u32) {
        let stops = (self.kind() == Kind::Tsc) != (kind(entry) == Kind::Tsc);
        self.page[reg::LVT_TIMER] = entry;
        if stops {
            self.timer = Timer::default();
            self.page[reg::TIMER_INITIAL] = 0;
        }
    }

    /// `IA32_TSC_DEADLINE`.
    pub(in super::super) fn tsc_deadline(&self) -> u64 {
        self.timer.tsc
    }

    /// Sets it; 0 stops the timer.
    pub(in super::super) fn set_tsc_deadline(&mut self, tsc: u64, now: Moment, tsc_khz: u32) {
        if self.kind() != Kind::Tsc {
            return;
        }
        let ticks = u128::from(tsc.saturating_sub(now.tsc));
        let left = (ticks * 1_000_000).div_ceil(u128::from(tsc_khz.max(1)));
        let left = u64::try_from(left).unwrap_or(u64::MAX);
        self.timer =
            Timer { deadline: (tsc != 0).then(|| now.nanoseconds.saturating_add(left)), tsc };
    }

    /// Interrupts if the time has come; whether it has. Periods that nobody looked at are one.
    pub(in super::super) fn tick(&mut self, now: u64) -> bool {
        let Some(at) = self.timer.deadline.filter(|at| *at <= now) else { return false };
        let period = u64::from(self.page[reg::TIMER_INITIAL]) * self.step();
        self.timer = Timer::default();
        if self.kind() == Kind::Periodic && period != 0 {
            let missed = (now - at) / period;
            self.timer.deadline = at.checked_add((missed + 1).saturating_mul(period));
        }
        let entry = self.page[reg::LVT_TIMER];
        if entry & MASKED == 0 && self.is_enabled() {
            self.request(entry.to_le_bytes()[0], false);
        }
        true
    }
}

//! One counter of the PIT. What it shows is computed from when it began; nothing runs.

use hv::state::PitChannelState;

/// Ticks of a second.
const HZ: u128 = 1_193_182;
const SECOND: u128 = 1_000_000_000;

/// What [`PitChannelState::loaded_at`] is while nothing counts.
const NEVER: u64 = u64::MAX;

/// Modes, as the data sheet numbers them.
const TERMINAL_COUNT: u8 = 0;
const ONE_SHOT: u8 = 1;
const RATE: u8 = 2;
const SQUARE: u8 = 3;
const SOFTWARE_STROBE: u8 = 4;

/// Which bytes of the count are read and written.
const LOW: u8 = 1;
const HIGH: u8 = 2;
const BOTH: u8 = 3;

#[derive(Clone, Debug)]
pub(super) struct Channel(PitChannelState);

impl Channel {
    pub(super) fn new(gate: bool) -> Channel {
        Channel(PitChannelState {
            access: BOTH,
            mode: SQUARE,
            gate,
            loaded_at: NEVER,
            ..PitChannelState::default()
        })
    }

    pub(super) fn state(&self) -> PitChannelState {
        self.0
    }

    pub(super) fn restored(state: &PitChannelState) -> Channel {
        Channel(PitChannelState {
            count: state.count.min(0x10000),
            access: if matches!(state.access, LOW..=BOTH) { state.access } else { BOTH },
            mode: mode(state.mode),
            read_next: state.read_next & 1,
            ..*state
        })
    }

    /// Whether the gate holds the count, rather than begin it.
    fn is_held_by_gate(&self) -> bool {
        matches!(self.0.mode, TERMINAL_COUNT | RATE | SQUARE | SOFTWARE_STROBE)
    }

    fn repeats(&self) -> bool {
        matches!(self.0.mode, RATE | SQUARE)
    }

    /// The count it began with and the ticks since, if it counts.
    fn progress(&self, now: u64) -> Option<(u64, u64)> {
        if self.0.count == 0 || self.0.loaded_at == NEVER {
            return None;
        }
        let passed = self.0.stopped_at.unwrap_or(now).saturating_sub(self.0.loaded_at);
        let ticks = u64::try_from(u128::from(passed) * HZ / SECOND).unwrap_or(u64::MAX);
        Some((self.0.count.into(), ticks))
    }

    pub(super) fn output(&self, now: u64) -> bool {
        let Some((count, ticks)) = self.progress(now) else {
            return self.0.mode != TERMINAL_COUNT;
        };
        match self.0.mode {
            TERMINAL_COUNT | ONE_SHOT => ticks >= count,
            RATE => !self.0.gate || ticks % count != count - 1,
            SQUARE => !self.0.gate || ticks % count < count.div_ceil(2),
            _ => ticks != count,
        }
    }

    /// When the output rises next.
    pub(super) fn rises_after(&self, now: u64) -> Option<u64> {
        let (count, ticks) = self.progress(now)?;
        if self.0.stopped_at.is_some() {
            return None;
        }
        let at = match self.0.mode {
            TERMINAL_COUNT | ONE_SHOT => count,
            RATE | SQUARE => (ticks / count + 1).saturating_mul(count),
            // The strobe lasts one tick.
            _ => count + 1,
        };
        let passed = (u128::from(at) * SECOND).div_ceil(HZ);
        let at = self.0.loaded_at.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX));
        (at > now).then_some(at)
    }

    /// What a read of the counter shows.
    fn value(&self, now: u64) -> u16 {
        let Some((count, ticks)) = self.progress(now) else { return 0 };
        let modulus = if self.0.bcd { 10_000 } else { 0x10000 };
        let value = match self.0.mode {
            RATE => count - ticks % count,
            SQUARE => count - ticks.wrapping_mul(2) % count,
            _ => count + modulus - ticks % modulus,
        };
        let value = u16::try_from(value % modulus).unwrap_or(0);
        if self.0.bcd { to_decimal(value) } else { value }
    }

    pub(super) fn read(&mut self, now: u64) -> u8 {
        if let Some(status) = self.0.status.take() {
            return status;
        }
        let (value, next) = match self.0.latched {
            Some((value, next)) => (value, next),
            None => (self.value(now), self.0.read_next),
        };
        let [low, high] = value.to_le_bytes();
        let upper = match self.0.access {
            LOW => false,
            HIGH => true,
            _ => next != 0,
        };
        let more = self.0.access == BOTH && !upper;
        match self.0.latched {
            Some(_) => self.0.latched = more.then_some((value, 1)),
            None => self.0.read_next = more.into(),
        }
        if upper { high } else { low }
    }

    pub(super) fn write(&mut self, value: u8, now: u64) {
        match (self.0.access, self.0.write_low.take()) {
            (LOW, _) => self.load(value.into(), now),
            (HIGH, _) => self.load(u16::from(value) << 8, now),
            (_, None) => self.0.write_low = Some(value),
            (_, Some(low)) => self.load(u16::from_le_bytes([low, value]), now),
        }
    }

    /// A count has been written. In the repeating modes it is taken at once rather than at the end
    /// of the period, as KVM does it.
    fn load(&mut self, value: u16, now: u64) {
        self.0.count = match (value, self.0.bcd) {
            (0, true) => 10_000,
            (0, false) => 0x10000,
            (value, true) => from_decimal(value),
            (value, false) => value.into(),
        };
        if self.is_held_by_gate() {
            self.begin(now);
        }
    }

    fn begin(&mut self, now: u64) {
        self.0.loaded_at = now;
        self.0.stopped_at = (self.is_held_by_gate() && !self.0.gate).then_some(now);
    }

    pub(super) fn set_gate(&mut self, gate: bool, now: u64) {
        let was = std::mem::replace(&mut self.0.gate, gate);
        if was == gate {
            return;
        }
        let counts = self.0.count != 0;
        match (gate, self.is_held_by_gate()) {
            (true, true) if !self.repeats() => self.go_on(now),
            // A rising gate starts the others, and the repeating ones anew.
            (true, _) if counts => self.begin(now),
            (false, true) if counts => self.0.stopped_at = Some(now),
            _ => {}
        }
    }

    fn go_on(&mut self, now: u64) {
        if let Some(stopped) = self.0.stopped_at.take() {
            self.0.loaded_at = self.0.loaded_at.saturating_add(now.saturating_sub(stopped));
        }
    }

    /// A control word for this counter: a latch, or how it counts from now on.
    pub(super) fn control(&mut self, value: u8, now: u64) {
        let access = value >> 4 & 3;
        if access == 0 {
            return self.latch(now);
        }
        self.0 = PitChannelState {
            access,
            mode: mode(value >> 1 & 7),
            bcd: value & 1 != 0,
            gate: self.0.gate,
            loaded_at: NEVER,
            ..PitChannelState::default()
        };
    }

    fn latch(&mut self, now: u64) {
        if self.0.latched.is_none() {
            self.0.latched = Some((self.value(now), 0));
        }
    }

    pub(super) fn read_back(&mut self, count: bool, status: bool, now: u64) {
        if count {
            self.latch(now);
        }
        if status && self.0.status.is_none() {
            let output = u8::from(self.output(now)) << 7;
            // No count yet: what it would show is void.
            let void = u8::from(self.0.count == 0) << 6;
            let rest = self.0.access << 4 | self.0.mode << 1 | u8::from(self.0.bcd);
            self.0.status = Some(output | void | rest);
        }
    }
}

/// Six modes in three bits: the upper two count again.
fn mode(bits: u8) -> u8 {
    match bits & 7 {
        again @ (6 | 7) => again - 4,
        mode => mode,
    }
}

fn to_decimal(value: u16) -> u16 {
    let digit = |n: u32| value / 10u16.pow(n) % 10;
    (0..4).fold(0, |all, n| all | digit(n) << (4 * n))
}

fn from_decimal(value: u16) -> u32 {
    let digit = |n: u16| u32::from(value >> (4 * n) & 0xf);
    digit(0) + 10 * digit(1) + 100 * digit(2) + 1000 * digit(3)
}

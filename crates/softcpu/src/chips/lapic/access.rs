//! The local APIC's registers as the guest reads and writes them: words of a page (xAPIC) or MSRs
//! (x2APIC).
//!
//! Source: Intel SDM volume 3, tables 11-1 and 11-6.

use super::{
    super::message::{Message, Mode, To},
    ILLEGAL_REGISTER, Lapic, MASKED, Refused, SENT_ILLEGAL, SOFTWARE_ENABLED, VECTOR_MIN, VERSION,
    reg,
};

/// What a write means beyond the APIC itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Effect {
    Nothing,
    /// A message is to be delivered.
    Send(Message),
    /// A level-triggered interrupt with this vector has ended.
    Ended(u8),
}

/// First and last MSR of an x2APIC.
pub(in super::super) const MSR_FIRST: u32 = 0x800;

/// Reserved bits of the command register as an MSR; bit 12 says "busy" and is never set.
const COMMAND_RESERVED: u64 = 0xfff0_0000 | 3 << 16 | 1 << 13;

/// Which bits of an entry in the local vector table can be set.
const fn entry_bits(register: usize) -> u32 {
    match register {
        reg::LVT_TIMER => 0x0007_00ff,
        reg::LVT_LINT0 | reg::LVT_LINT1 => 0x0001_a7ff,
        reg::LVT_ERROR => 0x0001_00ff,
        _ => 0x0001_07ff,
    }
}

impl Lapic {
    /// Reads bytes of the page. What lies across words or beside them reads as zeros.
    pub(in super::super) fn read_page(&mut self, offset: u16, data: &mut [u8], now: u64) {
        data.fill(0);
        let (register, within) = (usize::from(offset >> 4), usize::from(offset & 0xf));
        let word = match self.read(register, now) {
            Some(word) => word.to_le_bytes(),
            None => return self.error(ILLEGAL_REGISTER),
        };
        if within + data.len() <= word.len() {
            data.copy_from_slice(&word[within..within + data.len()]);
        }
    }

    /// Writes a word of the page; anything but a whole word is nothing.
    pub(in super::super) fn write_page(&mut self, offset: u16, data: &[u8], now: u64) -> Effect {
        let (Ok(word), 0) = (<[u8; 4]>::try_from(data), offset & 0xf) else {
            return Effect::Nothing;
        };
        let (value, register) = (u32::from_le_bytes(word), usize::from(offset >> 4));
        match register {
            reg::ID | reg::VERSION | reg::ARBITRATION | reg::PROCESSOR_PRIORITY => Effect::Nothing,
            reg::LOGICAL => self.put(register, value & 0xff00_0000),
            reg::FORMAT => self.put(register, value | 0x0fff_ffff),
            reg::COMMAND_HIGH => self.put(register, value & 0xff00_0000),
            reg::COMMAND => self.command(value),
            _ => self.write(register, value, now),
        }
    }

    /// Reads an x2APIC's MSR, by its number above 0x800.
    ///
    /// # Errors
    /// [`Refused`], if there is none to read.
    pub(in super::super) fn read_msr(&self, register: usize, now: u64) -> Result<u64, Refused> {
        let illegal =
            [reg::ARBITRATION, reg::EOI, reg::REMOTE_READ, reg::FORMAT, reg::COMMAND_HIGH];
        if !self.is_x2() || illegal.contains(&register) {
            return Err(Refused);
        }
        let low = u64::from(self.read(register, now).ok_or(Refused)?);
        Ok(match register {
            reg::COMMAND => u64::from(self.page[reg::COMMAND_HIGH]) << 32 | low,
            _ => low,
        })
    }

    /// Writes an x2APIC's MSR.
    ///
    /// # Errors
    /// [`Refused`], if there is none to write, or reserved bits are set.
    pub(in super::super) fn write_msr(
        &mut self,
        register: usize,
        value: u64,
        now: u64,
    ) -> Result<Effect, Refused> {
        if !self.is_x2() {
            return Err(Refused);
        }
        if register == reg::COMMAND {
            return self.command_x2(value);
        }
        let word = u32::try_from(value).map_err(|_| Refused)?;
        let allowed = match register {
            reg::EOI | reg::ERRORS => 0,
            reg::TASK_PRIORITY | reg::SELF_IPI => 0xff,
            reg::SPURIOUS => 0x3ff,
            // Bit 12 can only be read; writing it back is no fault.
            reg::LVT_TIMER..=reg::LVT_ERROR => entry_bits(register) | 1 << 12 | 1 << 14,
            reg::TIMER_INITIAL => u32::MAX,
            reg::TIMER_DIVIDE => 0xb,
            _ => return Err(Refused),
        };
        if word & !allowed != 0 {
            return Err(Refused);
        }
        if register == reg::SELF_IPI {
            let [vector, ..] = word.to_le_bytes();
            return Ok(self.send(To::One(self.index.into()), Mode::Fixed, vector, false));
        }
        Ok(self.write(register, word, now))
    }

    fn read(&self, register: usize, now: u64) -> Option<u32> {
        Some(match register {
            reg::ID if self.is_x2() => self.id(),
            reg::ID => self.id() << 24,
            reg::VERSION => VERSION,
            reg::PROCESSOR_PRIORITY => self.processor_priority().into(),
            reg::ARBITRATION | reg::EOI | reg::REMOTE_READ => 0,
            reg::LOGICAL if self.is_x2() => self.logical_x2(),
            reg::TIMER_CURRENT => self.count(now),
            reg::TASK_PRIORITY
            | reg::LOGICAL..=reg::ERRORS
            | reg::COMMAND..=reg::TIMER_INITIAL
            | reg::TIMER_DIVIDE => self.page[register],
            _ => return None,
        })
    }

    fn write(&mut self, register: usize, value: u32, now: u64) -> Effect {
        match register {
            reg::TASK_PRIORITY => self.set_task_priority(value.to_le_bytes()[0]),
            reg::EOI => return self.end().map_or(Effect::Nothing, Effect::Ended),
            reg::SPURIOUS => self.set_spurious(value),
            reg::ERRORS => self.page[reg::ERRORS] = std::mem::take(&mut self.errors),
            reg::LVT_TIMER => self.set_timer_entry(self.entry(register, value)),
            reg::LVT_THERMAL..=reg::LVT_ERROR => self.page[register] = self.entry(register, value),
            reg::TIMER_INITIAL => self.set_count(value, now),
            reg::TIMER_DIVIDE => self.set_divide(value, now),
            reg::REMOTE_READ | reg::IN_SERVICE..=reg::REQUEST_LAST | reg::TIMER_CURRENT => {}
            _ => self.error(ILLEGAL_REGISTER),
        }
        Effect::Nothing
    }

    fn put(&mut self, register: usize, value: u32) -> Effect {
        self.page[register] = value;
        Effect::Nothing
    }

    /// An entry of the local vector table as it will be: one that is switched off stays masked.
    fn entry(&self, register: usize, value: u32) -> u32 {
        let off = self.page[reg::SPURIOUS] & SOFTWARE_ENABLED == 0;
        value & entry_bits(register) | if off { MASKED } else { 0 }
    }

    fn set_spurious(&mut self, value: u32) {
        self.page[reg::SPURIOUS] = value & 0x3ff;
        if value & SOFTWARE_ENABLED == 0 {
            for entry in &mut self.page[reg::LVT_TIMER..=reg::LVT_ERROR] {
                *entry |= MASKED;
            }
        }
    }

    fn command(&mut self, value: u32) -> Effect {
        self.page[reg::COMMAND] = value & !(1 << 12);
        let [.., destination] = self.page[reg::COMMAND_HIGH].to_le_bytes();
        self.send_command(To::short(destination, value & 1 << 11 != 0))
    }

    fn command_x2(&mut self, value: u64) -> Result<Effect, Refused> {
        if value & COMMAND_RESERVED != 0 {
            return Err(Refused);
        }
        let [low, high] = halves(value);
        (self.page[reg::COMMAND], self.page[reg::COMMAND_HIGH]) = (low & !(1 << 12), high);
        Ok(self.send_command(To::long(high, low & 1 << 11 != 0)))
    }

    /// Source: Intel SDM volume 3, 11.6.1.
    fn send_command(&mut self, to: To) -> Effect {
        let value = self.page[reg::COMMAND];
        let me = usize::from(self.index);
        let to = match value >> 18 & 3 {
            0 => to,
            1 => To::One(me),
            2 => To::All,
            _ => To::Others(me),
        };
        let mode = Mode::from_bits(u64::from(value >> 8));
        let (asserted, level) = (value & 1 << 14 != 0, value & 1 << 15 != 0);
        if mode == Mode::Init && level && !asserted {
            // "Level de-assert" gave old APICs their arbitration numbers back.
            return Effect::Nothing;
        }
        self.send(to, mode, value.to_le_bytes()[0], false)
    }

    fn send(&mut self, to: To, mode: Mode, vector: u8, level: bool) -> Effect {
        let fixed = matches!(mode, Mode::Fixed | Mode::LowestPriority);
        if fixed && vector < VECTOR_MIN {
            self.error(SENT_ILLEGAL);
            return Effect::Nothing;
        }
        Effect::Send(Message { to, mode, vector, level })
    }
}

fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

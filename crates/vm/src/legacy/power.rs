//! Power management of ACPI: events, sleep, the timer.
//!
//! ```text
//! 0 status   2 enable   4 control   8 timer   12 status and 13 enable of general events
//! ```
//!
//! There is one general event: the machine is a copy, and its generation another.
//!
//! Source: ACPI 6.5, 4.8.

use serde::{Deserialize, Serialize};

/// The sleep type that means "off": the DSDT says so in `_S5`.
pub const SOFT_OFF: u8 = 5;

/// Event: the power button was pressed.
const BUTTON: u16 = 1 << 8;

/// Control: interrupts go to the operating system, as always here; sleep now.
const SCI: u16 = 1;
const SLEEP: u16 = 1 << 13;

/// The general event, number 0: the machine is a copy.
const COPIED: u8 = 1 << 0;

/// Ticks of the timer in a second.
const FREQUENCY: u128 = 3_579_545;

/// The registers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Power {
    status: u16,
    enable: u16,
    control: u16,
    general_status: u8,
    general_enable: u8,
}

impl Power {
    /// The guest reads a byte; the time is that of the machine's clock, in nanoseconds.
    pub fn read(&self, offset: u8, nanoseconds: u64) -> u8 {
        let ticks = u128::from(nanoseconds) * FREQUENCY / 1_000_000_000;
        let of = |word: u16| word.to_le_bytes()[usize::from(offset & 1)];
        match offset {
            0 | 1 => of(self.status),
            2 | 3 => of(self.enable),
            4 | 5 => of(self.control | SCI),
            12 => self.general_status,
            13 => self.general_enable,
            8..=11 => ticks.to_le_bytes()[usize::from(offset - 8)],
            _ => 0,
        }
    }

    /// The guest writes a byte; gives whether the machine is to be switched off.
    pub fn write(&mut self, offset: u8, value: u8) -> bool {
        let shift = 8 * (offset & 1);
        let (byte, value, rest) = (value, u16::from(value) << shift, !(0xff << shift));
        match offset {
            // Ones take events away.
            0 | 1 => self.status &= !value,
            2 | 3 => self.enable = self.enable & rest | value,
            4 | 5 => {
                self.control = self.control & rest | value & !SLEEP;
                let kind = self.control >> 10 & 7;
                return value & SLEEP != 0 && kind == u16::from(SOFT_OFF);
            }
            12 => self.general_status &= !byte,
            13 => self.general_enable = byte & COPIED,
            _ => {}
        }
        false
    }

    /// Somebody presses the button.
    pub fn press(&mut self) {
        self.status |= BUTTON;
    }

    /// The machine goes on as a copy.
    pub fn copied(&mut self) {
        self.general_status |= COPIED;
    }

    /// Whether its interrupt line is raised.
    pub fn line(&self) -> bool {
        self.status & self.enable != 0 || self.general_status & self.general_enable != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_button_is_heard_by_who_listens_until_it_is_taken_away() {
        let mut power = Power::default();
        power.press();
        assert!(!power.line());
        power.write(3, 1);
        assert!(power.line());
        assert_eq!((power.read(0, 0), power.read(1, 0)), (0, 1));
        power.write(0, 0xff);
        assert!(power.line());
        power.write(1, 1);
        assert!(!power.line());
    }

    #[test]
    fn a_copy_is_told_once_it_listens() {
        let mut power = Power::default();
        power.write(13, 0xff);
        assert_eq!((power.read(12, 0), power.read(13, 0)), (0, 1), "there is one event");
        power.copied();
        assert!(power.line());
        power.write(13, 0);
        assert!(!power.line());
        power.write(13, 1);
        power.write(12, 2);
        assert!(power.line());
        power.write(12, 1);
        assert_eq!((power.line(), power.read(12, 0)), (false, 0));
    }

    #[test]
    fn only_soft_off_is_a_sleep() {
        let mut power = Power::default();
        assert_eq!(power.read(4, 0), 1, "always in ACPI mode");
        assert!(!power.write(5, SOFT_OFF << 2));
        assert!(!power.write(5, 1 << 5 | 1 << 2));
        assert!(power.write(5, 1 << 5 | SOFT_OFF << 2));
        assert_eq!(power.read(5, 0), SOFT_OFF << 2, "nobody reads that it sleeps");
    }

    #[test]
    fn the_timer_runs_with_the_machine() {
        let power = Power::default();
        let ticks = |nanoseconds| {
            u32::from_le_bytes(std::array::from_fn(|n| {
                power.read(8 + u8::try_from(n).unwrap(), nanoseconds)
            }))
        };
        assert_eq!((ticks(0), ticks(1_000_000_000)), (0, 3_579_545));
        assert_eq!(u64::from(ticks(1200 * 1_000_000_000)), 1200 * 3_579_545 % (1 << 32));
    }
}

//! The clock of a PC with its 128 bytes of memory: MC146818.
//!
//! It shows the host's time in UTC. What is written to its time is forgotten; there are no alarms
//! and no other interrupts.
//!
//! Source: Motorola MC146818A data sheet.

use serde::{Deserialize, Serialize};

use super::CENTURY;

/// Registers.
const SECONDS: u8 = 0;
const MINUTES: u8 = 2;
const HOURS: u8 = 4;
const WEEKDAY: u8 = 6;
const DAY: u8 = 7;
const MONTH: u8 = 8;
const YEAR: u8 = 9;
const A: u8 = 10;
const B: u8 = 11;
const C: u8 = 12;
const D: u8 = 13;

/// Register A: a crystal of 32,768 Hz, and 1,024 interrupts in a second.
const A_VALUE: u8 = 0x26;

/// Register B: 24 hours; binary instead of decimal digits.
const HOURS_24: u8 = 1 << 1;
const BINARY: u8 = 1 << 2;

/// Register D: the battery is good.
const D_VALUE: u8 = 1 << 7;

/// An afternoon's hour, where there are twelve.
const AFTERNOON: u8 = 1 << 7;

/// The clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    index: u8,
    memory: Vec<u8>,
}

impl Default for Clock {
    fn default() -> Clock {
        let mut memory = vec![0; 128];
        memory[usize::from(A)] = A_VALUE;
        memory[usize::from(B)] = HOURS_24;
        Clock { index: 0, memory }
    }
}

impl Clock {
    /// The guest reads port 0 (which register) or 1 (the register); the time is in seconds since
    /// 1970.
    pub fn read(&self, port: u8, now: u64) -> u8 {
        if port == 0 {
            return self.index;
        }
        let time = Civil::of(now);
        match self.index {
            SECONDS => self.digits(time.second),
            MINUTES => self.digits(time.minute),
            HOURS => self.hours(time.hour),
            WEEKDAY => self.digits(time.weekday),
            DAY => self.digits(time.day),
            MONTH => self.digits(time.month),
            YEAR => self.digits(time.year),
            CENTURY => self.digits(time.century),
            C => 0,
            D => D_VALUE,
            other => self.memory.get(usize::from(other)).copied().unwrap_or(0),
        }
    }

    /// The guest writes.
    pub fn write(&mut self, port: u8, value: u8) {
        if port == 0 {
            // The uppermost bit masks NMIs, of which there are none.
            self.index = value & 0x7f;
        } else if let Some(byte) = self.memory.get_mut(usize::from(self.index)) {
            *byte = if self.index == A { value & 0x7f } else { value };
        }
    }

    fn mode(&self, bit: u8) -> bool {
        self.memory.get(usize::from(B)).is_some_and(|b| b & bit != 0)
    }

    fn digits(&self, value: u8) -> u8 {
        if self.mode(BINARY) { value } else { (value / 10) << 4 | (value % 10) }
    }

    fn hours(&self, hour: u8) -> u8 {
        if self.mode(HOURS_24) {
            return self.digits(hour);
        }
        let afternoon = if hour >= 12 { AFTERNOON } else { 0 };
        self.digits((hour + 11) % 12 + 1) | afternoon
    }
}

/// A moment in the calendar.
struct Civil {
    century: u8,
    year: u8,
    month: u8,
    day: u8,
    weekday: u8,
    hour: u8,
    minute: u8,
    second: u8,
}

impl Civil {
    /// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
    fn of(now: u64) -> Civil {
        let (days, second) = (now / 86_400, now % 86_400);
        // Years begin in March here, and eras of 400 years in the year 0.
        let days_0 = days + 719_468;
        let (era, day) = (days_0 / 146_097, days_0 % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let in_month = day - (153 * month + 2) / 5 + 1;
        let (month, late) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        let year = era * 400 + year + late;
        let small = |value: u64| u8::try_from(value % 100).expect("it is below 100");
        Civil {
            century: small(year / 100),
            year: small(year),
            month: small(month),
            day: small(in_month),
            // 1970 began on a Thursday, the fifth day of a week.
            weekday: small((days + 4) % 7 + 1),
            hour: small(second / 3600),
            minute: small(second / 60 % 60),
            second: small(second % 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(clock: &mut Clock, register: u8, now: u64) -> u8 {
        clock.write(0, register);
        clock.read(1, now)
    }

    fn date(now: u64) -> [u8; 8] {
        let mut clock = Clock::default();
        [CENTURY, YEAR, MONTH, DAY, WEEKDAY, HOURS, MINUTES, SECONDS]
            .map(|register| read(&mut clock, register, now))
    }

    #[test]
    fn it_shows_the_time_in_decimal_digits() {
        assert_eq!(date(0), [0x19, 0x70, 1, 1, 5, 0, 0, 0]);
        // 2000-02-29 23:59:58, a Tuesday.
        assert_eq!(date(951_868_798), [0x20, 0, 2, 0x29, 3, 0x23, 0x59, 0x58]);
        // 2026-11-21 13:05:09, a Saturday.
        assert_eq!(date(1_795_266_309), [0x20, 0x26, 0x11, 0x21, 7, 0x13, 5, 9]);
    }

    #[test]
    fn a_kernel_chooses_how_hours_are_counted() {
        let mut clock = Clock::default();
        clock.write(0, B);
        clock.write(1, BINARY);
        for (hour, shown) in [(0, 12), (1, 1), (12, 12 | 0x80), (23, 11 | 0x80)] {
            assert_eq!(read(&mut clock, HOURS, hour * 3600), shown);
        }
    }

    #[test]
    fn its_memory_keeps_what_is_no_time() {
        let mut clock = Clock::default();
        clock.write(0, 0x80 | 0x40);
        clock.write(1, 77);
        assert_eq!(read(&mut clock, 0x40, 0), 77);
        clock.write(0, SECONDS);
        clock.write(1, 33);
        assert_eq!(read(&mut clock, SECONDS, 5), 5);
        assert_eq!(read(&mut clock, A, 0) & 0x80, 0, "never in the middle of an update");
        assert_eq!(read(&mut clock, D, 0), 0x80);
    }
}

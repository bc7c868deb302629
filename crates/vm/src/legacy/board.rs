//! All of them at their ports.
//!
//! An access of several bytes is one for each port, as on the bus that these devices are from; a
//! port that nobody answers at reads all ones.

use serde::{Deserialize, Serialize};

use super::{Clock, Keyboard, Power, Serial};
use crate::layout;

/// The devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Board {
    /// COM1.
    pub serial: Serial,
    /// The clock.
    pub clock: Clock,
    /// The keyboard controller.
    pub keyboard: Keyboard,
    /// Power management.
    pub power: Power,
}

/// What time it is, for an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Seconds since 1970.
    pub unix: u64,
    /// Nanoseconds of the machine's own clock.
    pub machine: u64,
}

/// What an access does beyond the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The guest switches the machine off.
    PowerOff,
    /// The guest resets the machine.
    Reset,
    /// The guest says that it panicked.
    Panicked,
}

/// Events of the panic device: the guest panicked; it did, and boots another kernel to save what
/// it knows, which is its own affair.
///
/// Source: QEMU `docs/specs/pvpanic.rst`.
const PANICKED: u8 = 1;
const CRASH_LOADED: u8 = 2;

/// A device with the register within it that answers at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answers {
    Serial(u8),
    Clock(u8),
    KeyboardData,
    KeyboardCommand,
    Power(u8),
    Panic,
    Reset,
}

/// Who answers at a port.
fn who(port: u16) -> Option<Answers> {
    let within = |first: u16, count: u8| {
        let offset = u8::try_from(port.checked_sub(first)?).ok()?;
        (offset < count).then_some(offset)
    };
    match port {
        layout::KEYBOARD_DATA_PORT => Some(Answers::KeyboardData),
        layout::KEYBOARD_COMMAND_PORT => Some(Answers::KeyboardCommand),
        layout::PANIC_PORT => Some(Answers::Panic),
        layout::RESET_PORT => Some(Answers::Reset),
        _ => within(layout::SERIAL_PORT, 8)
            .map(Answers::Serial)
            .or_else(|| within(layout::RTC_PORT, 2).map(Answers::Clock))
            .or_else(|| within(layout::PM_PORT, layout::PM_PORTS).map(Answers::Power)),
    }
}

impl Board {
    /// Whether what is read from these ports depends on the time.
    pub fn tells_time(port: u16, bytes: usize) -> bool {
        (port..=u16::MAX)
            .take(bytes)
            .any(|port| matches!(who(port), Some(Answers::Clock(_) | Answers::Power(_))))
    }

    /// The guest reads from ports.
    pub fn read(&mut self, port: u16, data: &mut [u8], now: Now) {
        let mut ports = port..=u16::MAX;
        for byte in data {
            *byte = ports.next().and_then(who).map_or(0xff, |answers| self.byte(answers, now));
        }
    }

    fn byte(&mut self, answers: Answers, now: Now) -> u8 {
        match answers {
            Answers::Serial(register) => self.serial.read(register),
            Answers::Clock(port) => self.clock.read(port, now.unix),
            Answers::KeyboardData => self.keyboard.read_data(),
            Answers::KeyboardCommand => self.keyboard.status(),
            Answers::Power(offset) => self.power.read(offset, now.machine),
            Answers::Panic => PANICKED | CRASH_LOADED,
            Answers::Reset => 0,
        }
    }

    /// The guest writes to ports.
    pub fn write(&mut self, port: u16, data: &[u8]) -> Option<Effect> {
        let mut effect = None;
        for (port, byte) in (port..=u16::MAX).zip(data) {
            let Some(answers) = who(port) else { continue };
            // A wider write that covers the reset port is meant for PCI's configuration.
            if answers == Answers::Reset && data.len() > 1 {
                continue;
            }
            effect = self.write_byte(answers, *byte).or(effect);
        }
        effect
    }

    fn write_byte(&mut self, answers: Answers, byte: u8) -> Option<Effect> {
        match answers {
            Answers::Serial(register) => {
                self.serial.write(register, byte);
                None
            }
            Answers::Clock(port) => {
                self.clock.write(port, byte);
                None
            }
            Answers::KeyboardData => {
                self.keyboard.write_data(byte);
                None
            }
            Answers::KeyboardCommand => self.keyboard.command(byte).then_some(Effect::Reset),
            Answers::Power(offset) => self.power.write(offset, byte).then_some(Effect::PowerOff),
            Answers::Panic => (byte & PANICKED != 0).then_some(Effect::Panicked),
            // Bit 2 is the one that resets; the others say how much of the machine.
            Answers::Reset => (byte & 1 << 2 != 0).then_some(Effect::Reset),
        }
    }

    /// Which interrupt lines are raised, and which of all are its own.
    pub fn lines(&self) -> [(u32, bool); 3] {
        [
            (layout::SERIAL_LINE, self.serial.line()),
            (layout::KEYBOARD_LINE, self.keyboard.line()),
            (layout::PM_LINE, self.power.line()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Now = Now { unix: 0, machine: 0 };

    fn read<const N: usize>(board: &mut Board, port: u16) -> [u8; N] {
        let mut data = [0; N];
        board.read(port, &mut data, NOW);
        data
    }

    #[test]
    fn nobody_answers_with_all_ones() {
        let mut board = Board::default();
        assert_eq!(read(&mut board, 0xcf8), [0xff, 0, 0xff, 0xff]);
        assert_eq!(read(&mut board, 0x1234), [0xff; 2]);
        assert_eq!(read(&mut board, 0xffff), [0xff; 4]);
        assert_eq!(read(&mut board, 0x6f), [0xff, 0], "half an access");
        assert_eq!(board.write(0xfffe, &[1, 2, 3, 4]), None);
    }

    #[test]
    fn each_way_out_is_seen() {
        let mut board = Board::default();
        for (port, data, effect) in [
            (0x64, &[0xfe][..], Some(Effect::Reset)),
            (0xcf9, &[0x06], Some(Effect::Reset)),
            (0xcf9, &[0x02], None),
            (0xcf8, &[0, 6, 0, 0x80], None),
            (0x604, &[0, 0x34], Some(Effect::PowerOff)),
            (0x605, &[0x34], Some(Effect::PowerOff)),
            (0x505, &[1], Some(Effect::Panicked)),
            (0x505, &[2], None),
        ] {
            assert_eq!(board.write(port, data), effect, "{port:#x} {data:x?}");
        }
    }

    #[test]
    fn a_board_goes_on_where_it_was_saved() {
        let mut board = Board::default();
        board.write(0x3f9, &[0x0f]);
        board.write(0x3fc, &[0x0b]);
        board.write(0x3f8, b"a");
        board.serial.input(b"b");
        board.power.press();
        let saved = serde_json::to_string(&board).unwrap();
        assert_eq!(serde_json::from_str::<Board>(&saved).unwrap(), board);
    }

    proptest! {
        #[test]
        fn no_access_hurts(
            accesses in prop::collection::vec((any::<u16>(), any::<[u8; 4]>(), 1usize..=4, any::<bool>()), 0..200),
            near in prop::sample::select(vec![0x3f8u16, 0x70, 0x60, 0x600, 0x505, 0xcf9]),
        ) {
            let mut board = Board::default();
            for (port, mut data, bytes, write) in accesses {
                let port = near.wrapping_add(port % 16).wrapping_sub(4);
                if write {
                    board.write(port, &data[..bytes]);
                } else {
                    board.read(port, &mut data[..bytes], Now { unix: u64::from(port), machine: u64::MAX });
                }
                board.lines();
            }
            board.clock.read(1, u64::MAX / 2);
        }
    }
}

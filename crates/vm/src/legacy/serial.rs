//! A serial port: 16550A, as fast as the host takes what it sends.
//!
//! What the guest sends goes to a buffer, the wire, that the host empties; when that is full, the
//! transmitter is not empty, and the guest waits as for a slow modem. What comes in is taken only
//! as far as the receiver's FIFO has room.
//!
//! Source: National Semiconductor PC16550D data sheet.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Bytes of each FIFO.
const FIFO: usize = 16;

/// Most bytes on the wire.
const WIRE_MAX: usize = 4096;

/// Interrupt enable: data, transmitter empty, line status, modem status.
const ENABLE_DATA: u8 = 1;
const ENABLE_EMPTY: u8 = 1 << 1;
const ENABLE_LINE: u8 = 1 << 2;
const ENABLE_ALL: u8 = 0xf;

/// Interrupt identification.
const NOTHING: u8 = 0b0001;
const LINE_STATUS: u8 = 0b0110;
const DATA: u8 = 0b0100;
const DATA_TIMEOUT: u8 = 0b1100;
const EMPTY: u8 = 0b0010;
const FIFO_ON: u8 = 0b1100_0000;

/// Line control: the divisor is at the first two registers.
const DIVISOR: u8 = 1 << 7;

/// Modem control: auxiliary output 2 lets interrupts out on a PC; loop.
const OUTPUT_2: u8 = 1 << 3;
const LOOP: u8 = 1 << 4;
const CONTROL_ALL: u8 = 0x1f;

/// Line status.
const HAS_DATA: u8 = 1;
const OVERRUN: u8 = 1 << 1;
const TRANSMITTER_EMPTY: u8 = 1 << 5 | 1 << 6;

/// Modem status: carrier, set ready, clear to send.
const CONNECTED: u8 = 1 << 7 | 1 << 5 | 1 << 4;

/// The port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serial {
    divisor: u16,
    enable: u8,
    fifo: u8,
    line_control: u8,
    modem_control: u8,
    scratch: u8,
    overrun: bool,
    empty_pending: bool,
    received: VecDeque<u8>,
    wire: VecDeque<u8>,
}

impl Serial {
    /// The guest reads one of the eight registers.
    pub fn read(&mut self, register: u8) -> u8 {
        let [low, high] = self.divisor.to_le_bytes();
        let divisor = self.line_control & DIVISOR != 0;
        match register & 7 {
            0 if divisor => low,
            1 if divisor => high,
            0 => self.received.pop_front().unwrap_or(0),
            1 => self.enable,
            2 => self.identify(),
            3 => self.line_control,
            4 => self.modem_control,
            5 => {
                let status = self.line_status();
                self.overrun = false;
                status
            }
            6 => self.modem_status(),
            _ => self.scratch,
        }
    }

    /// The guest writes one of them.
    pub fn write(&mut self, register: u8, value: u8) {
        let [low, high] = self.divisor.to_le_bytes();
        let divisor = self.line_control & DIVISOR != 0;
        match register & 7 {
            0 if divisor => self.divisor = u16::from_le_bytes([value, high]),
            1 if divisor => self.divisor = u16::from_le_bytes([low, value]),
            0 => self.send(value),
            1 => {
                let switched_on = value & !self.enable & ENABLE_EMPTY != 0;
                self.enable = value & ENABLE_ALL;
                self.empty_pending |= switched_on && self.has_room();
            }
            2 => {
                self.fifo = value & 0xc9;
                if value & 0b10 != 0 {
                    self.received.clear();
                }
            }
            3 => self.line_control = value,
            4 => self.modem_control = value & CONTROL_ALL,
            5 | 6 => {}
            _ => self.scratch = value,
        }
    }

    fn send(&mut self, byte: u8) {
        self.empty_pending = false;
        if self.modem_control & LOOP != 0 {
            self.receive(byte);
        } else if self.wire.len() < WIRE_MAX {
            self.wire.push_back(byte);
        }
        self.empty_pending |= self.has_room();
    }

    fn receive(&mut self, byte: u8) {
        if self.received.len() < self.depth() {
            self.received.push_back(byte);
        } else {
            self.overrun = true;
        }
    }

    /// How many bytes the receiver holds.
    fn depth(&self) -> usize {
        if self.fifo & 1 != 0 { FIFO } else { 1 }
    }

    /// Whether all of what a driver sends at once fits on the wire.
    fn has_room(&self) -> bool {
        self.wire.len() + FIFO <= WIRE_MAX
    }

    fn line_status(&self) -> u8 {
        let data = if self.received.is_empty() { 0 } else { HAS_DATA };
        let overrun = if self.overrun { OVERRUN } else { 0 };
        let empty = if self.has_room() { TRANSMITTER_EMPTY } else { 0 };
        data | overrun | empty
    }

    fn modem_status(&self) -> u8 {
        if self.modem_control & LOOP == 0 {
            return CONNECTED;
        }
        // Terminal ready, request to send, outputs 1 and 2 come back as the four inputs.
        let bit = |from: u8, to: u8| (self.modem_control >> from & 1) << to;
        bit(0, 5) | bit(1, 4) | bit(2, 6) | bit(3, 7)
    }

    /// Which interrupt is first, as its identification.
    fn cause(&self) -> u8 {
        let trigger = match self.fifo >> 6 {
            _ if self.fifo & 1 == 0 => 1,
            0 => 1,
            1 => 4,
            2 => 8,
            _ => 14,
        };
        if self.enable & ENABLE_LINE != 0 && self.overrun {
            LINE_STATUS
        } else if self.enable & ENABLE_DATA != 0 && !self.received.is_empty() {
            // Fewer bytes than asked for come with the time-out, which here takes no time.
            if self.received.len() >= trigger { DATA } else { DATA_TIMEOUT }
        } else if self.enable & ENABLE_EMPTY != 0 && self.empty_pending {
            EMPTY
        } else {
            NOTHING
        }
    }

    fn identify(&mut self) -> u8 {
        let cause = self.cause();
        if cause == EMPTY {
            self.empty_pending = false;
        }
        cause | if self.fifo & 1 != 0 { FIFO_ON } else { 0 }
    }

    /// Whether its interrupt line is raised.
    pub fn line(&self) -> bool {
        self.modem_control & OUTPUT_2 != 0 && self.cause() != NOTHING
    }

    /// How many bytes it would take.
    pub fn room(&self) -> usize {
        if self.modem_control & LOOP != 0 {
            return 0;
        }
        self.depth().saturating_sub(self.received.len())
    }

    /// Bytes come in; those beyond [`Serial::room`] are lost.
    pub fn input(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.receive(*byte));
    }

    /// What the guest has sent and the host has not taken.
    pub fn wire(&self) -> &VecDeque<u8> {
        &self.wire
    }

    /// The host has taken so many bytes from the wire.
    pub fn sent(&mut self, bytes: usize) {
        let waited = !self.has_room();
        self.wire.drain(..bytes.min(self.wire.len()));
        self.empty_pending |= waited && self.has_room();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(serial: &mut Serial) -> Vec<u8> {
        let bytes: Vec<u8> = serial.wire().iter().copied().collect();
        serial.sent(bytes.len());
        bytes
    }

    /// A driver's set-up: FIFOs on with a trigger of 8, interrupts let out.
    fn ready(enable: u8) -> Serial {
        let mut serial = Serial::default();
        serial.write(2, 0x87);
        serial.write(4, 0x0b);
        serial.write(1, enable);
        serial
    }

    #[test]
    fn a_driver_takes_it_for_a_16550a() {
        let mut serial = Serial::default();
        serial.write(1, 0xff);
        assert_eq!(serial.read(1), 0x0f);
        serial.write(4, 0x1a);
        assert_eq!(serial.read(6) & 0xf0, 0x90, "the loop of Linux's probe");
        serial.write(4, 0);
        serial.write(2, 1);
        assert_eq!(serial.read(2) & 0xe0, 0xc0);
        serial.write(3, 0x83);
        serial.write(0, 0x34);
        serial.write(1, 0x12);
        assert_eq!((serial.read(0), serial.read(1)), (0x34, 0x12));
        serial.write(3, 3);
        serial.write(7, 0x5a);
        assert_eq!((serial.read(7), serial.read(3)), (0x5a, 3));
    }

    #[test]
    fn what_is_sent_is_on_the_wire_and_said_to_be_gone() {
        let mut serial = ready(ENABLE_EMPTY);
        assert!(serial.line(), "an empty transmitter tells who asks");
        assert_eq!(serial.read(2), 0xc2);
        assert!(!serial.line(), "it was told");
        b"hi\n".iter().for_each(|byte| serial.write(0, *byte));
        assert!(serial.line());
        assert_eq!(sent(&mut serial), b"hi\n");
        assert_eq!(serial.read(5), 0x60);
    }

    #[test]
    fn a_full_wire_makes_the_guest_wait_and_loses_nothing() {
        let mut serial = ready(ENABLE_EMPTY);
        let mut count = 0;
        while serial.read(5) & 0x20 != 0 {
            for _ in 0..FIFO {
                serial.write(0, b'x');
                count += 1;
            }
        }
        assert_eq!(serial.wire().len(), count);
        serial.read(2);
        assert!(!serial.line());
        serial.sent(count / 2);
        assert!(serial.line(), "there is room again");
        assert_eq!(serial.read(2), 0xc2);
        for _ in 0..2 * WIRE_MAX {
            serial.write(0, b'y');
        }
        assert_eq!(serial.wire().len(), WIRE_MAX, "a guest that does not wait fills no memory");
    }

    #[test]
    fn what_comes_in_waits_for_room() {
        let mut serial = ready(ENABLE_DATA | ENABLE_LINE);
        assert_eq!(serial.room(), 16);
        serial.input(b"abc");
        assert!(serial.line());
        assert_eq!(serial.read(2), 0xcc, "fewer than eight: the time-out");
        serial.input(&[b'd'; 13]);
        assert_eq!((serial.room(), serial.read(2)), (0, 0xc4));
        serial.input(b"lost");
        assert_eq!((serial.read(2), serial.read(5)), (0xc6, 0x63));
        let all: Vec<u8> = (0..16).map(|_| serial.read(0)).collect();
        assert_eq!(&all, b"abcddddddddddddd");
        assert!(!serial.line());
        assert_eq!(serial.read(5), 0x60);
    }

    #[test]
    fn no_line_is_raised_that_is_not_let_out() {
        let mut serial = ready(ENABLE_DATA);
        serial.write(4, 0);
        serial.input(b"a");
        assert!(!serial.line());
        serial.write(4, 8);
        assert!(serial.line());
    }
}

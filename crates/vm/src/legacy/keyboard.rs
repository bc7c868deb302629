//! The keyboard controller of a PC, without keyboard and mouse: i8042.
//!
//! There for kernels that look for one without being told by ACPI, and for those that reset the
//! machine by its command. Everything that a probe asks is answered at once, so that no kernel
//! waits for a device that is not there.
//!
//! Source: Intel 8042 data sheet; Linux `drivers/input/serio/i8042.c` for what is asked.

use serde::{Deserialize, Serialize};

/// Status: there is a byte to be read; the system passed its test; not locked; nobody answered.
const FULL: u8 = 1;
const TESTED: u8 = 1 << 2;
const UNLOCKED: u8 = 1 << 4;
const TIMEOUT: u8 = 1 << 6;

/// The command byte's bit for interrupts of the keyboard.
const INTERRUPT: u8 = 1;

/// What a controller says in a keyboard's place if none answers.
const RESEND: u8 = 0xfe;

/// The controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyboard {
    command_byte: u8,
    /// A command that waits for its parameter.
    command: Option<u8>,
    answer: Option<u8>,
    timeout: bool,
}

impl Keyboard {
    /// The guest reads the data port.
    pub fn read_data(&mut self) -> u8 {
        self.timeout = false;
        self.answer.take().unwrap_or(0)
    }

    /// The guest reads the status.
    pub fn status(&self) -> u8 {
        let full = if self.answer.is_some() { FULL } else { 0 };
        let timeout = if self.timeout { TIMEOUT } else { 0 };
        full | timeout | TESTED | UNLOCKED
    }

    /// The guest writes to the data port.
    pub fn write_data(&mut self, value: u8) {
        match self.command.take() {
            Some(0x60) => self.command_byte = value,
            // The loop through the mouse's port does not come back as it went: there is no mouse.
            Some(0xd3) => self.answer = Some(!value),
            // Output port; what a keyboard would have said.
            Some(0xd1) => {}
            Some(0xd2) => self.answer = Some(value),
            _ => {
                self.answer = Some(RESEND);
                self.timeout = true;
            }
        }
    }

    /// The guest gives a command; gives whether it is the one to reset the machine.
    pub fn command(&mut self, value: u8) -> bool {
        self.command = None;
        match value {
            0x20 => self.answer = Some(self.command_byte),
            0x60 | 0xd1..=0xd4 => self.command = Some(value),
            // Self-test: passed. The mouse's port: its clock is stuck. The keyboard's: all is well.
            0xaa => self.answer = Some(0x55),
            0xa9 => self.answer = Some(1),
            0xab => self.answer = Some(0),
            // Keyboard off and on.
            0xad => self.command_byte |= 1 << 4,
            0xae => self.command_byte &= !(1 << 4),
            // Pulses on the output port's lowest bit, which is the processor's reset.
            0xf0..=0xff => return value & 1 == 0,
            _ => {}
        }
        false
    }

    /// Whether its interrupt line is raised.
    pub fn line(&self) -> bool {
        self.command_byte & INTERRUPT != 0 && self.answer.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_gets_its_answers_at_once() {
        let mut keyboard = Keyboard::default();
        assert_eq!(keyboard.status() & FULL, 0);
        for (command, answer) in [(0xaa, 0x55), (0xab, 0), (0xa9, 1), (0x20, 0)] {
            assert!(!keyboard.command(command));
            assert_eq!((keyboard.status() & FULL, keyboard.read_data()), (FULL, answer));
        }
        keyboard.command(0xd3);
        keyboard.write_data(0x5a);
        assert_ne!(keyboard.read_data(), 0x5a, "no mouse");
    }

    #[test]
    fn no_keyboard_answers() {
        let mut keyboard = Keyboard::default();
        keyboard.command(0x60);
        keyboard.write_data(1);
        assert!(!keyboard.line());
        keyboard.write_data(0xf2);
        assert!(keyboard.line());
        assert_eq!(keyboard.status(), FULL | TIMEOUT | TESTED | UNLOCKED);
        assert_eq!(keyboard.read_data(), RESEND);
        assert!(!keyboard.line() && keyboard.status() & TIMEOUT == 0);
    }

    #[test]
    fn one_command_resets_the_machine() {
        let mut keyboard = Keyboard::default();
        assert!(keyboard.command(0xfe));
        assert!(!keyboard.command(0xff));
        assert!(!keyboard.command(0xd1));
    }
}

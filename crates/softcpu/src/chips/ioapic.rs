//! The I/O APIC: 24 lines of devices, each with an entry that says which message it sends.
//!
//! A line that is edge-triggered sends when it rises; one that is level-triggered sends while it is
//! raised, and again when its end was told and it still is.
//!
//! Source: Intel 82093AA data sheet, 3.0 to 3.2.

use hv::state::IoApicState;

use super::{
    lapic::Lapic,
    message::{Message, Mode, Set, To},
};

/// Where it is.
pub(super) const ADDRESS: u64 = 0xfec0_0000;
/// How many bytes answer there.
pub(super) const BYTES: u64 = 0x1000;

/// How many lines.
pub(super) const LINES: usize = 24;

/// Version 0x11 (ends are told by local APICs only), and the last entry.
const VERSION: u32 = 0x11 | 23 << 16;

/// Bits of an entry.
const LOGICAL: u64 = 1 << 11;
const REMOTE: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
/// Those that the guest can set: vector, mode, destination mode, polarity, trigger, mask;
/// destination.
const WRITABLE: u64 = 0xff << 56 | 0x1_afff;

#[derive(Clone, Debug)]
pub(super) struct IoApic(IoApicState);

impl IoApic {
    pub(super) fn new() -> IoApic {
        IoApic(IoApicState { entries: [MASKED; LINES], ..IoApicState::default() })
    }

    pub(super) fn state(&self) -> &IoApicState {
        &self.0
    }

    pub(super) fn restore(&mut self, state: &IoApicState) {
        self.0 = state.clone();
        self.0.id &= 0xf;
        self.0.lines &= (1 << LINES) - 1;
        for entry in &mut self.0.entries {
            *entry &= WRITABLE | REMOTE;
        }
    }

    pub(super) fn line(&mut self, pin: usize, raised: bool, lapics: &mut [Lapic]) -> Set {
        let (bit, was) = (1 << pin, self.0.lines);
        if !raised {
            self.0.lines &= !bit;
            return 0;
        }
        self.0.lines |= bit;
        let rises = was & bit == 0;
        if rises || self.0.entries[pin] & LEVEL != 0 { self.send(pin, lapics) } else { 0 }
    }

    /// Sends a line's message, if nothing holds it back.
    fn send(&mut self, pin: usize, lapics: &mut [Lapic]) -> Set {
        let entry = &mut self.0.entries[pin];
        if *entry & MASKED != 0 || *entry & LEVEL != 0 && *entry & REMOTE != 0 {
            return 0;
        }
        let [vector, mode, .., destination] = entry.to_le_bytes();
        let message = Message {
            to: To::short(destination, *entry & LOGICAL != 0),
            mode: Mode::from_bits(mode.into()),
            vector,
            level: *entry & LEVEL != 0,
        };
        let taken = message.deliver(lapics);
        let fixed = matches!(message.mode, Mode::Fixed | Mode::LowestPriority);
        if taken != 0 && message.level && fixed {
            *entry |= REMOTE;
        }
        taken
    }

    /// A level-triggered interrupt with this vector has ended somewhere.
    pub(super) fn end(&mut self, vector: u8, lapics: &mut [Lapic]) -> Set {
        let mut taken = 0;
        for pin in 0..LINES {
            let entry = &mut self.0.entries[pin];
            if entry.to_le_bytes()[0] == vector && *entry & LEVEL != 0 {
                *entry &= !REMOTE;
                taken |= self.send_level(pin, lapics);
            }
        }
        taken
    }

    /// Sends for a line that is level-triggered and raised.
    fn send_level(&mut self, pin: usize, lapics: &mut [Lapic]) -> Set {
        let raised = self.0.lines & 1 << pin != 0 && self.0.entries[pin] & LEVEL != 0;
        if raised { self.send(pin, lapics) } else { 0 }
    }

    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        let word = match offset & 0xff {
            0x00 => self.0.select.into(),
            0x10 => self.register(),
            _ => 0,
        };
        data.fill(0);
        for (to, from) in data.iter_mut().zip(word.to_le_bytes()) {
            *to = from;
        }
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8], lapics: &mut [Lapic]) -> Set {
        let mut word = [0; 4];
        for (to, from) in word.iter_mut().zip(data) {
            *to = *from;
        }
        match offset & 0xff {
            0x00 => self.0.select = word[0],
            0x10 => return self.set_register(u32::from_le_bytes(word), lapics),
            _ => {}
        }
        0
    }

    fn entry(&self) -> Option<(usize, u32)> {
        let at = usize::from(self.0.select.checked_sub(0x10)?);
        (at / 2 < LINES).then_some((at / 2, if at % 2 == 0 { 0 } else { 32 }))
    }

    fn register(&self) -> u32 {
        match (self.0.select, self.entry()) {
            (0 | 2, _) => u32::from(self.0.id) << 24,
            (1, _) => VERSION,
            (_, Some((pin, shift))) => half(self.0.entries[pin] >> shift),
            // Not there.
            (_, None) => u32::MAX,
        }
    }

    fn set_register(&mut self, value: u32, lapics: &mut [Lapic]) -> Set {
        if self.0.select == 0 {
            self.0.id = (value >> 24 & 0xf).to_le_bytes()[0];
        }
        let Some((pin, shift)) = self.entry() else { return 0 };
        let entry = &mut self.0.entries[pin];
        let writes = WRITABLE & 0xffff_ffff << shift;
        *entry = *entry & !writes | u64::from(value) << shift & writes;
        if *entry & LEVEL == 0 {
            // What Linux does to tell an end to an I/O APIC without a register for it
            // (arch/x86/kernel/apic/io_apic.c, __eoi_ioapic_pin).
            *entry &= !REMOTE;
        }
        self.send_level(pin, lapics)
    }
}

fn half(entry: u64) -> u32 {
    let [a, b, c, d, ..] = entry.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

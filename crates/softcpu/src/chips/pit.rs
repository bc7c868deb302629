//! The PIT (8254): three counters at 1.193182 MHz. The first ticks on line 0, the third is gated
//! and read through port 0x61, where kernels measure their clocks with it.
//!
//! Source: Intel 8254 data sheet; 82371SB data sheet, 2.5.3 (port 0x61).

mod channel;

use channel::Channel;
use hv::state::PitChannelState;

/// The control word's port; the counters' are before it.
const CONTROL: u16 = 0x43;
const COUNTERS: u16 = 0x40;

/// Gate of the third counter, the speaker, a bit that toggles, the third counter's output.
const SPEAKER: u16 = 0x61;
const SPEAKER_GATE: u8 = 1;
const SPEAKER_BITS: u8 = 3;

/// How long port 0x61's refresh bit stays, in nanoseconds.
const REFRESH_NS: u64 = 15_085;

#[derive(Clone, Debug)]
pub(super) struct Pit {
    channels: [Channel; 3],
    speaker: u8,
    /// When the first counter's output rises next.
    next: Option<u64>,
}

impl Pit {
    pub(super) fn new() -> Pit {
        let channels = [Channel::new(true), Channel::new(true), Channel::new(false)];
        Pit { channels, speaker: 0, next: None }
    }

    pub(super) fn state(&self) -> ([PitChannelState; 3], u8) {
        (self.channels.each_ref().map(Channel::state), self.speaker)
    }

    /// What has been due by now was given before it was saved.
    pub(super) fn restore(&mut self, states: &[PitChannelState; 3], speaker: u8, now: u64) {
        self.channels = states.each_ref().map(Channel::restored);
        self.speaker = speaker & SPEAKER_BITS;
        self.next = self.channels[0].rises_after(now);
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        self.next
    }

    /// Whether the first counter's output rose. Rises that nobody looked at are one.
    pub(super) fn tick(&mut self, now: u64) -> bool {
        let due = self.next.is_some_and(|at| at <= now);
        if due {
            self.next = self.channels[0].rises_after(now);
        }
        due
    }

    /// Reads a port, if it is one of its.
    pub(super) fn read(&mut self, port: u16, now: u64) -> Option<u8> {
        match port {
            COUNTERS..CONTROL => Some(self.channels[usize::from(port - COUNTERS)].read(now)),
            // Nothing can be read there.
            CONTROL => Some(0),
            SPEAKER => {
                let refresh = u8::from(!(now / REFRESH_NS).is_multiple_of(2)) << 4;
                let output = u8::from(self.channels[2].output(now)) << 5;
                Some(self.speaker | refresh | output)
            }
            _ => None,
        }
    }

    /// Writes a port; whether it is one of its.
    pub(super) fn write(&mut self, port: u16, value: u8, now: u64) -> bool {
        match port {
            COUNTERS..CONTROL => self.channels[usize::from(port - COUNTERS)].write(value, now),
            CONTROL => self.control(value, now),
            SPEAKER => {
                self.speaker = value & SPEAKER_BITS;
                self.channels[2].set_gate(value & SPEAKER_GATE != 0, now);
            }
            _ => return false,
        }
        if port != SPEAKER {
            self.next = self.channels[0].rises_after(now);
        }
        true
    }

    fn control(&mut self, value: u8, now: u64) {
        match usize::from(value >> 6) {
            3 => {
                for (n, channel) in self.channels.iter_mut().enumerate() {
                    if value & 2 << n != 0 {
                        channel.read_back(value & 1 << 5 == 0, value & 1 << 4 == 0, now);
                    }
                }
            }
            n => self.channels[n].control(value, now),
        }
    }
}

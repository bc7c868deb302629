//! Interrupt messages: what goes from the I/O APIC, from devices and from processors to local
//! APICs, and which of them take it.
//!
//! Source: Intel SDM volume 3, 11.6 (IPIs) and 11.11 (message-signalled interrupts).

use super::lapic::Lapic;

/// The most processors of a machine: one bit each in the sets here.
pub(super) const VCPUS_MAX: u8 = 64;

/// A set of processors.
pub(super) type Set = u64;

/// What a message does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Fixed,
    LowestPriority,
    /// System management, which no machine here has.
    Smi,
    Nmi,
    Init,
    Startup,
    /// "Ask the PICs"; 3 is reserved, and nobody takes either.
    Nobody,
}

impl Mode {
    /// The three bits of an entry or of a command register.
    pub(super) fn from_bits(bits: u64) -> Mode {
        match bits & 7 {
            0 => Mode::Fixed,
            1 => Mode::LowestPriority,
            2 => Mode::Smi,
            4 => Mode::Nmi,
            5 => Mode::Init,
            6 => Mode::Startup,
            _ => Mode::Nobody,
        }
    }
}

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    All,
    /// All but this one.
    Others(usize),
    One(usize),
    Physical(u32),
    Logical(u32),
}

impl To {
    /// A destination of eight bits, as xAPICs, I/O APIC and devices write it.
    pub(super) fn short(destination: u8, logical: bool) -> To {
        match (destination, logical) {
            (0xff, _) => To::All,
            (one, false) => To::Physical(one.into()),
            (set, true) => To::Logical(set.into()),
        }
    }

    /// A destination of 32 bits, as x2APICs write it.
    pub(super) fn long(destination: u32, logical: bool) -> To {
        match (destination, logical) {
            (u32::MAX, _) => To::All,
            (one, false) => To::Physical(one),
            (set, true) => To::Logical(set),
        }
    }

    fn has(self, index: usize, lapic: &Lapic) -> bool {
        match self {
            To::All => true,
            To::Others(me) => index != me,
            To::One(one) => index == one,
            To::Physical(id) => lapic.id() == id,
            To::Logical(set) => lapic.is_in(set),
        }
    }
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) to: To,
    pub(super) mode: Mode,
    pub(super) vector: u8,
    /// Whether its end is to be told to the I/O APIC.
    pub(super) level: bool,
}

impl Message {
    /// What a device writes to memory to interrupt somebody; none, if that is not where local
    /// APICs listen.
    ///
    /// Source: Intel SDM volume 3, 11.11.
    pub(super) fn from_msi(address: u64, data: u32) -> Option<Message> {
        if address >> 20 != 0xfee {
            return None;
        }
        let [vector, control, ..] = data.to_le_bytes();
        let destination = (address >> 12).to_le_bytes()[0];
        Some(Message {
            to: To::short(destination, address & 1 << 2 != 0),
            mode: Mode::from_bits(control.into()),
            vector,
            level: control & 1 << 7 != 0,
        })
    }

    /// Gives it to those it is for; the set of who took it.
    pub(super) fn deliver(&self, lapics: &mut [Lapic]) -> Set {
        let meant = lapics
            .iter()
            .enumerate()
            .filter(|(n, lapic)| lapic.listens(self.mode) && self.to.has(*n, lapic));
        let who: Set = if self.mode == Mode::LowestPriority {
            let lowest = meant.min_by_key(|(_, lapic)| lapic.processor_priority());
            lowest.map_or(0, |(n, _)| 1 << n)
        } else {
            meant.fold(0, |set, (n, _)| set | 1 << n)
        };
        for n in members(who) {
            lapics[n].take(self);
        }
        who
    }
}

/// The processors of a set.
pub(super) fn members(mut set: Set) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let n = set.trailing_zeros();
        set &= set.wrapping_sub(1);
        (n < Set::BITS).then_some(n as usize)
    })
}

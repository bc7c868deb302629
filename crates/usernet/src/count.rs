//! What was carried and what was discarded, in numbers.

/// Why a frame or a packet was not carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// It ends before it should, or a field contradicts another.
    Malformed,
    /// A checksum is wrong.
    Checksum,
    /// It is a piece of a larger packet.
    Fragment,
    /// It is neither ARP nor TCP, UDP or an echo request over IPv4.
    Protocol,
    /// It does not come from an address of the guest's.
    Source,
    /// It goes to many, or to where nobody may be told that there is nothing.
    Destination,
    /// A limit is reached: flows, memory or the descriptors of this process.
    Full,
    /// The guest does not take its frames fast enough, or the frame is larger than it takes.
    Guest,
    /// The host did not take a datagram.
    Host,
}

/// All of them, in the order of [`Counters`].
const ALL: [Discard; 9] = [
    Discard::Malformed,
    Discard::Checksum,
    Discard::Fragment,
    Discard::Protocol,
    Discard::Source,
    Discard::Destination,
    Discard::Full,
    Discard::Guest,
    Discard::Host,
];

/// What a stack has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames that the guest sent.
    pub received: u64,
    /// Frames that were sent to the guest.
    pub sent: u64,
    /// Connections and other flows that were opened.
    pub flows: u64,
    discarded: [u64; ALL.len()],
}

impl Counters {
    /// How much was discarded for a reason.
    pub fn discarded(&self, why: Discard) -> u64 {
        ALL.iter().zip(self.discarded).find(|(each, _)| **each == why).map_or(0, |(_, n)| n)
    }

    pub(crate) fn discard(&mut self, why: Discard) {
        if let Some((_, count)) = ALL.iter().zip(&mut self.discarded).find(|(e, _)| **e == why) {
            *count += 1;
        }
    }
}

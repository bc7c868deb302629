//! What stands before a frame, and whether it can be.
//!
//! A guest that leaves checksums and segments to the host says in this header where they are, and
//! the host's kernel acts on it: nothing goes there that does not fit its frame, or that was not
//! agreed on.
//!
//! Source: virtio 1.2, 5.1.6 (`struct virtio_net_hdr`); Linux, `include/linux/virtio_net.h`.

use super::{F_CSUM, F_GUEST_CSUM, F_HOST_ECN, F_HOST_TSO4, F_HOST_TSO6};

/// Bytes of a header.
pub(crate) const HEADER_BYTES: usize = 12;

/// The checksum is to be filled in.
pub(super) const NEEDS_CHECKSUM: u8 = 1;

/// Checksums were looked at, and are right.
pub(super) const CHECKSUM_VALID: u8 = 2;

/// Kinds of segments: none, TCP over IPv4, TCP over IPv6; and that there was congestion.
pub(super) const SEGMENT_NONE: u8 = 0;
pub(super) const SEGMENT_TCP4: u8 = 1;
pub(super) const SEGMENT_TCP6: u8 = 4;
pub(super) const SEGMENT_CONGESTION: u8 = 0x80;

/// Least bytes that TCP sends in a segment. Less would have the host make tens of thousands of
/// packets of one frame.
///
/// Source: Linux, `net.ipv4.tcp_min_snd_mss`.
const SEGMENT_BYTES_MIN: u16 = 48;

/// Bytes of an Ethernet header.
pub(super) const ETHERNET_BYTES: usize = 14;

/// Why a frame of the guest's is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// It is shorter than an Ethernet header.
    Short,
    /// A flag or a kind of segment that was not agreed on.
    NotAgreed,
    /// The checksum's place is not in the frame.
    Checksum,
    /// Segments without checksums, or of a size that cannot be.
    Segments,
}

/// The header in its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(super) flags: u8,
    pub(super) segments: u8,
    pub(super) header_bytes: u16,
    pub(super) segment_bytes: u16,
    pub(super) checksum_start: u16,
    pub(super) checksum_offset: u16,
    /// How many chains a frame for the guest is in.
    pub(super) buffers: u16,
}

impl Header {
    pub(crate) fn parse(bytes: [u8; HEADER_BYTES]) -> Header {
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Header {
            flags: bytes[0],
            segments: bytes[1],
            header_bytes: half(2),
            segment_bytes: half(4),
            checksum_start: half(6),
            checksum_offset: half(8),
            buffers: half(10),
        }
    }

    pub(crate) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        (bytes[0], bytes[1]) = (self.flags, self.segments);
        let halves = [
            self.header_bytes,
            self.segment_bytes,
            self.checksum_start,
            self.checksum_offset,
            self.buffers,
        ];
        for (to, half) in bytes[2..].chunks_exact_mut(2).zip(halves) {
            to.copy_from_slice(&half.to_le_bytes());
        }
        bytes
    }

    /// The header with which a frame of the guest's of so many bytes goes to the host.
    pub(crate) fn for_host(self, features: u64, frame_bytes: usize) -> Result<Header, Wrong> {
        let agreed = |feature: u64| features & feature != 0;
        if frame_bytes < ETHERNET_BYTES {
            return Err(Wrong::Short);
        }
        // Of the flags, a driver can set one; those that are a device's to set say nothing.
        let flags = self.flags & NEEDS_CHECKSUM;
        if flags != 0 {
            if !agreed(F_CSUM) {
                return Err(Wrong::NotAgreed);
            }
            let end = usize::from(self.checksum_start) + usize::from(self.checksum_offset) + 2;
            if end > frame_bytes || usize::from(self.checksum_start) < ETHERNET_BYTES {
                return Err(Wrong::Checksum);
            }
        }
        let congestion = self.segments & SEGMENT_CONGESTION != 0;
        let feature = match self.segments & !SEGMENT_CONGESTION {
            SEGMENT_NONE if !congestion => return Ok(Header::plain(flags, self)),
            SEGMENT_TCP4 => F_HOST_TSO4,
            SEGMENT_TCP6 => F_HOST_TSO6,
            _ => return Err(Wrong::NotAgreed),
        };
        if !agreed(feature) || (congestion && !agreed(F_HOST_ECN)) {
            return Err(Wrong::NotAgreed);
        }
        let fits = usize::from(self.header_bytes) <= frame_bytes;
        if flags == 0 || self.segment_bytes < SEGMENT_BYTES_MIN || !fits {
            return Err(Wrong::Segments);
        }
        Ok(Header { flags, buffers: 0, ..self })
    }

    /// Whether all that it speaks of is in a frame of so many bytes.
    pub(crate) fn fits(self, frame_bytes: usize) -> bool {
        let end = usize::from(self.checksum_start) + usize::from(self.checksum_offset) + 2;
        let checksum = self.flags == 0 || (self.flags == NEEDS_CHECKSUM && end <= frame_bytes);
        let segments = self.segments == SEGMENT_NONE
            || (self.flags != 0 && self.segment_bytes >= SEGMENT_BYTES_MIN);
        let header = usize::from(self.header_bytes) <= frame_bytes;
        frame_bytes >= ETHERNET_BYTES && checksum && segments && header
    }

    /// Without segments; what the host does not look at is zero.
    fn plain(flags: u8, of: Header) -> Header {
        let has = |value| if flags == 0 { 0 } else { value };
        Header {
            flags,
            segments: SEGMENT_NONE,
            header_bytes: 0,
            segment_bytes: 0,
            checksum_start: has(of.checksum_start),
            checksum_offset: has(of.checksum_offset),
            buffers: 0,
        }
    }

    /// The header with which a frame of the host's goes to the guest, in so many chains.
    pub(super) fn for_guest(self, features: u64, buffers: u16) -> Header {
        let known = if features & F_GUEST_CSUM != 0 { NEEDS_CHECKSUM | CHECKSUM_VALID } else { 0 };
        Header { flags: self.flags & known, buffers, ..self }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: u64 = F_CSUM | F_HOST_TSO4 | F_HOST_TSO6 | F_HOST_ECN;

    fn segments(kind: u8) -> Header {
        Header {
            flags: NEEDS_CHECKSUM,
            segments: kind,
            header_bytes: 54,
            segment_bytes: 1448,
            checksum_start: 34,
            checksum_offset: 16,
            buffers: 9,
        }
    }

    #[test]
    fn what_was_agreed_on_goes() {
        for (kind, feature) in [
            (SEGMENT_TCP4, F_HOST_TSO4),
            (SEGMENT_TCP6, F_HOST_TSO6),
            (SEGMENT_TCP4 | SEGMENT_CONGESTION, F_HOST_TSO4 | F_HOST_ECN),
        ] {
            let header = segments(kind);
            let sent = header.for_host(ALL, 9000).unwrap();
            assert_eq!(sent, Header { buffers: 0, ..header });
            assert_eq!(header.for_host(F_CSUM | feature, 9000), Ok(sent));
            let without = ALL & !feature;
            assert_eq!(header.for_host(without, 9000), Err(Wrong::NotAgreed));
        }
        let plain = Header { segments: 0, ..segments(0) };
        assert_eq!(plain.for_host(0, 9000), Err(Wrong::NotAgreed));
        let sent = plain.for_host(F_CSUM, 9000).unwrap();
        assert_eq!((sent.checksum_start, sent.segment_bytes, sent.header_bytes), (34, 0, 0));
        // Flags of devices, from a driver, and what nobody looks at.
        let odd = Header { flags: 0xfe, ..plain };
        assert_eq!(odd.for_host(0, 60).unwrap().encode(), [0; 12]);
    }

    #[test]
    fn what_cannot_be_does_not() {
        let good = segments(SEGMENT_TCP4);
        for (header, bytes, wrong) in [
            (good, 13, Wrong::Short),
            (good, 51, Wrong::Checksum),
            (Header { checksum_start: 13, ..good }, 9000, Wrong::Checksum),
            (Header { checksum_start: u16::MAX, ..good }, 65_000, Wrong::Checksum),
            (Header { segments: 3, ..good }, 9000, Wrong::NotAgreed),
            (Header { segments: 5, ..good }, 9000, Wrong::NotAgreed),
            (Header { segments: 0x80, ..good }, 9000, Wrong::NotAgreed),
            (Header { flags: 0, ..good }, 9000, Wrong::Segments),
            (Header { segment_bytes: 0, ..good }, 9000, Wrong::Segments),
            (Header { segment_bytes: 47, ..good }, 9000, Wrong::Segments),
            (Header { header_bytes: 9001, ..good }, 9000, Wrong::Segments),
        ] {
            assert_eq!(header.for_host(ALL, bytes), Err(wrong), "{header:?} {bytes}");
        }
    }

    proptest! {
        #[test]
        fn what_goes_fits_its_frame(bytes: [u8; 12], features in any::<u64>(), frame in 0usize..70_000) {
            prop_assert_eq!(Header::parse(bytes).encode(), bytes);
            if let Ok(sent) = Header::parse(bytes).for_host(features, frame) {
                prop_assert!(sent.fits(frame));
            }
        }
    }
}

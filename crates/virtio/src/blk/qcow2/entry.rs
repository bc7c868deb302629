//! What an entry of a table of the second level says of a cluster.
//!
//! Source: QEMU, docs/interop/qcow2.txt, "Cluster mapping".

use super::Damage;

/// The bits of an entry that are a cluster's place in the file.
const PLACE: u64 = 0x00ff_ffff_ffff_fe00;

/// The cluster belongs to this entry alone.
pub(super) const COPIED: u64 = 1 << 63;

const COMPRESSED: u64 = 1 << 62;

/// The cluster reads as zeros; version 3.
const ZERO: u64 = 1;

/// Where a cluster of the disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// In the backing file, or zeros if there is none.
    Absent,
    /// It reads as zeros; a cluster may be kept for it.
    Zero {
        /// Where.
        kept: Option<u64>,
    },
    /// In the file.
    Data {
        /// Where.
        at: u64,
        /// It belongs to this entry alone, and may be written to.
        own: bool,
    },
    /// In the file, compressed.
    Compressed(Packed),
}

/// A compressed cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packed {
    /// Where it begins, at any byte.
    pub(super) at: u64,
    /// How many bytes it has at most, to the end of a sector.
    pub(super) bytes: usize,
}

/// What is true of all entries of an image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) version: u32,
    pub(super) cluster_bits: u32,
}

impl Shape {
    pub(super) fn cluster(self) -> u64 {
        1 << self.cluster_bits
    }

    /// An entry, or what is wrong with it. Whether its place is in the file is not looked at.
    pub(super) fn decode(self, entry: u64) -> Result<Entry, Damage> {
        if entry & COMPRESSED != 0 {
            return self.decode_packed(entry);
        }
        let at = entry & PLACE;
        let wrong = entry & !(PLACE | COPIED | ZERO) != 0
            || !at.is_multiple_of(self.cluster())
            || (self.version == 2 && entry & ZERO != 0);
        if wrong {
            return Err(Damage::Entry { entry });
        }
        let own = entry & COPIED != 0;
        Ok(match (entry & ZERO != 0, at) {
            (true, 0) => Entry::Zero { kept: None },
            (true, at) => Entry::Zero { kept: Some(at) },
            (false, 0) => Entry::Absent,
            (false, at) => Entry::Data { at, own },
        })
    }

    fn decode_packed(self, entry: u64) -> Result<Entry, Damage> {
        // So many bits are the place; those above count the sectors after the first.
        let place_bits = 62 - (self.cluster_bits - 8);
        let at = entry & ((1 << place_bits) - 1);
        let sectors = ((entry & !(COPIED | COMPRESSED)) >> place_bits) + 1;
        let bytes = usize::try_from(sectors * 512 - at % 512).unwrap_or(usize::MAX);
        if entry & COPIED != 0 || at == 0 {
            return Err(Damage::Entry { entry });
        }
        Ok(Entry::Compressed(Packed { at, bytes }))
    }

    pub(super) fn encode(self, entry: Entry) -> u64 {
        match entry {
            Entry::Absent => 0,
            Entry::Zero { kept } => ZERO | kept.map_or(0, |at| at | COPIED),
            Entry::Data { at, own } => at | if own { COPIED } else { 0 },
            Entry::Compressed(Packed { at, bytes }) => {
                let place_bits = 62 - (self.cluster_bits - 8);
                let sectors = (bytes as u64 + at % 512).div_ceil(512) - 1;
                COMPRESSED | sectors << place_bits | at
            }
        }
    }
}

/// A table's place from an entry of the first level, and whether it belongs to it alone.
pub(super) fn decode_l1(entry: u64, cluster: u64) -> Result<Option<(u64, bool)>, Damage> {
    let at = entry & PLACE;
    if entry & !(PLACE | COPIED) != 0 || !at.is_multiple_of(cluster) {
        return Err(Damage::Entry { entry });
    }
    Ok((at != 0).then_some((at, entry & COPIED != 0)))
}

/// The place of a block of refcounts from an entry of their table.
pub(super) fn decode_block(entry: u64, cluster: u64) -> Result<Option<u64>, Damage> {
    if !entry.is_multiple_of(cluster) || entry & !PLACE != 0 {
        return Err(Damage::Entry { entry });
    }
    Ok((entry != 0).then_some(entry))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_are_what_the_format_says() {
        let shape = Shape { version: 3, cluster_bits: 16 };
        let decode = |entry| shape.decode(entry).unwrap();
        assert_eq!(decode(0), Entry::Absent);
        assert_eq!(decode(1), Entry::Zero { kept: None });
        assert_eq!(decode(0x5_0001), Entry::Zero { kept: Some(0x5_0000) });
        assert_eq!(decode(0x5_0000), Entry::Data { at: 0x5_0000, own: false });
        assert_eq!(decode(COPIED | 0x5_0000), Entry::Data { at: 0x5_0000, own: true });
        let packed = Packed { at: 0x5_0201, bytes: 3 * 512 - 1 };
        assert_eq!(decode(COMPRESSED | 2 << 54 | 0x5_0201), Entry::Compressed(packed));
        for wrong in [0x5_0200, 2, 1 << 60, COPIED | COMPRESSED | 5, COMPRESSED] {
            assert_eq!(shape.decode(wrong), Err(Damage::Entry { entry: wrong }));
        }
        let old = Shape { version: 2, ..shape };
        assert_eq!(old.decode(1), Err(Damage::Entry { entry: 1 }), "version 2 has no zeros");
    }

    proptest! {
        #[test]
        fn what_is_decoded_can_be_encoded(entry: u64, cluster_bits in 9u32..22) {
            let shape = Shape { version: 3, cluster_bits };
            if let Ok(decoded) = shape.decode(entry) {
                let encoded = shape.encode(decoded);
                prop_assert_eq!(shape.decode(encoded).unwrap(), decoded);
            }
        }
    }
}

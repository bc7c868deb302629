//! What a guest is told of its memory.
//!
//! Source: ACPI 6.5, 15 (system address map interfaces).

use hv::memory::Range;

use crate::layout;

/// What a region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Memory to use.
    Usable,
    /// Memory to leave alone.
    Reserved,
}

impl Kind {
    /// As BIOS, Linux and PVH number it.
    pub fn number(self) -> u32 {
        match self {
            Kind::Usable => 1,
            Kind::Reserved => 2,
        }
    }
}

/// A region of guest-physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub start: u64,
    /// How long it is.
    pub bytes: u64,
    /// What it is.
    pub kind: Kind,
}

/// The regions of a machine with this memory, in ascending order.
pub fn memory_map(ranges: &[Range]) -> Vec<Region> {
    let region = |start: u64, end: u64, kind| Region { start, bytes: end - start, kind };
    let mut map = vec![
        region(0, layout::EBDA, Kind::Usable),
        region(layout::EBDA, layout::VIDEO, Kind::Reserved),
        region(layout::ACPI, layout::HIGH, Kind::Reserved),
    ];
    let usable = ranges.iter().filter_map(|range| {
        let start = range.guest.max(layout::HIGH);
        let end = range.guest + range.bytes as u64;
        (end > start).then(|| region(start, end, Kind::Usable))
    });
    map.extend(usable);
    map
}

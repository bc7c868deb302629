//! Which model-specific registers make up a processor's state.

/// `IA32_APIC_BASE`, which KVM has among the segment registers.
pub(super) const APIC_BASE: u32 = 0x1b;

/// `IA32_EFER`, which it has there too.
pub(super) const EFER: u32 = 0xc000_0080;

/// `IA32_TSC_DEADLINE`: means nothing before the local APIC's timer is in its mode.
pub(super) const TSC_DEADLINE: u32 = 0x6e0;

/// Those that are asked for at the host, of which it need not have all: the time stamp counter,
/// sysenter, what the kernel was told is enabled, memory types, system calls, the kernel's gs, the
/// deadline, and where KVM's clock is. Segment bases are the segments'.
const OTHERS: &[u32] = &[
    0x10,
    0x174,
    0x175,
    0x176,
    0x1a0,
    0x277,
    0x2ff,
    0x250,
    0x258,
    0x259,
    TSC_DEADLINE,
    0xc000_0081,
    0xc000_0082,
    0xc000_0083,
    0xc000_0084,
    0xc000_0102,
    0xc000_0103,
    0x4b56_4d00,
    0x4b56_4d01,
];

/// The registers to ask the host for, ascending.
pub(super) fn candidates() -> Vec<u32> {
    let ranges = (0x200..=0x20f).chain(0x268..=0x26f);
    let mut all: Vec<u32> = OTHERS.iter().copied().chain(ranges).collect();
    all.sort_unstable();
    all
}

//! The DSDT: devices that cannot be found by looking.

use super::{Slot, aml};
use crate::layout;

/// The device of the machine's generation.
const GENERATION: &[u8; 4] = b"VGEN";

/// The table.
pub(super) fn table(slots: &[Slot]) -> Vec<u8> {
    let mut devices = vec![serial(), clock(), panic_port(), generation()];
    devices.extend(slots.iter().enumerate().map(|(n, slot)| virtio(n, slot)));
    let body = [
        aml::name(b"_S5_", &soft_off()),
        aml::scope(b"_SB_", &devices),
        aml::scope(b"_GPE", &[copied()]),
    ];
    super::table(b"DSDT", 2, &body.concat())
}

/// What the sleep type of PM1 is for "off", in both of its blocks.
fn soft_off() -> Vec<u8> {
    let kind = aml::number(crate::legacy::SOFT_OFF.into());
    aml::package(&[kind.clone(), kind, aml::number(0), aml::number(0)])
}

fn serial() -> Vec<u8> {
    let line = u8::try_from(layout::SERIAL_LINE).expect("COM1's line is 4");
    aml::device(
        b"COM1",
        &[
            aml::name(b"_HID", &aml::eisa_id(b"PNP", 0x0501)),
            aml::name(b"_UID", &aml::number(1)),
            aml::name(
                b"_CRS",
                &aml::resources(&[aml::ports(layout::SERIAL_PORT, 8), aml::line(line)]),
            ),
        ],
    )
}

fn clock() -> Vec<u8> {
    let line = u8::try_from(layout::RTC_LINE).expect("the clock's line is 8");
    aml::device(
        b"RTC_",
        &[
            aml::name(b"_HID", &aml::eisa_id(b"PNP", 0x0b00)),
            aml::name(
                b"_CRS",
                &aml::resources(&[aml::ports(layout::RTC_PORT, 2), aml::line(line)]),
            ),
        ],
    )
}

/// Source: QEMU `docs/specs/pvpanic.rst`.
fn panic_port() -> Vec<u8> {
    aml::device(
        b"PEVT",
        &[
            aml::name(b"_HID", &aml::text("QEMU0001")),
            aml::name(b"_CRS", &aml::resources(&[aml::ports(layout::PANIC_PORT, 1)])),
        ],
    )
}

/// Where the machine's generation stands. Systems know it by two names, of which the first is in
/// the device's own specification and the second as names of ACPI may be; the hardware's own has to
/// be there and is looked for by nobody.
///
/// Source: Microsoft, "Virtual Machine Generation ID"; Linux `drivers/virt/vmgenid.c`.
fn generation() -> Vec<u8> {
    let [low, high] = [layout::GENERATION & 0xffff_ffff, layout::GENERATION >> 32]
        .map(|half| aml::number(u32::try_from(half).expect("it is 32 bits")));
    aml::device(
        GENERATION,
        &[
            aml::name(b"_HID", &aml::text("WYTH0001")),
            aml::name(b"_CID", &aml::package(&["VM_Gen_Counter", "VMGENCTR"].map(aml::text))),
            aml::name(b"_DDN", &aml::text("VM_Gen_Counter")),
            aml::name(b"ADDR", &aml::package(&[low, high])),
        ],
    )
}

/// General event 0, edge-triggered: the generation is another.
fn copied() -> Vec<u8> {
    aml::method(b"_E00", &aml::notify(b"_SB_", GENERATION, 0x80))
}

/// Source: Linux `drivers/virtio/virtio_mmio.c` for the name.
fn virtio(n: usize, slot: &Slot) -> Vec<u8> {
    let digits = format!("{n:03X}");
    let mut name = *b"V000";
    name[1..].copy_from_slice(digits.as_bytes().get(..3).unwrap_or(b"FFF"));
    let address = u32::try_from(slot.address).expect("devices are below 4 GiB");
    let bytes = u32::try_from(layout::VIRTIO_BYTES).expect("a device has a page");
    let resources = [aml::memory(address, bytes), aml::shared_level(slot.line)];
    aml::device(
        &name,
        &[
            aml::name(b"_HID", &aml::text("LNRO0005")),
            aml::name(b"_UID", &aml::number(u32::try_from(n).expect("few devices"))),
            aml::name(b"_CRS", &aml::resources(&resources)),
        ],
    )
}

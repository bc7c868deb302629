//! ACPI tables: what a guest is told of its hardware.
//!
//! ```text
//! RSDP ─▶ XSDT ─┬▶ FADT ─┬▶ FACS          power management, reset
//!               │        └▶ DSDT          devices, in AML
//!               └▶ MADT                   interrupt controllers
//! ```
//!
//! The machine is not "hardware-reduced": it has the legacy chips, and with them power management
//! in ports and the interrupt of its own for it, which every kernel since 2000 knows.
//!
//! Source: ACPI 6.5.

mod aml;
mod dsdt;
mod fixed;

use crate::layout;

/// A virtio device behind the MMIO transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// First of its addresses.
    pub address: u64,
    /// Its interrupt line.
    pub line: u32,
}

/// What the tables describe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hardware {
    /// How many processors; their local APICs are numbered from 0.
    pub vcpus: u8,
    /// The virtio devices.
    pub slots: Vec<Slot>,
}

/// All tables, as they lie from [`layout::ACPI`] on; the RSDP is the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables(pub Vec<u8>);

/// Where the RSDP is.
pub const RSDP: u64 = layout::ACPI;

/// Bytes before a table's own: signature, length, checksum and names.
const HEADER: usize = 36;

/// Makes the tables.
pub fn tables(hardware: &Hardware) -> Tables {
    let mut tables = Tables(vec![0; fixed::RSDP_BYTES]);
    let facs = tables.add(&fixed::facs());
    let dsdt = tables.add(&dsdt::table(&hardware.slots));
    let fadt = tables.add(&fixed::fadt(facs, dsdt));
    let madt = tables.add(&fixed::madt(hardware.vcpus));
    let xsdt = tables.add(&fixed::xsdt(&[fadt, madt]));
    tables.0[..fixed::RSDP_BYTES].copy_from_slice(&fixed::rsdp(xsdt));
    tables
}

impl Tables {
    /// Puts a table behind the others; gives its address.
    fn add(&mut self, table: &[u8]) -> u64 {
        // The FACS wants 64; for the others it does no harm.
        self.0.resize(self.0.len().next_multiple_of(64), 0);
        let address = layout::ACPI + self.0.len() as u64;
        self.0.extend(table);
        address
    }
}

/// A table with its header and checksum.
fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let bytes = u32::try_from(HEADER + body.len()).expect("tables are a few KiB");
    let mut table = Vec::new();
    table.extend(signature);
    table.extend(bytes.to_le_bytes());
    table.extend([revision, 0]);
    table.extend(b"WYTHE ");
    table.extend(b"WYTHEVM ");
    table.extend(1u32.to_le_bytes());
    table.extend(b"WYTH");
    table.extend(1u32.to_le_bytes());
    table.extend(body);
    table[9] = checksum(&table);
    table
}

/// What makes all bytes together zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

/// The words of a kernel's command line that announce devices to one without ACPI.
///
/// Source: Linux `Documentation/admin-guide/kernel-parameters.txt`, `virtio_mmio.device=`.
pub fn command_line(slots: &[Slot]) -> String {
    let word = |slot: &Slot| {
        let size = layout::VIRTIO_BYTES >> 10;
        format!("virtio_mmio.device={size}K@{:#x}:{}", slot.address, slot.line)
    };
    slots.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;

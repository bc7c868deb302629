//! The tables of fixed shape.

use super::{HEADER, checksum, table};
use crate::layout;

/// Bytes of the RSDP.
pub(super) const RSDP_BYTES: usize = 36;

/// Bytes of the FADT, version 6.
const FADT_BYTES: usize = 276;

/// `IAPC_BOOT_ARCH`: there are devices of the PC (bit 0) and no VGA (bit 2). That the keyboard
/// controller (bit 1) is left out saves a kernel the long search for a keyboard; the one command
/// it is there for, reset, needs no driver.
const BOOT_ARCHITECTURE: u16 = 1 | 1 << 2;

/// Flags: `wbinvd` works, all processors halt alike, no sleep button, no wake-up by the clock, the
/// timer has 32 bits, there is a reset register. The power button is of the fixed kind.
const FLAGS: u32 = 1 | 1 << 2 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 10;

/// "Not a notebook, not a server": unspecified.
const PROFILE: u8 = 0;

/// Latencies that say that there is no C2 and no C3. Source: ACPI 6.5, table 5.9.
const NO_C2: u16 = 101;
const NO_C3: u16 = 1001;

/// Where a table that is addressed by the others is.
pub(super) fn rsdp(xsdt: u64) -> Vec<u8> {
    let mut rsdp = Vec::new();
    rsdp.extend(b"RSD PTR \0WYTHE \x02");
    rsdp.extend(0u32.to_le_bytes());
    rsdp.extend(36u32.to_le_bytes());
    rsdp.extend(xsdt.to_le_bytes());
    rsdp.extend([0; 4]);
    rsdp[8] = checksum(&rsdp[..20]);
    rsdp[32] = checksum(&rsdp);
    rsdp
}

pub(super) fn xsdt(tables: &[u64]) -> Vec<u8> {
    table(b"XSDT", 1, &tables.iter().flat_map(|at| at.to_le_bytes()).collect::<Vec<_>>())
}

/// The firmware's own: nothing here uses the global lock or a waking vector.
pub(super) fn facs() -> Vec<u8> {
    let mut facs = vec![0; 64];
    facs[..4].copy_from_slice(b"FACS");
    facs[4] = 64;
    facs[32] = 2;
    facs
}

pub(super) fn fadt(facs: u64, dsdt: u64) -> Vec<u8> {
    let mut body = vec![0; FADT_BYTES - HEADER];
    let mut put = |at: usize, bytes: &[u8]| {
        let at = at - HEADER;
        body[at..at + bytes.len()].copy_from_slice(bytes);
    };
    let port = |offset: u16| u32::from(layout::PM_PORT + offset);
    let line = u16::try_from(layout::PM_LINE).expect("the line of power management is 9");
    put(45, &[PROFILE]);
    put(46, &line.to_le_bytes());
    put(56, &port(0).to_le_bytes());
    put(64, &port(4).to_le_bytes());
    put(76, &port(8).to_le_bytes());
    put(80, &port(12).to_le_bytes());
    put(88, &[4, 2, 0, 4, 2]);
    put(96, &NO_C2.to_le_bytes());
    put(98, &NO_C3.to_le_bytes());
    put(108, &[crate::legacy::CENTURY]);
    put(109, &BOOT_ARCHITECTURE.to_le_bytes());
    put(112, &FLAGS.to_le_bytes());
    put(116, &register(8, layout::RESET_PORT.into()));
    put(128, &[layout::RESET_VALUE]);
    put(131, &[5]);
    put(132, &facs.to_le_bytes());
    put(140, &dsdt.to_le_bytes());
    put(148, &register(32, port(0)));
    put(172, &register(16, port(4)));
    put(208, &register(32, port(8)));
    put(220, &register(16, port(12)));
    table(b"FACP", 6, &body)
}

/// A generic address: a register in ports.
///
/// Source: ACPI 6.5, 5.2.3.2.
fn register(bits: u8, port: u32) -> [u8; 12] {
    // What is wider than two bytes is accessed as the driver likes.
    let access = match bits {
        8 => 1,
        16 => 2,
        _ => 3,
    };
    let [a, b, c, d] = port.to_le_bytes();
    [1, bits, 0, access, a, b, c, d, 0, 0, 0, 0]
}

pub(super) fn madt(vcpus: u8) -> Vec<u8> {
    let mut body = Vec::new();
    let address = |at: u64| u32::try_from(at).expect("chips are below 4 GiB").to_le_bytes();
    body.extend(address(layout::LOCAL_APIC));
    // There are two PICs, too.
    body.extend(1u32.to_le_bytes());
    for n in 0..vcpus {
        body.extend([0, 8, n, n, 1, 0, 0, 0]);
    }
    body.extend([1, 12, 0, 0]);
    body.extend(address(layout::IO_APIC));
    body.extend([0; 4]);
    // The PIT is at line 2; power management is level-triggered and active high.
    body.extend(rewired(0, 2, 0));
    body.extend(rewired(9, 9, 0b1101));
    // NMIs come in at every processor's LINT1.
    body.extend([4, 6, 0xff, 0, 0, 1]);
    table(b"APIC", 5, &body)
}

fn rewired(from: u8, to: u8, flags: u8) -> [u8; 10] {
    [2, 10, 0, from, to, 0, 0, 0, flags, 0]
}

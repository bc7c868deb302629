//! The tables read back, as a kernel reads them.

use super::*;

fn hardware(devices: u32) -> Hardware {
    let slot =
        |n| Slot { address: layout::VIRTIO + u64::from(n) * layout::VIRTIO_BYTES, line: 5 + n % 8 };
    Hardware { vcpus: 2, slots: (0..devices).map(slot).collect() }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The table at an address, with its length and checksum looked at.
fn at(tables: &Tables, address: u64) -> &[u8] {
    let bytes = &tables.0[usize::try_from(address - layout::ACPI).unwrap()..];
    let bytes = &bytes[..u32_at(bytes, 4) as usize];
    if !bytes.starts_with(b"FACS") {
        assert_eq!(checksum(bytes), 0, "{:?}", &bytes[..4]);
    }
    bytes
}

/// Every table by its name.
fn named(tables: &Tables) -> std::collections::BTreeMap<String, Vec<u8>> {
    assert!(tables.0.starts_with(b"RSD PTR "));
    assert_eq!((checksum(&tables.0[..20]), checksum(&tables.0[..36])), (0, 0));
    let xsdt = at(tables, u64_at(&tables.0, 24));
    let mut all: Vec<&[u8]> =
        xsdt[HEADER..].chunks(8).map(|entry| at(tables, u64_at(entry, 0))).collect();
    let fadt = all.iter().find(|table| table.starts_with(b"FACP")).copied().unwrap();
    all.extend([at(tables, u64_at(fadt, 132)), at(tables, u64_at(fadt, 140))]);
    let name = |table: &[u8]| String::from_utf8(table[..4].to_vec()).unwrap();
    all.into_iter().map(|table| (name(table), table.to_vec())).collect()
}

#[test]
fn every_table_is_found_from_the_first_and_adds_up() {
    let tables = tables(&hardware(3));
    let names: Vec<_> = named(&tables).into_keys().collect();
    assert_eq!(names, ["APIC", "DSDT", "FACP", "FACS"]);
    assert!(super::tables(&hardware(160)).0.len() < layout::ACPI_BYTES);
}

#[test]
fn power_management_is_where_the_ports_are() {
    let fadt = &named(&tables(&hardware(0)))["FACP"];
    assert_eq!(fadt.len(), 276);
    assert_eq!([u32_at(fadt, 56), u32_at(fadt, 64), u32_at(fadt, 76)], [0x600, 0x604, 0x608]);
    assert_eq!(u64_at(fadt, 152), 0x600);
    assert_eq!((u64_at(fadt, 120), fadt[128]), (0xcf9, 6));
    assert_eq!((u32_at(fadt, 80), fadt[92], u64_at(fadt, 224)), (0x60c, 2, 0x60c));
    assert_eq!(u32_at(fadt, 112) & (1 << 20 | 1 << 4), 0, "not reduced, a fixed power button");
}

#[test]
fn every_processor_and_rewired_line_is_listed() {
    let madt = &named(&tables(&hardware(0)))["APIC"];
    let mut entries = &madt[HEADER + 8..];
    let mut kinds = Vec::new();
    while let [kind, bytes, ..] = entries {
        kinds.push((*kind, entries[2..usize::from(*bytes)].to_vec()));
        entries = &entries[usize::from(*bytes)..];
    }
    assert_eq!(kinds.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [0, 0, 1, 2, 2, 4]);
    assert_eq!(kinds[1].1, [1, 1, 1, 0, 0, 0]);
    assert_eq!(u32_at(&kinds[2].1, 2), 0xfec0_0000);
    assert_eq!(kinds[3].1, [0, 0, 2, 0, 0, 0, 0, 0]);
}

#[test]
fn names_and_lengths_are_as_the_grammar_has_them() {
    assert_eq!(aml::eisa_id(b"PNP", 0x0501), [0x0c, 0x41, 0xd0, 0x05, 0x01]);
    assert_eq!(aml::number(1), [1]);
    assert_eq!(aml::number(0x1234), [0x0b, 0x34, 0x12]);
    assert_eq!(aml::scope(b"_SB_", &[]), [0x10, 0x06, b'\\', b'_', b'S', b'B', b'_']);
    // 5 + 58 is 63 with the length's byte 64, which does not fit in six bits.
    let longer = aml::scope(b"_SB_", &[vec![0; 58]]);
    assert_eq!(longer[1..3], [0x41, 0x04]);
    assert_eq!(aml::scope(b"_SB_", &[vec![0; 57]])[1], 63);
    let page = aml::scope(b"_SB_", &[vec![0; 0xff8]]);
    assert_eq!(page[1..3], [0x4f, 0xff]);
    let more = aml::scope(b"_SB_", &[vec![0; 0xff9]]);
    assert_eq!(more[1..4], [0x81, 0x00, 0x01]);
}

/// Intel's own compiler reads the tables, where it is installed.
#[test]
fn a_disassembler_reads_every_table() {
    if testkit::need::tool("iasl").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (name, table) in named(&tables(&hardware(40))) {
        std::fs::write(dir.path().join(format!("{name}.dat")), table).unwrap();
        let run = std::process::Command::new("iasl")
            .args(["-d", &format!("{name}.dat")])
            .current_dir(dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(run.status.success(), "{name}: {said}");
        assert!(!said.contains("Warning") && !said.contains("rror"), "{name}: {said}");
        let text = std::fs::read_to_string(dir.path().join(format!("{name}.dsl"))).unwrap();
        assert!(!text.contains("Invalid"), "{text}");
        if name == "DSDT" {
            assert!(text.contains("Memory32Fixed (ReadWrite") && text.contains("0xD0027000"));
            assert!(text.contains("EisaId (\"PNP0501\")"), "{text}");
            assert!(text.contains("Notify (\\_SB.VGEN, 0x80)"), "{text}");
            assert!(text.contains("Interrupt (ResourceConsumer, Level, ActiveHigh, Shared"));
            let compiled = std::process::Command::new("iasl")
                .arg("DSDT.dsl")
                .current_dir(dir.path())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&compiled.stdout);
            assert!(said.contains("0 Errors"), "{said}");
        }
    }
}

#[test]
fn a_kernel_without_acpi_is_told_in_words() {
    let text = command_line(&hardware(2).slots);
    assert_eq!(text, "virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6");
}

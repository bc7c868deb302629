//! The disk as others see it: blkid(8), the kernel where it has the file system, and a reader that
//! goes by the descriptors alone.

use std::{collections::BTreeMap, process::Command};

use super::*;

fn seed() -> Seed {
    Seed {
        user_data: b"#cloud-config\n".repeat(300),
        meta_data: meta_data("id-1", "web"),
        network_config: Some(b"version: 2\n".to_vec()),
    }
}

fn number(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// All files by their long names.
fn read(disk: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let volume = &disk[16 * SECTOR..];
    assert_eq!(&volume[1..6], b"CD001");
    assert_eq!(number(volume, 80) * SECTOR, disk.len());
    let (at, bytes) = (number(volume, 158) * SECTOR, number(volume, 166));
    let mut rest = &disk[at..at + bytes];
    let mut files = BTreeMap::new();
    while rest[0] > 0 {
        let (entry, next) = rest.split_at(rest[0].into());
        rest = next;
        if entry[25] & 2 != 0 {
            continue;
        }
        let own = (33 + usize::from(entry[32])).next_multiple_of(2);
        let (mut own, mut name) = (&entry[own..], String::new());
        while own.len() > 4 {
            let (field, next) = own.split_at(own[2].into());
            if &field[..2] == b"NM" {
                name = String::from_utf8(field[5..].to_vec()).unwrap();
            }
            own = next;
        }
        let at = number(entry, 2) * SECTOR;
        files.insert(name, disk[at..at + number(entry, 10)].to_vec());
    }
    files
}

#[test]
fn every_file_is_found_by_its_name() {
    let files = read(&seed().disk().unwrap());
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["meta-data", "network-config", "user-data"]);
    assert_eq!(files["user-data"], seed().user_data);
    assert_eq!(files["meta-data"], b"instance-id: id-1\nlocal-hostname: web\n");
    let two = read(&Seed { network_config: None, ..seed() }.disk().unwrap());
    assert_eq!(two.len(), 2);
}

#[test]
fn a_file_that_is_too_long_is_refused() {
    let long = Seed { user_data: vec![0; FILE_BYTES_MAX + 1], ..Seed::default() };
    assert!(long.disk().unwrap_err().to_string().contains("user-data has 1048577 bytes"));
    let most = Seed { user_data: vec![7; FILE_BYTES_MAX], ..Seed::default() };
    assert_eq!(read(&most.disk().unwrap())["user-data"].len(), FILE_BYTES_MAX);
}

#[test]
fn a_network_is_said_in_yaml() {
    let mac = "02:00:00:00:00:01".parse().unwrap();
    let way = [Ipv4Addr::new(10, 0, 2, 2), Ipv4Addr::new(10, 0, 2, 3)];
    let text = network_config(mac, Ipv4Addr::new(10, 0, 2, 15), 24, way);
    assert_eq!(
        String::from_utf8(text).unwrap(),
        "version: 2
ethernets:
  card:
    match:
      macaddress: \"02:00:00:00:00:01\"
    addresses: [10.0.2.15/24]
    routes:
      - to: 0.0.0.0/0
        via: 10.0.2.2
    nameservers:
      addresses: [10.0.2.3]
"
    );
}

#[test]
fn the_label_is_what_cloud_init_looks_for() {
    let Some(blkid) = testkit::need::tool("blkid") else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seed");
    std::fs::write(&path, seed().disk().unwrap()).unwrap();
    let out = Command::new(blkid).args(["-p", "-o", "export"]).arg(&path).output().unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    for line in ["LABEL=CIDATA", "TYPE=iso9660"] {
        assert!(said.lines().any(|said| said == line), "{said}");
    }
}

/// Where the kernel has the file system built in; it need not.
#[test]
fn the_kernel_mounts_it() {
    let built_in = std::fs::read_to_string("/proc/filesystems").unwrap().contains("\tiso9660");
    if !built_in || !testkit::need::root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("seed"), seed().disk().unwrap()).unwrap();
    std::fs::create_dir(dir.path().join("to")).unwrap();
    let script = "mount -t iso9660 -o loop,ro seed to && cat to/meta-data && wc -c < to/user-data";
    let mut unshare = Command::new("unshare");
    unshare.args(["-m", "sh", "-ec", script]).current_dir(&dir);
    let out = unshare.output().unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    assert_eq!(said, "instance-id: id-1\nlocal-hostname: web\n4200\n");
}

//! The forms of archives that GNU tar and our own writer do not make.

use super::*;
use crate::{Device, DeviceClass, tar_write::records_of as records};

/// A header by hand.
struct Raw([u8; BLOCK_BYTES]);

impl Raw {
    fn new(name: &[u8], flag: u8) -> Raw {
        let mut block = [0; BLOCK_BYTES];
        block[..name.len()].copy_from_slice(name);
        block[156] = flag;
        let raw = Raw(block);
        raw.put(100, b"0000644\0").put(108, b"0000001\0").put(116, b"0000002\0")
    }

    fn put(mut self, at: usize, bytes: &[u8]) -> Raw {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn ustar(self) -> Raw {
        self.put(257, b"ustar\x0000")
    }

    fn with(mut self, data: &[u8]) -> Vec<u8> {
        let size = format!("{:011o}\0", data.len());
        self.0[124..136].copy_from_slice(size.as_bytes());
        let (sum, _) = header::checksums(&self.0);
        self.0[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut out = [&self.0[..], data].concat();
        out.resize(out.len().next_multiple_of(BLOCK_BYTES), 0);
        out
    }
}

fn read(parts: &[Vec<u8>]) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
    let tar = parts.concat();
    let mut archive = Archive::new(&tar[..], &Limits::default());
    let mut entries = Vec::new();
    while let Some(entry) = archive.next_entry()? {
        let mut data = Vec::new();
        while let Some(chunk) = archive.chunk()? {
            data.extend_from_slice(chunk);
        }
        entries.push((entry, data));
    }
    Ok(entries)
}

fn one(parts: &[Vec<u8>]) -> (Entry, Vec<u8>) {
    let mut entries = read(parts).unwrap();
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}

fn pax(records: &[u8]) -> Vec<u8> {
    Raw::new(b"pax", b'x').ustar().with(records)
}

#[test]
fn v7_archives_have_directories_that_end_in_a_slash() {
    assert_eq!(one(&[Raw::new(b"dir/", 0).with(b"")]).0.kind, EntryKind::Directory);
    let (entry, data) = one(&[Raw::new(b"file", 0).with(b"data")]);
    assert_eq!(entry.kind, EntryKind::File { size: 4, segments: None });
    assert_eq!((entry.attributes.mode, entry.attributes.uid, &data[..]), (0o644, 1, &b"data"[..]));
}

#[test]
fn prefixes_count_where_the_format_has_them() {
    let file = || Raw::new(b"name", b'0');
    assert_eq!(one(&[file().ustar().put(345, b"some/dir").with(b"")]).0.path, b"some/dir/name");
    let gnu = file().put(257, b"ustar  \0").put(345, b"12345670123\0");
    assert_eq!(one(&[gnu.with(b"")]).0.path, b"name");
    let star = file().ustar().put(345, b"dir").put(476, b"00000000000\0").put(508, b"tar\0");
    assert_eq!(one(&[star.with(b"")]).0.path, b"dir/name");
}

#[test]
fn types_without_data_have_none_whatever_their_size_says() {
    // As Go's archive/tar: what follows is the next header.
    let mut link = Raw::new(b"link", b'2').ustar().put(157, b"target").with(b"");
    link[124..136].copy_from_slice(b"00000001000\0");
    link[148..156].fill(b' ');
    let block: &[u8; BLOCK_BYTES] = link[..].try_into().unwrap();
    let (sum, _) = header::checksums(block);
    link[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let entries = read(&[link, Raw::new(b"next", b'0').ustar().with(b"data")]).unwrap();
    assert_eq!(entries[0].0.kind, EntryKind::Symlink(b"target".to_vec()));
    assert_eq!(entries[1].1, b"data");
}

#[test]
fn base_256_numbers_reach_beyond_octal() {
    let raw = Raw::new(b"f", b'0')
        .put(257, b"ustar  \0")
        .put(108, b"\x80\0\0\0\xee\x6b\x28\0")
        .put(136, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xf6");
    let (entry, _) = one(&[raw.with(b"")]);
    assert_eq!(entry.attributes.uid, 4_000_000_000);
    assert_eq!(entry.attributes.mtime, Time { seconds: -10, nanoseconds: 0 });
}

#[test]
fn signed_checksums_are_accepted() {
    let mut tar = Raw::new("n\u{e4}me".as_bytes(), b'0').ustar().with(b"");
    tar[148..156].fill(b' ');
    let block: &[u8; BLOCK_BYTES] = tar[..].try_into().unwrap();
    let (unsigned, signed) = header::checksums(block);
    assert_ne!(unsigned, signed);
    tar[148..156].copy_from_slice(format!("{signed:06o}\0 ").as_bytes());
    assert_eq!(one(&[tar]).0.path, "n\u{e4}me".as_bytes());
}

#[test]
fn pax_records_override_the_header_and_belong_to_one_entry() {
    let records = records(&[
        ("path", b"some/name"),
        ("size", b"4"),
        ("uid", b"100000"),
        ("mtime", b"1.5"),
        ("comment", b"ignored"),
    ]);
    let mut file = Raw::new(b"short", b'0').ustar().with(b"data");
    // The header itself announces nothing.
    file[124..136].copy_from_slice(b"00000000000\0");
    file[148..156].fill(b' ');
    let block: &[u8; BLOCK_BYTES] = file[..BLOCK_BYTES].try_into().unwrap();
    let (sum, _) = header::checksums(block);
    file[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let next = Raw::new(b"next", b'0').ustar().with(b"");
    let entries = read(&[pax(&records), file, next]).unwrap();
    let (entry, data) = &entries[0];
    assert_eq!((&entry.path[..], &data[..]), (&b"some/name"[..], &b"data"[..]));
    assert_eq!(entry.attributes.uid, 100_000);
    assert_eq!(entry.attributes.mtime, Time { seconds: 1, nanoseconds: 500_000_000 });
    assert_eq!((&entries[1].0.path[..], entries[1].0.attributes.uid), (&b"next"[..], 1));
}

#[test]
fn an_empty_record_gives_the_header_its_field_back() {
    let (entry, _) = one(&[pax(b"7 uid=\n"), Raw::new(b"f", b'0').ustar().with(b"")]);
    assert_eq!(entry.attributes.uid, 1);
}

#[test]
fn global_records_hold_until_they_are_overridden() {
    let global = Raw::new(b"g", b'g').ustar().with(b"9 uid=77\n8 gid=8\n");
    let file = |name: &[u8]| Raw::new(name, b'0').ustar().with(b"");
    let entries = read(&[global, file(b"a"), pax(b"9 uid=99\n"), file(b"b"), file(b"c")]).unwrap();
    let owners: Vec<_> =
        entries.iter().map(|(e, _)| (e.attributes.uid, e.attributes.gid)).collect();
    assert_eq!(owners, [(77, 8), (99, 8), (77, 8)]);
}

#[test]
fn global_names_sizes_and_attributes_are_refused() {
    for key in ["path", "linkpath", "size", "SCHILY.xattr.user.a", "GNU.sparse.size"] {
        let global = Raw::new(b"g", b'g').ustar().with(&records(&[(key, b"1")]));
        let fault = read(&[global]).unwrap_err().fault;
        assert!(matches!(fault, TarFault::PaxGlobal(_)), "{key}: {fault}");
    }
}

#[test]
fn gnu_long_names_and_targets_belong_to_one_entry() {
    let long =
        |flag, text: &[u8]| Raw::new(b"././@LongLink", flag).put(257, b"ustar  \0").with(text);
    let name = [&[b'n'; 150][..], b"\0"].concat();
    let target = [&[b't'; 200][..], b"\0"].concat();
    let link = Raw::new(b"cut", b'2').put(257, b"ustar  \0").put(157, b"cut").with(b"");
    let next = Raw::new(b"next", b'2').put(257, b"ustar  \0").put(157, b"short").with(b"");
    let entries = read(&[long(b'K', &target), long(b'L', &name), link, next]).unwrap();
    assert_eq!(entries[0].0.path, [b'n'; 150]);
    assert_eq!(entries[0].0.kind, EntryKind::Symlink(vec![b't'; 200]));
    assert_eq!(entries[1].0.path, b"next");
    assert_eq!(entries[1].0.kind, EntryKind::Symlink(b"short".to_vec()));
}

#[test]
fn devices_and_pipes_are_read() {
    let device = Raw::new(b"d", b'4').ustar().put(329, b"0000010\0").put(337, b"0000021\0");
    let expected = Device { class: DeviceClass::Block, major: 8, minor: 17 };
    assert_eq!(one(&[device.with(b"")]).0.kind, EntryKind::Device(expected));
    assert_eq!(one(&[Raw::new(b"p", b'6').ustar().with(b"")]).0.kind, EntryKind::Fifo);
}

#[test]
fn volume_labels_and_dump_directories_are_passed_over() {
    let label = Raw::new(b"backup", b'V').put(257, b"ustar  \0").with(b"");
    let dump = Raw::new(b"dir", b'D').put(257, b"ustar  \0").with(b"Yfile\0\0");
    let entries = read(&[label, dump, Raw::new(b"file", b'0').with(b"x")]).unwrap();
    let kinds: Vec<_> = entries.iter().map(|(entry, _)| entry.path.as_slice()).collect();
    assert_eq!(kinds, [&b"dir"[..], b"file"]);
    assert_eq!(entries[0].0.kind, EntryKind::Directory);
}

#[test]
fn sparse_maps_that_lie_are_refused() {
    let file = |data: &[u8]| Raw::new(b"f", b'0').ustar().with(data);
    let fault = |pairs: &[(&str, &[u8])], data: &[u8]| {
        read(&[pax(&records(pairs)), file(data)]).unwrap_err().fault
    };
    let size = ("GNU.sparse.size", &b"9"[..]);
    for map in [&b"0,4,8"[..], b"0,5", b"0,2,1,2", b"8,4"] {
        assert!(matches!(fault(&[size, ("GNU.sparse.map", map)], b"data"), TarFault::SparseMap));
    }
    let half = [size, ("GNU.sparse.offset", b"0")];
    assert!(matches!(fault(&half, b"data"), TarFault::SparseMap));
    let twice = [size, ("GNU.sparse.offset", b"0"), ("GNU.sparse.offset", b"0")];
    assert!(matches!(fault(&twice, b"data"), TarFault::PaxValue(_)));
    let version = |major| {
        [
            ("GNU.sparse.major", major),
            ("GNU.sparse.minor", &b"0"[..]),
            ("GNU.sparse.realsize", b"9"),
        ]
    };
    assert!(matches!(fault(&version(b"2"), b"data"), TarFault::SparseVersion(2, 0)));
    assert!(matches!(fault(&version(b"1"), b"1\n0\n4\n"), TarFault::SparseMap));
    assert!(matches!(fault(&version(b"1"), &[b'1'; 512]), TarFault::SparseMap));
    let many = [&b"999999999\n"[..], &[0; 502]].concat();
    assert!(matches!(fault(&version(b"1"), &many), TarFault::Limit(_)));
}

//! Archives that mean harm end in an error that names the entry, in both forms.

use std::{error::Error, fs};

use crate::layer::{
    Attributes, Device, DeviceClass, Entry, EntryKind, LayerError, Limits,
    fixture::{
        archive, directory, entry, file, hard_link, records, symlink, unpacked_within, with_xattr,
        written_within,
    },
};

/// The whole chain of an error.
fn text(error: &LayerError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text += &format!(": {source}");
        next = source.source();
    }
    text
}

#[track_caller]
fn refused_within(tar: &[u8], limits: &Limits, words: &[&str]) {
    let mut errors = vec![written_within(tar, limits).map(|_| ()).unwrap_err()];
    if testkit::need::root() {
        errors.push(unpacked_within(tar, limits).map(|_| ()).unwrap_err());
    }
    for error in errors {
        let text = text(&error);
        for word in words {
            assert!(text.contains(word), "\"{text}\" does not say \"{word}\"");
        }
    }
}

#[track_caller]
fn refused(tar: &[u8], words: &[&str]) {
    refused_within(tar, &Limits::default(), words);
}

#[test]
fn paths_that_leave_the_root_are_refused() {
    refused(&archive(&[file("../evil", "x")]), &["\"../evil\"", "leads out of the root"]);
    refused(&archive(&[file("a/../../evil", "x")]), &["a/../../evil", "out of the root"]);
    refused(&archive(&[directory("..")]), &["\"..\"", "out of the root"]);
    refused(&archive(&[file("a", "x"), hard_link("b", "../etc/passwd")]), &["\"b\"", "target"]);
}

#[test]
fn hard_links_to_nothing_or_to_directories_are_refused() {
    refused(&archive(&[hard_link("a", "missing")]), &["\"a\"", "\"missing\" is not in the layer"]);
    refused(&archive(&[hard_link("a", "/etc/shadow")]), &["\"a\"", "not in the layer"]);
    refused(&archive(&[directory("d"), hard_link("a", "d")]), &["\"a\"", "is a directory"]);
    refused(&archive(&[file(".wh.w", ""), hard_link("a", "w")]), &["\"a\"", "not in the layer"]);
    refused(&archive(&[symlink("l", "/etc"), hard_link("a", "l/passwd")]), &["not in the layer"]);
}

#[test]
fn a_symbolic_link_leads_into_the_layer_and_never_out_of_it() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    let up = format!("../../../../../..{target}");
    for (target, link) in [(target, "escape"), (&up, "escape"), (target, "d/escape")] {
        let evil = format!("{link}/evil");
        let tar = archive(&[symlink(link, target), file(&evil, "x")]);
        written_within(&tar, &Limits::default()).unwrap();
        if testkit::need::root() {
            unpacked_within(&tar, &Limits::default()).unwrap();
        }
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    let loops = archive(&[symlink("a", "b"), symlink("b", "/a"), file("a/x", "x")]);
    refused(&loops, &["\"a/x\"", "more than 40 symbolic links"]);
    let through = archive(&[file("f", "x"), symlink("l", "f/g"), file("l/x", "x")]);
    refused(&through, &["\"l/x\"", "is not a directory"]);
    let deep = symlink("l", &"d/".repeat(500));
    let deep = archive(&[deep, file(&format!("l/{}x", "e/".repeat(100)), "x")]);
    refused(&deep, &["512 components in one path"]);
}

#[test]
fn entries_below_files_are_refused() {
    refused(&archive(&[file("f", "x"), file("f/g", "x")]), &["\"f/g\"", "\"f\" above it"]);
    refused(&archive(&[file(".wh.f/g", "x")]), &["whiteout"]);
    refused(&archive(&[file("a/.wh.", "x")]), &["whiteout"]);
    refused(&archive(&[symlink(".", "x")]), &["only a directory can be the root"]);
}

#[test]
fn names_with_nul_and_names_that_are_too_long_are_refused() {
    let pax = raw_pax(&records(&[("path", b"a\0b")]));
    refused(&pax, &["PAX key \"path\""]);
    refused(&archive(&[file(&"a".repeat(256), "x")]), &["longer than 255"]);
    refused(&archive(&[file(&"a/".repeat(3000), "x")]), &["4095 bytes in one path"]);
    refused(&archive(&[file(&"a/".repeat(600), "x")]), &["512 components in one path"]);
    refused(&archive(&[symlink("l", &"t".repeat(5000))]), &["\"l\"", "4095 bytes in one link"]);
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let whole = archive(&[file("cut", "x".repeat(5000))]);
    refused(&whole[..2000], &["\"cut\"", "cut off"]);
    refused(&whole[..300], &["cut off"]);
    // Data that the header does not announce is taken for a header.
    let mut short = archive(&[file("a", "x".repeat(1000))]);
    set_octal(&mut short, 124, 12, 10);
    refused(&short, &["byte 1024", "not a tar header"]);
    let mut negative = archive(&[file("a", "x")]);
    negative[124..136].fill(0xff);
    fix_checksum(&mut negative);
    refused(&negative, &["\"a\"", "size"]);
}

#[test]
fn bombs_end_at_their_limit() {
    let zeros = vec![0; 8 << 20];
    let limits = Limits { content_bytes: 4 << 20, ..Limits::default() };
    refused_within(&archive(&[file("bomb", zeros)]), &limits, &["\"bomb\"", "4194304 bytes"]);

    let many = archive(&(0..20).map(|i| file(&i.to_string(), "")).collect::<Vec<_>>());
    refused_within(&many, &Limits { entries: 10, ..Limits::default() }, &["10 entries"]);
    let implied = archive(&[file("a/b/c/d/e/f", "")]);
    refused_within(&implied, &Limits { entries: 3, ..Limits::default() }, &["3 entries"]);

    // Zeros behind the end of the archive, compressed a thousandfold.
    let mut long = archive(&[file("a", "x")]);
    long.resize(32 << 20, 0);
    let blob = zstd::encode_all(&long[..], 1).unwrap();
    let limits = Limits { tar_bytes: 16 << 20, ..Limits::default() };
    refused_within(&blob, &limits, &["16777216 bytes of uncompressed archive"]);

    let names: Vec<_> = (0..100).map(|i| file(&format!("{i}{}", "n".repeat(200)), "")).collect();
    let limits = Limits { metadata_bytes: 20_000, ..Limits::default() };
    refused_within(&archive(&names), &limits, &["20000 bytes of names"]);

    let kind = EntryKind::File { size: 2 << 40, segments: Some(Vec::new()) };
    refused(&archive(&[entry("holes", kind)]), &["\"holes\"", "bytes in one file"]);
}

#[test]
fn extension_headers_have_limits_and_come_once() {
    let mut huge = raw_pax(b"6 a=b\n");
    set_octal(&mut huge, 124, 12, 2 << 20);
    refused(&huge, &["1048576 bytes in one extension header"]);

    let pax = raw_pax(b"6 a=b\n");
    let (one, rest) = pax.split_at(1024);
    refused(&[one, one, rest].concat(), &["two extension headers"]);
    refused(&raw_pax(b"7 uid=1\n8 uid=2\n"), &["PAX records are malformed"]);
    refused(&raw_pax(b"8 uid=1\n8 uid=2\n"), &["\"uid\" is given twice"]);
    refused(one, &["belongs to no entry"]);

    let stored = with_xattr(file("x", "x"), "user.big", &vec![1; 70_000]);
    refused(&archive(&[stored]), &["\"x\"", "bytes of extended attributes"]);

    let mut global = raw_pax(&records(&[("path", b"all")]));
    global[156] = b'g';
    fix_checksum(&mut global);
    refused(&global, &["\"path\" is set for all entries"]);
}

#[test]
fn a_name_given_by_pax_and_by_gnu_is_refused() {
    let mut long = archive(&[file("././@LongLink", "other-name")]);
    long.truncate(1024);
    long[156] = b'L';
    fix_checksum(&mut long);
    let pax = raw_pax(&records(&[("path", b"abc")]));
    let tar = [&pax[..1024], &long, &archive(&[file("f", "x")])].concat();
    refused(&tar, &["named twice"]);
}

#[test]
fn unknown_types_owners_and_devices_are_refused() {
    for kind in [b'M', b'N', b'Z', b'8', 0xff] {
        let mut tar = archive(&[file("odd", "")]);
        tar[156] = kind;
        fix_checksum(&mut tar);
        refused(&tar, &["\"odd\"", "entries of type"]);
    }
    let attributes = Attributes { uid: u32::MAX, ..Attributes::default() };
    let kind = EntryKind::Fifo;
    let stored = (Entry { path: b"own".to_vec(), attributes, kind }, Vec::new());
    refused(&archive(&[stored]), &["\"own\"", "owner"]);
    let device = Device { class: DeviceClass::Block, major: 5000, minor: 1 };
    refused(&archive(&[entry("dev", EntryKind::Device(device))]), &["\"dev\"", "5000:1"]);
}

#[test]
fn damaged_streams_are_told_from_damaged_archives() {
    let tar = archive(&[file("a", "hello".repeat(1000))]);
    let mut zstd = zstd::encode_all(&tar[..], 3).unwrap();
    zstd.truncate(zstd.len() - 10);
    refused(&zstd, &["cannot decompress the layer as Zstd"]);
    refused(b"\x1f\x8b\x08 not really gzip", &["cannot decompress the layer as Gzip"]);
    refused(b"\xfd7zXZ\0rest", &["compressed with xz"]);
    let mut tar = tar;
    tar[10] ^= 1;
    refused(&tar, &["byte 0", "checksum"]);
    refused(&[&[0; 512], &tar[..]].concat(), &["zero block"]);
}

#[test]
fn zstd_windows_have_a_limit() {
    use std::io::Write;
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(28).unwrap();
    encoder.write_all(&archive(&[file("a", "x")])).unwrap();
    refused(&encoder.finish().unwrap(), &["cannot decompress"]);
}

/// An archive that is one PAX header with these records, and one file.
fn raw_pax(records: &[u8]) -> Vec<u8> {
    let mut tar = archive(&[file("pax", records)]);
    tar.truncate(1024);
    tar[156] = b'x';
    fix_checksum(&mut tar);
    tar.extend(archive(&[file("f", "x")]));
    tar
}

fn set_octal(tar: &mut [u8], at: usize, length: usize, number: u64) {
    let digits = format!("{number:0width$o}\0", width = length - 1);
    tar[at..at + length].copy_from_slice(digits.as_bytes());
    fix_checksum(tar);
}

fn fix_checksum(tar: &mut [u8]) {
    tar[148..156].fill(b' ');
    let sum: u32 = tar[..512].iter().map(|&b| u32::from(b)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

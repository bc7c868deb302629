//! Any tree survives; no bytes at all do harm.

use std::io::{Seek, Write};

use proptest::{collection::vec, prelude::*};

use crate::layer::{
    Attributes, Device, DeviceClass, Entry, EntryKind, Limits, Segment, Time, Xattr,
    fixture::{Stored, archive, assert_same, describe_path, unpacked, written},
    read::read_erofs,
    tar::Archive,
    tar_write::TarWriter,
};

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]", "[!-.0-~]{1,12}", "[a-z]{90,255}"]
        .prop_filter("no dots, no whiteouts", |name| {
            name != "." && name != ".." && !name.starts_with(".wh.")
        })
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let time = (-5_000_000_000_i64..5_000_000_000, 0_u32..1_000_000_000);
    let xattr = ("(user|trusted|security)\\.[a-z]{1,30}", vec(any::<u8>(), 0..300));
    let xattrs = proptest::collection::btree_map(xattr.0, xattr.1, 0..4);
    (0_u16..0o10000, 0..u32::MAX, 0..u32::MAX, time, xattrs).prop_map(
        |(mode, uid, gid, (seconds, nanoseconds), xattrs)| {
            let mtime = Time { seconds, nanoseconds };
            let xattr = |(name, value): (String, Vec<u8>)| Xattr {
                name: name.into_bytes().into(),
                value: value.into(),
            };
            Attributes { mode, uid, gid, mtime, xattrs: xattrs.into_iter().map(xattr).collect() }
        },
    )
}

fn kind() -> impl Strategy<Value = (EntryKind, Vec<u8>)> {
    let bytes = |range| vec(any::<u8>(), range);
    let dense = |data: Vec<u8>| (EntryKind::File { size: data.len() as u64, segments: None }, data);
    let segments = vec((1_u64..20_000, 1_u64..9000), 1..6).prop_map(|runs| {
        let mut end = 0;
        let segments = runs.iter().map(|(gap, length)| {
            let offset = end + gap;
            end = offset + length;
            Segment { offset, length: *length }
        });
        let segments: Vec<_> = segments.collect();
        let data = segments.iter().flat_map(|s| {
            vec![u8::try_from(s.offset % 255).unwrap(); usize::try_from(s.length).unwrap()]
        });
        let data = data.collect();
        (EntryKind::File { size: end + 5000, segments: Some(segments) }, data)
    });
    prop_oneof![
        4 => bytes(0..300).prop_map(dense),
        2 => bytes(1900..2200).prop_map(dense),
        2 => bytes(4000..9000).prop_map(dense),
        1 => segments,
        3 => Just((EntryKind::Directory, Vec::new())),
        1 => "[!-~]{1,2500}".prop_map(|t| (EntryKind::Symlink(t.into_bytes()), Vec::new())),
        1 => Just((EntryKind::Fifo, Vec::new())),
        1 => (1_u32..4096, 0_u32..1 << 20).prop_map(|(major, minor)| {
            let device = Device { class: DeviceClass::Character, major, minor };
            (EntryKind::Device(device), Vec::new())
        }),
    ]
}

/// Entries in directories of their own, so that no name is in the way of another.
fn entries() -> impl Strategy<Value = Vec<Stored>> {
    let paths = vec(vec(name(), 0..4), 1..30);
    (paths, vec((attributes(), kind(), name()), 30)).prop_map(|(paths, rest)| {
        let stored = paths.into_iter().zip(rest).enumerate();
        stored
            .map(|(i, (parents, (attributes, (kind, data), name)))| {
                let mut path: String =
                    parents.iter().map(|p| format!("d{}/", &p[..p.len().min(200)])).collect();
                path += &format!("f{i}-{}", &name[..name.len().min(200)]);
                (Entry { path: path.into_bytes(), attributes, kind }, data)
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_is_the_same_in_every_form(stored in entries()) {
        let tar = archive(&stored);
        let image = written(&tar).unwrap();
        image.fsck();
        let tree = image.read();
        prop_assert!(tree.len() > stored.len());
        for (entry, _) in &stored {
            let described = &tree[std::str::from_utf8(&entry.path).unwrap()];
            prop_assert_eq!(described.uid, entry.attributes.uid);
            let Time { seconds, nanoseconds } = entry.attributes.mtime;
            prop_assert_eq!(described.mtime, (seconds, i64::from(nanoseconds)));
        }
        if testkit::need::root() {
            assert_same(&tree, &image.mounted());
        }
        let exported =
            crate::layer::export(image.file.as_file(), &Limits::default(), Vec::new()).unwrap();
        assert_same(&tree, &written(&exported).unwrap().read());
    }

    #[test]
    fn the_tar_reader_reads_what_the_writer_writes(stored in entries()) {
        let tar = archive(&stored);
        let mut reader = Archive::new(&tar[..], &Limits::default());
        for (entry, data) in &stored {
            let read = reader.next_entry().unwrap();
            prop_assert_eq!(read.as_ref(), Some(entry));
            let mut read = Vec::new();
            while let Some(chunk) = reader.chunk().unwrap() {
                read.extend_from_slice(chunk);
            }
            prop_assert_eq!(&read, data);
        }
        prop_assert!(reader.next_entry().unwrap().is_none());
    }
}

/// Writing and reading are the slow part above; here thousands of cases are cheap.
fn drain(bytes: &[u8]) {
    let limits = Limits { extension_bytes: 4096, segments: 100, ..Limits::default() };
    let mut archive = Archive::new(bytes, &limits);
    while let Ok(Some(_)) = archive.next_entry() {
        while let Ok(Some(_)) = archive.chunk() {}
    }
}

/// Blocks that look like headers, so that the parser gets further than a checksum.
fn header_like() -> impl Strategy<Value = Vec<u8>> {
    let flag = proptest::sample::select(b"\x000123456789xgLKSVDMX".to_vec());
    let tweak = vec((0_usize..512, any::<u8>()), 0..6);
    (flag, 0_u32..3000, tweak, vec(any::<u8>(), 0..600)).prop_map(|(flag, size, tweaks, data)| {
        let kind = EntryKind::File { size: 0, segments: None };
        let path = b"some/name".to_vec();
        let entry = Entry { path, attributes: Attributes::default(), kind };
        let mut tar = TarWriter::new(Vec::new());
        tar.entry(&entry).unwrap();
        let mut block = std::mem::take(tar.out_mut());
        block[156] = flag;
        block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        for (at, byte) in tweaks {
            block[at] = byte;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block[..512].iter().map(|&b| u32::from(b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block.extend(data);
        block.resize(block.len().next_multiple_of(512), 0);
        block
    })
}

fn pax_like() -> impl Strategy<Value = Vec<u8>> {
    let key = prop_oneof![
        "(path|size|uid|mtime|GNU.sparse.(major|minor|map|size|realsize|offset|numbytes|name))",
        "(SCHILY|LIBARCHIVE).xattr.[a-z%0-9]{1,6}",
    ];
    vec((key, "[0-9,.\\-a-z=\n%]{0,12}"), 0..8).prop_map(|records| {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = rest
                + if rest + 2 > 99 {
                    3
                } else if rest + 1 > 9 {
                    2
                } else {
                    1
                };
            data.extend(format!("{length} {key}={value}\n").into_bytes());
        }
        let kind = EntryKind::File { size: data.len() as u64, segments: None };
        let entry = Entry { path: b"pax".to_vec(), attributes: Attributes::default(), kind };
        let mut tar = archive(&[(entry, data)]);
        tar[156] = b'x';
        tar[148..156].fill(b' ');
        let sum: u32 = tar[..512].iter().map(|&b| u32::from(b)).sum();
        tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar.truncate(tar.len() - 1024);
        tar
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_break_the_tar_reader(bytes in vec(any::<u8>(), 0..3000)) {
        drain(&bytes);
    }

    #[test]
    fn no_headers_break_the_tar_reader(
        blocks in vec(prop_oneof![header_like(), pax_like()], 0..5)
    ) {
        drain(&blocks.concat());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_breaks_the_image_reader(tweaks in vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
        let long = "l".repeat(300);
        let stored: Vec<Stored> = [("a/b", 0), ("a/c", 5000), ("d", 100)]
            .iter()
            .map(|(path, size)| crate::layer::fixture::file(path, vec![7; *size]))
            .chain([crate::layer::fixture::symlink("l", &long)])
            .collect();
        let image = written(&archive(&stored)).unwrap();
        let mut bytes = image.bytes();
        // Content is not interesting; the superblock and the metadata are. No checksum.
        bytes[1032] &= !1;
        let (content, metadata) = (1128, 3 * 4096);
        for (at, byte) in tweaks {
            let at = at.index(100 + bytes.len() - metadata);
            let at = if at < 100 { content - 100 + at } else { metadata + at - 100 };
            bytes[at] = byte;
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file.rewind().unwrap();
        let limits = Limits { file_bytes: 1 << 24, entries: 1000, ..Limits::default() };
        let Ok(image) = read_erofs(&file, &limits) else { return Ok(()) };
        for entry in image.entries() {
            let Ok(entry) = entry else { break };
            for extent in image.extents_of(&entry).unwrap_or_default() {
                image.copy(&extent, &mut std::io::sink()).unwrap();
            }
        }
    }
}

#[test]
fn the_directory_form_is_the_same_tree() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    if !testkit::need::root() {
        return;
    }
    let mut runner = TestRunner::deterministic();
    for _ in 0..6 {
        let mut stored = entries().new_tree(&mut runner).unwrap().current();
        // What the file system below refuses is not our subject.
        for (entry, _) in &mut stored {
            entry.attributes.xattrs.retain(|x| x.name.starts_with(b"trusted."));
            // ext4 begins in 1901.
            let seconds = &mut entry.attributes.mtime.seconds;
            *seconds = (*seconds).max(i64::from(i32::MIN) + 1);
        }
        let tar = archive(&stored);
        let (directory, _) = unpacked(&tar).unwrap();
        assert_same(&written(&tar).unwrap().read(), &describe_path(directory.path()));
    }
}

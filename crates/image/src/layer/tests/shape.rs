//! What layers become, where GNU tar is no reference: whiteouts, replacement, sizes, streams.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::fd::AsFd,
    time::Instant,
};

use flate2::{Compression as Level, write::GzEncoder};

use crate::layer::{
    Compression, DeviceClass, EntryKind, Limits, Segment,
    fixture::{
        Described, archive, assert_same, describe_fd, describe_path, directory, entry, file,
        hard_link, overlay, symlink, unpacked, with_xattr, written,
    },
    write_directory, write_erofs,
};
use crate::mounts::Marks;

fn is_whiteout(described: &Described) -> bool {
    described.mode & 0o170_000 == 0o020_000 && described.content == "0:0"
}

fn is_opaque(described: &Described) -> bool {
    described.xattrs.contains(&("trusted.overlay.opaque".to_owned(), b"y".to_vec()))
}

/// fsck.erofs 1.5 reads a header of attributes behind every inode, also where there are
/// none, and an image that ends with such an inode would be too short for it.
#[test]
fn the_last_inode_is_never_at_the_very_end() {
    let mut blocks = Vec::new();
    for size in (1600..2048).step_by(32) {
        let content = vec![b'x'; size];
        let tar = archive(&[
            file("a", content.clone()),
            file("b", content),
            entry("last", EntryKind::Fifo),
        ]);
        let image = written(&tar).unwrap();
        image.fsck();
        blocks.push(image.bytes().len() / 4096);
    }
    // It was at the end of a block once on the way.
    assert!(blocks.first() < blocks.last(), "{blocks:?}");
}

#[test]
fn whiteouts_and_opaque_directories_take_overlayfs_form() {
    if !testkit::need::root() {
        return;
    }
    let tar = archive(&[
        file("etc/.wh.gone", ""),
        directory("opaque"),
        file("opaque/.wh..wh..opq", ""),
        file("opaque/new", "new"),
        file(".wh.before", ""),
        file("before/inside", "x"),
        file("after/inside", "x"),
        file(".wh.after", ""),
        file(".wh.file", ""),
        file("file", "stays"),
        file(".wh..wh.plnk/1.2", "aufs"),
        file(".wh..wh.aufs", "aufs"),
    ]);
    let image = written(&tar).unwrap();
    image.fsck();
    let (dir, _) = unpacked(&tar).unwrap();
    for tree in [image.mounted(), image.read(), describe_path(dir.path())] {
        let names: Vec<&str> = tree.keys().map(String::as_str).collect();
        let expected = [
            "",
            "after",
            "after/inside",
            "before",
            "before/inside",
            "etc",
            "etc/gone",
            "file",
            "opaque",
            "opaque/new",
        ];
        assert_eq!(names, expected);
        assert!(is_whiteout(&tree["etc/gone"]));
        assert!(["opaque", "before", "after"].iter().all(|name| is_opaque(&tree[*name])));
        assert!(!is_opaque(&tree["etc"]));
        assert_eq!(tree["file"].size, 5);
    }
}

#[test]
fn overlayfs_hides_what_the_upper_of_two_layers_hides() {
    if !testkit::need::root() {
        return;
    }
    let lower = written(&archive(&[
        file("etc/gone", "x"),
        file("etc/kept", "x"),
        file("opaque/old", "x"),
        file("fresh/old", "x"),
        file("merged/old", "x"),
    ]));
    let upper = written(&archive(&[
        file("etc/.wh.gone", ""),
        file("opaque/.wh..wh..opq", ""),
        file("opaque/new", "x"),
        file("fresh/new", "x"),
        file(".wh.fresh", ""),
        file("merged/new", "x"),
    ]));
    let tree = describe_fd(&overlay(&[upper.unwrap(), lower.unwrap()]));
    let files: Vec<&str> =
        tree.iter().filter(|(_, d)| d.size > 0).map(|(path, _)| path.as_str()).collect();
    assert_eq!(files, ["etc/kept", "fresh/new", "merged/new", "merged/old", "opaque/new"]);
    assert!(!tree.contains_key("etc/gone"));
}

#[test]
fn entries_below_a_link_of_their_layer_go_where_it_leads() {
    let tar = archive(&[
        directory("usr/lib"),
        symlink("lib", "usr/lib"),
        file("lib/x", "x"),
        file("lib/.wh.gone", ""),
        hard_link("h", "lib/x"),
        symlink("usr/up", "../../../made/./here"),
        file("usr/up/y", "y"),
        symlink("rooted", "/usr/up"),
        file("rooted/z", "z"),
    ]);
    let image = written(&tar).unwrap();
    image.fsck();
    let tree = image.read();
    let names: Vec<&str> = tree.keys().map(String::as_str).collect();
    let want = [
        "",
        "h",
        "lib",
        "made",
        "made/here",
        "made/here/y",
        "made/here/z",
        "rooted",
        "usr",
        "usr/lib",
        "usr/lib/gone",
        "usr/lib/x",
        "usr/up",
    ];
    assert_eq!(names, want);
    assert_eq!(tree["lib"].content, "usr/lib");
    assert_eq!((tree["h"].links, &tree["h"].first), (2, &tree["usr/lib/x"].first));
    assert!(is_whiteout(&tree["usr/lib/gone"]));
    if testkit::need::root() {
        let (dir, _) = unpacked(&tar).unwrap();
        let unpacked = describe_path(dir.path());
        assert_eq!(unpacked.keys().map(String::as_str).collect::<Vec<_>>(), want);
    }
}

/// As under Docker and containerd, whose overlays have a directory there too.
#[test]
fn a_directory_hides_the_link_of_a_layer_below_and_the_files_behind_it_stay() {
    if !testkit::need::root() {
        return;
    }
    let lower = archive(&[file("usr/lib/old", "x"), symlink("lib", "usr/lib")]);
    let upper = archive(&[file("lib/new", "x")]);
    let layers = [written(&upper).unwrap(), written(&lower).unwrap()];
    let tree = describe_fd(&overlay(&layers));
    let files: Vec<&str> = tree
        .iter()
        .filter(|(_, d)| d.content.len() > 7 || d.size == 1)
        .map(|(p, _)| &**p)
        .collect();
    assert!(files.contains(&"lib/new") && files.contains(&"usr/lib/old"), "{files:?}");
    assert!(!tree.contains_key("lib/old"), "{files:?}");
}

#[test]
fn exported_whiteouts_are_imported_again() {
    let tar = archive(&[
        file("a/.wh.gone", ""),
        directory("b"),
        file("b/.wh..wh..opq", ""),
        file("c", "c"),
        hard_link("d", "c"),
    ]);
    let image = written(&tar).unwrap();
    let limits = Limits::default();
    let exported = crate::layer::export(image.file.as_file(), &limits, Vec::new()).unwrap();
    let again = written(&exported).unwrap();
    assert_same(&image.read(), &again.read());
    let twice = crate::layer::export(again.file.as_file(), &limits, Vec::new()).unwrap();
    assert_eq!(exported, twice);
}

#[test]
fn later_entries_replace_earlier_ones() {
    let mut restricted = directory("dir");
    restricted.0.attributes.mode = 0o700;
    let tar = archive(&[
        directory("dir"),
        file("dir/kept", "kept"),
        restricted,
        file("file", "first, and long enough to be somewhere else ".repeat(100)),
        file("file", "second"),
        directory("was-dir"),
        file("was-dir/lost", "lost"),
        hard_link("saved", "was-dir/lost"),
        file("was-dir", "now a file"),
        symlink("was-link", "dir"),
        directory("was-link"),
        file("was-link/inside", "x"),
    ]);
    let image = written(&tar).unwrap();
    image.fsck();
    let tree = image.read();
    assert_eq!(tree["dir"].mode, 0o040_700);
    assert_eq!(tree["dir/kept"].size, 4);
    assert_eq!(tree["file"].size, 6);
    assert!(!tree.contains_key("was-dir/lost"));
    assert_eq!((tree["saved"].size, tree["saved"].links), (4, 1));
    assert!(tree.contains_key("was-link/inside"));
    if testkit::need::root() {
        let (dir, _) = unpacked(&tar).unwrap();
        assert_same(&tree, &describe_path(dir.path()));
    }
}

#[test]
fn parents_that_the_archive_only_implies_are_made() {
    let image = written(&archive(&[file("/a/./b//c/../file", "x")])).unwrap();
    let tree = image.read();
    assert_eq!(tree.keys().map(String::as_str).collect::<Vec<_>>(), ["", "a", "a/b", "a/b/file"]);
    assert_eq!(tree["a/b"].mode, 0o040_755);
}

#[test]
fn overlayfs_and_foreign_attributes_are_left_out_and_counted() {
    let stored = with_xattr(file("f", "x"), "trusted.overlay.redirect", b"/etc");
    let stored = with_xattr(stored, "user.overlay.opaque", b"y");
    let stored = with_xattr(stored, "com.apple.provenance", b"1");
    let stored = with_xattr(stored, "user.kept", b"2");
    let image = written(&archive(&[stored])).unwrap();
    assert_eq!(image.read()["f"].xattrs, [("user.kept".to_owned(), b"2".to_vec())]);
    assert_eq!(image.layer.xattrs_ignored, 3);
}

#[test]
fn sparse_files_keep_their_holes_and_other_layers_do_not_need_chunks() {
    const INCOMPAT_AT: usize = 1024 + 80;
    let segments = vec![Segment { offset: 5 << 30, length: 3 }];
    let kind = EntryKind::File { size: 6 << 30, segments: Some(segments) };
    let sparse = (entry("sparse", kind).0, b"end".to_vec());
    let image = written(&archive(&[sparse])).unwrap();
    let bytes = image.bytes();
    assert!(bytes.len() < 1 << 20, "{}", bytes.len());
    assert_eq!(bytes[INCOMPAT_AT], 4);
    image.fsck();
    let plain = written(&archive(&[file("plain", "x")])).unwrap();
    assert_eq!(plain.bytes()[INCOMPAT_AT], 0);
}

#[test]
fn the_same_archive_gives_the_same_bytes_however_it_is_compressed() {
    let tar = archive(&[
        file("b", "b".repeat(10_000)),
        file("a", "a"),
        entry(
            "dev",
            EntryKind::Device(crate::layer::Device {
                class: DeviceClass::Block,
                major: 8,
                minor: 1,
            }),
        ),
    ]);
    // Two gzip members, and a zstd stream of two frames.
    let (first, second) = tar.split_at(700);
    let gzip = [gzipped(first), gzipped(second)].concat();
    let zstd =
        [zstd::encode_all(first, 3).unwrap(), zstd::encode_all(second, 19).unwrap()].concat();
    let plain = written(&tar).unwrap();
    let digest = |bytes: &[u8]| {
        use sha2::Digest as _;
        base::Digest::from_sha256(sha2::Sha256::digest(bytes).into())
    };
    for (bytes, compression) in
        [(&tar, Compression::None), (&gzip, Compression::Gzip), (&zstd, Compression::Zstd)]
    {
        let image = written(bytes).unwrap();
        assert_eq!(image.bytes(), plain.bytes());
        assert_eq!(image.layer.compression, compression);
        assert_eq!(image.layer.blob, digest(bytes));
        assert_eq!(image.layer.blob_bytes, bytes.len() as u64);
        assert_eq!(image.layer.diff_id, digest(&tar));
        assert_eq!(image.layer.tar_bytes, tar.len() as u64);
    }
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn what_follows_the_end_of_the_archive_is_hashed_and_not_looked_at() {
    let mut tar = archive(&[file("a", "a")]);
    let image = written(&tar).unwrap();
    tar.extend(b"garbage behind the end".repeat(50_000));
    let longer = written(&tar).unwrap();
    assert_same(&image.read(), &longer.read());
    assert_eq!(longer.layer.tar_bytes, tar.len() as u64);
    assert_ne!(image.layer.diff_id, longer.layer.diff_id);
}

#[test]
fn an_archive_without_entries_or_without_an_end_is_a_layer() {
    let whole = archive(&[file("a", "a")]);
    let (no_end, _) = whole.split_at(whole.len() - 1024);
    let (no_padding, _) = whole.split_at(512 + 1);
    for (tar, names) in
        [(&b""[..], 1), (&[0; 512], 1), (&[0; 1024], 1), (no_end, 2), (no_padding, 2)]
    {
        let image = written(tar).unwrap();
        image.fsck();
        assert_eq!(image.read().len(), names);
    }
}

#[test]
fn progress_counts_the_raw_bytes_up_to_the_last() {
    let blob = gzipped(&archive(&[file("a", "a".repeat(3 << 20))]));
    let out = tempfile::tempfile().unwrap();
    let mut seen = Vec::new();
    write_erofs(&blob[..], &out, &Limits::default(), &mut |bytes| seen.push(bytes)).unwrap();
    assert!(seen.is_sorted() && seen.len() > 3);
    assert_eq!(seen.last(), Some(&(blob.len() as u64)));
}

/// An archive of files that are only counted.
struct ManyFiles {
    next: u32,
    block: Vec<u8>,
}

impl Read for ManyFiles {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.block.is_empty() && self.next < 100_000 {
            let path = format!("{}/{}/file-{}", self.next % 7, self.next % 331, self.next);
            let mut tar = archive(&[file(&path, self.next.to_string())]);
            tar.truncate(1024);
            self.block = tar;
            self.next += 1;
        }
        let read = self.block.len().min(into.len());
        into[..read].copy_from_slice(&self.block[..read]);
        self.block.drain(..read);
        Ok(read)
    }
}

#[test]
fn a_hundred_thousand_entries_are_written_quickly() {
    let start = Instant::now();
    let out = tempfile::NamedTempFile::new().unwrap();
    let input = ManyFiles { next: 0, block: Vec::new() };
    let layer = write_erofs(input, out.as_file(), &Limits::default(), &mut |_| {}).unwrap();
    assert_eq!(layer.entries, 100_000);
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    let image = crate::layer::fixture::Written { file: out, layer };
    image.fsck();
    let limits = Limits::default();
    let reader = crate::layer::read::read_erofs(image.file.as_file(), &limits).unwrap();
    let count = reader.entries().inspect(|entry| assert!(entry.is_ok(), "{entry:?}")).count();
    assert_eq!(count, 100_000 + 1 + 7 + 7 * 331);
}

/// Zeros that take no memory.
struct Zeros {
    head: io::Cursor<Vec<u8>>,
    left: u64,
}

impl Read for Zeros {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.head.read(into)? {
            0 => {
                let read = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
                into[..read].fill(0);
                self.left -= read as u64;
                Ok(read)
            }
            read => Ok(read),
        }
    }
}

#[test]
fn sizes_beyond_4_gib_are_kept() {
    // Sparse, so that nothing of that size is written; the data itself lies beyond 4 GiB.
    let size = (9 << 30) + 5;
    let segments =
        vec![Segment { offset: 1, length: 2 }, Segment { offset: (8 << 30) + 4090, length: 10 }];
    let kind = EntryKind::File { size, segments: Some(segments.clone()) };
    let image = written(&archive(&[(entry("big", kind).0, b"abcdefghijkl".to_vec())])).unwrap();
    let reader = crate::layer::read::read_erofs(image.file.as_file(), &Limits::default()).unwrap();
    let big = reader.entries().last().unwrap().unwrap();
    let mut found = Vec::new();
    for extent in reader.extents_of(&big).unwrap().iter().filter(|e| e.at.is_some()) {
        let mut bytes = Vec::new();
        reader.copy(extent, &mut bytes).unwrap();
        found.push((extent.offset, String::from_utf8_lossy(&bytes).trim_matches('\0').to_owned()));
    }
    assert_eq!(found, [(0, "ab".to_owned()), (8 << 30, "cdefghijkl".to_owned())]);
    assert_eq!(big.kind, crate::layer::read::ImageKind::File { size });
}

#[test]
fn a_header_with_more_than_8_gib_is_read_up_to_the_limit() {
    let kind = EntryKind::File { size: 9 << 30, segments: None };
    let mut tar = crate::layer::tar_write::TarWriter::new(Vec::new());
    let mut head = Vec::new();
    // The archive is left unfinished; its data comes from elsewhere.
    tar.entry(&entry("big", kind).0).unwrap();
    std::mem::swap(&mut head, tar.out_mut());
    let limits = Limits { content_bytes: 8 << 30, ..Limits::default() };
    let input = Zeros { head: io::Cursor::new(head), left: 1 << 20 };
    let out = tempfile::tempfile().unwrap();
    let error = write_erofs(input, &out, &limits, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("\"big\""), "{error}");
    assert_eq!(error.kind(), base::ErrorKind::Exhausted);
}

/// Gives some bytes, then fails.
struct Failing(io::Cursor<Vec<u8>>);

impl Read for Failing {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.read(into)? {
            0 => Err(io::ErrorKind::ConnectionReset.into()),
            read => Ok(read),
        }
    }
}

#[test]
fn a_failing_input_is_told_from_a_bad_one() {
    let tar = archive(&[file("a", "a".repeat(1 << 20))]);
    for (blob, cut) in [(tar.clone(), 600_000), (gzipped(&tar), 500)] {
        let input = Failing(io::Cursor::new(blob[..cut].to_vec()));
        let out = tempfile::tempfile().unwrap();
        let error = write_erofs(input, &out, &Limits::default(), &mut |_| {}).unwrap_err();
        assert!(matches!(error, crate::layer::LayerError::Read(_)), "{error:?}");
        assert_eq!(error.kind(), base::ErrorKind::Unavailable);
    }
}

#[test]
fn the_deepest_path_and_the_largest_attributes_are_kept() {
    let deep = file(&format!("{}leaf", "a/".repeat(Limits::default().depth - 1)), "leaf");
    let large = with_xattr(file("large", "x"), "trusted.large", &vec![b'v'; 60_000]);
    let large = with_xattr(large, "user.more", &[b'w'; 3000]);
    let tar = archive(&[deep.clone(), large.clone()]);
    let image = written(&tar).unwrap();
    image.fsck();
    let tree = image.read();
    assert_eq!(tree.keys().last().unwrap(), "large");
    assert!(tree.contains_key(std::str::from_utf8(&deep.0.path).unwrap()));
    if testkit::need::root() {
        assert_same(&tree, &image.mounted());
        // ext4 has no room for such attributes.
        let (dir, _) = unpacked(&archive(&[deep])).unwrap();
        assert_eq!(describe_path(dir.path()).len(), Limits::default().depth + 1);
    }
}

#[test]
fn what_a_file_held_before_does_not_matter() {
    // Data in every other block of a chunk, so that the image has gaps.
    let segment = |i: u32| Segment { offset: u64::from(i) << 16, length: 5 };
    let kind = EntryKind::File { size: 1 << 40, segments: Some((0..4).map(segment).collect()) };
    let tar = archive(&[(entry("sparse", kind).0, vec![b'd'; 20])]);
    let out = tempfile::NamedTempFile::new().unwrap();
    fs::write(out.path(), vec![0xff; 4 << 20]).unwrap();
    write_erofs(&tar[..], out.as_file(), &Limits::default(), &mut |_| {}).unwrap();
    assert_eq!(fs::read(out.path()).unwrap(), written(&tar).unwrap().bytes());
}

#[test]
fn a_failed_image_does_not_mount() {
    let tar = archive(&[file("a", "a".repeat(5 << 20))]);
    let out = tempfile::NamedTempFile::new().unwrap();
    let cut = &tar[..3 << 20];
    write_erofs(cut, out.as_file(), &Limits::default(), &mut |_| {}).unwrap_err();
    let image = fs::read(out.path()).unwrap();
    assert!(image.get(1024..1028).is_none_or(|magic| magic == [0; 4]));
}

#[test]
fn the_directory_form_leaves_nothing_but_the_tree() {
    if !testkit::need::root() {
        return;
    }
    let tar = archive(&[
        file("a", "first"),
        file("a", "second"),
        symlink("l", "a"),
        hard_link("m", "l"),
        hard_link("b", "a"),
    ]);
    let dir = tempfile::tempdir().unwrap();
    let root = File::open(dir.path()).unwrap();
    write_directory(&tar[..], root.as_fd(), Marks::Trusted, &Limits::default(), &mut |_| {})
        .unwrap();
    let tree = describe_path(dir.path());
    assert_eq!(tree.keys().map(String::as_str).collect::<Vec<_>>(), ["", "a", "b", "l", "m"]);
    assert_same(&tree, &written(&tar).unwrap().read());
}

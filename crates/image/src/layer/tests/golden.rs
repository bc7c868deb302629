//! The same archive, unpacked by GNU tar and written by us, must look the same.

use std::{
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
    process::Command,
};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chownat, lsetxattr,
    makedev, mknodat, utimensat,
};

use crate::layer::fixture::{self, Description, assert_same, describe_path};

/// A capability set as a file carries it: version 2, effective, `CAP_NET_BIND_SERVICE`.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A tree with a bit of everything.
fn make_tree(root: &Path) {
    let at = |path: &str| root.join(path);
    for directory in ["usr/bin", "etc/deep/er/still", "dev", "empty", "many"] {
        fs::create_dir_all(at(directory)).unwrap();
    }
    for size in [0, 1, 2047, 2048, 2049, 4095, 4096, 4097, 6144, 6145, 1_000_000] {
        let data: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();
        fs::write(at(&format!("usr/bin/size-{size}")), data).unwrap();
    }
    for i in 0..500 {
        fs::write(at(&format!("many/{i}-{}", "n".repeat(i % 200))), i.to_string()).unwrap();
    }
    for odd in
        ["+plus", "!bang", ".hidden", "...", "-dash", "sp ace", "\u{fc}ml\u{e4}ut", "new\nline"]
    {
        fs::write(at("etc").join(odd), odd).unwrap();
    }
    fs::write(at(&format!("etc/{}", "l".repeat(255))), "long").unwrap();
    let deep = (0..20).fold(at("etc/deep"), |path, _| path.join("d".repeat(30)));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("leaf"), "leaf").unwrap();
    symlink("usr/bin", at("bin")).unwrap();
    symlink("x".repeat(3000), at("etc/long-link")).unwrap();
    symlink("/absolute/../target", at("etc/absolute")).unwrap();
    fs::hard_link(at("usr/bin/size-1"), at("etc/linked")).unwrap();
    fs::hard_link(at("usr/bin/size-1"), at("aaa-linked")).unwrap();
    mknodat(CWD, at("dev/pipe"), FileType::Fifo, Mode::from_raw_mode(0o620), 0).unwrap();
    let device = |name, class, major, minor| {
        let mode = Mode::from_raw_mode(0o660);
        mknodat(CWD, at(name), class, mode, makedev(major, minor)).unwrap();
    };
    device("dev/null", FileType::CharacterDevice, 1, 3);
    device("dev/nvme", FileType::BlockDevice, 259, 300);
    sparse(&at("etc/sparse"), 200 << 20);
    sparse(&at("etc/sparse-small"), 100_000);

    let chown = |name, uid, gid| {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        chownat(CWD, at(name), uid, gid, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    };
    chown("usr/bin/size-1", 1000, 1001);
    chown("etc/deep", 4_000_000_000, 3_000_000_000);
    chown("bin", 65_536, 70_000);
    let chmod = |name, mode| {
        rustix::fs::chmodat(CWD, at(name), Mode::from_raw_mode(mode), AtFlags::empty()).unwrap();
    };
    chmod("usr/bin/size-2047", 0o4755);
    chmod("usr/bin/size-2048", 0o0000);
    chmod("empty", 0o3777);
    let xattr = |name, key, value: &[u8]| {
        lsetxattr(at(name), key, value, XattrFlags::empty()).unwrap();
    };
    xattr("usr/bin/size-4095", "security.capability", &CAPABILITY);
    xattr("usr/bin/size-1", "trusted.note", b"a\0b\nc=d");
    xattr("empty", "trusted.dir", &[7; 1500]);
    xattr("bin", "trusted.link", b"");
    let touch = |name, seconds, nanoseconds| {
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, at(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    };
    touch("usr/bin/size-1", 1_234_567_890, 123_456_789);
    touch("bin", 9, 1);
    touch("etc/linked", 1_000_000_000, 999_999_999);
    touch("many", 5_000_000_000, 5);
}

fn sparse(path: &Path, size: u64) {
    let mut file = File::create(path).unwrap();
    for offset in [0, 8192, 50_000, size - 7] {
        file.seek(SeekFrom::Start(offset)).unwrap();
        file.write_all(b"island!").unwrap();
    }
}

fn tar(args: &[&str], directory: &Path, archive: &Path) {
    let xattrs = match args.contains(&"--format=gnu") {
        true => &[][..],
        false => &["--xattrs", "--xattrs-include=*"],
    };
    let out = Command::new("tar")
        .args(xattrs)
        .arg("--numeric-owner")
        .args(args)
        .arg("-f")
        .arg(archive)
        .arg("-C")
        .arg(directory)
        .args(if args.contains(&"-x") { &["-p"][..] } else { &["."] })
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

/// What GNU tar makes of an archive, compared with both of our forms.
fn check(create: &[&str]) {
    if !testkit::need::root() || testkit::need::tool("tar").is_none() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let (tree, theirs) = (scratch.path().join("tree"), scratch.path().join("theirs"));
    let archive = scratch.path().join("archive.tar");
    fs::create_dir(&tree).unwrap();
    fs::create_dir(&theirs).unwrap();
    make_tree(&tree);
    tar(create, &tree, &archive);
    tar(&["-x", "--same-owner"], &theirs, &archive);
    let bytes = fs::read(&archive).unwrap();
    let reference = describe_path(&theirs);
    assert!(reference.len() > 550, "the tree is large enough to mean something");

    let written = fixture::written(&bytes).unwrap();
    written.fsck();
    assert_same(&reference, &written.mounted());
    assert_same(&reference, &written.read());
    let image = fs::metadata(written.path()).unwrap();
    assert!(image.size() < 16 << 20, "holes take no space: {}", image.size());

    let (directory, layer) = fixture::unpacked(&bytes).unwrap();
    assert_same(&reference, &describe_path(directory.path()));
    assert_eq!(layer, written.layer);
    roundtrip(&written, &reference);
}

/// An exported image, written again, looks the same.
fn roundtrip(written: &fixture::Written, reference: &Description) {
    let limits = crate::layer::Limits::default();
    let tar = crate::layer::export(written.file.as_file(), &limits, Vec::new()).unwrap();
    let again = fixture::written(&tar).unwrap();
    assert_same(reference, &again.read());
}

#[test]
fn pax_archives_look_as_gnu_tar_unpacks_them() {
    check(&["-c", "--format=pax", "--sparse"]);
}

#[test]
fn pax_archives_with_the_two_old_sparse_forms_look_so_too() {
    for version in ["0.0", "0.1"] {
        check(&["-c", "--format=pax", "--sparse", &format!("--sparse-version={version}")]);
    }
}

#[test]
fn gnu_archives_look_as_gnu_tar_unpacks_them() {
    check(&["-c", "--format=gnu", "--sparse"]);
}

#[test]
fn archives_with_a_label_and_a_global_header_are_read() {
    check(&["-c", "--format=pax", "--sparse", "-V", "label", "--pax-option=gid=77"]);
}

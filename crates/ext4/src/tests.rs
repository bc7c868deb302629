//! What others say of what is written.

use std::{fs::File, process::Command};

use archive::{Attributes, Device, DeviceClass, Segment};
use mounted::Mounted;
use proptest::prelude::*;
use sample::{Thing, What, pattern, tree};
use testkit::need;

use super::*;

mod mounted;
mod sample;

const WHO: Identity = Identity { uuid: *b"wythe-test-uuid!", hash_seed: [7; 16] };

fn made(bytes: u64) -> tempfile::NamedTempFile {
    let disk = tempfile::NamedTempFile::new().unwrap();
    format(bytes, &WHO).unwrap().write_to(disk.as_file()).unwrap();
    disk
}

/// A disk with these things on it.
fn filled(things: &[Thing], size: Size) -> Result<tempfile::NamedTempFile, FillError> {
    let disk = tempfile::NamedTempFile::new().unwrap();
    fill(disk.as_file(), things, size).map(|()| disk)
}

fn fill(disk: &File, things: &[Thing], size: Size) -> Result<(), FillError> {
    let mut filling = Filling::new(disk, WHO, size)?;
    things.iter().try_for_each(|thing| thing.add_to(&mut filling))?;
    let (disk, bytes) = filling.finish()?;
    disk.set_len(bytes).unwrap();
    Ok(())
}

/// Has both judges look at a disk: e2fsck, and Linux, which shows what is on it.
fn judge(disk: &std::path::Path, things: &[Thing]) {
    assert_eq!(complaint(disk), None);
    if need::root() && need::tool("mount").is_some() {
        Mounted::new(disk).compare(things);
    }
}

/// What `e2fsck` says of a disk; `None` if it is content.
fn complaint(disk: &std::path::Path) -> Option<String> {
    let said = Command::new("e2fsck").args(["-f", "-n"]).arg(disk).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    (!said.status.success()).then_some(text)
}

#[test]
fn e2fsck_has_nothing_to_say_at_any_size() {
    if need::tool("e2fsck").is_none() {
        return;
    }
    let group = layout::GROUP_BLOCKS * BLOCK;
    let odd = [BYTES_MIN, BYTES_MIN + 1, group - BLOCK, group, group + BLOCK, group + 600 * BLOCK];
    for bytes in odd.into_iter().chain([3 * group, 10 << 30, 300 << 30]) {
        let disk = made(bytes);
        assert_eq!(complaint(disk.path()), None, "{bytes} bytes");
        let taken = std::os::unix::fs::MetadataExt::blocks(&disk.as_file().metadata().unwrap());
        // Descriptors and their copies grow with the disk, nothing else does.
        assert!(taken * 512 <= (1 << 20) + bytes / 50_000, "{bytes} bytes take {taken} sectors");
    }
}

#[test]
fn a_size_that_cannot_be_is_refused() {
    for bytes in [0, BYTES_MIN - 1, BYTES_MAX + 1, u64::MAX] {
        assert_eq!(format(bytes, &WHO), Err(SizeError(bytes)));
    }
}

#[test]
fn linux_mounts_it_and_keeps_what_is_written() {
    if !need::root() || need::tool("e2fsck").is_none() || need::tool("mount").is_none() {
        return;
    }
    let disk = made(200 << 20);
    let at = tempfile::tempdir().unwrap();
    // In a mount namespace of its own: nothing stays mounted, whatever happens.
    let script = "mount -o loop \"$0\" \"$1\" && mkdir \"$1/upper\" && \
                  head -c 50000000 /dev/zero > \"$1/upper/file\" && \
                  for n in $(seq 300); do : > \"$1/upper/$n\"; done && \
                  setfattr -n trusted.x -v y \"$1/upper\" 2>/dev/null; \
                  ls \"$1/upper\" | wc -l && umount \"$1\"";
    let mut unshare = Command::new("unshare");
    unshare.args(["-m", "sh", "-c", script]).arg(disk.path()).arg(at.path());
    let ran = unshare.output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    assert_eq!(String::from_utf8_lossy(&ran.stdout).trim(), "301");
    assert_eq!(complaint(disk.path()), None);
}

#[test]
fn everything_that_has_a_name_arrives_as_it_was() {
    if need::tool("e2fsck").is_none() {
        return;
    }
    let device = |class, major, minor| What::Device(Device { class, major, minor });
    let long = "x".repeat(255);
    let mut root = Thing::new("", What::Directory).xattr("user.root", b"yes");
    root.attributes.mode = 0o1711;
    let mut owned = Thing::file("dir/owned", "mine");
    (owned.attributes.uid, owned.attributes.gid) = (3_000_000_000, 70_000);
    owned.attributes.mode = 0o6755;
    owned.attributes.mtime = archive::Time { seconds: -1, nanoseconds: 999_999_999 };
    let acl = [2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 9, 0, 0, 0]
        .into_iter()
        .chain([4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 4, 0, 255, 255, 255, 255])
        .chain([32, 0, 4, 0, 255, 255, 255, 255])
        .collect::<Vec<u8>>();
    let things = [
        root,
        Thing::new("dir", What::Directory),
        owned,
        Thing::file("dir/empty", ""),
        Thing::file("dir/one block", pattern(4096, 1)),
        Thing::file("dir/three MiB and a bit", pattern((3 << 20) + 17, 2)),
        Thing::file("dir/zeros", vec![0; 50_000]),
        Thing::file(&long, "a long name"),
        Thing::new("short", What::Symlink(vec![b's'; 59])),
        Thing::new("slow", What::Symlink(vec![b's'; 60])),
        Thing::new("longest", What::Symlink(vec![b'/'; TARGET_MAX])),
        Thing::new("null", device(DeviceClass::Character, 1, 3)),
        Thing::new("far", device(DeviceClass::Block, 4095, 1_048_575)),
        Thing::new("pipe", What::Fifo),
        Thing::new("socket", What::Socket),
        Thing::new("again", What::Link(b"dir/owned".to_vec())),
        Thing::new("dir/again", What::Link(b"pipe".to_vec())),
        Thing::file("capable", "x").xattr("security.capability", &CAPABILITY),
        Thing::file("block", "x").xattr("user.large", &pattern(3900, 3)).xattr("user.a", b""),
        Thing::file("listed", "x").xattr("system.posix_acl_access", &acl),
    ];
    let mut things = things.to_vec();
    // What the mode says of the group is the list's mask.
    things.last_mut().unwrap().attributes.mode = 0o644;
    for size in [Size::Fitting, Size::Exactly(64 << 20), Size::Exactly(2 << 30)] {
        judge(filled(&things, size).unwrap().path(), &things);
    }
}

/// A capability set as `setcap cap_net_raw+ep` makes it.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn holes_stay_holes_however_many_there_are() {
    if need::tool("e2fsck").is_none() {
        return;
    }
    let sparse = |path, count: u64, step: u64, length: u64, size| {
        let segments: Vec<_> = (0..count).map(|n| Segment { offset: n * step, length }).collect();
        let data = pattern(usize::try_from(count * length).unwrap(), 7);
        Thing::new(path, What::File { size, segments, data })
    };
    let things = [
        // Extents in the inode, in a tree of one level, and of two.
        sparse("few", 4, 100_000, 10, 400_000),
        sparse("more", 5, 100_000, 5000, 500_000),
        sparse("many", 1400, 20_000, 100, 40 << 20),
        // Far behind 4 GiB, and nothing but a hole.
        sparse("far", 3, 3 << 30, 9, 7 << 30),
        sparse("hole", 0, 1, 0, 6 << 30),
        sparse("within a block", 100, 40, 3, 5000),
    ];
    let disk = filled(&things, Size::Fitting).unwrap();
    judge(disk.path(), &things);
    let taken = std::os::unix::fs::MetadataExt::blocks(&disk.as_file().metadata().unwrap()) * 512;
    assert!(taken < 16 << 20, "{taken} bytes");
}

#[test]
fn a_file_across_many_groups_is_one_file() {
    if need::tool("e2fsck").is_none() {
        return;
    }
    let size = 2 << 30;
    let disk = tempfile::NamedTempFile::new().unwrap();
    let mut filling = Filling::new(disk.as_file(), WHO, Size::Fitting).unwrap();
    let content = &mut sample::Zeros;
    let node = Node::File { size, segments: None, content };
    filling.add(b"zeros", &Attributes::default(), node).unwrap();
    Thing::file("after", pattern(10_000, 9)).add_to(&mut filling).unwrap();
    let (disk_file, bytes) = filling.finish().unwrap();
    disk_file.set_len(bytes).unwrap();
    assert!(bytes > size + size / 4 && bytes < size + size / 2, "{bytes}");
    assert_eq!(complaint(disk.path()), None);
}

#[test]
fn a_directory_of_many_names_and_a_disk_of_many_inodes() {
    if need::tool("e2fsck").is_none() {
        return;
    }
    let name = |n: u32| format!("big/{n:05}{}", "-".repeat(n as usize % 200));
    let many: Vec<_> = (0..9000).map(|n| Thing::file(&name(n), "")).collect();
    let mut things = vec![Thing::new("big", What::Directory)];
    things.extend(many);
    let disk = filled(&things, Size::Fitting).unwrap();
    judge(disk.path(), &things);
    let small = filled(&things, Size::Exactly(BYTES_MIN));
    assert!(matches!(small, Err(FillError::Inodes { .. })), "{small:?}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let big = [Thing::file("big", pattern(13 << 20, 1))];
    assert!(matches!(filled(&big, Size::Exactly(BYTES_MIN)), Err(FillError::Full { .. })));
    let most = [Thing::file("a", "").xattr("user.a", &[1; 5000])];
    assert!(matches!(filled(&most, Size::Fitting), Err(FillError::Xattr { .. })));
}

#[test]
fn paths_that_lead_nowhere_are_refused() {
    let long = format!("dir/{}", "x".repeat(256));
    let cases = [
        ("dir/../x", PathError::Name),
        (&long, PathError::Name),
        ("a\0", PathError::Name),
        ("no/x", PathError::Parent),
        ("file/x", PathError::Parent),
        ("dir", PathError::Taken),
        ("./dir//file2/", PathError::Taken),
    ];
    for (path, wanted) in cases {
        let first = [("dir", What::Directory), ("file", What::Fifo), ("dir/file2", What::Fifo)];
        let mut things: Vec<_> =
            first.into_iter().map(|(path, what)| Thing::new(path, what)).collect();
        things.push(Thing::new(path, What::Fifo));
        match filled(&things, Size::Fitting) {
            Err(FillError::Path { fault, .. }) => assert_eq!(fault, wanted, "{path}"),
            other => panic!("{path}: {other:?}"),
        }
    }
    let link = |target: &str| {
        let dir = Thing::new("dir", What::Directory);
        filled(&[dir, Thing::new("link", What::Link(target.into()))], Size::Fitting)
    };
    for target in ["dir", "none", ""] {
        let fault = link(target).unwrap_err();
        assert!(matches!(fault, FillError::Path { fault: PathError::Missing, .. }), "{target}");
    }
}

#[test]
fn the_same_tree_is_the_same_bytes() {
    let things = [
        Thing::new("dir", What::Directory),
        Thing::file("dir/a", pattern(100_000, 4)),
        Thing::new("dir/b", What::Link(b"dir/a".to_vec())),
    ];
    let bytes =
        || std::fs::read(filled(&things, Size::Exactly(BYTES_MIN)).unwrap().path()).unwrap();
    assert!(bytes() == bytes());
}

#[test]
fn an_archive_becomes_a_disk() {
    if need::tool("e2fsck").is_none() {
        return;
    }
    let things = [
        Thing::new("", What::Directory),
        Thing::new("dir", What::Directory),
        Thing::file("dir/file", pattern(70_000, 4)).xattr("user.x", b"y"),
        Thing::new("link", What::Link(b"dir/file".to_vec())),
        Thing::new("symlink", What::Symlink(b"dir".to_vec())),
    ];
    let tar = sample::tar(&things);
    let disk = tempfile::NamedTempFile::new().unwrap();
    let read = |tar: &[u8]| -> Result<u64, TarFillError> {
        let mut filling = Filling::new(disk.as_file(), WHO, Size::Fitting)?;
        let mut archive = archive::tar::Archive::new(tar, &archive::Limits::default());
        filling.add_tar(&mut archive)?;
        Ok(filling.finish()?.1)
    };
    let cut = read(&tar[..5000]);
    assert!(matches!(cut, Err(TarFillError::Tar(_))), "{cut:?}");
    disk.as_file().set_len(0).unwrap();
    disk.as_file().set_len(read(&tar).unwrap()).unwrap();
    judge(disk.path(), &things);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_tree_arrives_as_it_was(things in tree(), exact in any::<bool>()) {
        let size = if exact { Size::Exactly(200 << 20) } else { Size::Fitting };
        if need::tool("e2fsck").is_some() {
            judge(filled(&things, size).unwrap().path(), &things);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pieces_do_not_overlap_and_lie_on_the_disk(bytes in BYTES_MIN..=1 << 36) {
        let image = format(bytes, &WHO).unwrap();
        let mut pieces: Vec<_> =
            image.pieces().iter().map(|(at, bytes)| (*at, at + bytes.len() as u64)).collect();
        pieces.sort_unstable();
        prop_assert!(pieces.windows(2).all(|pair| pair[0].1 <= pair[1].0));
        prop_assert!(pieces.iter().all(|(_, end)| *end <= bytes));
    }
}

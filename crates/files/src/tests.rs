//! Trees out and in, and what hostile ones cannot do.

use std::{
    fs,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink},
    },
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use archive::{Attributes, Entry, EntryKind, tar_write::TarWriter};
use rustix::fs::{CWD, FileType, Mode, OFlags, XattrFlags, mknodat, setxattr};
use workload::{FileFault, Owner, Unpack};

use crate::{Place, layer::export, pack, stat, unpack};

fn open(path: &Path) -> std::os::fd::OwnedFd {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
}

fn packed(root: BorrowedFd<'_>, path: &str, name: &str) -> Result<Vec<u8>, FileFault> {
    let mut out = Vec::new();
    pack(root, path, name.as_bytes(), &mut out).map(|()| out)
}

fn plain() -> Unpack {
    Unpack { keep_kinds: true, owner: Owner::Archive }
}

fn entry(path: &str, kind: EntryKind) -> Entry {
    let attributes = Attributes { mode: 0o644, ..Attributes::default() };
    Entry { path: path.as_bytes().to_vec(), attributes, kind }
}

fn file(path: &str, content: &str) -> (Entry, String) {
    let kind = EntryKind::File { size: content.len() as u64, segments: None };
    (entry(path, kind), content.to_owned())
}

fn other(path: &str, kind: EntryKind) -> (Entry, String) {
    (entry(path, kind), String::new())
}

fn link(path: &str, target: &str) -> (Entry, String) {
    other(path, EntryKind::Symlink(target.as_bytes().to_vec()))
}

fn tar(entries: &[(Entry, String)]) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    for (entry, content) in entries {
        tar.entry(entry).unwrap();
        if !content.is_empty() {
            tar.data(content.as_bytes()).unwrap();
        }
    }
    tar.finish().unwrap()
}

#[test]
fn a_tree_comes_back_as_it_was() {
    if !testkit::need::root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir_all(from.join("tree/sub")).unwrap();
    fs::create_dir(&to).unwrap();
    let tree = from.join("tree");
    fs::write(tree.join("file"), "content").unwrap();
    fs::set_permissions(tree.join("file"), fs::Permissions::from_mode(0o4751)).unwrap();
    std::os::unix::fs::chown(tree.join("file"), Some(1234), Some(2345)).unwrap();
    fs::set_permissions(tree.join("file"), fs::Permissions::from_mode(0o4751)).unwrap();
    let attribute = setxattr(tree.join("file"), "user.note", b"kept", XattrFlags::empty());
    fs::hard_link(tree.join("file"), tree.join("sub/again")).unwrap();
    symlink("../nowhere", tree.join("sub/link")).unwrap();
    mknodat(CWD, tree.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let sparse = fs::File::create(tree.join("sparse")).unwrap();
    sparse.write_all_at(b"end", 8 << 20).unwrap();

    let out = packed(open(&from).as_fd(), "/tree", "other").unwrap();
    assert!(out.len() < 1 << 20, "holes are not written: {}", out.len());
    unpack(Place::Directory(open(&to).as_fd()), &out[..], &plain(), None).unwrap();

    let there = |name: &str| fs::symlink_metadata(to.join("other").join(name)).unwrap();
    assert_eq!(fs::read(to.join("other/file")).unwrap(), b"content");
    let meta = there("file");
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (1234, 2345, 0o4751));
    assert_eq!(meta.ino(), there("sub/again").ino());
    assert_eq!(fs::read_link(to.join("other/sub/link")).unwrap(), Path::new("../nowhere"));
    assert_eq!(there("sparse").len(), (8 << 20) + 3);
    assert!(there("sparse").blocks() < 100);
    let times = |path: std::path::PathBuf| fs::metadata(path).unwrap().mtime_nsec();
    assert_eq!(times(tree.join("sub")), times(to.join("other/sub")));
    if attribute.is_ok() {
        let mut value = [0; 16];
        let length = rustix::fs::getxattr(to.join("other/file"), "user.note", &mut value).unwrap();
        assert_eq!(&value[..length], b"kept");
    }
}

#[test]
fn a_path_is_taken_as_docker_takes_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::create_dir(root.join("dir")).unwrap();
    fs::write(root.join("dir/file"), "x").unwrap();
    symlink("/dir", root.join("link")).unwrap();
    let root = open(root);
    let root = root.as_fd();
    assert!(stat(root, "/link").unwrap().is_symlink());
    assert_eq!(stat(root, "/link").unwrap().link_target.as_deref(), Some("/dir"));
    assert!(stat(root, "/link/").unwrap().is_directory());
    assert_eq!(stat(root, "link/file").unwrap().name, "file");
    assert!(matches!(stat(root, "/nothing"), Err(FileFault::NotFound { .. })));
    assert!(matches!(stat(root, "/dir/file/"), Err(FileFault::NotADirectory { .. })));
    assert_eq!(stat(root, "/../../dir").unwrap().name, "dir");
    let names = |path: &str| {
        let out = packed(root, path, "n").unwrap();
        let mut archive = archive::tar::Archive::new(&out[..], &archive::Limits::default());
        let mut names = Vec::new();
        while let Some(entry) = archive.next_entry().unwrap() {
            names.push(String::from_utf8(entry.path).unwrap());
        }
        names
    };
    assert_eq!(names("/dir"), ["n/", "n/file"]);
    assert_eq!(names("/link"), ["n"]);
    assert_eq!(names("/link/."), ["n/", "n/file"]);
}

#[test]
fn hostile_archives_write_nothing_outside() {
    let dir = tempfile::tempdir().unwrap();
    let (inside, outside) = (dir.path().join("inside"), dir.path().join("outside"));
    for path in [&inside, &outside] {
        fs::create_dir(path).unwrap();
    }
    fs::write(outside.join("precious"), "x").unwrap();
    let away = outside.to_str().unwrap();
    let archives = [
        tar(&[file("../outside/new", "x")]),
        tar(&[file("a/../../outside/new", "x")]),
        tar(&[link("a", away), file("a/new", "x")]),
        tar(&[link("b", "../outside"), file("b/new", "x")]),
        tar(&[link("c", away), other("c", EntryKind::Directory), file("c/new", "x")]),
        tar(&[other("d", EntryKind::HardLink(b"../outside/precious".to_vec())), file("d", "y")]),
        tar(&[link("e", &format!("{away}/precious")), file("e", "y")]),
        tar(&[link("f", away), other("g", EntryKind::HardLink(b"f/precious".to_vec()))]),
    ];
    for (number, archive) in archives.iter().enumerate() {
        let inside = open(&inside);
        let root = open(dir.path());
        // It is refused, or it lands inside.
        let _ = unpack(Place::Directory(inside.as_fd()), &archive[..], &plain(), None);
        let place = Place::InRoot { root: inside.as_fd(), path: "/" };
        let _ = unpack(place, &archive[..], &plain(), None);
        drop(root);
        let list: Vec<_> =
            fs::read_dir(&outside).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(list, ["precious"], "archive {number}");
        assert_eq!(fs::read(outside.join("precious")).unwrap(), b"x", "archive {number}");
    }
}

#[test]
fn kinds_are_kept_where_asked() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("dir/full")).unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    let root = open(dir.path());
    let place = Place::Directory(root.as_fd());
    let over = unpack(place, &tar(&[file("dir", "x")])[..], &plain(), None);
    assert!(matches!(over, Err(FileFault::OverDirectory { .. })), "{over:?}");
    let over = unpack(place, &tar(&[other("file", EntryKind::Directory)])[..], &plain(), None);
    assert!(matches!(over, Err(FileFault::OverOther { .. })), "{over:?}");
    let how = Unpack { keep_kinds: false, owner: Owner::Archive };
    unpack(place, &tar(&[file("dir", "now a file")])[..], &how, None).unwrap();
    assert_eq!(fs::read(dir.path().join("dir")).unwrap(), b"now a file");
    let target = unpack(Place::InRoot { root: root.as_fd(), path: "/file" }, &b""[..], &how, None);
    assert_eq!(target, Err(FileFault::Target));
}

/// Somebody swaps a directory for a link that leads out, as fast as can be.
#[test]
fn a_race_of_links_never_leads_outside() {
    let dir = tempfile::tempdir().unwrap();
    let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
    for path in [root.join("a/b"), root.join("c"), outside.join("b")] {
        fs::create_dir_all(path).unwrap();
    }
    fs::write(root.join("a/b/file"), "inside").unwrap();
    fs::write(outside.join("b/file"), "SECRET").unwrap();
    symlink(&outside, root.join("link")).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            while !over.load(Ordering::Relaxed) {
                let swap =
                    rustix::fs::renameat_with(CWD, root.join("a"), CWD, root.join("link"), flags);
                swap.unwrap();
            }
        });
        let held = open(&root);
        let fd = held.as_fd();
        let archive = tar(&[file("b/file", "written"), file("b/new", "new")]);
        for _ in 0..400 {
            if let Ok(out) = packed(fd, "/a/b", "b") {
                assert!(!out.windows(6).any(|bytes| bytes == b"SECRET"));
            }
            if let Ok(out) = packed(fd, "/", "top") {
                assert!(!out.windows(6).any(|bytes| bytes == b"SECRET"));
            }
            let _ = unpack(Place::InRoot { root: fd, path: "/a" }, &archive[..], &plain(), None);
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read(outside.join("b/file")).unwrap(), b"SECRET");
    assert_eq!(fs::read_dir(outside.join("b")).unwrap().count(), 1);
}

#[test]
fn a_file_that_changes_its_length_does_not_break_the_archive() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), vec![7; 1 << 20]).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = fs::OpenOptions::new().write(true).open(dir.path().join("file")).unwrap();
            while !over.load(Ordering::Relaxed) {
                file.set_len(10).unwrap();
                file.set_len(3 << 20).unwrap();
            }
        });
        for _ in 0..50 {
            let out = packed(open(dir.path()).as_fd(), "/", "top").unwrap();
            let mut archive = archive::tar::Archive::new(&out[..], &archive::Limits::default());
            while archive.next_entry().unwrap().is_some() {}
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn directories_nested_without_end_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut at = open(dir.path());
    for _ in 0..600 {
        rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        at = rustix::fs::openat(&at, "d", flags, Mode::empty()).unwrap();
    }
    let refused = packed(open(dir.path()).as_fd(), "/", "top");
    assert!(matches!(refused, Err(FileFault::Deep { .. })), "{refused:?}");
}

#[test]
fn two_layers_show_what_an_overlay_would() {
    if !testkit::need::root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (upper, lower) = (dir.path().join("upper"), dir.path().join("lower"));
    for path in ["etc", "gone", "hidden/deep"] {
        fs::create_dir_all(lower.join(path)).unwrap();
    }
    for (path, text) in [("etc/old", "1"), ("etc/same", "2"), ("gone/a", "3"), ("hidden/b", "4")] {
        fs::write(lower.join(path), text).unwrap();
    }
    for path in ["etc", "hidden", "proc", "dev/pts"] {
        fs::create_dir_all(upper.join(path)).unwrap();
    }
    fs::write(upper.join("etc/old"), "new").unwrap();
    fs::write(upper.join("etc/hosts"), "").unwrap();
    fs::write(upper.join("hidden/c"), "5").unwrap();
    mknodat(CWD, upper.join("gone"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    let opaque =
        setxattr(upper.join("hidden"), "trusted.overlay.opaque", b"y", XattrFlags::empty());
    if opaque.is_err() {
        return;
    }
    let (up, low) = (open(&upper), open(&lower));
    let changes = crate::changes(up.as_fd(), low.as_fd()).unwrap();
    let text: Vec<_> = changes.iter().map(ToString::to_string).collect();
    let want =
        ["C /etc/old", "D /gone", "C /hidden", "D /hidden/b", "A /hidden/c", "D /hidden/deep"];
    assert_eq!(text, want);
    let mut out = Vec::new();
    crate::layer(up.as_fd(), &changes, &mut out).unwrap();
    let to = tempfile::tempdir().unwrap();
    unpack(Place::Directory(open(to.path()).as_fd()), &out[..], &plain(), None).unwrap();
    assert!(to.path().join(".wh.gone").exists() && to.path().join("hidden/.wh.b").exists());
    assert_eq!(fs::read(to.path().join("etc/old")).unwrap(), b"new");
    assert!(!to.path().join("etc/hosts").exists() && !to.path().join("proc").exists());

    let mut out = Vec::new();
    export(up.as_fd(), low.as_fd(), &mut out).unwrap();
    let whole = tempfile::tempdir().unwrap();
    unpack(Place::Directory(open(whole.path()).as_fd()), &out[..], &plain(), None).unwrap();
    let there = |path: &str| whole.path().join(path).exists();
    assert!(there("etc/same") && there("hidden/c") && there("dev/pts"));
    assert!(!there("gone") && !there("hidden/b"));
}

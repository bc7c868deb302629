//! The server as the guest's kernel asks it.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink},
    },
    path::Path,
};

use proptest::prelude::*;
use rustix::io::Errno;

use super::{wire::Op, *};

mod client;
mod kernel;

use client::{Client, ROOM, ROOT, SetAttr, libc_flags};
pub(super) use client::{args, request, u32_at, u64_at};

#[test]
fn files_are_made_written_and_read() {
    let mut client = Client::new();
    let (node, handle) = client.create(ROOT, "file", 0o640).unwrap();
    assert_eq!(client.write(handle, 3, b"hello"), Ok(5));
    assert_eq!(fs::read(client.at("file")).unwrap(), b"\0\0\0hello");
    assert_eq!(fs::metadata(client.at("file")).unwrap().mode(), 0o100_640);
    assert_eq!(client.read(handle, 4, 100).unwrap(), b"ello");
    assert_eq!(client.read(handle, 100, 100).unwrap(), b"");
    assert_eq!(client.read(handle, u64::MAX, 100), Err(Errno::INVAL));
    let found = client.lookup(ROOT, "file").unwrap();
    assert_eq!((found.0, found.1.size, found.1.mode), (node, 8, 0o100_640));
    assert_eq!(found.1.ino, fs::metadata(client.at("file")).unwrap().ino());
    client.ask(25, node, args().u64(handle).u64(0).u64(0)).unwrap();
    client.ask(20, node, args().u64(handle).u32(1).u32(0)).unwrap();
    client.ask(18, node, args().u64(handle).u64(0).u64(0)).unwrap();
    assert_eq!(client.read(handle, 0, 1), Err(Errno::BADF));
    // What is there is opened, unless it must not be.
    let (again, _) = client.create(ROOT, "file", 0o777).unwrap();
    assert_eq!((again, client.getattr(node).unwrap().mode), (node, 0o100_640));
    let exclusive = args().u32(libc_flags::RDWR | 0o200).u32(0o600).u32(0).u32(0).text("file");
    assert_eq!(client.ask(35, ROOT, exclusive), Err(Errno::EXIST));
    let handle = client.open(node, libc_flags::WRONLY | libc_flags::TRUNC).unwrap();
    assert_eq!(client.getattr(node).unwrap().size, 0);
    assert_eq!(client.read(handle, 0, 1), Err(Errno::BADF), "it is open for writing alone");
}

#[test]
fn no_name_leads_out() {
    let mut client = Client::new();
    fs::write(client.at("inside"), "x").unwrap();
    fs::create_dir(client.at("dir")).unwrap();
    symlink("/etc", client.at("etc")).unwrap();
    symlink("../..", client.at("dir/up")).unwrap();
    let dir = client.node(ROOT, "dir");
    for name in ["..", ".", "", "/etc", "dir/..", "etc/passwd", "dir/up"] {
        assert_eq!(client.lookup(ROOT, name).map(drop), Err(Errno::INVAL), "{name:?}");
        let made = client.ask(9, dir, args().u32(0o755).u32(0).text(name));
        assert_eq!(made, Err(Errno::INVAL), "{name:?}");
        let renamed = client.ask(12, ROOT, args().u64(dir).text("inside").text(name));
        assert_eq!(renamed, Err(Errno::INVAL), "{name:?}");
    }
    // A link is itself, and nothing is beneath it.
    let (etc, at) = client.lookup(ROOT, "etc").unwrap();
    assert_eq!((at.mode, at.size), (0o120_777, 4));
    assert_eq!(client.lookup(etc, "passwd").map(drop), Err(Errno::NOTDIR));
    assert_eq!(client.open(etc, 0), Err(Errno::NXIO));
    assert_eq!(client.ask(27, etc, args().u64(0)).map(drop), Err(Errno::NOTDIR));
    assert_eq!(client.ask(5, etc, args()).unwrap(), b"/etc");
    // A number that it was not told is nothing.
    for number in [0, 99, u64::MAX] {
        assert_eq!(client.lookup(number, "inside").map(drop), Err(Errno::STALE));
        assert_eq!(client.getattr(number).map(drop), Err(Errno::STALE));
    }
    // What is above the root is not even a number.
    let dots = client.list(ROOT, false, 4096);
    let up = dots.iter().find(|(name, ..)| name == "..").unwrap();
    assert_eq!(up.1, ROOT);
}

#[test]
fn what_is_made_belongs_to_whom_the_guest_says() {
    if !testkit::need::root() {
        return;
    }
    let mut client = Client::new();
    (client.uid, client.gid) = (1000, 1001);
    client.ask(9, ROOT, args().u32(0o750).u32(0o022).text("dir")).unwrap();
    client.ask(8, ROOT, args().u32(0o010_644).u32(0).u32(0).u32(0).text("pipe")).unwrap();
    client.ask(6, ROOT, args().text("link").text("/no/where")).unwrap();
    let (file, _) = client.create(ROOT, "file", 0o6755).unwrap();
    for (name, mode) in
        [("dir", 0o040_750), ("pipe", 0o010_644), ("link", 0o120_777), ("file", 0o106_755)]
    {
        let at = fs::symlink_metadata(client.at(name)).unwrap();
        assert_eq!((at.uid(), at.gid(), at.mode()), (1000, 1001, mode), "{name}");
    }
    // A directory that passes its group on.
    fs::create_dir(client.at("shared")).unwrap();
    std::os::unix::fs::chown(client.at("shared"), Some(5), Some(6)).unwrap();
    fs::set_permissions(client.at("shared"), fs::Permissions::from_mode(0o2775)).unwrap();
    let shared = client.node(ROOT, "shared");
    client.ask(9, shared, args().u32(0o755).u32(0).text("dir")).unwrap();
    client.create(shared, "file", 0o644).unwrap();
    let at = fs::metadata(client.at("shared/dir")).unwrap();
    assert_eq!((at.uid(), at.gid(), at.mode()), (1000, 6, 0o042_755));
    let at = fs::metadata(client.at("shared/file")).unwrap();
    assert_eq!((at.uid(), at.gid(), at.mode()), (1000, 6, 0o100_644));
    // A new owner takes set-user-id away, and so does a write that says so.
    client.setattr(file, SetAttr { valid: 2, uid: 7, ..SetAttr::default() }).unwrap();
    assert_eq!(client.getattr(file).unwrap().mode, 0o100_755);
    client.setattr(file, SetAttr { valid: 1, mode: 0o106_755, ..SetAttr::default() }).unwrap();
    let handle = client.open(file, libc_flags::WRONLY).unwrap();
    client.write(handle, 0, b"x").unwrap();
    assert_eq!(client.getattr(file).unwrap().mode, 0o106_755);
    let kill = args().u64(handle).u64(0).u32(1).u32(4).u64(0).u64(0).bytes(b"y");
    client.ask(16, file, kill).unwrap();
    let at = client.getattr(file).unwrap();
    assert_eq!((at.mode, at.uid, at.gid), (0o100_755, 7, 1001));
    // Devices of the host are not to be had; the overlay's mark is.
    for mode in [0o020_666, 0o060_666] {
        let device = args().u32(mode).u32(0x0103).u32(0).u32(0).text("null");
        assert_eq!(client.ask(8, ROOT, device).map(drop), Err(Errno::PERM));
    }
    client.ask(8, ROOT, args().u32(0o020_000).u32(0).u32(0).u32(0).text("gone")).unwrap();
    let gone = fs::metadata(client.at("gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
}

#[test]
fn attributes_are_set() {
    let mut client = Client::new();
    fs::write(client.at("file"), "0123456789").unwrap();
    let node = client.node(ROOT, "file");
    let at = client.setattr(node, SetAttr { valid: 1 << 3, size: 4, ..SetAttr::default() });
    assert_eq!(at.unwrap().size, 4);
    let times = SetAttr {
        valid: 1 << 4 | 1 << 5,
        atime: (1_000_000_000, 5),
        mtime: ((-5i64).cast_unsigned(), 999_999_999),
        ..SetAttr::default()
    };
    assert_eq!(client.setattr(node, times).unwrap().mtime.cast_signed(), -5);
    let at = fs::metadata(client.at("file")).unwrap();
    assert_eq!(
        (at.atime(), at.atime_nsec(), at.mtime(), at.mtime_nsec()),
        (1_000_000_000, 5, -5, 999_999_999)
    );
    let times = SetAttr { valid: 1 << 5 | 1 << 8, ..SetAttr::default() };
    assert!(client.setattr(node, times).unwrap().mtime > 1_000_000_000);
    assert_eq!(fs::metadata(client.at("file")).unwrap().atime(), 1_000_000_000);
    let wrong = SetAttr { valid: 1 << 4, atime: (0, 2_000_000_000), ..SetAttr::default() };
    assert_eq!(client.setattr(node, wrong).map(drop), Err(Errno::INVAL));
    // A link has times too, and not its target's.
    symlink("file", client.at("link")).unwrap();
    let link = client.node(ROOT, "link");
    let times = SetAttr { valid: 1 << 5, mtime: (77, 0), ..SetAttr::default() };
    assert_eq!(client.setattr(link, times).unwrap().mtime, 77);
    assert_ne!(fs::metadata(client.at("file")).unwrap().mtime(), 77);
    let size = SetAttr { valid: 1 << 3, ..SetAttr::default() };
    assert_eq!(client.setattr(link, size).map(drop), Err(Errno::INVAL));
    let all = client.ask(17, ROOT, args()).unwrap();
    assert_eq!(all.len(), 80);
    assert!(u64_at(&all, 0) > 0);
}

#[test]
fn names_come_and_go() {
    let mut client = Client::new();
    client.ask(9, ROOT, args().u32(0o755).u32(0).text("a")).unwrap();
    client.ask(9, ROOT, args().u32(0o755).u32(0).text("b")).unwrap();
    let (a, b) = (client.node(ROOT, "a"), client.node(ROOT, "b"));
    let (file, handle) = client.create(a, "file", 0o644).unwrap();
    client.ask(13, b, args().u64(file).text("hard")).unwrap();
    assert_eq!(client.getattr(file).unwrap().nlink, 2);
    client.ask(12, a, args().u64(b).text("file").text("moved")).unwrap();
    assert_eq!(client.lookup(a, "file").map(drop), Err(Errno::NOENT));
    assert_eq!(client.node(b, "moved"), file);
    let no_replace = args().u64(b).u32(1).u32(0).text("moved").text("hard");
    assert_eq!(client.ask(45, b, no_replace), Err(Errno::EXIST));
    let exchange = args().u64(ROOT).u32(2).u32(0).text("moved").text("a");
    client.ask(45, b, exchange).unwrap();
    assert_eq!((client.node(ROOT, "a"), client.node(b, "moved")), (file, a));
    for flags in [4, 8, u32::MAX] {
        let strange = args().u64(b).u32(flags).u32(0).text("moved").text("x");
        assert_eq!(client.ask(45, b, strange), Err(Errno::INVAL));
    }
    assert_eq!(client.ask(11, ROOT, args().text("b")), Err(Errno::NOTEMPTY));
    assert_eq!(client.ask(10, ROOT, args().text("b")), Err(Errno::ISDIR));
    client.ask(10, ROOT, args().text("a")).unwrap();
    client.ask(10, b, args().text("hard")).unwrap();
    // It has no name any more, and is there.
    assert_eq!(client.getattr(file).unwrap().nlink, 0);
    client.write(handle, 0, b"still").unwrap();
    assert_eq!(client.read(handle, 0, 9).unwrap(), b"still");
    // Links to links.
    client.ask(6, ROOT, args().text("soft").text("b")).unwrap();
    let soft = client.node(ROOT, "soft");
    client.ask(13, ROOT, args().u64(soft).text("soft too")).unwrap();
    assert_eq!(fs::read_link(client.at("soft too")).unwrap(), Path::new("b"));
}

#[test]
fn directories_are_read_in_pieces_of_any_size() {
    let mut client = Client::new();
    let mut want: Vec<String> =
        (0..500).map(|n| format!("entry {n} {}", "x".repeat(n % 200))).collect();
    for name in &want {
        fs::write(client.at(name), "").unwrap();
    }
    want.extend([".".to_owned(), "..".to_owned()]);
    want.sort();
    for piece in [4096, 500, 1 << 20] {
        for plus in [false, true] {
            let all = client.list(ROOT, plus, piece);
            let names: Vec<_> = all.iter().map(|(name, ..)| name.clone()).collect();
            assert!(names == want, "{piece} {plus}");
            if plus {
                // The dots are no entries that the guest may know.
                assert!(all.iter().all(|(name, _, node)| (*node == 0) == name.starts_with('.')));
            }
        }
    }
    // Each is told three times, and forgotten when it was told to forget that often.
    assert_eq!(client.server.inodes.len(), 501);
    let known = client.list(ROOT, true, 4096);
    for (name, ino, node) in known.iter().filter(|(name, ..)| !name.starts_with('.')) {
        assert_eq!(fs::metadata(client.at(name)).unwrap().ino(), *ino);
        client.forget(*node, 3);
    }
    assert_eq!(client.server.inodes.len(), 501);
    let mut batch = args().u32(500).u32(0);
    for (_, _, node) in known.iter().filter(|(.., node)| *node != 0) {
        batch = batch.u64(*node).u64(1);
    }
    let request = request(42, 0, 0, 0, &batch.0);
    assert_eq!(client.server.handle(&request, 0), None);
    assert_eq!((client.server.inodes.len(), client.server.inodes.descriptors()), (1, 1));
    client.forget(ROOT, u64::MAX);
    client.getattr(ROOT).unwrap();
}

#[test]
fn what_is_read_only_stays_as_it_is() {
    let mut client = Client::with(|export| export.read_only = true);
    fs::write(client.at("file"), "text").unwrap();
    let node = client.node(ROOT, "file");
    let changes = [
        (4, args()),
        (6, args().text("a").text("b")),
        (8, args().u32(0o100_644).u32(0).u32(0).u32(0).text("a")),
        (9, args().u32(0o755).u32(0).text("a")),
        (10, args().text("file")),
        (11, args().text("file")),
        (12, args().u64(ROOT).text("file").text("a")),
        (45, args().u64(ROOT).u32(0).u32(0).text("file").text("a")),
        (13, args().u64(node).text("a")),
        (16, args()),
        (21, args()),
        (24, args()),
        (35, args().u32(0).u32(0o644).u32(0).u32(0).text("file")),
        (43, args()),
        (47, args()),
    ];
    for (op, asked) in changes {
        assert!(Op::from_number(op).unwrap().changes());
        assert_eq!(client.ask(op, ROOT, asked), Err(Errno::ROFS), "{op}");
    }
    for flags in [libc_flags::WRONLY, libc_flags::RDWR] {
        assert_eq!(client.open(node, flags), Err(Errno::ROFS));
    }
    let handle = client.open(node, libc_flags::RDONLY | libc_flags::TRUNC).unwrap();
    assert_eq!(client.read(handle, 0, 9).unwrap(), b"text");
}

#[test]
fn of_one_file_nothing_else_is_seen() {
    let mut client = Client::with(|export| export.only = Some(c"mine".to_owned()));
    fs::write(client.at("mine"), "text").unwrap();
    fs::write(client.at("other"), "secret").unwrap();
    assert_eq!(client.lookup(ROOT, "other").map(drop), Err(Errno::NOENT));
    let node = client.node(ROOT, "mine");
    for plus in [false, true] {
        let names: Vec<_> = client.list(ROOT, plus, 4096).into_iter().map(|it| it.0).collect();
        assert_eq!(names, [".", "..", "mine"]);
    }
    assert_eq!(client.create(ROOT, "new", 0o644), Err(Errno::PERM));
    assert_eq!(client.create(ROOT, "other", 0o644), Err(Errno::PERM));
    assert_eq!(client.ask(10, ROOT, args().text("other")), Err(Errno::PERM));
    assert_eq!(client.ask(13, ROOT, args().u64(node).text("x")), Err(Errno::PERM));
    let rename = args().u64(ROOT).text("other").text("mine");
    assert_eq!(client.ask(12, ROOT, rename), Err(Errno::PERM));
    let handle = client.open(node, libc_flags::RDWR).unwrap();
    client.write(handle, 0, b"T").unwrap();
    assert_eq!(fs::read(client.at("mine")).unwrap(), b"Text");
}

#[test]
fn few_descriptors_serve_many_inodes() {
    let limits = Limits { inodes: 100, descriptors: 10, handles: 3 };
    let mut client = Client::with(|export| export.limits = limits);
    fs::create_dir_all(client.at("a/b/c")).unwrap();
    for n in 0..60 {
        fs::write(client.at(&format!("a/b/c/{n}")), n.to_string()).unwrap();
    }
    let a = client.node(ROOT, "a");
    let b = client.node(a, "b");
    let c = client.node(b, "c");
    let nodes: Vec<u64> = (0..60).map(|n| client.node(c, &n.to_string())).collect();
    assert!(client.server.inodes.descriptors() <= 10);
    for (n, node) in nodes.iter().enumerate() {
        let handle = client.open(*node, 0).unwrap();
        assert_eq!(client.read(handle, 0, 9).unwrap(), n.to_string().as_bytes());
        client.ask(18, *node, args().u64(handle).u64(0).u64(0)).unwrap();
    }
    assert!(client.server.inodes.descriptors() <= 10);
    // A directory above them has another name now, by the guest's own doing.
    client.ask(12, a, args().u64(ROOT).text("b").text("moved")).unwrap();
    assert_eq!(client.getattr(nodes[0]).unwrap().size, 1);
    // What others have moved or put there is not it.
    fs::rename(client.at("moved/c/1"), client.at("moved/c/one")).unwrap();
    fs::remove_file(client.at("moved/c/2")).unwrap();
    fs::write(client.at("moved/c/2"), "another").unwrap();
    for node in &nodes[30..50] {
        client.getattr(*node).unwrap();
    }
    assert_eq!(client.getattr(nodes[1]).map(drop), Err(Errno::STALE));
    assert_eq!(client.getattr(nodes[2]).map(drop), Err(Errno::STALE));
    // What has no name any more stays.
    client.ask(10, c, args().text("5")).unwrap();
    for node in &nodes[30..50] {
        client.getattr(*node).unwrap();
    }
    assert_eq!(client.getattr(nodes[5]).unwrap().nlink, 0);
    // There is an end to all of it.
    for n in 0..40 {
        fs::write(client.at(&format!("more {n}")), "").unwrap();
        let known = client.lookup(ROOT, &format!("more {n}"));
        assert_eq!(known.is_ok(), n < 36, "{n}");
    }
    assert_eq!(client.lookup(ROOT, "more 39").map(drop), Err(Errno::NFILE));
    assert_eq!(client.list(ROOT, true, 4096).iter().filter(|(.., node)| *node == 0).count(), 2 + 4);
    for _ in 0..3 {
        client.open(nodes[0], 0).unwrap();
    }
    assert_eq!(client.open(nodes[0], 0), Err(Errno::MFILE));
    assert_eq!(client.ask(27, ROOT, args().u64(0)), Err(Errno::MFILE));
    assert_eq!(client.create(ROOT, "not made", 0o644), Err(Errno::MFILE));
    assert!(!client.at("not made").exists());
}

#[test]
fn what_is_appended_goes_to_the_end_and_what_is_mapped_to_its_place() {
    let mut client = Client::new();
    let (node, handle) = client.create(ROOT, "log", 0o644).unwrap();
    client.write(handle, 0, b"one").unwrap();
    let appending = client.open(node, libc_flags::RDWR | libc_flags::APPEND).unwrap();
    // The host has written more than the guest knows of.
    fs::write(client.at("log"), "one two").unwrap();
    let mut write = |offset: u64, flags: u32, bytes: &[u8]| {
        let size = bytes.len().try_into().unwrap();
        let asked = args().u64(appending).u64(offset).u32(size).u32(flags).u64(0);
        let asked = asked.u32(libc_flags::RDWR | libc_flags::APPEND).u32(0).bytes(bytes);
        client.ask(16, node, asked).unwrap();
    };
    write(3, 0, b" three");
    write(0, 1, b"O");
    assert_eq!(fs::read(client.at("log")).unwrap(), b"One two three");
}

#[test]
fn gaps_copies_and_allocations() {
    let mut client = Client::new();
    let (_, from) = client.create(ROOT, "from", 0o644).unwrap();
    let (to_node, to) = client.create(ROOT, "to", 0o644).unwrap();
    client.write(from, 1 << 20, b"data").unwrap();
    let data = client.ask(46, 0, args().u64(from).u64(0).u32(3).u32(0)).unwrap();
    assert!(u64_at(&data, 0) <= 1 << 20 && u64_at(&data, 0) > 0);
    for whence in [0, 1, 2, 5] {
        let seek = args().u64(from).u64(0).u32(whence).u32(0);
        assert_eq!(client.ask(46, 0, seek), Err(Errno::INVAL));
    }
    let copy = args().u64(from).u64(1 << 20).u64(to_node).u64(to).u64(2).u64(100).u64(0);
    assert_eq!(u32_at(&client.ask(47, 0, copy).unwrap(), 0), 4);
    assert_eq!(client.read(to, 0, 9).unwrap(), b"\0\0data");
    client.ask(43, 0, args().u64(to).u64(0).u64(4096).u32(0).u32(0)).unwrap();
    assert_eq!(client.getattr(to_node).unwrap().size, 4096);
    let strange = args().u64(to).u64(0).u64(4096).u32(0x8000).u32(0);
    assert_eq!(client.ask(43, 0, strange), Err(Errno::OPNOTSUPP));
    client.ask(50, ROOT, args().u64(0)).unwrap();
}

#[test]
fn attributes_of_users_pass_and_those_of_the_host_do_not() {
    let mut client = Client::new();
    fs::write(client.at("file"), "").unwrap();
    let node = client.node(ROOT, "file");
    let set = |name: &str, value: &str| {
        args().u32(value.len().try_into().unwrap()).u32(0).text(name).bytes(value.as_bytes())
    };
    match client.ask(21, node, set("user.colour", "green")) {
        // A file system of the host without them.
        Err(Errno::OPNOTSUPP) => return,
        set => assert_eq!(set.unwrap(), b""),
    }
    let get = |size, name: &str| args().u32(size).u32(0).text(name);
    assert_eq!(client.ask(22, node, get(99, "user.colour")).unwrap(), b"green");
    assert_eq!(u32_at(&client.ask(22, node, get(0, "user.colour")).unwrap(), 0), 5);
    assert_eq!(client.ask(22, node, get(4, "user.colour")), Err(Errno::RANGE));
    assert_eq!(client.ask(22, node, get(9, "user.none")), Err(Errno::NODATA));
    for name in
        ["trusted.overlay.opaque", "security.selinux", "system.posix_acl_access", "user.", "x"]
    {
        assert_eq!(client.ask(21, node, set(name, "y")), Err(Errno::OPNOTSUPP), "{name}");
        assert_eq!(client.ask(22, node, get(9, name)), Err(Errno::OPNOTSUPP), "{name}");
        assert_eq!(client.ask(24, node, args().text(name)), Err(Errno::OPNOTSUPP), "{name}");
    }
    assert_eq!(client.ask(23, node, args().u32(99).u32(0)).unwrap(), b"user.colour\0");
    assert_eq!(u32_at(&client.ask(23, node, args().u32(0).u32(0)).unwrap(), 0), 12);
    assert_eq!(client.ask(23, node, args().u32(5).u32(0)), Err(Errno::RANGE));
    client.ask(24, node, args().text("user.colour")).unwrap();
    assert_eq!(client.ask(23, node, args().u32(99).u32(0)).unwrap(), b"");
}

#[test]
fn what_is_not_served_says_so() {
    let mut client = Client::new();
    // Locks, access, bmap, ioctl, poll, mapping, files without a name, and numbers of nobody.
    for op in [0, 7, 31, 32, 33, 34, 37, 39, 40, 41, 48, 49, 51, 52, 4096, u32::MAX] {
        assert_eq!(client.ask(op, ROOT, args()), Err(Errno::NOSYS), "{op}");
    }
    // Interrupts are not answered.
    let interrupt = request(36, 0, 0, 0, &args().u64(77).0);
    assert_eq!(client.server.handle(&interrupt, ROOM), None);
    // After the end everything begins anew, and before a beginning there is nothing.
    fs::write(client.at("file"), "").unwrap();
    let node = client.node(ROOT, "file");
    let handle = client.open(node, 0).unwrap();
    client.ask(38, 0, args()).unwrap();
    assert_eq!(client.lookup(ROOT, "file").map(drop), Err(Errno::IO));
    assert_eq!(client.ask(26, 0, args().u32(7).u32(30).u32(0).u32(0)), Err(Errno::PROTO));
    assert_eq!(client.ask(26, 0, args().u32(6).u32(40).u32(0).u32(0)), Err(Errno::PROTO));
    // A protocol that is newer altogether is told ours, and asks again.
    let newer = client.ask(26, 0, args().u32(8).u32(0)).unwrap();
    assert_eq!((u32_at(&newer, 0), u32_at(&newer, 12)), (7, 0));
    assert_eq!(client.lookup(ROOT, "file").map(drop), Err(Errno::IO));
    let begun = client.ask(26, 0, args().u32(7).u32(31).u32(0).u32(1 << 22)).unwrap();
    assert_eq!(u32_at(&begun, 12), 1 << 22, "what was not offered is not taken");
    assert_eq!(client.read(handle, 0, 1), Err(Errno::BADF));
    assert_eq!(client.getattr(node).map(drop), Err(Errno::STALE));
}

#[test]
fn what_others_change_is_told_and_what_the_guest_does_is_not() {
    let mut client = Client::with(|export| export.watch = true);
    fs::create_dir(client.at("dir")).unwrap();
    fs::create_dir(client.at("unseen")).unwrap();
    fs::write(client.at("dir/file"), "").unwrap();
    let dir = client.node(ROOT, "dir");
    let file = client.node(dir, "file");
    client.server.changes();
    // The guest's own doing.
    let handle = client.open(file, libc_flags::RDWR | libc_flags::TRUNC).unwrap();
    client.write(handle, 0, b"mine").unwrap();
    client.setattr(file, SetAttr { valid: 1, mode: 0o600, ..SetAttr::default() }).unwrap();
    client.create(dir, "new", 0o644).unwrap();
    client.ask(12, dir, args().u64(ROOT).text("new").text("newer")).unwrap();
    client.ask(13, dir, args().u64(file).text("link")).unwrap();
    client.ask(9, ROOT, args().u32(0o755).u32(0).text("made")).unwrap();
    client.ask(10, ROOT, args().text("newer")).unwrap();
    assert_eq!(client.server.changes(), []);
    // That of others, in directories that it has looked at.
    fs::write(client.at("dir/file"), "theirs").unwrap();
    fs::write(client.at("unseen/x"), "").unwrap();
    fs::write(client.at("made/in it"), "").unwrap();
    fs::rename(client.at("dir/link"), client.at("made/there")).unwrap();
    fs::remove_file(client.at("dir/file")).unwrap();
    // While the guest does something of its own.
    client.setattr(dir, SetAttr { valid: 1, mode: 0o711, ..SetAttr::default() }).unwrap();
    let events = client.server.changes();
    let cookie = events
        .iter()
        .find_map(
            |event| if let Change::MovedFrom(cookie) = event.change { Some(cookie) } else { None },
        )
        .unwrap();
    let event = |path: &str, change| Event { path: path.into(), directory: false, change };
    let want = [
        event("dir/file", Change::Modified),
        event("made/in it", Change::Created),
        event("dir/link", Change::MovedFrom(cookie)),
        event("made/there", Change::MovedTo(cookie)),
        event("dir/file", Change::Deleted),
    ];
    let seen: Vec<_> =
        events.into_iter().filter(|event| event.change != Change::Attributes).collect();
    assert_eq!(seen, want);
    // A directory that was moved meanwhile is where it is.
    fs::rename(client.at("made"), client.at("unseen/made")).unwrap();
    client.server.changes();
    fs::write(client.at("unseen/made/late"), "").unwrap();
    assert_eq!(client.server.changes(), [event("unseen/made/late", Change::Created)]);
    // What the guest has forgotten is not watched.
    client.forget(dir, 1);
    fs::write(client.at("dir/quiet"), "").unwrap();
    assert_eq!(client.server.changes(), []);
    // Replaying an event changes nothing, and nobody hears of it.
    fs::write(client.at("played"), "x").unwrap();
    let played = client.node(ROOT, "played");
    client.server.changes();
    let before = fs::metadata(client.at("played")).unwrap();
    let mtime = (REPLAY.tv_sec.cast_unsigned(), u32::try_from(REPLAY.tv_nsec).unwrap());
    let at =
        client.setattr(played, SetAttr { valid: 1 << 5, mtime, ..SetAttr::default() }).unwrap();
    let after = fs::metadata(client.at("played")).unwrap();
    assert_eq!((at.size, at.mtime.cast_signed()), (1, before.mtime()));
    assert_eq!((after.ctime(), after.ctime_nsec()), (before.ctime(), before.ctime_nsec()));
    assert_eq!(client.server.changes(), []);
}

#[test]
fn what_was_open_before_a_save_is_open_after_it() {
    let mut client = Client::new();
    client.ask(9, ROOT, args().u32(0o755).u32(0).text("dir")).unwrap();
    let dir = client.node(ROOT, "dir");
    let (file, handle) = client.create(dir, "file", 0o644).unwrap();
    client.write(handle, 0, b"text").unwrap();
    let truncated = client.open(file, libc_flags::WRONLY | libc_flags::TRUNC).unwrap();
    client.write(truncated, 0, b"other").unwrap();
    let (gone, gone_handle) = client.create(ROOT, "gone", 0o644).unwrap();
    client.ask(10, ROOT, args().text("gone")).unwrap();
    let removed = client.create(ROOT, "removed", 0o644).unwrap().0;
    let open = u64_at(&client.ask(27, dir, args().u64(0)).unwrap(), 0);
    // A directory that has come beneath a later one.
    client.ask(9, ROOT, args().u32(0o755).u32(0).text("late")).unwrap();
    let late = client.node(ROOT, "late");
    client.ask(12, ROOT, args().u64(late).text("dir").text("dir")).unwrap();
    let saved = client.server.save();
    let text = serde_json::to_string(&saved).unwrap();
    assert_eq!(serde_json::from_str::<State>(&text).unwrap(), saved);
    fs::remove_file(client.at("removed")).unwrap();
    let root = fs::File::open(client.dir.path()).unwrap().into();
    let limits = Limits { descriptors: 4, ..Limits::default() };
    let export = Export { root, only: None, read_only: false, valid: VALID, limits, watch: true };
    client.server = Server::new(export).unwrap();
    // Of three that are not there, two are handles.
    assert_eq!(client.server.restore(&saved), 3);
    assert_eq!(client.read(handle, 0, 9).unwrap(), b"other");
    assert_eq!(client.write(truncated, 0, b"O"), Ok(1));
    assert_eq!(client.getattr(file).unwrap().size, 5);
    assert_eq!(client.node(late, "dir"), dir);
    assert_eq!(client.node(dir, "file"), file);
    let list = args().u64(open).u64(0).u32(4096).u32(0).u64(0).u64(0);
    assert!(!client.ask(28, dir, list).unwrap().is_empty());
    for node in [gone, removed] {
        assert_eq!(client.getattr(node).map(drop), Err(Errno::STALE));
    }
    assert_eq!(client.read(gone_handle, 0, 1), Err(Errno::BADF));
    // New numbers are none of the old ones.
    let (new, new_handle) = client.create(ROOT, "new", 0o644).unwrap();
    assert!(new > removed && new_handle > open);
    // The guest forgets as often as it was told before.
    client.forget(file, 1);
    assert!(client.getattr(file).is_ok());
}

/// Requests that mean something more often than not.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![
        4 => 0u64..12, 1 => any::<u64>(), 1 => Just(u64::MAX), 1 => Just(1 << 63), 1 => 0u64..1_000_000,
    ];
    let word = prop_oneof![
        number.clone().prop_map(|value| value.to_le_bytes().to_vec()),
        (0u32..5000).prop_map(|value| value.to_le_bytes().to_vec()),
        any::<u32>().prop_map(|value| value.to_le_bytes().to_vec()),
        prop::sample::select(vec![
            "a\0", "b\0", "dir\0", "..\0", "a/b\0", "\0", "user.x\0", "x", "dir\0a\0"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
    ];
    let args = prop::collection::vec(word, 0..12);
    (0u32..54, number, args, prop::option::weighted(0.1, 0u32..200)).prop_map(
        |(op, node, args, length)| {
            let mut bytes = request(op, node, 0, 0, &args.concat());
            if let Some(length) = length {
                bytes[..4].copy_from_slice(&length.to_le_bytes());
            }
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn no_request_does_harm(requests in prop::collection::vec((hostile(), 0usize..5000), 1..60)) {
        let limits = Limits { inodes: 20, descriptors: 5, handles: 5 };
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir(outside.path().join("root")).unwrap();
        fs::create_dir(outside.path().join("root/dir")).unwrap();
        fs::write(outside.path().join("root/a"), "text").unwrap();
        let root = fs::File::open(outside.path().join("root")).unwrap();
        let export = Export {
            root: root.into(), only: None, read_only: false, valid: VALID, limits, watch: true,
        };
        let mut server = Server::new(export).unwrap();
        server.handle(&request(26, 0, 0, 0, &args().u32(7).u32(31).u64(0).0), ROOM);
        for (request, room) in requests {
            if let Some(answer) = server.handle(&request, room) {
                prop_assert!(answer.len() >= 16 && answer.len() <= room);
            }
            prop_assert!(server.inodes.len() <= 20);
        }
        server.changes();
        let left: Vec<_> = fs::read_dir(outside.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        prop_assert_eq!(left, [OsStr::from_bytes(b"root")]);
    }
}

//! A server at the other end of a socket.

use std::{fs, thread, time::Duration};

use rustix::{
    fs::{Mode, OFlags},
    net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair},
};

use super::*;
use crate::fs::{
    Change, Event, Export, Limits, VALID,
    tests::{args, request, u32_at, u64_at},
};

fn server(dir: &tempfile::TempDir) -> Server {
    let root = fs::File::open(dir.path()).unwrap().into();
    let limits = Limits::default();
    let export = Export { root, only: None, read_only: false, valid: VALID, limits, watch: true };
    Server::new(export).unwrap()
}

const ROOM: usize = 1 << 21;

#[test]
fn requests_answers_and_events_go_through_sockets() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), vec![7; 2 << 20]).unwrap();
    let (near, far) = UnixStream::pair().unwrap();
    let (events, to_events) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let server = server(&dir);
    let serving = thread::spawn(move || run(server, far, Some(&to_events)));
    let mut remote = Remote::new(near);
    let init = request(26, 0, 0, 0, &args().u32(7).u32(36).u32(0).u32(0).0);
    assert_eq!(remote.handle(&init, ROOM).unwrap().len(), 80);
    let lookup = request(1, 1, 0, 0, &args().text("file").0);
    let found = remote.handle(&lookup, ROOM).unwrap();
    let node = u64_at(found, 16);
    let open = request(14, node, 0, 0, &args().u64(0).0);
    let handle = u64_at(remote.handle(&open, ROOM).unwrap(), 16);
    let read = args().u64(handle).u64(0).u32(1 << 20).u32(0).u64(0).u64(0);
    let answer = remote.handle(&request(15, node, 0, 0, &read.0), ROOM).unwrap();
    assert!(answer.len() == 16 + (1 << 20) && answer[16..].iter().all(|byte| *byte == 7));
    let release = request(18, node, 0, 0, &args().u64(handle).u64(0).u64(0).0);
    assert_eq!(u32_at(remote.handle(&release, ROOM).unwrap(), 4), 0);
    // No answer is wanted, or there is no room for one.
    assert_eq!(remote.handle(&request(2, node, 0, 0, &args().u64(1).0), ROOM), None);
    assert_eq!(remote.handle(&lookup, 15), None);
    fs::write(dir.path().join("new"), "").unwrap();
    let mut event = [0; 100];
    let (bytes, _) = recv(&events, &mut event, RecvFlags::empty()).unwrap();
    let event = Event::decode(&event[..bytes]).unwrap();
    assert_eq!((event.path.to_str(), event.change), (Some("new"), Change::Created));
    // Saved here and restored there.
    remote.handle(&lookup, ROOM).unwrap();
    let saved = remote.save();
    remote.reset();
    assert_eq!(u32_at(remote.handle(&lookup, ROOM).unwrap(), 4).cast_signed(), -5);
    remote.restore(&saved);
    assert_eq!(remote.save(), saved);
    assert_eq!(u32_at(remote.handle(&lookup, ROOM).unwrap(), 4), 0);
    remote.rest();
    drop(remote);
    serving.join().unwrap().unwrap();
}

#[test]
fn a_server_that_is_gone_is_an_error_of_every_request() {
    let (near, far) = UnixStream::pair().unwrap();
    drop(far);
    let mut remote = Remote::new(near);
    let lookup = request(1, 1, 0, 0, &args().text("file").0);
    let answer = remote.handle(&lookup, ROOM).unwrap();
    assert_eq!((answer.len(), u32_at(answer, 4).cast_signed(), u64_at(answer, 8)), (16, -5, 77));
    assert_eq!(remote.handle(&request(2, 1, 0, 0, &args().u64(1).0), ROOM), None);
    assert_eq!(remote.handle(&lookup, 3), None);
    remote.reset();
    assert_eq!(remote.save(), State::default());
}

#[test]
fn frames_and_answers_that_are_too_long_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (kind, length) in [(HANDLE, u32::MAX), (9, 0), (RESTORE, u32::MAX)] {
        let (mut near, far) = UnixStream::pair().unwrap();
        let mut head = [0; 12];
        head[..4].copy_from_slice(&kind.to_le_bytes());
        head[8..].copy_from_slice(&length.to_le_bytes());
        near.write_all(&head).unwrap();
        let error = run(server(&dir), far, None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
    let (near, mut far) = UnixStream::pair().unwrap();
    far.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    far.write_all(&1000u32.to_le_bytes()).unwrap();
    let mut remote = Remote::new(near);
    let lookup = request(1, 1, 0, 0, &args().text("file").0);
    assert_eq!(u32_at(remote.handle(&lookup, 999).unwrap(), 4).cast_signed(), -5);
}

#[test]
fn events_are_the_same_after_their_way() {
    for change in [
        Change::Created,
        Change::Deleted,
        Change::MovedFrom(7),
        Change::MovedTo(u32::MAX),
        Change::Modified,
        Change::Attributes,
        Change::Lost,
    ] {
        let event = Event { path: "a/b c".into(), directory: true, change };
        assert_eq!(Event::decode(&event.encode()), Some(event));
    }
    assert_eq!(Event::decode(&[7, 0, 0, 0, 0, 0]), None);
    assert_eq!(Event::decode(&[0; 5]), None);
}

/// A mount of a directory that is nowhere, as a descriptor.
fn mount(dir: &std::path::Path) -> OwnedFd {
    use rustix::mount::{OpenTreeFlags, open_tree};
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(rustix::fs::CWD, dir, flags).unwrap()
}

#[test]
fn entries_of_the_root_that_are_elsewhere_come_and_go() {
    if !testkit::need::root() {
        return;
    }
    let [dir, one, other] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    fs::create_dir(one.path().join("deep")).unwrap();
    for (dir, text) in [(&one, "one"), (&other, "other")] {
        fs::write(dir.path().join("file"), text).unwrap();
    }
    fs::write(one.path().join("deep/file"), "deep").unwrap();
    let (near, far) = UnixStream::pair().unwrap();
    let server = server(&dir);
    let serving = thread::spawn(move || run(server, far, None));
    let mut remote = Remote::new(near);
    let init = request(26, 0, 0, 0, &args().u32(7).u32(36).u32(0).u32(0).0);
    remote.handle(&init, ROOM).unwrap();
    let error = |answer: &[u8]| u32_at(answer, 4).cast_signed();
    let find = |remote: &mut Remote, parent: u64, name: &str| {
        let answer = remote.handle(&request(1, parent, 0, 0, &args().text(name).0), ROOM).unwrap();
        if error(answer) == 0 { Ok(u64_at(answer, 16)) } else { Err(error(answer)) }
    };
    let open = |remote: &mut Remote, node: u64| {
        let answer = remote.handle(&request(14, node, 0, 0, &args().u64(0).0), ROOM).unwrap();
        if error(answer) == 0 { Ok(u64_at(answer, 16)) } else { Err(error(answer)) }
    };
    let read = |remote: &mut Remote, node: u64, handle: u64| {
        let read = args().u64(handle).u64(0).u32(100).u32(0).u64(0).u64(0);
        let answer = remote.handle(&request(15, node, 0, 0, &read.0), ROOM).unwrap();
        if error(answer) == 0 { Ok(answer[16..].to_vec()) } else { Err(error(answer)) }
    };
    assert_eq!(find(&mut remote, 1, "a"), Err(-2));
    remote.graft(c"a", mount(one.path())).unwrap();
    remote.graft(c"b", mount(other.path())).unwrap();
    let again = remote.graft(c"a", mount(other.path())).unwrap_err();
    assert_eq!(again.raw_os_error(), Some(17));
    assert_eq!(remote.graft(c"..", mount(other.path())).unwrap_err().raw_os_error(), Some(22));
    // What somebody has open may be opened otherwise here, and is not taken.
    let file = fs::File::open(one.path().join("file")).unwrap();
    let path = rustix::fs::open(one.path(), OFlags::PATH, Mode::empty()).unwrap();
    for what in [file.into(), fs::File::open(one.path()).unwrap().into(), path] {
        assert_eq!(remote.graft(c"c", what).unwrap_err().raw_os_error(), Some(1));
    }

    let mut files = Vec::new();
    for (name, text) in [("a", "one"), ("b", "other")] {
        let top = find(&mut remote, 1, name).unwrap();
        let file = find(&mut remote, top, "file").unwrap();
        let handle = open(&mut remote, file).unwrap();
        assert_eq!(read(&mut remote, file, handle), Ok(text.as_bytes().to_vec()));
        files.push((top, file, handle));
    }
    let [(top, file, handle), (beside, known, held)] = files[..] else { panic!("two") };
    let between = find(&mut remote, top, "deep").unwrap();
    let deep = find(&mut remote, between, "file").unwrap();
    // A guest that forgets what is between keeps what is beneath.
    assert_eq!(remote.handle(&request(2, between, 0, 0, &args().u64(1).0), ROOM), None);
    assert!(open(&mut remote, deep).is_ok());

    remote.prune(c"a").unwrap();
    assert_eq!(remote.prune(c"a").unwrap_err().raw_os_error(), Some(2));
    for node in [top, file, deep] {
        assert_eq!(open(&mut remote, node), Err(-116), "stale");
    }
    assert_eq!(read(&mut remote, file, handle), Err(-9), "it was closed");
    assert_eq!(find(&mut remote, 1, "a"), Err(-2));
    // What is beside it stays, and the name is free.
    assert_eq!(read(&mut remote, known, held), Ok(b"other".to_vec()));
    assert_eq!(find(&mut remote, beside, "file"), Ok(known));
    remote.graft(c"a", mount(other.path())).unwrap();
    assert!(find(&mut remote, 1, "a").is_ok_and(|node| node != top));
    drop(remote);
    serving.join().unwrap().unwrap();
}

//! Files in and out of a container that runs.

use std::{
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
};

use archive::{Attributes, Entry, EntryKind, tar_write::TarWriter};
use base::{ErrorKind, ProcessId};
use workload::{ExitStatus, Files, Owner, Unpack};

use super::{
    Bench,
    bench::{destroy, within},
    soon,
};

/// An archive of a directory `made` with a file and two links in it.
fn made() -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    let link = |target: &str| EntryKind::Symlink(target.as_bytes().to_vec());
    for (path, mode, kind) in [
        ("made/", 0o755, EntryKind::Directory),
        ("made/link", 0o777, link("/tmp/made/file")),
        ("made/up", 0o777, link("../../../../../etc/passwd")),
        ("made/file", 0o640, EntryKind::File { size: 8, segments: None }),
    ] {
        let attributes = Attributes { mode, uid: 7, gid: 8, ..Attributes::default() };
        tar.entry(&Entry { path: path.into(), attributes, kind }).expect("it goes to memory");
    }
    tar.data(b"content\n").expect("it goes to memory");
    tar.finish().expect("it goes to memory")
}

/// An archive of what is at a path.
async fn read(files: &dyn Files, path: &str, name: &str) -> Result<Vec<u8>, ErrorKind> {
    let (ours, theirs) = std::io::pipe().expect("pipes can be made");
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        let mut ours = ours;
        ours.read_to_end(&mut bytes).map(|_| bytes).expect("a pipe can be read")
    });
    let main = ProcessId::main();
    let read = files.read(&main, path, name, OwnedFd::from(theirs));
    let result = within("reading files", read).await;
    let bytes = within("reading the archive", reading).await.expect("it does not panic");
    result.map(|()| bytes).map_err(|error| error.kind())
}

async fn write(files: &dyn Files, path: &str, bytes: Vec<u8>) -> Result<(), ErrorKind> {
    let (theirs, mut ours) = std::io::pipe().expect("pipes can be made");
    let writing = tokio::task::spawn_blocking(move || {
        // Who refuses the archive does not read it.
        let _ = ours.write_all(&bytes);
    });
    let unpack = Unpack { keep_kinds: true, owner: Owner::Given { uid: 0, gid: 0 } };
    let main = ProcessId::main();
    let result =
        within("writing files", files.write(&main, path, OwnedFd::from(theirs), unpack)).await;
    within("writing the archive", writing).await.expect("it does not panic");
    result.map_err(|error| error.kind())
}

pub(super) async fn files_are_copied_both_ways(b: &Bench<'_>) {
    let sandbox = b.idle().await;
    let Some(files) = sandbox.files() else {
        assert!(!b.driver().capabilities().files, "a driver that says so can copy");
        return destroy(&*sandbox).await;
    };
    write(files, "/tmp", made()).await.expect("it is an archive");
    let show = b.exec("show", &["cat", "/tmp/made/link"]);
    assert_eq!(b.output(&*sandbox, show).await.0, "content\n");
    let main = ProcessId::main();
    let stat = files.stat(&main, "/tmp/made/file").await.expect("it is there");
    assert!(stat.is_file() && stat.size == 8 && stat.name == "file", "{stat:?}");
    assert_eq!((stat.mode & 0o7777, stat.uid, stat.gid), (0o640, 0, 0));
    let stat = files.stat(&main, "/tmp/made/link").await.expect("it is there");
    assert_eq!(stat.link_target.as_deref(), Some("/tmp/made/file"));

    // What it wrote itself comes out, and goes in again under another name.
    let own = b.exec("own", &["sh", "-c", "echo own > /tmp/made/file"]);
    assert_eq!(b.output(&*sandbox, own).await.1, ExitStatus::Code(0));
    let archive = read(files, "/tmp/made", "copy").await.expect("it is there");
    write(files, "/tmp", archive).await.expect("it is an archive");
    let show = b.exec("copy", &["cat", "/tmp/copy/file"]);
    assert_eq!(b.output(&*sandbox, show).await.0, "own\n");
    destroy(&*sandbox).await;
}

pub(super) async fn files_that_cannot_be_copied_are_refused(b: &Bench<'_>) {
    let sandbox = b.idle().await;
    let Some(files) = sandbox.files() else { return destroy(&*sandbox).await };
    write(files, "/tmp", made()).await.expect("it is an archive");
    assert_eq!(read(files, "/nothing", "x").await, Err(ErrorKind::NotFound));
    assert_eq!(read(files, "/tmp/made/file/", "x").await, Err(ErrorKind::InvalidInput));
    assert_eq!(write(files, "/nothing", made()).await, Err(ErrorKind::NotFound));
    assert_eq!(write(files, "/tmp/made/file", made()).await, Err(ErrorKind::InvalidInput));
    assert_eq!(write(files, "/tmp", b"no archive".repeat(99)).await, Err(ErrorKind::InvalidInput));
    // Where a link leads is told as it is inside, however high it climbs.
    let stat = files.stat(&ProcessId::main(), "/tmp/made/up").await.expect("it is there");
    assert_eq!(stat.link_target.as_deref(), Some("/etc/passwd"));
    // What stands behind the wall is not reached by way of the kernel's own links.
    let root = read(files, "/proc/1/root/etc/passwd", "x").await;
    assert!(root.is_err(), "a magic link was followed");
    if let Some(pausable) = sandbox.pausable() {
        pausable.pause(soon()).await.expect("it runs");
        read(files, "/tmp/made", "x").await.expect("files of a paused container can be read");
    }
    destroy(&*sandbox).await;
}

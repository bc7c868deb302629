//! Files in and out of a container that runs.

use std::{
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
};

use base::{ErrorKind, ProcessId};
use workload::{ExitStatus, Files, Owner, Unpack};

use super::{
    Bench,
    bench::{destroy, within},
    soon,
};

/// Writes nothing but the end of an archive: two blocks of zeros.
const EMPTY_ARCHIVE: [u8; 1024] = [0; 1024];

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
    let script = "mkdir -p /made/sub /other; echo content > /made/sub/file; ln -s /made/sub /link";
    let (text, status) = b.output(&*sandbox, b.exec("make", &["sh", "-c", script])).await;
    assert_eq!(status, ExitStatus::Code(0), "{text}");
    let main = ProcessId::main();
    let stat = files.stat(&main, "/made/sub/file").await.expect("it is there");
    assert!(stat.is_file() && stat.size == 8 && stat.name == "file", "{stat:?}");
    let stat = files.stat(&main, "/link").await.expect("it is there");
    assert_eq!(stat.link_target.as_deref(), Some("/made/sub"));

    let archive = read(files, "/made", "copy").await.expect("it is there");
    write(files, "/other", archive).await.expect("it is an archive");
    let show = b.exec("show", &["cat", "/other/copy/sub/file"]);
    let (text, _) = b.output(&*sandbox, show).await;
    assert_eq!(text, "content\n");
    destroy(&*sandbox).await;
}

pub(super) async fn files_that_cannot_be_copied_are_refused(b: &Bench<'_>) {
    let sandbox = b.idle().await;
    let Some(files) = sandbox.files() else { return destroy(&*sandbox).await };
    let script = "mkdir -p /d; echo x > /file; ln -s ../../../../etc/passwd /d/up";
    let (text, status) = b.output(&*sandbox, b.exec("make", &["sh", "-c", script])).await;
    assert_eq!(status, ExitStatus::Code(0), "{text}");
    assert_eq!(read(files, "/nothing", "x").await, Err(ErrorKind::NotFound));
    assert_eq!(read(files, "/file/", "x").await, Err(ErrorKind::InvalidInput));
    assert_eq!(write(files, "/nothing", EMPTY_ARCHIVE.into()).await, Err(ErrorKind::NotFound));
    assert_eq!(write(files, "/file", EMPTY_ARCHIVE.into()).await, Err(ErrorKind::InvalidInput));
    assert_eq!(write(files, "/d", b"no archive".repeat(99)).await, Err(ErrorKind::InvalidInput));
    // Where a link leads is told as it is inside, however high it climbs.
    let stat = files.stat(&ProcessId::main(), "/d/up").await.expect("it is there");
    assert_eq!(stat.link_target.as_deref(), Some("/etc/passwd"));
    // What stands behind the wall is not reached by way of the kernel's own links.
    let root = read(files, "/proc/1/root/file", "x").await;
    assert!(root.is_err(), "a magic link was followed");
    if let Some(pausable) = sandbox.pausable() {
        pausable.pause(soon()).await.expect("it runs");
        read(files, "/file", "x").await.expect("files of a paused container can be read");
    }
    destroy(&*sandbox).await;
}

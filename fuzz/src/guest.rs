//! What comes from guests, and needs something of the host.

use std::{
    fs::{self, File},
    os::fd::OwnedFd,
};

/// Requests for files in a directory. Beside it nothing may come to be.
pub(crate) fn fuse(bytes: &[u8]) {
    exported(|root| virtio::fs::fuzzing::requests(root, bytes));
}

/// What a driver does with the queues of a directory.
pub(crate) fn fs(script: &[u8]) {
    exported(|root| virtio::fs::fuzzing::device(root, script));
}

/// The description of a machine that was saved.
pub(crate) fn snapshot(bytes: &[u8]) {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    vm::fuzzing::snapshot(&softcpu::Soft, dir.path(), bytes);
}

fn exported(act: impl FnOnce(OwnedFd)) {
    let around = tempfile::tempdir().expect("a temporary directory can be made");
    let exported = around.path().join("exported");
    fs::create_dir_all(exported.join("b/c")).expect("it takes directories");
    fs::write(exported.join("a"), "text").expect("it takes a file");
    act(File::open(&exported).expect("it was just made").into());
    let beside = fs::read_dir(around.path()).expect("it is there still").count();
    assert_eq!(beside, 1, "something is beside what was exported");
}

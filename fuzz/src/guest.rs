//! What comes from guests, and needs something of the host.

use std::fs::{self, File};

/// Requests for files in a directory. Beside it nothing may come to be.
pub(crate) fn fuse(bytes: &[u8]) {
    let around = tempfile::tempdir().expect("a temporary directory can be made");
    let exported = around.path().join("exported");
    fs::create_dir_all(exported.join("b/c")).expect("it takes directories");
    fs::write(exported.join("a"), "text").expect("it takes a file");
    let root = File::open(&exported).expect("it was just made");
    virtio::fs::fuzzing::requests(root.into(), bytes);
    let beside = fs::read_dir(around.path()).expect("it is there still").count();
    assert_eq!(beside, 1, "something is beside what was exported");
}

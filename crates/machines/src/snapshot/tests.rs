//! Disks that are put back, and what is left when that is cut off.

use super::*;
use crate::{disk::Format, spec::example};

/// A machine with two disks, and a snapshot of it.
fn machine() -> (tempfile::TempDir, Kept) {
    let dir = tempfile::tempdir().unwrap();
    let directory = dir.path().join("a");
    let saved = directory.join(SNAPSHOTS).join("s");
    fs::create_dir_all(&saved).unwrap();
    let outside = dir.path().join("outside");
    let disk = |place, read_only| Disk {
        place,
        format: Format::Raw,
        read_only,
        backing: Vec::new(),
        seed: false,
    };
    let mut spec = example();
    spec.disks = vec![
        disk(Place::Own("disk-0".to_owned()), false),
        disk(Place::Own("seed".to_owned()), true),
        disk(Place::Outside(outside.clone()), false),
    ];
    for path in [directory.join("disk-0"), directory.join("seed"), outside] {
        fs::write(path, "after").unwrap();
    }
    for index in ["0", "2"] {
        fs::write(saved.join(index), "before").unwrap();
    }
    let manifest = Manifest { created: 5, machine: spec.clone() };
    record::write(&saved.join(MANIFEST), VERSION, &manifest).unwrap();
    spec.cpus = 4;
    let kept = Kept { name: "a".parse().unwrap(), directory, spec };
    (dir, kept)
}

#[test]
fn what_the_machine_was_and_wrote_is_put_back() {
    let (dir, mut kept) = machine();
    let snapshots = kept.snapshots().unwrap();
    assert_eq!((snapshots.len(), snapshots[0].name.as_str()), (1, "s"));
    kept.put_back(&snapshots[0]).unwrap();
    assert_eq!(fs::read(kept.directory.join("disk-0")).unwrap(), b"before");
    assert_eq!(fs::read(kept.directory.join("seed")).unwrap(), b"after");
    assert_eq!(fs::read(dir.path().join("outside")).unwrap(), b"before");
    assert_eq!(kept.spec.cpus, 2);
    let written: Spec = record::read(&kept.directory.join(MACHINE), spec::VERSION).unwrap();
    assert_eq!(written, kept.spec);
    unfinished(&kept.directory).unwrap();
    kept.remove_snapshot(&snapshots[0].name).unwrap();
    assert!(kept.snapshots().unwrap().is_empty());
    assert!(matches!(kept.snapshot(&snapshots[0].name), Err(RestoreError::NotFound { .. })));
}

#[test]
fn a_restore_that_fails_in_the_middle_is_known_and_can_be_done_again() {
    let (dir, mut kept) = machine();
    let snapshot = kept.snapshot(&"s".parse().unwrap()).unwrap();
    // A disk cannot take the place of a directory with something in it.
    let outside = dir.path().join("outside");
    fs::remove_file(&outside).unwrap();
    fs::create_dir_all(outside.join("x")).unwrap();
    assert!(matches!(kept.put_back(&snapshot), Err(RestoreError::Host { .. })));
    assert!(matches!(unfinished(&kept.directory), Err(RestoreError::Unfinished(_))));
    fs::remove_dir_all(&outside).unwrap();
    kept.put_back(&snapshot).unwrap();
    unfinished(&kept.directory).unwrap();
    assert_eq!(fs::read(outside).unwrap(), b"before");
}

#[test]
fn a_copy_that_is_missing_changes_nothing() {
    let (_dir, mut kept) = machine();
    let snapshot = kept.snapshot(&"s".parse().unwrap()).unwrap();
    fs::remove_file(kept.directory.join(SNAPSHOTS).join("s/2")).unwrap();
    assert!(kept.put_back(&snapshot).is_err());
    assert_eq!(fs::read(kept.directory.join("disk-0")).unwrap(), b"after");
    unfinished(&kept.directory).unwrap();
}

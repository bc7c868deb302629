//! Disks that are put back, and what is left when that is cut off.

use super::*;
use crate::{
    disk::{Format, Place},
    spec::{self, example},
    store::MACHINE,
};

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
    let manifest = Manifest { created: 5, nanosecond: 0, machine: spec.clone(), parent: None };
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

/// A snapshot of the machine, without memory.
fn saved(kept: &Kept, name: &str, since: Option<&str>) -> Option<Name> {
    let [name, since] = [Some(name), since].map(|name| name.map(|name| name.parse().unwrap()));
    let saving = Saving::begin(&kept.spec, &kept.directory, &name.clone().unwrap(), since.as_ref());
    let saving = saving.unwrap();
    let mut parent = None;
    let write = |files: &Files, base: Option<&Path>| {
        parent = base.map(Path::to_owned);
        io::Write::write_all(&mut &files.memory, b"memory").unwrap();
        Ok(())
    };
    saving.take(write).unwrap();
    saving.finish().unwrap();
    let parent_name = kept.snapshot(&name.unwrap()).unwrap().manifest.parent;
    let path = parent_name.as_ref().map(|name| PathBuf::from(format!("../../{name}/state")));
    assert_eq!(parent, path);
    parent_name
}

#[test]
fn a_snapshot_that_others_need_stays_until_they_are_gone() {
    let (_dir, kept) = machine();
    assert_eq!(saved(&kept, "a", None), None);
    assert_eq!(saved(&kept, "b", Some("a")), Some("a".parse().unwrap()));
    assert_eq!(saved(&kept, "c", Some("b")), Some("b".parse().unwrap()));
    assert_eq!(saved(&kept, "full", None), None);
    let [a, b, c] = ["a", "b", "c"].map(|name| name.parse::<Name>().unwrap());
    let said = |name| kept.remove_snapshot(name).unwrap_err().to_string();
    assert_eq!(
        said(&a),
        "snapshot a is needed by b, c, which have only what changed since: remove those first"
    );
    let order = |kept: &Kept| -> Vec<String> {
        kept.snapshots().unwrap().iter().map(|it| it.name.to_string()).collect()
    };
    assert_eq!(order(&kept), ["s", "a", "b", "c", "full"]);
    // What one goes back to is looked for before a disk is touched.
    let manifest = kept.directory.join(SNAPSHOTS).join("b").join(MANIFEST);
    let text = fs::read(&manifest).unwrap();
    fs::write(&manifest, "").unwrap();
    let snapshot = kept.snapshot(&c).unwrap();
    let broken = kept.clone().put_back(&snapshot).unwrap_err();
    assert_eq!(broken.to_string(), "snapshot c goes back to b, which is not there or damaged");
    assert!(matches!(kept.remove_snapshot(&a), Err(RestoreError::Damaged { .. })));
    assert_eq!(saved(&kept, "d", Some("c")), None, "nothing goes back to what is damaged");
    fs::write(&manifest, text).unwrap();

    let mut names = [a.clone(), b.clone(), c.clone()];
    kept.youngest_first(&mut names);
    assert_eq!(names, [c, b, a]);
    names.iter().for_each(|name| kept.remove_snapshot(name).unwrap());
    assert_eq!(saved(&kept, "e", Some("a")), None, "nothing goes back to what is gone");
}

#[test]
fn a_snapshot_that_fails_or_is_cut_off_leaves_nothing() {
    let (_dir, kept) = machine();
    let begin =
        |name: &str| Saving::begin(&kept.spec, &kept.directory, &name.parse().unwrap(), None);
    let all = kept.directory.join(SNAPSHOTS);
    let there = || fs::read_dir(&all).unwrap().count();
    assert!(matches!(begin("s"), Err(SaveError::Exists(_))));
    let saving = begin("t").unwrap();
    assert_eq!(there(), 2);
    // None is removed meanwhile: it could be the one that this one goes back to.
    let removed = kept.remove_snapshot(&"s".parse().unwrap());
    assert!(matches!(removed, Err(RestoreError::Saving(_))));
    let refused = saving.take(|_, _| Err(SaveError::TooMany));
    assert!(matches!(refused, Err(SaveError::TooMany)));
    drop(saving);
    assert_eq!(there(), 1);
    // As by a kill -9.
    fs::create_dir_all(all.join(".old-x/state")).unwrap();
    fs::create_dir_all(all.join(NEW).join(STATE)).unwrap();
    sweep(&kept.directory);
    assert_eq!(there(), 1);
    kept.remove_snapshot(&"s".parse().unwrap()).unwrap();
}

//! The store against the disk, a model, and a kill.

mod content;
mod model;

use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::How;

fn store(dir: &TempDir) -> Store {
    Store::open(&dir.path().join("data"), &dir.path().join("run")).unwrap()
}

fn new(name: &str) -> NewVolume {
    NewVolume { name: name.to_owned(), ..NewVolume::default() }
}

fn wanted(volume: &str) -> Use {
    Use { volume: volume.to_owned(), subpath: None, fill_from: None }
}

fn write(volume: &Volume, name: &str, text: &str) {
    fs::write(volume.path.join(name), text).unwrap();
}

fn read(path: &Path, name: &str) -> String {
    fs::read_to_string(path.join(name)).unwrap()
}

#[test]
fn volumes_outlive_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let made = {
        let store = store(&dir);
        let labels = [("tier".to_owned(), "back".to_owned())].into();
        let made = store.create(NewVolume { labels, ..new("db") }).unwrap();
        write(&made, "file", "x");
        assert_eq!(store.create(new("db")).unwrap(), made, "making it again changes nothing");
        made
    };
    let store = store(&dir);
    assert_eq!(store.list(), std::slice::from_ref(&made));
    assert_eq!(read(&made.path, "file"), "x");
    store.remove("db").unwrap();
    assert!(matches!(store.get("db"), Err(VolumeError::NoSuchVolume(_))));
    assert!(!made.path.exists());
    assert_eq!(fs::read_dir(dir.path().join("data/volumes/.beside")).unwrap().count(), 0);
}

#[test]
fn a_used_volume_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    store.create(new("db")).unwrap();
    assert!(store.hold("a", ["db", "missing"]).is_err());
    assert_eq!(store.get("db").unwrap().users, Vec::<String>::new(), "all or none");
    store.hold("a", ["db"]).unwrap();
    store.hold("b", ["db"]).unwrap();
    let error = store.remove("db").unwrap_err().to_string();
    assert_eq!(error, "remove db: volume is in use - [a, b]");
    assert_eq!(store.release("a"), []);
    assert_eq!(store.release("b"), [], "it is not anonymous");
    store.remove("db").unwrap();
}

#[test]
fn anonymous_volumes_are_told_when_the_last_user_goes() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let name = VolumeName::from_random([7; 32]);
    let made = store.create(NewVolume::anonymous(&name)).unwrap();
    assert!(made.anonymous && made.labels.contains_key(ANONYMOUS_LABEL));
    store.hold("a", [name.as_str()]).unwrap();
    store.hold("b", [name.as_str()]).unwrap();
    assert_eq!(store.release("a"), []);
    assert_eq!(store.release("b"), std::slice::from_ref(&name));
    store.tidy();
    assert!(store.get(name.as_str()).is_err(), "nobody has it and nothing is in it");
}

#[test]
fn an_anonymous_volume_is_known_without_its_record() {
    let dir = tempfile::tempdir().unwrap();
    let name = VolumeName::from_random([7; 32]);
    let made = store(&dir).create(NewVolume::anonymous(&name)).unwrap();
    write(&made, "file", "x");
    // As a power cut leaves it.
    fs::write(made.path.with_file_name("meta.json"), "").unwrap();
    let store = store(&dir);
    assert!(store.get(name.as_str()).unwrap().anonymous);
    store.tidy();
    assert_eq!(read(&store.get(name.as_str()).unwrap().path, "file"), "x");
}

#[test]
fn a_volume_that_cannot_be_read_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let made = store(&dir).create(new("db")).unwrap();
    fs::write(made.path.with_file_name("meta.json"), r#"{"format":99}"#).unwrap();
    write(&made, "file", "x");
    let store = store(&dir);
    assert!(store.get("db").is_err());
    let error = store.create(new("db")).unwrap_err();
    assert!(error.to_string().contains("is in the way"), "{error}");
    assert_eq!(read(&made.path, "file"), "x");
}

#[test]
fn snapshots_keep_what_was_and_bring_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let volume = store.create(new("db")).unwrap();
    write(&volume, "file", "old");
    let first = store.snapshot("db", None).unwrap();
    assert_eq!(first.name.as_str(), "s1");
    write(&volume, "file", "new");
    write(&volume, "more", "x");
    let named = store.snapshot("db", Some("named")).unwrap();
    assert!(matches!(store.snapshot("db", Some("named")), Err(VolumeError::SnapshotExists { .. })));
    let listed = store.snapshots("db").unwrap();
    assert_eq!(listed, [first, named]);
    store.mount("a", &[wanted("db")], &[]).unwrap();
    let error = store.restore("db", "s1").unwrap_err().to_string();
    assert!(error.contains("stop a first"), "{error}");
    store.unmount("a");
    let how = store.restore("db", "s1").unwrap();
    assert!(matches!(how, How::Copied | How::Shared));
    assert_eq!(read(&volume.path, "file"), "old");
    assert!(!volume.path.join("more").exists());
    store.clone_volume("db", "copy").unwrap();
    assert_eq!(read(&store.get("copy").unwrap().path, "file"), "old");
    assert!(matches!(store.clone_volume("db", "copy"), Err(VolumeError::Exists(_))));
    store.remove_snapshot("db", "s1").unwrap();
    assert!(matches!(store.restore("db", "s1"), Err(VolumeError::NoSuchSnapshot { .. })));
    assert!(matches!(store.restore("db", "../x"), Err(VolumeError::NoSuchSnapshot { .. })));
    assert_eq!(store.snapshots("db").unwrap().len(), 1);
}

#[test]
fn what_is_exported_is_not_taken_away_meanwhile() {
    struct Stalls<'s>(&'s Store);
    impl crate::Visit for Stalls<'_> {
        type Error = VolumeError;
        fn enter(&mut self, _: &crate::Found) -> Result<(), VolumeError> {
            assert!(matches!(self.0.remove("db"), Err(VolumeError::Busy(_))));
            assert!(matches!(self.0.restore("db", "s1"), Err(VolumeError::Busy(_))));
            // Who starts does not wait for a reader.
            self.0.mount("a", &[wanted("db")], &[]).map(drop)
        }
        fn leave(&mut self, _: &crate::Found) -> Result<(), VolumeError> {
            Ok(())
        }
        fn leaf(&mut self, _: &crate::Found, _: Option<&fs::File>) -> Result<(), VolumeError> {
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    store.create(new("db")).unwrap();
    store.snapshot("db", None).unwrap();
    store.export("db", &mut Stalls(&store)).unwrap();
    store.unmount("a");
    store.restore("db", "s1").unwrap();
}

#[test]
fn an_import_replaces_everything_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let staged = store.stage("db", false).unwrap();
    fs::write(staged.beside.data().join("file"), "in").unwrap();
    store.import("db", staged, false).unwrap();
    let volume = store.get("db").unwrap();
    assert_eq!(read(&volume.path, "file"), "in");
    assert!(matches!(store.stage("db", false), Err(VolumeError::NotEmpty(_))));
    let staged = store.stage("db", true).unwrap();
    fs::write(staged.beside.data().join("other"), "in").unwrap();
    drop(staged);
    assert_eq!(read(&volume.path, "file"), "in", "what is not finished changes nothing");
    let staged = store.stage("db", true).unwrap();
    store.import("db", staged, true).unwrap();
    assert_eq!(fs::read_dir(&volume.path).unwrap().count(), 0);
    assert_eq!(store.usage()[0].bytes, 0);
}

#[test]
fn what_is_wrong_on_disk_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let (whole, lost) = (store.create(new("whole")).unwrap(), store.create(new("lost")).unwrap());
    assert_eq!(store.faults().unwrap(), Vec::<String>::new());
    fs::remove_dir(&lost.path).unwrap();
    fs::create_dir(dir.path().join("data/volumes/stranger")).unwrap();
    let faults = store.faults().unwrap();
    assert!(faults[0].contains("volumes/stranger is no volume: "), "{faults:?}");
    assert_eq!(faults[1], "the content of volume lost is gone");
    assert_eq!(faults.len(), 2);
    assert!(whole.path.is_dir(), "to look changes nothing");
}

#[test]
fn mount_points_of_nobody_are_found_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    store.create(new("db")).unwrap();
    let left = dir.path().join("run/volumes/gone");
    fs::create_dir_all(left.join("0")).unwrap();
    fs::create_dir(dir.path().join("run/volumes/runs")).unwrap();
    store.adopt("runs", ["db"]);
    assert_eq!(store.idle_mounts(), std::slice::from_ref(&left));
    store.unmount_idle();
    assert!(!left.exists());
    assert_eq!(store.idle_mounts(), Vec::<PathBuf>::new());
}

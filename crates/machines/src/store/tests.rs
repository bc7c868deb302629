//! Machines that are made, found, changed and removed; and what is left when that is cut off.

use crate::{
    disk::Wish,
    draft::{KernelWish, NetworkWish},
    lifetime::{Ended, How, Lifetime},
};

use super::*;

fn draft() -> Draft {
    Draft {
        cpus: 1,
        memory_bytes: 64 << 20,
        accel: None,
        kernel: KernelWish::Named("minimal".to_owned()),
        initrds: Vec::new(),
        arguments: String::new(),
        acpi: true,
        disks: vec!["size=1M".parse().unwrap()],
        seed: None,
        network: NetworkWish::None,
    }
}

fn machines() -> (tempfile::TempDir, Machines) {
    let dir = tempfile::tempdir().unwrap();
    let machines = Machines::new(&dir.path().join("data"), &dir.path().join("run"));
    (dir, machines)
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn everything(machines: &Machines) -> Vec<String> {
    let entries = fs::read_dir(&machines.data).unwrap().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_machine_is_made_found_and_removed() {
    let (_dir, machines) = machines();
    assert!(machines.list().unwrap().is_empty());
    let made = machines.create(&name("a"), &draft()).unwrap();
    assert_eq!(machines.find(&name("a")).unwrap().spec, made.spec);
    assert_eq!(made.state().unwrap(), State::Created);
    assert!(matches!(machines.create(&name("a"), &draft()), Err(StoreError::Exists(_))));
    machines.create(&name("b"), &draft()).unwrap();
    assert_eq!(machines.list().unwrap().len(), 2);
    machines.remove(&name("a")).unwrap();
    assert!(matches!(machines.remove(&name("a")), Err(StoreError::NotFound(_))));
    assert_eq!(everything(&machines), ["b"]);
}

#[test]
fn a_machine_that_cannot_be_made_leaves_nothing() {
    let (dir, machines) = machines();
    let there =
        |path: PathBuf| Wish::There { path, format: None, read_only: false, backing: Vec::new() };
    let broken = dir.path().join("broken");
    fs::write(&broken, b"QFI\xfb and nothing more").unwrap();
    for disk in [there(dir.path().join("missing")), there(broken)] {
        let draft = Draft { disks: vec![draft().disks.remove(0), disk], ..draft() };
        assert!(matches!(machines.create(&name("a"), &draft), Err(StoreError::Draft(_))));
        assert_eq!(everything(&machines), [] as [&str; 0]);
    }
}

#[test]
fn what_was_cut_off_is_swept_up_and_what_goes_on_is_not() {
    let (_dir, machines) = machines();
    machines.create(&name("a"), &draft()).unwrap();
    let left = machines.data.join(".new-left");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("lock"), "").unwrap();
    let (staging, lock) = machines.staging().unwrap();
    assert_eq!(machines.list().unwrap().len(), 1, "neither is a machine");
    machines.create(&name("b"), &draft()).unwrap();
    assert!(!left.exists() && staging.exists());
    drop(lock);
    machines.create(&name("c"), &draft()).unwrap();
    assert_eq!(everything(&machines), ["a", "b", "c"]);
}

#[test]
fn a_machine_that_runs_is_neither_changed_nor_removed() {
    let (_dir, machines) = machines();
    let mut kept = machines.create(&name("a"), &draft()).unwrap();
    let lock = kept.lock().unwrap();
    assert_eq!(kept.state().unwrap(), State::Running { since: None });
    assert!(matches!(kept.lock(), Err(StoreError::Runs(_))));
    assert!(matches!(machines.remove(&name("a")), Err(StoreError::Runs(_))));
    let larger = Spec { memory_bytes: 128 << 20, ..kept.spec.clone() };
    let none = Spec { cpus: 0, ..kept.spec.clone() };
    kept.change(&lock, larger.clone()).unwrap();
    assert!(kept.change(&lock, none).is_err());
    assert_eq!(machines.find(&name("a")).unwrap().spec, larger);
    let began = Lifetime { began: 5, end: None };
    lifetime::write(&kept.directory, &began).unwrap();
    assert_eq!(kept.state().unwrap(), State::Running { since: Some(5) });
    drop(lock);
    assert_eq!(kept.state().unwrap(), State::Killed { began: 5 });
    let end = Ended { at: 6, how: How::Stuck };
    lifetime::write(&kept.directory, &Lifetime { end: Some(end.clone()), ..began }).unwrap();
    assert_eq!(kept.state().unwrap(), State::Ended(end));
}

#[test]
fn a_damaged_machine_is_listed_and_can_be_removed() {
    let (_dir, machines) = machines();
    let kept = machines.create(&name("a"), &draft()).unwrap();
    fs::write(kept.directory.join(MACHINE), "{").unwrap();
    assert!(matches!(&machines.list().unwrap()[..], [Entry::Damaged { .. }]));
    assert!(matches!(machines.find(&name("a")), Err(StoreError::Damaged { .. })));
    machines.remove(&name("a")).unwrap();
    assert!(machines.list().unwrap().is_empty());
}

//! Chains of snapshots.

use std::{
    error::Error as _,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use hv::memory::PAGE;
use serde_json::Value;
use vm::snapshot::{CHAIN_MAX, Disk, Format, Identity, Save, SnapshotError};

use super::*;

/// All of the memory.
fn memory(of: &GuestMemory) -> Vec<u8> {
    let mut bytes = vec![0; of.bytes()];
    of.copy_out(0, &mut bytes);
    bytes
}

fn save(machine: &Machine, dir: &Path, parent: Option<&Path>) -> Result<(), SnapshotError> {
    machine.save(dir, &Save { parent, disks: Vec::new() })
}

/// Lets it run for a while, and has somebody else write too.
fn go_on(machine: &Machine, page: u64) {
    machine.resume();
    let counted = count(machine);
    wait_for(machine, counted + 10);
    machine.pause(soon()).unwrap();
    machine.memory().store(page * PAGE as u64 + 3, 0x5au8).unwrap();
}

fn restore(dir: &Path) -> (Machine, Terminal) {
    let saved = Snapshot::open(dir).unwrap();
    let (memory, shape) = (saved.memory().unwrap(), saved.manifest.shape.clone());
    let mut builder = Builder::new(&softcpu::Soft, memory, shape, Announce::Acpi).unwrap();
    let (terminal, console) = Terminal::new();
    builder.console(console);
    (builder.restore(saved.manifest).unwrap(), terminal)
}

/// What is wrong with a snapshot, with all causes.
fn refused(dir: &Path) -> String {
    let error = Snapshot::open(dir).unwrap_err();
    let mut said = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        said.push(cause.to_string());
        source = cause.source();
    }
    said.join(": ")
}

/// A machine's three snapshots, each but the first only with what was written since the one before,
/// and its memory at each.
fn chain(dir: &Path) -> (Vec<PathBuf>, Vec<Vec<u8>>) {
    let (machine, _terminal) = boot();
    let mut dirs: Vec<PathBuf> = Vec::new();
    let mut memories = Vec::new();
    for (n, name) in ["a", "b", "c"].into_iter().enumerate() {
        go_on(&machine, 1000 + 10 * n as u64);
        let to = dir.join(name);
        save(&machine, &to, dirs.last().map(PathBuf::as_path)).unwrap();
        memories.push(memory(machine.memory()));
        dirs.push(to);
    }
    (dirs, memories)
}

#[test]
fn a_chain_gives_back_each_state_from_what_was_written_since() {
    let dir = tempfile::tempdir().unwrap();
    let (dirs, memories) = chain(dir.path());
    let elsewhere = tempfile::tempdir().unwrap();
    for (dir, wanted) in dirs.iter().zip(&memories) {
        let saved = Snapshot::open(dir).unwrap();
        assert!(memory(&saved.memory().unwrap()) == *wanted, "{}", dir.display());
    }
    for later in &dirs[1..] {
        let file = fs::metadata(later.join("memory")).unwrap();
        // The counter, the page that was written from outside, and little else.
        let pages = file.blocks() * 512 / PAGE as u64;
        assert!((2..=8).contains(&pages), "{pages} pages");
    }
    // They are found from one another wherever they are.
    for from in &dirs {
        fs::rename(from, elsewhere.path().join(from.file_name().unwrap())).unwrap();
    }
    let (machine, mut terminal) = restore(&elsewhere.path().join("c"));
    assert!(memory(machine.memory()) == memories[2]);
    machine.resume();
    wait_for(&machine, count(&machine));
    terminal.keyboard.write_all(b"q").unwrap();
    assert_eq!(machine.wait(soon()), Some(End::PoweredOff));
}

#[test]
fn a_machine_that_was_restored_is_saved_as_what_it_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let (dirs, _) = chain(dir.path());
    let (machine, _terminal) = restore(&dirs[2]);
    let to = dir.path().join("d");
    machine.resume();
    go_on_after(&machine);
    // Only what it goes back to will do.
    let error = save(&machine, &to, Some(&dirs[1])).unwrap_err();
    assert!(matches!(error, SnapshotError::NotSince { since: Some(_), .. }), "{error}");
    save(&machine, &to, Some(&dirs[2])).unwrap();
    let saved = Snapshot::open(&to).unwrap();
    assert!(memory(&saved.memory().unwrap()) == memory(machine.memory()));
    assert_eq!(saved.directories().len(), 4);
    let blocks = fs::metadata(to.join("memory")).unwrap().blocks() * 512;
    assert!(blocks <= 8 * PAGE as u64, "{blocks} bytes");
}

fn go_on_after(machine: &Machine) {
    wait_for(machine, count(machine));
    machine.pause(soon()).unwrap();
    machine.memory().store(1500 * PAGE as u64, 7u8).unwrap();
}

#[test]
fn a_snapshot_that_failed_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (machine, _terminal) = boot();
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    assert!(matches!(save(&machine, &other, Some(&one)), Err(SnapshotError::Parent { .. })));
    go_on(&machine, 1000);
    save(&machine, &one, None).unwrap();
    go_on(&machine, 1100);
    // There is something in the way of the file.
    fs::create_dir_all(other.join("memory.new")).unwrap();
    assert!(matches!(save(&machine, &other, Some(&one)), Err(SnapshotError::File { .. })));
    assert!(Snapshot::open(&other).is_err());
    fs::remove_dir(other.join("memory.new")).unwrap();
    save(&machine, &other, Some(&one)).unwrap();
    let saved = Snapshot::open(&other).unwrap();
    assert!(memory(&saved.memory().unwrap()) == memory(machine.memory()));
}

#[test]
fn a_snapshot_may_take_the_place_of_one_that_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let (dirs, memories) = chain(dir.path());
    let (machine, _terminal) = restore(&dirs[0]);
    machine.pause(soon()).unwrap();
    // Memory that nobody has touched is that of the old file.
    save(&machine, &dirs[0], None).unwrap();
    assert!(memory(machine.memory()) == memories[0]);
    // Those that went back to it say so.
    let said = refused(&dirs[2]);
    let named = dirs[0].canonicalize().unwrap().display().to_string();
    assert!(said.contains(&named) && said.contains("it is now"), "{said}");
    for parent in [&dirs[0], &dirs[0].join("../a")] {
        let error = save(&machine, &dirs[0], Some(parent)).unwrap_err();
        assert!(matches!(error, SnapshotError::Itself), "{error}");
    }
}

/// Changes a description.
fn edit(dir: &Path, change: impl FnOnce(&mut Value)) {
    let path = dir.join("machine.json");
    let mut text: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut text);
    fs::write(&path, text.to_string()).unwrap();
}

#[test]
fn a_broken_chain_says_where_it_breaks() {
    let dir = tempfile::tempdir().unwrap();
    let (dirs, _) = chain(dir.path());
    let broken = |change: &dyn Fn(&mut Value), wanted: &str| {
        let path = dirs[1].join("machine.json");
        let whole = fs::read(&path).unwrap();
        edit(&dirs[1], change);
        let said = refused(&dirs[2]);
        assert!(said.contains(wanted), "{said}");
        fs::write(path, whole).unwrap();
    };
    let id = "00112233445566778899aabbccddeeff";
    broken(&|text| text["machine"]["id"] = id.into(), "/b: it is now 0011");
    broken(&|text| text["machine"]["id"] = Value::Null, "/b: the snapshot has no id");
    broken(
        &|text| text["machine"]["memory_bytes"] = 4096.into(),
        "/b: the snapshot's list of written pages",
    );
    broken(&|text| text["version"] = 9.into(), "/b: the snapshot has version 9");
    broken(
        &|text| text["parent"]["pages"][0][1] = 0.into(),
        "/b: the snapshot's list of written pages",
    );
    broken(&|text| text["parent"]["path"] = "/nowhere/at/all".into(), "/nowhere/at/all");
    // A circle: the middle one goes back to the last.
    let last: Value =
        serde_json::from_slice(&fs::read(dirs[2].join("machine.json")).unwrap()).unwrap();
    let circle = |text: &mut Value| {
        text["parent"]["path"] = "../c".into();
        text["parent"]["id"] = last["machine"]["id"].clone();
    };
    broken(&circle, "/c: it goes back to itself");
    // Its memory's file is shorter than its memory, or none.
    let memory = fs::File::options().write(true).open(dirs[1].join("memory")).unwrap();
    memory.set_len(PAGE as u64).unwrap();
    assert!(Snapshot::open(&dirs[2]).unwrap().memory().is_err());
    fs::remove_file(dirs[1].join("memory")).unwrap();
    assert!(refused(&dirs[2]).contains("open the memory's file"));
    fs::create_dir(dirs[1].join("memory")).unwrap();
    assert!(refused(&dirs[2]).contains("it is no file"));
    fs::remove_dir_all(&dirs[1]).unwrap();
    assert!(refused(&dirs[2]).contains("../b: cannot open the description"));
}

#[test]
fn a_chain_ends_somewhere() {
    let dir = tempfile::tempdir().unwrap();
    let (machine, _terminal) = boot();
    machine.pause(soon()).unwrap();
    let name = |n: usize| dir.path().join(n.to_string());
    for n in 0..CHAIN_MAX {
        let parent = n.checked_sub(1).map(name);
        save(&machine, &name(n), parent.as_deref()).unwrap();
    }
    assert_eq!(Snapshot::open(&name(CHAIN_MAX - 1)).unwrap().directories().len(), CHAIN_MAX);
    let one_more = save(&machine, &name(CHAIN_MAX), Some(&name(CHAIN_MAX - 1)));
    assert!(matches!(one_more, Err(SnapshotError::TooLong)));
    // Nor is one read that somebody made longer.
    let all = name(CHAIN_MAX);
    save(&machine, &all, None).unwrap();
    let of: Value = serde_json::from_slice(&fs::read(all.join("machine.json")).unwrap()).unwrap();
    edit(&name(0), |text| {
        let id = &of["machine"]["id"];
        text["parent"] = serde_json::json!({ "id": id, "path": all, "pages": [] });
    });
    assert!(refused(&name(CHAIN_MAX - 1)).contains("more than 16 snapshots"));
}

#[test]
fn other_disks_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (machine, _terminal) = boot();
    machine.pause(soon()).unwrap();
    let disk = |serial: &str, digest: &str| {
        let identity = Identity::Digest(format!("sha256:{digest}"));
        Disk { serial: serial.to_owned(), format: Format::Raw, identity }
    };
    let disks = vec![disk("layer", "aa"), disk("data", "bb")];
    machine.save(dir.path(), &Save { parent: None, disks: disks.clone() }).unwrap();
    let restore = |disks: Vec<Disk>| {
        let saved = Snapshot::open(dir.path()).unwrap();
        let (memory, shape) = (saved.memory().unwrap(), saved.manifest.shape.clone());
        let mut builder = Builder::new(&softcpu::Soft, memory, shape, Announce::Acpi).unwrap();
        builder.disks(disks);
        builder.restore(saved.manifest).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(restore(disks.clone()), Ok(()));
    let said = restore(vec![disks[0].clone(), disk("data", "cc")]).unwrap_err();
    assert!(said.starts_with("disk 1 is \"data\" (raw, sha256:cc)"), "{said}");
    assert!(restore(vec![]).is_err() && restore(disks[..1].to_vec()).is_err());
}

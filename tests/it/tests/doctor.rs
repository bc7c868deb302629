//! The doctor says what is wrong, and clears away what a crash left.

use std::{fs, process::Command};

use it::{Instance, cgroups, wait_until};

fn json(instance: &Instance, args: &[&str]) -> serde_json::Value {
    let ran = instance.run(&[&["doctor", "--format", "json"], args].concat());
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

fn leftovers(diagnosis: &serde_json::Value) -> Vec<String> {
    let list = diagnosis["leftovers"].as_array().expect("a list");
    list.iter().map(|left| left["what"].as_str().expect("text").to_owned()).collect()
}

#[test]
fn nothing_is_left_over_where_all_is_well() {
    let Some(instance) = Instance::start() else { return };
    instance.ok(&["run", "-d", "--name", "runs", "demo", "sleep", "infinity"]);
    instance.ok(&["run", "--name", "ended", "demo", "true"]);
    let diagnosis = json(&instance, &[]);
    assert_eq!(leftovers(&diagnosis), [""; 0]);
    let findings = diagnosis["findings"].as_array().expect("a list");
    for subject in ["daemon", "overlayfs", "namespaces", "network", "image store", "KVM"] {
        assert!(findings.iter().any(|finding| finding["subject"] == subject), "{subject}");
    }
    let broken: Vec<_> =
        findings.iter().filter(|f| f["works"] == false && !f["mend"].is_null()).collect();
    assert_eq!(diagnosis["healthy"].as_bool(), Some(broken.is_empty()), "{broken:?}");
    assert!(instance.run(&["doctor"]).out.contains("ok    daemon"));
    // Looking changes nothing.
    assert_eq!(instance.ok(&["exec", "runs", "echo", "alive"]), "alive");
}

#[test]
fn what_nobody_knows_of_is_found_and_removed() {
    let Some(mut instance) = Instance::start() else { return };
    let id = instance.ok(&["run", "-d", "demo", "sleep", "infinity"]);
    instance.kill_daemon();
    // The records are lost, as by a disk that was restored from an old copy.
    let records: Vec<_> = fs::read_dir(instance.path("data"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && !path.ends_with("lock"))
        .collect();
    assert!(!records.is_empty());
    records.iter().for_each(|path| fs::remove_file(path).unwrap());
    instance.start_daemon();
    assert_eq!(instance.ok(&["ps", "-aq"]), "");
    // What somebody put there while the daemon runs is nobody's too.
    let stray = instance.path("data/containers/0123");
    fs::create_dir(&stray).unwrap();
    let left = leftovers(&json(&instance, &[]));
    assert!(left.iter().any(|what| what == &format!("shim {id}")), "{left:?}");
    assert!(left.iter().any(|what| what.ends_with("containers/0123")), "{left:?}");
    assert!(!cgroups(&id).is_empty(), "looking removes nothing");

    let repaired = json(&instance, &["--repair"]);
    let outcomes = repaired["leftovers"].as_array().expect("a list");
    assert!(outcomes.iter().all(|left| left["outcome"] == "removed"), "{repaired:#}");
    assert!(!stray.exists());
    wait_until("nothing is left", || cgroups(&id).is_empty());
    assert_eq!(leftovers(&json(&instance, &[])), [""; 0]);
}

#[test]
fn without_a_daemon_the_host_is_looked_at_all_the_same() {
    let Some(instance) = Instance::without_daemon() else { return };
    let mut doctor = Command::new(Instance::program());
    doctor.args(["doctor", "--format", "json"]);
    doctor.env("WYTHE_HOST", format!("unix://{}", instance.path("nobody.sock").display()));
    let output = doctor.output().expect("the program runs");
    assert_eq!(output.status.code(), Some(1));
    let diagnosis: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(diagnosis["healthy"], false);
    let first = &diagnosis["findings"][0];
    assert_eq!((&first["subject"], &first["works"]), (&"daemon".into(), &false.into()));
}

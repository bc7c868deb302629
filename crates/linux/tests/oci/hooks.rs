//! Hooks: their order, what they are told, and what comes of their failure.

use std::fs;

use serde_json::{Value, json};

use crate::bundle::{Bundle, said, until};

/// A hook that notes its name and the state it is told.
fn noting(bundle: &Bundle, name: &str, then: &str) -> Value {
    let notes = bundle.text("rootfs/notes");
    let script = format!(
        "notes={notes}; [ -e $notes ] || notes=/notes; state=$(cat); echo \"{name} $state\" >> $notes; {then}"
    );
    json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}])
}

/// Every hook, noting; `failing` fails after it has noted.
fn all(bundle: &Bundle, failing: &str) -> Value {
    fs::write(bundle.path("rootfs/notes"), "").unwrap();
    let kinds =
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let hook = |name: &str| {
        let then = if name == failing { "echo broken >&2; exit 3" } else { "true" };
        (name.to_owned(), noting(bundle, name, then))
    };
    Value::Object(kinds.into_iter().map(hook).collect())
}

/// Names and statuses that were noted.
fn notes(bundle: &Bundle) -> Vec<(String, String)> {
    let text = fs::read_to_string(bundle.path("rootfs/notes")).unwrap();
    let note = |line: &str| {
        let (name, state) = line.split_once(' ').unwrap();
        let state: Value = serde_json::from_str(state).unwrap();
        assert_eq!(state["id"], "box");
        assert_eq!(state["ociVersion"], "1.2.0");
        (name.to_owned(), state["status"].as_str().unwrap().to_owned())
    };
    text.lines().map(note).collect()
}

fn bundle() -> Option<Bundle> {
    let bundle = Bundle::new("exec sleep 1000")?;
    bundle.change(|config| config["root"]["readonly"] = false.into());
    Some(bundle)
}

#[test]
fn hooks_run_in_the_order_of_the_specification() {
    let Some(bundle) = bundle() else { return };
    bundle.change(|config| config["hooks"] = all(&bundle, ""));
    let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter().map(|(name, status)| ((*name).into(), (*status).into())).collect()
    };
    let mut want = vec![
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
    ];
    bundle.create();
    assert_eq!(notes(&bundle), pairs(&want));
    assert_eq!(bundle.oci(["start", "box"]), said(0, ""));
    until(|| notes(&bundle).len() == 5);
    // These two run at the same time, as in runc.
    let mut ran = notes(&bundle);
    ran[3..].sort_by(|a, b| b.cmp(a));
    want.extend([("startContainer", "created"), ("poststart", "running")]);
    assert_eq!(ran, pairs(&want));
    assert_eq!(bundle.oci(["delete", "--force", "box"]), said(0, ""));
    assert_eq!(notes(&bundle).last(), Some(&("poststop".to_owned(), "stopped".to_owned())));
    bundle.delete();
}

#[test]
fn a_failed_hook_before_the_start_undoes_the_container() {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let Some(bundle) = bundle() else { return };
        bundle.change(|config| config["hooks"] = all(&bundle, kind));
        let create = bundle.oci(["create", "box"]);
        assert_eq!(create.code, Some(1), "{create:?}");
        assert!(create.stderr.contains(kind), "{create:?}");
        let names: Vec<String> = notes(&bundle).into_iter().map(|(name, _)| name).collect();
        assert!(names.contains(&"poststop".to_owned()), "{names:?}");
        assert!(!names.contains(&"startContainer".to_owned()), "{names:?}");
        bundle.delete();
    }
}

#[test]
fn a_failed_poststart_hook_stops_the_container() {
    let Some(bundle) = bundle() else { return };
    bundle.change(|config| config["hooks"] = all(&bundle, "poststart"));
    bundle.create();
    let start = bundle.oci(["start", "box"]);
    assert_eq!(start.code, Some(1));
    assert!(start.stderr.contains("error running poststart hook #0"), "{start:?}");
    assert!(start.stderr.contains("broken"), "{start:?}");
    bundle.await_status("stopped");
    bundle.delete();
}

#[test]
fn a_failed_start_container_hook_ends_the_container() {
    let Some(bundle) = bundle() else { return };
    bundle.change(|config| config["hooks"] = all(&bundle, "startContainer"));
    bundle.create();
    bundle.oci(["start", "box"]);
    bundle.await_status("stopped");
    bundle.delete();
}

#[test]
fn a_failed_poststop_hook_is_only_a_warning() {
    let Some(bundle) = bundle() else { return };
    bundle.change(|config| config["hooks"] = all(&bundle, "poststop"));
    bundle.start();
    let delete = bundle.oci(["delete", "-f", "box"]);
    assert_eq!(delete, said(0, ""));
    assert!(delete.stderr.contains("level=warning"), "{delete:?}");
    bundle.delete();
}

//! The operations of runtime.md: what they refuse, and what they leave.

use std::fs;

use serde_json::json;

use crate::bundle::{Bundle, said};

#[test]
fn versions_of_the_specification_are_told_apart() {
    let Some(bundle) = Bundle::new("true") else { return };
    for (version, good) in [("1.0.0", true), ("1.2.1", true), ("2.0.0", false), ("", false)] {
        bundle.change(|config| config["ociVersion"] = version.into());
        let ran = bundle.oci(["run", "box"]);
        assert_eq!(ran.code, Some(i32::from(!good)), "{ran:?}");
        assert!(good || ran.stderr.contains("ociVersion"), "{ran:?}");
    }
}

#[test]
fn unknown_properties_are_no_error() {
    let Some(bundle) = Bundle::new("true") else { return };
    bundle.change(|config| {
        config["org.example.extension"] = json!({"a": 1});
        config["process"]["later"] = true.into();
        config["linux"]["later"] = json!([1]);
    });
    assert_eq!(bundle.oci(["run", "box"]), said(0, ""));
}

#[test]
fn operations_need_a_container_that_is_there() {
    let Some(bundle) = Bundle::new("true") else { return };
    for verb in ["state", "start", "kill", "delete"] {
        let without = bundle.oci([verb]);
        assert_eq!(without.code, Some(1), "{without:?}");
        let missing = bundle.oci([verb, "nobody"]);
        assert_eq!(missing.code, Some(1), "{missing:?}");
        assert!(missing.stderr.contains("container does not exist: nobody"), "{missing:?}");
    }
    let without = bundle.oci(["create"]);
    assert_eq!(without.code, Some(1), "{without:?}");
}

#[test]
fn errors_leave_everything_as_it_was() {
    let Some(bundle) = Bundle::new("exec sleep 1000") else { return };
    bundle.start();
    let before = bundle.state();
    let again = bundle.oci(["create", "box"]);
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("container with given ID already exists: box"), "{again:?}");
    assert_eq!(bundle.oci(["start", "box"]).code, Some(1));
    assert_eq!(bundle.oci(["delete", "box"]).code, Some(1));
    assert_eq!(bundle.oci(["kill", "box", "NOPE"]).code, Some(1));
    assert_eq!(bundle.state(), before);
    for id in ["", ".", "..", "a/b", "a b"] {
        assert_eq!(bundle.oci(["create", id]).code, Some(1), "{id:?}");
    }
    bundle.delete();

    let nowhere = bundle.oci(["create", "-b", &bundle.text("nowhere"), "box"]);
    assert_eq!(nowhere.code, Some(1), "{nowhere:?}");
    for (property, value) in [("args", json!([])), ("cwd", json!("bin")), ("user", json!(null))] {
        let good = fs::read(bundle.path("config.json")).unwrap();
        bundle.change(|config| config["process"][property] = value);
        let refused = bundle.oci(["create", "box"]);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        fs::write(bundle.path("config.json"), good).unwrap();
    }
    assert_eq!(bundle.oci(["list", "-q"]), said(0, ""));
    bundle.delete();
}

#[test]
fn changes_to_the_bundle_after_create_are_not_seen() {
    let Some(bundle) = Bundle::new("echo first; exec sleep 1000") else { return };
    bundle.change(|config| config["annotations"] = json!({"key": "first"}));
    bundle.create();
    bundle.change(|config| {
        config["process"]["args"] = json!(["echo", "second"]);
        config["process"]["env"] = json!(["PATH=/bin", "WORD=second"]);
        config["annotations"] = json!({"key": "second"});
    });
    assert_eq!(bundle.oci(["start", "box"]), said(0, ""));
    crate::until(|| bundle.output() == "first\n");
    assert_eq!(bundle.state()["annotations"], json!({"key": "first"}));
    assert_eq!(bundle.oci(["exec", "box", "sh", "-c", "echo $WORD"]), said(0, "\n"));
    bundle.delete();
}

#[test]
fn what_the_container_did_not_make_stays() {
    let Some(bundle) = Bundle::new("echo kept > /x/file") else { return };
    fs::create_dir(bundle.path("data")).unwrap();
    fs::create_dir(bundle.path("rootfs/x")).unwrap();
    bundle.change(|config| {
        config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/x", "type": "none", "source": "data", "options": ["bind"],
        }));
    });
    let config = fs::read(bundle.path("config.json")).unwrap();
    bundle.start();
    bundle.await_status("stopped");
    bundle.delete();
    assert_eq!(fs::read_to_string(bundle.path("data/file")).unwrap(), "kept\n");
    assert_eq!(fs::read(bundle.path("config.json")).unwrap(), config);
    assert!(bundle.path("rootfs/bin/sh").exists());
}

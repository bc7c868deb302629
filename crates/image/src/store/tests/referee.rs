//! What other tools say of our archives, and what we say of theirs.

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::{
    Store,
    fixture::{Layout, Scratch, layer, load},
};

/// Runs skopeo; its output.
fn skopeo(args: &[&str]) -> Option<Vec<u8>> {
    let tool = testkit::need::tool("skopeo")?;
    let out = Command::new(tool).arg("--insecure-policy").args(args).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    Some(out.stdout)
}

fn inspect(image: &str) -> Option<Value> {
    let platform = ["--override-arch", "amd64", "--override-os", "linux"];
    let out = skopeo(&[platform.as_slice(), &["inspect", image]].concat())?;
    Some(serde_json::from_slice(&out).unwrap())
}

fn loaded() -> (Scratch, Store) {
    let scratch = Scratch::new();
    let store = scratch.open();
    let mut layout = Layout::default();
    let linux = layout.image("linux/amd64", &[layer("a", "one").gzipped(), layer("b", "two")]);
    let wasi = layout.image("wasi/wasm", &[layer("b", "two")]);
    let index = layout.index(vec![linux, wasi]);
    layout.name(index, "multi:1");
    let single = layout.image("linux/amd64", &[layer("a", "one").gzipped()]);
    layout.name(single, "docker.io/library/single:1");
    load(&store, &layout.archive()).unwrap();
    (scratch, store)
}

fn save(store: &Store, names: &[&str], file: &Path) {
    let out = std::fs::File::create(file).unwrap();
    store.save(names, &[], out, &mut |_| {}).unwrap();
}

#[test]
fn saved_archives_are_read_as_oci_layouts_and_as_dockers() {
    let (scratch, store) = loaded();
    let file = scratch.dir.path().join("both.tar");
    save(&store, &["multi:1"], &file);
    let Some(oci) = inspect(&format!("oci-archive:{}", file.display())) else { return };
    assert_eq!(oci["Layers"].as_array().unwrap().len(), 2);
    assert_eq!(oci["Architecture"], "amd64");
    save(&store, &["multi:1", "single:1"], &file);
    for (name, layers) in [("multi:1", 2), ("single:1", 1)] {
        let docker = inspect(&format!("docker-archive:{}:{name}", file.display())).unwrap();
        assert_eq!(docker["Layers"].as_array().unwrap().len(), layers, "{name}");
    }
}

#[test]
fn what_another_tool_copied_is_the_same_image() {
    let (scratch, store) = loaded();
    let path = |name: &str| scratch.dir.path().join(name).display().to_string();
    let layers = store.image("single:1", None).unwrap().layers;
    save(&store, &["single:1"], Path::new(&path("ours.tar")));
    let ours = format!("docker-archive:{}:single:1", path("ours.tar"));
    for (copy, compressed) in [
        (format!("docker-archive:{}:copied:2", path("docker.tar")), "docker.tar"),
        (format!("oci-archive:{}:docker.io/library/copied:2", path("oci.tar")), "oci.tar"),
    ] {
        if skopeo(&["copy", &ours, &copy]).is_none() {
            return;
        }
        let other = Scratch::new();
        let there = other.open();
        load(&there, &std::fs::read(path(compressed)).unwrap()).unwrap();
        assert_eq!(there.image("copied:2", None).unwrap().layers, layers, "{copy}");
        assert!(there.audit(&[], true).unwrap().extra.is_empty());
    }
}

//! Archives that are as they should be.

use std::collections::BTreeMap;

use crate::{
    Platform, Store,
    fixture::{Layout, Scratch, entry, gzip, layer, load, load_for, now, simple, tar, zstd},
    layer::{EntryKind, tar_write::TarWriter},
    load::{Load, LoadError},
    progress::Progress,
    wire,
};

fn tags(store: &Store) -> Vec<String> {
    store.list().unwrap().iter().flat_map(|row| &row.tags).map(|tag| tag.familiar()).collect()
}

#[test]
fn an_oci_layout_is_loaded_with_its_name() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let layers = [layer("a", "one"), layer("b", "two").gzipped(), layer("c", "three").zstded()];
    let loaded = load(&store, &simple("docker.io/library/web:1", &layers)).unwrap();
    assert_eq!(loaded[0].references[0].familiar(), "web:1");
    let image = store.image("web:1", None).unwrap();
    assert_eq!(image.id, loaded[0].id);
    assert_eq!(image.layers, layers.iter().map(|layer| layer.diff_id).collect::<Vec<_>>());
    assert_eq!(image.layer_bytes, [3, 3, 5]);
    assert!(store.audit(&[], true).unwrap().is_sound());
    assert!(store.audit(&[], true).unwrap().extra.is_empty());
}

#[test]
fn archives_may_be_compressed_and_their_blobs_in_any_order() {
    let plain = simple("docker.io/library/web:1", &[layer("a", "one")]);
    let mut reversed = Layout::default();
    let image = reversed.image("linux/amd64", &[layer("a", "one")]);
    reversed.name(image, "docker.io/library/web:1");
    let mut files = reversed.files();
    files.reverse();
    for archive in [gzip(&plain), zstd(&plain), crate::fixture::archive(&files)] {
        let scratch = Scratch::new();
        let store = scratch.open();
        load(&store, &archive).unwrap();
        assert_eq!(tags(&store), ["web:1"]);
    }
}

#[test]
fn large_blobs_go_by_way_of_the_disk() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let big = layer("big", &"x".repeat(300_000));
    let mut told = Vec::new();
    let load = Load { platforms: Vec::new(), name: None, now: now() };
    let archive = simple("big:1", std::slice::from_ref(&big));
    store.load(archive.as_slice(), &load, &mut |progress| told.push(progress)).unwrap();
    assert_eq!(store.image("big:1", None).unwrap().layer_bytes, [300_000]);
    assert!(matches!(told.last(), Some(Progress::LayerReady { reused: false, .. })), "{told:?}");
    assert!(
        told.iter()
            .any(|p| matches!(p, Progress::Layer { total, .. } if *total == big.blob.len() as u64))
    );
}

#[test]
fn an_archive_of_an_old_docker_shares_layers_by_links() {
    let (base, top) = (layer("a", "one"), layer("b", "two"));
    let config =
        wire::to_json(&crate::fixture::config("linux/amd64", vec![base.diff_id, top.diff_id]));
    let id = crate::store::digest_of(&config);
    let listed = format!(
        r#"[{{"Config":"{}.json","RepoTags":["old:1","old"],"Layers":["x/layer.tar","y/layer.tar"]}}]"#,
        id.hex()
    );
    let mut archive = TarWriter::new(Vec::new());
    let mut put = |name: &str, bytes: &[u8]| {
        let size = bytes.len() as u64;
        archive.entry(&entry(name, EntryKind::File { size, segments: None })).unwrap();
        archive.data(bytes).unwrap();
    };
    put("store/layer.tar", &base.blob);
    put("y/layer.tar", &top.blob);
    put("y/VERSION", b"1.0");
    put(&format!("{}.json", id.hex()), &config);
    put("manifest.json", listed.as_bytes());
    let link = EntryKind::Symlink(b"../store/layer.tar".to_vec());
    archive.entry(&entry("x/layer.tar", link)).unwrap();
    let archive = archive.finish().unwrap();

    let scratch = Scratch::new();
    let store = scratch.open();
    let loaded = load(&store, &archive).unwrap();
    assert_eq!(loaded[0].id, id);
    assert_eq!(tags(&store), ["old:1", "old:latest"]);
    assert_eq!(store.image("old", None).unwrap().layers, [base.diff_id, top.diff_id]);
    assert!(store.audit(&[], true).unwrap().extra.is_empty());
    // The manifest that was written for it is the same the next time.
    assert_eq!(load(&store, &archive).unwrap()[0].target, loaded[0].target);
}

#[test]
fn names_of_manifest_json_count_beside_those_of_the_index() {
    let mut layout = Layout::default();
    let image = layout.image("linux/amd64", &[layer("a", "one")]);
    let manifest: wire::Manifest = serde_json::from_slice(&layout.blobs[&image.digest]).unwrap();
    layout.name(image, "docker.io/library/web:1");
    let mut files = layout.files();
    let listed = format!(
        r#"[{{"Config":"blobs/sha256/{}","RepoTags":["web:1","other:2"],"Layers":[]}}]"#,
        manifest.config.digest.hex()
    );
    files.push(("manifest.json".to_owned(), listed.into_bytes()));
    let scratch = Scratch::new();
    let store = scratch.open();
    load(&store, &crate::fixture::archive(&files)).unwrap();
    assert_eq!(tags(&store), ["other:2", "web:1"]);
}

#[test]
fn of_an_index_each_platform_is_an_image_and_the_hosts_is_meant() {
    let mut layout = Layout::default();
    let linux = layout.image("linux/amd64", &[layer("a", "one")]);
    let wasi = layout.image("wasi/wasm", &[layer("a.wasm", "two")]);
    let nested = layout.index(vec![linux.clone()]);
    let index = layout.index(vec![nested, wasi]);
    layout.name(index.clone(), "docker.io/library/multi:1");
    let scratch = Scratch::new();
    let store = scratch.open();
    let loaded = load(&store, &layout.archive()).unwrap();
    assert_eq!(loaded[0].target, index.digest);
    let host = store.image("multi:1", None).unwrap();
    assert_eq!((host.manifest, host.id), (linux.digest, loaded[0].id));
    let wasi = store.image("multi:1", Some(&Platform::wasi())).unwrap();
    assert_eq!(wasi.platform, Platform::wasi());
    let other = store.image("multi:1", Some(&"linux/arm64".parse().unwrap())).unwrap_err();
    assert_eq!(
        other.to_string(),
        "image multi:1 is not for linux/arm64, but for linux/amd64, wasi/wasm"
    );
    assert_eq!(store.image(&wasi.id.hex()[..12], None).unwrap().id, wasi.id);
    assert_eq!(store.list().unwrap().len(), 1);
}

#[test]
fn one_platform_can_be_picked_and_others_may_be_left_out_of_the_archive() {
    let mut layout = Layout::default();
    let linux = layout.image("linux/amd64", &[layer("a", "one")]);
    let arm = layout.image("linux/arm64", &[layer("a", "two")]);
    let index = layout.index(vec![linux.clone(), arm.clone()]);
    layout.name(index, "multi:1");

    let scratch = Scratch::new();
    let store = scratch.open();
    let loaded = load_for(&store, &layout.archive(), Some("linux/arm64")).unwrap();
    assert_eq!(loaded[0].platforms, ["linux/arm64".parse().unwrap()]);
    let none = load_for(&store, &layout.archive(), Some("linux/s390x")).unwrap_err();
    assert_eq!(none.to_string(), "no image in the archive is for linux/s390x");
    // The other platform joins the first under the same name.
    let mut sparse = layout.clone();
    sparse.blobs.remove(&arm.digest);
    load(&store, &sparse.archive()).unwrap();
    assert_eq!(store.list().unwrap()[0].variants.len(), 2);
}

#[test]
fn an_image_without_a_name_is_dangling_or_gets_the_callers() {
    let mut layout = Layout::default();
    let image = layout.image("linux/amd64", &[layer("a", "one")]);
    layout.top.push(image);
    let scratch = Scratch::new();
    let store = scratch.open();
    let loaded = load(&store, &layout.archive()).unwrap();
    assert!(loaded[0].references.is_empty() && tags(&store).is_empty());
    let name = Some("mine".parse().unwrap());
    let named = Load { platforms: Vec::new(), name, now: now() };
    store.load(layout.archive().as_slice(), &named, &mut |_| {}).unwrap();
    assert_eq!(tags(&store), ["mine:latest"]);
}

#[test]
fn provenance_beside_an_image_is_passed_over() {
    let mut layout = Layout::default();
    let image = layout.image("linux/amd64", &[layer("a", "one")]);
    let statement = layout.add("application/vnd.in-toto+json", b"{}".to_vec());
    let config = layout.add("application/vnd.oci.empty.v1+json", b"{}".to_vec());
    let manifest = wire::Manifest {
        schema_version: 2,
        media_type: None,
        config,
        layers: vec![statement],
        annotations: BTreeMap::new(),
    };
    let provenance = layout.add(wire::media_type::MANIFEST, wire::to_json(&manifest));
    let index = layout.index(vec![image, provenance.clone()]);
    layout.name(index, "web:1");
    let scratch = Scratch::new();
    let store = scratch.open();
    assert_eq!(load(&store, &layout.archive()).unwrap()[0].platforms.len(), 1);
    // Alone it is no image.
    layout.top.clear();
    layout.name(provenance, "web:2");
    assert!(matches!(load(&store, &layout.archive()), Err(LoadError::MediaType { .. })));
}

#[test]
fn an_image_may_have_no_layers() {
    let scratch = Scratch::new();
    let store = scratch.open();
    load(&store, &simple("scratch:1", &[])).unwrap();
    let image = store.image("scratch:1", None).unwrap();
    let dirs = store.mount("c", &image.layers).unwrap();
    assert!(dirs.len() == 1 && dirs[0].read_dir().unwrap().next().is_none());
}

#[test]
fn a_root_file_system_is_told_from_an_image() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let error = load(&store, &tar([("./etc/passwd", &b"x"[..])])).unwrap_err();
    assert!(error.to_string().contains("`import` takes"), "{error}");
}

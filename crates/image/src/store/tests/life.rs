//! What users do with images, one after the other.

use base::ErrorKind;

use crate::{
    Import, Store,
    fixture::{Layout, Scratch, gzip, layer, load, now, simple, tar},
    layer::{Limits, export},
    store::{ContainerUse, Removed},
};

fn import(store: &Store, name: &str, tar: &[u8], changes: &[&str]) -> crate::Loaded {
    let import = Import {
        name: Some(name.parse().unwrap()),
        platform: "linux/amd64".parse().unwrap(),
        changes: changes.iter().map(|&change| change.to_owned()).collect(),
        message: None,
        now: now(),
    };
    store.import(tar, &import, &mut |_| {}).unwrap()
}

fn removed(store: &Store, name: &str) -> Vec<String> {
    store.remove(name, false, &[], &[]).unwrap().iter().map(said).collect()
}

fn said(removed: &Removed) -> String {
    match removed {
        Removed::Untagged(name) => format!("Untagged: {}", name.familiar()),
        Removed::Deleted(digest) => format!("Deleted: {digest}"),
    }
}

fn used(store: &Store, name: &str, running: bool) -> ContainerUse {
    let image = store.image(name, None).unwrap();
    ContainerUse { container: "c1".to_owned(), image: image.id, layers: image.layers, running }
}

#[test]
fn a_root_file_system_becomes_an_image_that_saves_its_own_bytes() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let rootfs = gzip(&tar([("bin/sh", &b"#!"[..]), ("etc/passwd", b"root")]));
    let loaded = import(&store, "debian", &rootfs, &[r#"CMD ["bash"]"#, "ENV A=b"]);
    let inspect = store.inspect("debian", None).unwrap();
    assert_eq!(inspect.id, loaded.id.to_string());
    assert_eq!(inspect.repo_tags, ["debian:latest"]);
    assert_eq!(inspect.repo_digests, [format!("debian@{}", loaded.target)]);
    assert_eq!((inspect.size, inspect.config.cmd), (6, Some(vec!["bash".to_owned()])));
    let json = serde_json::to_value(store.inspect("debian", None).unwrap()).unwrap();
    assert_eq!(json["RootFS"]["Layers"].as_array().unwrap().len(), 1);
    let history = store.image("debian", None).unwrap().history();
    assert_eq!((history[0].size, history[0].comment.as_str()), (6, "Imported from -"));

    let mut saved = Vec::new();
    store.save(&["debian"], &[], &mut saved, &mut |_| {}).unwrap();
    assert!(saved.windows(rootfs.len()).any(|window| window == rootfs), "the original bytes");
    let layer =
        std::fs::File::open(store.layer_path(&store.image("debian", None).unwrap().layers[0]));
    let tar = export(&layer.unwrap(), &Limits::default(), Vec::new()).unwrap();
    assert!(tar.windows(4).any(|window| window == b"root"));
}

#[test]
fn a_bad_import_leaves_nothing() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let platform: crate::Platform = "linux/amd64".parse().unwrap();
    let import = Import { name: None, platform, changes: Vec::new(), message: None, now: now() };
    assert!(store.import(&b"nonsense"[..], &import, &mut |_| {}).is_err());
    let run = Import { changes: vec!["RUN x".to_owned()], ..import };
    let error = store.import(tar([("a", &b"b"[..])]).as_slice(), &run, &mut |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(store.audit(&[], true).unwrap().extra.is_empty());
}

#[test]
fn what_is_saved_loads_elsewhere_as_the_same() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let mut layout = Layout::default();
    let linux = layout.image("linux/amd64", &[layer("a", "one").gzipped(), layer("b", "two")]);
    let wasi = layout.image("wasi/wasm", &[layer("b", "two")]);
    let index = layout.index(vec![linux, wasi]);
    layout.name(index, "multi:1");
    load(&store, &layout.archive()).unwrap();
    load(&store, &simple("single:1", &[layer("b", "two")])).unwrap();
    store.tag("single:1", "single:2", now()).unwrap();
    let mut saved = Vec::new();
    store.save(&["multi:1", "single"], &[], &mut saved, &mut |_| {}).unwrap();
    let other = Scratch::new();
    let copy = other.open();
    load(&copy, &saved).unwrap();
    let rows = |store: &Store| {
        let rows = store.list().unwrap().into_iter();
        rows.map(|row| (row.id, row.tags, row.digests, row.bytes, row.variants)).collect::<Vec<_>>()
    };
    let (mut had, mut got) = (rows(&store), rows(&copy));
    had.sort();
    got.sort();
    assert_eq!(had, got);
    let mut again = Vec::new();
    copy.save(&["multi:1", "single"], &[], &mut again, &mut |_| {}).unwrap();
    assert!(saved == again, "the same images are saved as the same bytes");
}

#[test]
fn removing_says_what_docker_says_and_frees_the_disk() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let (shared, own) = (layer("a", "one"), layer("b", "two"));
    load(&store, &simple("one:1", &[shared.clone(), own.clone()])).unwrap();
    load(&store, &simple("two:1", std::slice::from_ref(&shared))).unwrap();
    store.tag("one:1", "again", now()).unwrap();
    let id = store.image("one:1", None).unwrap().id;

    assert_eq!(removed(&store, "one:1"), ["Untagged: one:1"]);
    let chain = crate::store::digest_of(format!("{} {}", shared.diff_id, own.diff_id).as_bytes());
    assert_eq!(
        removed(&store, "again"),
        [
            "Untagged: again:latest".to_owned(),
            format!("Deleted: {id}"),
            format!("Deleted: {chain}")
        ]
    );
    assert!(store.layer_path(&shared.diff_id).exists() && !store.layer_path(&own.diff_id).exists());
    let id = store.image("two:1", None).unwrap().id;
    assert_eq!(removed(&store, &id.hex()[..4]).len(), 3);
    let audit = store.audit(&[], true).unwrap();
    assert!(audit.extra.is_empty() && audit.bytes_needed == 0, "{audit:?}");
}

#[test]
fn layers_of_a_container_outlive_its_image() {
    let scratch = Scratch::new();
    let store = scratch.open();
    load(&store, &simple("web:1", &[layer("a", "one")])).unwrap();
    let running = used(&store, "web:1", true);
    let error = store.remove("web:1", false, &[], std::slice::from_ref(&running)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let stopped = [ContainerUse { running: false, ..running }];
    store.remove("web:1", true, &[], &stopped).unwrap();
    assert!(store.list().unwrap().is_empty());
    let path = store.layer_path(&stopped[0].layers[0]);
    assert!(path.exists());
    assert!(store.audit(&stopped, true).unwrap().extra.is_empty());
    store.collect(&[]).unwrap();
    assert!(!path.exists());
}

#[test]
fn a_name_moves_and_what_it_left_can_be_pruned() {
    let scratch = Scratch::new();
    let store = scratch.open();
    load(&store, &simple("web:1", &[layer("a", "one")])).unwrap();
    load(&store, &simple("web:1", &[layer("a", "two")])).unwrap();
    let rows = store.list().unwrap();
    assert_eq!(rows.iter().map(|row| row.tags.len()).sum::<usize>(), 1);
    assert_eq!(rows.len(), 2);
    let pruned = store.prune(false, &|_| true, &[]).unwrap();
    assert!(pruned.bytes > 0 && pruned.removed.len() == 2, "{pruned:?}");
    let using = [used(&store, "web:1", false)];
    assert!(store.prune(true, &|_| true, &using).unwrap().removed.is_empty());
    assert_eq!(store.prune(true, &|_| true, &[]).unwrap().removed.len(), 3);
    assert!(store.audit(&[], true).unwrap().extra.is_empty());
}

#[test]
fn images_are_found_by_name_digest_and_beginning_of_their_id() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let loaded =
        load(&store, &simple("docker.io/library/debian:12", &[layer("a", "one")])).unwrap();
    let (id, target) = (loaded[0].id, loaded[0].target);
    for name in [
        "debian:12".to_owned(),
        "library/debian:12".to_owned(),
        "docker.io/library/debian:12".to_owned(),
        format!("debian@{target}"),
        format!("debian:nonsense@{target}"),
        id.to_string(),
        id.hex(),
        id.hex()[..3].to_owned(),
        format!("sha256:{}", &id.hex()[..10]),
        target.to_string(),
    ] {
        assert_eq!(store.image(&name, None).unwrap().id, id, "{name}");
    }
    for (name, want) in [
        ("debian", "no such image: debian"),
        ("debain:12", "no such image: debain:12 (did you mean \"debian:12\"?)"),
        (
            "other@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "no such",
        ),
        ("Debian", "must be lower case"),
        ("", "not an image reference"),
        ("sha256:xyz", "no such image"),
    ] {
        let error = store.image(name, None).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
    assert!(store.tag("debian:12", "x@sha256:00", now()).is_err());
    assert!(store.tag("nothing", "x", now()).is_err());
}

#[test]
fn the_beginning_of_two_ids_is_not_enough() {
    let scratch = Scratch::new();
    let store = scratch.open();
    for n in 0..17 {
        load(&store, &simple(&format!("i:{n}"), &[layer("a", &n.to_string())])).unwrap();
    }
    let ids: Vec<_> = store.list().unwrap().iter().map(|row| row.id.hex()).collect();
    let first = |c: char| ids.iter().filter(|id| id.starts_with(c)).count();
    let shared = "0123456789abcdef".chars().find(|&c| first(c) > 1).unwrap();
    let error = store.image(&shared.to_string(), None).unwrap_err().to_string();
    assert!(error.contains(&format!("beginning of {} image ids", first(shared))), "{error}");
}

#[test]
fn nothing_is_written_while_nothing_changes() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let archive = simple("web:1", &[layer("a", "one")]);
    load(&store, &archive).unwrap();
    let table = scratch.dir.path().join("data/content/images.json");
    let inode = |()| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&table).unwrap());
    let before = inode(());
    load(&store, &archive).unwrap();
    store.tag("web:1", "web:1", now()).unwrap();
    store.collect(&[]).unwrap();
    assert_eq!(inode(()), before);
    store.tag("web:1", "web:2", now()).unwrap();
    assert_ne!(inode(()), before);
}

#[test]
fn one_process_has_the_store_at_a_time() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let error = Store::open(&scratch.options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    drop(store);
    scratch.open();
}

#[test]
fn damage_on_the_disk_is_found() {
    let scratch = Scratch::new();
    let store = scratch.open();
    load(&store, &simple("web:1", &[layer("a", "one")])).unwrap();
    let image = store.image("web:1", None).unwrap();
    let config = scratch.dir.path().join("data/content/blobs/sha256").join(image.id.hex());
    std::fs::write(&config, b"{}").unwrap();
    assert_eq!(store.audit(&[], true).unwrap().damaged, [image.id]);
    assert!(store.image("web:1", None).unwrap_err().to_string().contains("has the digest"));
    std::fs::remove_file(&config).unwrap();
    std::fs::remove_file(store.layer_path(&image.layers[0])).unwrap();
    let audit = store.audit(&[], false).unwrap();
    assert_eq!((audit.blobs_missing, audit.layers_missing), (vec![image.id], image.layers));
}

/// `multi:1` for three platforms, two of which share a layer.
fn multi(store: &Store) {
    let mut layout = Layout::default();
    let shared = layer("a", "shared");
    let images = [
        layout.image("linux/amd64", &[shared.clone(), layer("b", "amd64")]),
        layout.image("linux/arm64", &[shared, layer("b", "arm64")]),
        layout.image("linux/arm/v7", &[layer("b", "arm")]),
    ];
    let index = layout.index(images.to_vec());
    layout.name(index, "multi:1");
    load(store, &layout.archive()).unwrap();
}

fn platforms(text: &[&str]) -> Vec<crate::Platform> {
    text.iter().map(|text| text.parse().unwrap()).collect()
}

fn there(store: &Store) -> Vec<String> {
    let rows = store.list().unwrap();
    rows.iter().flat_map(|row| &row.variants).map(|v| v.platform.to_string()).collect()
}

#[test]
fn one_platform_goes_and_the_others_stay_under_the_name() {
    let scratch = Scratch::new();
    let store = scratch.open();
    multi(&store);
    let arm64 = platforms(&["linux/arm64"]);
    let image = store.image("multi:1", Some(&arm64[0])).unwrap();
    let gone = store.remove("multi:1", false, &arm64, &[]).unwrap();
    let gone: Vec<_> = gone.iter().map(said).collect();
    assert_eq!(gone.len(), 2, "the image and the layer that was its own: {gone:?}");
    assert_eq!(gone[0], format!("Deleted: {}", image.id));
    assert_eq!(there(&store), ["linux/amd64", "linux/arm/v7"]);
    let audit = store.audit(&[], true).unwrap();
    assert!(audit.is_sound() && audit.extra.is_empty(), "{audit:?}");
    let again = store.remove("multi:1", false, &arm64, &[]).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::NotFound);
    let want = "image multi:1 is not for linux/arm64, but for linux/amd64, linux/arm/v7";
    assert_eq!(again.to_string(), want);
    // What would run there is not what was named.
    let older = platforms(&["linux/amd64", "linux/amd64/v2"]);
    assert!(store.remove("multi:1", true, &older, &[]).is_err());
    assert_eq!(there(&store).len(), 2, "all or nothing");
    // Loaded again, it joins the others.
    multi(&store);
    assert_eq!(there(&store).len(), 3);
}

#[test]
fn who_uses_the_host_s_image_does_not_keep_the_others_and_the_last_takes_the_name_along() {
    let scratch = Scratch::new();
    let store = scratch.open();
    multi(&store);
    let users = [used(&store, "multi:1", true)];
    let host = platforms(&["linux/amd64"]);
    let error = store.remove("multi:1", true, &host, &users).unwrap_err();
    assert!(error.to_string().contains("cannot be forced"), "{error}");
    let others = platforms(&["linux/arm64", "linux/arm/v7"]);
    // By id as well: the id is the host's image's.
    store.remove(&users[0].image.to_string(), false, &others, &users).unwrap();
    assert_eq!(there(&store), ["linux/amd64"]);
    let stopped = [ContainerUse { running: false, ..users[0].clone() }];
    assert!(store.remove("multi:1", false, &host, &stopped).is_err());
    let gone = store.remove("multi:1", false, &host, &[]).unwrap();
    assert_eq!(said(&gone[0]), "Untagged: multi:1");
    assert!(store.list().unwrap().is_empty());
    assert!(store.audit(&[], true).unwrap().extra.is_empty());
}

#[test]
fn an_image_that_has_another_name_too_keeps_what_that_needs() {
    let scratch = Scratch::new();
    let store = scratch.open();
    multi(&store);
    let arm64 = platforms(&["linux/arm64"]);
    let mut one = Vec::new();
    store.save(&["multi:1"], &arm64, &mut one, &mut |_| {}).unwrap();
    store.remove("multi:1", false, &[], &[]).unwrap();
    load(&store, &one).unwrap();
    store.tag("multi:1", "arm:1", now()).unwrap();
    multi(&store);
    let id = store.image("arm:1", None).unwrap().id;
    let users = [ContainerUse {
        container: "c1".to_owned(),
        image: id,
        layers: store.image("arm:1", None).unwrap().layers,
        running: true,
    }];
    // The index loses it, but the image itself is still called arm:1, so nobody is in the way.
    assert_eq!(store.remove("multi:1", false, &arm64, &users).unwrap(), []);
    assert!(store.image("multi:1", Some(&arm64[0])).is_err());
    assert_eq!(store.image("arm:1", None).unwrap().id, id);
    assert!(store.audit(&[], true).unwrap().is_sound());
}

#[test]
fn some_platforms_are_saved_as_an_index_of_them_and_loaded_as_such() {
    let scratch = Scratch::new();
    let store = scratch.open();
    multi(&store);
    let two = platforms(&["linux/arm/v7", "linux/arm64"]);
    let mut saved = Vec::new();
    store.save(&["multi:1"], &two, &mut saved, &mut |_| {}).unwrap();
    let other = Scratch::new();
    let copy = other.open();
    let loaded = load(&copy, &saved).unwrap();
    assert_eq!(loaded[0].target, store.image("multi:1", None).unwrap().target);
    assert_eq!(there(&copy), ["linux/arm/v7", "linux/arm64"]);

    let mut all = Vec::new();
    store.save(&["multi:1"], &[], &mut all, &mut |_| {}).unwrap();
    let other = Scratch::new();
    let copy = other.open();
    let pick = |platforms| crate::Load { platforms, name: None, now: now() };
    copy.load(all.as_slice(), &pick(two), &mut |_| {}).unwrap();
    assert_eq!(there(&copy), ["linux/arm/v7", "linux/arm64"]);
    let short = pick(platforms(&["linux/amd64", "linux/s390x"]));
    let error = copy.load(all.as_slice(), &short, &mut |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "no image in the archive is for linux/s390x");
    assert_eq!(there(&copy).len(), 2, "nothing of it stays");
}

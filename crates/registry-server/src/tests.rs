//! The store as a whole: what is pushed stays, what nobody needs goes.

use std::{io::Write as _, ops::ControlFlow, path::Path, time::Duration};

use base::Digest;
use registry::digest_of;

use crate::{
    name::{Name, Tag},
    store::{Collected, Lack, Store},
    table::Dropped,
    wire::Manifest,
};

/// Every one of these, however young.
const NOW: Duration = Duration::ZERO;

fn open(root: &Path) -> Store {
    Store::open(root, Vec::new()).unwrap()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn push(store: &Store, to: &Name, bytes: &[u8]) -> Digest {
    let digest = digest_of(bytes);
    let mut blob = store.begin().unwrap();
    blob.write_all(bytes).unwrap();
    assert!(store.add_blob(to, blob, &digest).unwrap());
    digest
}

/// An image of one layer.
fn image(config: &[u8], layer: &[u8], more: &str) -> Vec<u8> {
    let (config_digest, layer_digest) = (digest_of(config), digest_of(layer));
    format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{config_digest}","size":{}}},
        "layers":[{{"mediaType":"l","digest":"{layer_digest}","size":{}}}]{more}}}"#,
        config.len(),
        layer.len()
    )
    .into_bytes()
}

fn put(store: &Store, to: &Name, bytes: &[u8], at: Option<&Tag>) -> Result<Digest, Lack> {
    let (digest, read) = (digest_of(bytes), Manifest::parse(bytes, None).unwrap());
    match store.put_manifest(to, &digest, bytes, read, at, true).unwrap() {
        None => Ok(digest),
        Some(lack) => Err(lack),
    }
}

#[test]
fn a_manifest_is_taken_when_all_of_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (a, b) = (name("a"), name("b"));
    let config = push(&store, &a, b"config");
    let manifest = image(b"config", b"layer", "");
    assert_eq!(put(&store, &a, &manifest, None), Err(Lack::Missing(digest_of(b"layer"))));
    push(&store, &a, b"layer");
    let digest = put(&store, &a, &manifest, Some(&tag("1"))).unwrap();
    assert_eq!(store.table().tag(&a, &tag("1")).unwrap(), Some(digest));
    assert_eq!(store.manifest(&a, &digest).unwrap().unwrap().1, manifest);
    // Of another repository nothing is taken for granted.
    assert_eq!(put(&store, &b, &manifest, None), Err(Lack::Missing(config)));
    assert!(store.blob(&b, &config, false).unwrap().is_none());
    assert!(!store.mount(&b, Some(&name("c")), &config).unwrap());
    assert!(store.mount(&b, Some(&a), &config).unwrap());
    assert!(store.mount(&b, None, &digest_of(b"layer")).unwrap());
    assert_eq!(put(&store, &b, &manifest, None), Ok(digest));
    let wrong = image(b"config", b"layer", "").to_vec();
    let wrong = String::from_utf8(wrong).unwrap().replace("\"size\":5", "\"size\":6");
    let lack = Lack::Length { blob: digest_of(b"layer"), is: 5, said: 6 };
    assert_eq!(put(&store, &a, wrong.as_bytes(), None), Err(lack));
    assert_eq!(store.table().repositories().unwrap(), ["a", "b"]);
    assert_eq!(store.table().tags(&b).unwrap(), Some(Vec::new()));
    assert_eq!(store.table().tags(&name("c")).unwrap(), None);
}

#[test]
fn what_nobody_needs_goes_and_the_rest_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (a, b) = (name("a"), name("a/b"));
    for of in [&a, &b] {
        push(&store, of, b"config");
        push(&store, of, b"layer");
    }
    let manifest = image(b"config", b"layer", "");
    let digest = put(&store, &a, &manifest, Some(&tag("1"))).unwrap();
    put(&store, &b, &manifest, Some(&tag("1"))).unwrap();
    push(&store, &a, b"orphan");
    // What is young stays, whatever it is.
    let hour = Duration::from_secs(3600);
    assert_eq!(store.collect(true, hour).unwrap(), Collected::default());
    let gone = store.collect(false, NOW).unwrap();
    assert_eq!(gone, Collected { manifests: 0, blobs: 1, bytes: 6 });
    assert!(store.blob(&a, &digest_of(b"orphan"), false).unwrap().is_none());

    assert_eq!(store.drop_blob(&a, &digest_of(b"layer")).unwrap(), Dropped::Needed(digest));
    assert_eq!(store.drop_blob(&a, &digest_of(b"orphan")).unwrap(), Dropped::Unknown);
    assert!(store.table().drop_manifest(&a, &digest).unwrap());
    assert_eq!(store.table().tag(&a, &tag("1")).unwrap(), None);
    // The other repository has all of it still.
    assert_eq!(store.collect(true, NOW).unwrap(), Collected::default());
    assert!(store.blob(&a, &digest_of(b"layer"), false).unwrap().is_none());
    assert!(store.blob(&b, &digest_of(b"layer"), false).unwrap().is_some());

    // Without its tag it stays, unless that is asked for.
    assert!(store.table().drop_tag(&b, &tag("1")).unwrap());
    assert_eq!(store.collect(false, NOW).unwrap(), Collected::default());
    let gone = store.collect(true, NOW).unwrap();
    assert_eq!((gone.manifests, gone.blobs), (1, 3));
    assert_eq!(std::fs::read_dir(dir.path().join("blobs/sha256")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn what_refers_to_an_image_is_found_and_lives_as_long() {
    let dir = tempfile::tempdir().unwrap();
    let (subject, first, second);
    let a = name("a");
    {
        let store = open(dir.path());
        push(&store, &a, b"config");
        push(&store, &a, b"layer");
        subject = put(&store, &a, &image(b"config", b"layer", ""), Some(&tag("1"))).unwrap();
        let refers = |kind: &str| {
            let more = format!(
                r#","artifactType":"{kind}","subject":{{"mediaType":"m","digest":"{subject}","size":1}}"#
            );
            put(&store, &a, &image(b"config", b"layer", &more), None).unwrap()
        };
        (first, second) = (refers("sbom"), refers("signature"));
    }
    let store = open(dir.path());
    let mut all: Vec<_> = [first, second].into();
    all.sort();
    let found = |after: Option<&Digest>| {
        let mut all = Vec::new();
        let take = |digest, _| {
            all.push(digest);
            ControlFlow::Continue(())
        };
        store.table().referrers(&a, &subject, after, take).unwrap();
        all
    };
    assert_eq!(found(None), all);
    assert_eq!(found(all.first()), all[1..]);
    assert_eq!(store.collect(true, NOW).unwrap(), Collected::default());
    assert!(store.table().drop_manifest(&a, &second).unwrap());
    assert_eq!(found(None), [first]);
    store.table().drop_tag(&a, &tag("1")).unwrap();
    assert_eq!(store.collect(true, NOW).unwrap().manifests, 2);
    assert_eq!(found(None), []);
}

#[test]
fn what_the_table_knows_is_on_the_disk_while_others_collect() {
    const ROUNDS: u8 = 40;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pushers = ["a", "b", "c"].map(|of| {
            let store = &store;
            scope.spawn(move || {
                // The same blobs in every repository, so that each is named and unnamed in turn.
                for round in 0..ROUNDS {
                    push(store, &name(of), &[round % 5; 3]);
                }
            })
        });
        let collector = scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                store.collect(true, NOW).unwrap();
            }
        });
        for pusher in pushers {
            pusher.join().unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        collector.join().unwrap();
    });
    for of in ["a", "b", "c"] {
        for n in 0..5 {
            let digest = digest_of(&[n; 3]);
            let known = store.table().blob(&name(of), &digest).unwrap().is_some();
            let there = store.blob(&name(of), &digest, false).unwrap().is_some();
            assert_eq!(known, there, "{n} of {of}");
        }
    }
    // And the other way round: what nobody knows is not there.
    store.collect(true, NOW).unwrap();
    assert_eq!(std::fs::read_dir(dir.path().join("blobs/sha256")).unwrap().count(), 0);
}

#[test]
fn what_was_collected_is_not_put_back_by_who_asked_for_it_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let (store, a) = (open(dir.path()), name("a"));
    let (config, layer) = (push(&store, &a, b"config"), push(&store, &a, b"layer"));
    let manifest = put(&store, &a, &image(b"config", b"layer", ""), None).unwrap();
    for blob in [config, layer] {
        assert!(store.table().renew_blob(&a, &blob, 7).unwrap());
        assert_eq!(store.table().blob(&a, &blob).unwrap().unwrap().since, 7);
    }
    assert!(store.table().renew_manifest(&a, &manifest, 7).unwrap());
    assert_eq!(store.table().manifest(&a, &manifest).unwrap().unwrap().since, 7);
    assert_eq!(store.collect(true, NOW).unwrap().blobs, 3);
    // Who had found them a moment before finds out, and the table does not say that they are here.
    assert!(!store.table().renew_blob(&a, &layer, 9).unwrap());
    assert!(!store.table().renew_manifest(&a, &manifest, 9).unwrap());
    assert_eq!(store.table().blob(&a, &layer).unwrap(), None);
    assert_eq!(store.table().manifest(&a, &manifest).unwrap(), None);
    let lack = put(&store, &a, &image(b"config", b"layer", ""), None).unwrap_err();
    assert!(matches!(lack, Lack::Missing(_)));
}

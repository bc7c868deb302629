//! Archives that are not as they should be: a clear error, and nothing stays.

use proptest::prelude::*;

use crate::{
    fixture::{Layout, Scratch, archive, entry, layer, load, tar},
    layer::{EntryKind, tar_write::TarWriter},
    wire::{self, Descriptor},
};

fn refused(bytes: &[u8], want: &str) {
    let scratch = Scratch::new();
    let store = scratch.open();
    let error = load(&store, bytes).unwrap_err();
    let mut said = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(source) = cause {
        said = format!("{said}: {source}");
        cause = source.source();
    }
    assert!(said.contains(want), "{said}");
    let audit = store.audit(&[], true).unwrap();
    assert!(audit.extra.is_empty() && audit.bytes_needed == 0, "{audit:?}");
    assert!(store.list().unwrap().is_empty());
}

fn spoiled(spoil: impl FnOnce(&mut Layout, &mut Descriptor)) -> Vec<u8> {
    let mut layout = Layout::default();
    let mut image = layout.image("linux/amd64", &[layer("a", "one"), layer("b", "two")]);
    spoil(&mut layout, &mut image);
    layout.name(image, "web:1");
    layout.archive()
}

fn remanifest(
    layout: &mut Layout,
    image: &mut Descriptor,
    change: impl FnOnce(&mut wire::Manifest),
) {
    let bytes = layout.blobs.remove(&image.digest).unwrap();
    let mut manifest: wire::Manifest = serde_json::from_slice(&bytes).unwrap();
    change(&mut manifest);
    *image = layout.add(wire::media_type::MANIFEST, wire::to_json(&manifest));
}

#[test]
fn bytes_that_are_not_what_their_name_says() {
    let bytes = spoiled(|layout, image| {
        layout.blobs.get_mut(&image.digest).unwrap().push(b' ');
    });
    refused(&bytes, "has the digest sha256:");
}

#[test]
fn blobs_that_are_missing() {
    let lacking = spoiled(|layout, image| {
        layout.blobs.remove(&image.digest);
    });
    refused(&lacking, "the archive lacks manifest sha256:");
    let gone = layer("b", "two");
    let lacking = spoiled(|layout, _| {
        layout.blobs.remove(&gone.diff_id);
    });
    refused(&lacking, &format!("the archive lacks blob {}", gone.diff_id));
    let lacking = spoiled(|layout, image| {
        let manifest: wire::Manifest =
            serde_json::from_slice(&layout.blobs[&image.digest]).unwrap();
        layout.blobs.remove(&manifest.config.digest);
    });
    refused(&lacking, "the archive lacks configuration sha256:");
}

#[test]
fn lengths_that_do_not_fit() {
    refused(&spoiled(|_, image| image.size += 1), "bytes, not");
    let bytes = spoiled(|layout, image| remanifest(layout, image, |m| m.layers[1].size = 1));
    refused(&bytes, "bytes, not 1");
}

#[test]
fn layers_that_are_not_those_of_the_configuration() {
    let swapped = spoiled(|layout, image| remanifest(layout, image, |m| m.layers.reverse()));
    refused(&swapped, "but the image's configuration says sha256:");
    let fewer = spoiled(|layout, image| remanifest(layout, image, |m| m.layers.truncate(1)));
    refused(&fewer, "has 1 layers, but its configuration 2");
}

#[test]
fn a_layer_that_is_none_takes_the_good_ones_with_it() {
    let bytes = spoiled(|layout, image| {
        let mut bad = layer("b", "two");
        bad.blob = b"not a tar archive".repeat(100);
        bad.diff_id = crate::store::digest_of(&bad.blob);
        *image = layout.image("linux/amd64", &[layer("a", "one"), bad]);
    });
    refused(&bytes, "cannot unpack layer sha256:");
    let evil = tar([("../../etc/passwd", &b"x"[..])]);
    let bytes = spoiled(|layout, image| {
        let diff_id = crate::store::digest_of(&evil);
        let bad = crate::fixture::TestLayer { blob: evil, diff_id, ..layer("b", "") };
        *image = layout.image("linux/amd64", &[bad]);
    });
    refused(&bytes, "leads out of the root");
}

#[test]
fn names_that_lead_out_of_the_archive() {
    refused(&tar([("../../etc/cron.d/x", &b"x"[..])]), "leads out of the archive");
    refused(&tar([("/etc/cron.d/x", &b"x"[..])]), "is absolute");
    refused(&tar([("blobs/sha256/../../x", &b"x"[..])]), "leads out of the archive");
    refused(&tar([("blobs/sha256/x", &b"x"[..])]), "named by its digest");
    let listed = br#"[{"Config":"../../etc/shadow","RepoTags":[],"Layers":[]}]"#;
    refused(&tar([("manifest.json", &listed[..])]), "leads out of the archive");
}

#[test]
fn links_devices_and_sparse_files() {
    let one = |path: &str, kind| {
        let mut archive = TarWriter::new(Vec::new());
        archive.entry(&entry(path, kind)).unwrap();
        archive.finish().unwrap()
    };
    refused(&one("index.json", EntryKind::Symlink(b"/etc/passwd".to_vec())), "is absolute");
    refused(&one("a", EntryKind::Symlink(b"../../x".to_vec())), "leads out of the archive");
    refused(&one("a", EntryKind::Fifo), "only plain files and links");
    let blob = format!("blobs/sha256/{}", "0".repeat(64));
    refused(&one(&blob, EntryKind::HardLink(b"x".to_vec())), "a file, not a link");
    // Links that go round lead nowhere.
    let mut archive = TarWriter::new(Vec::new());
    for (name, target) in [("index.json", "b"), ("b", "index.json")] {
        archive.entry(&entry(name, EntryKind::HardLink(target.into()))).unwrap();
    }
    refused(&archive.finish().unwrap(), "no image archive");
}

#[test]
fn a_name_that_stands_for_two_files() {
    let twice =
        [("index.json".to_owned(), b"{}".to_vec()), ("index.json".to_owned(), b"[]".to_vec())];
    refused(&archive(&twice), "two different files");
}

#[test]
fn documents_that_are_huge_or_deep_or_none() {
    let huge = vec![b' '; usize::try_from(wire::DOCUMENT_BYTES_MAX).unwrap() + 1];
    refused(&tar([("index.json", huge.as_slice())]), "longer than");
    let deep = "[".repeat(100_000);
    refused(&tar([("index.json", deep.as_bytes())]), "not a valid image index");
    refused(&tar([("index.json", &b"{}"[..])]), "not a valid image index");
    let bytes = spoiled(|layout, image| {
        *image = layout.add(wire::media_type::MANIFEST, huge.clone());
    });
    refused(&bytes, "longer than");
}

#[test]
fn indexes_within_indexes_without_end() {
    let bytes = spoiled(|layout, image| {
        for _ in 0..5 {
            *image = layout.index(vec![image.clone()]);
        }
    });
    refused(&bytes, "more than 4 indexes within each other");
    // Each doubling the one below: read once each, and so loaded in no time.
    let mut layout = Layout::default();
    let mut image = layout.image("linux/amd64", &[layer("a", "one")]);
    for _ in 0..4 {
        image = layout.index(vec![image.clone(); 900]);
    }
    layout.name(image, "web:1");
    let scratch = Scratch::new();
    assert_eq!(load(&scratch.open(), &layout.archive()).unwrap()[0].platforms.len(), 1);
}

#[test]
fn archives_that_are_cut_off_or_no_archives() {
    let whole = spoiled(|_, _| {});
    refused(&whole[..whole.len() / 2], "cut off");
    refused(b"hello", "cut off");
    refused(&[0x1f, 0x8b, 8, 0, 1, 2, 3], "cannot");
    refused(b"", "neither index.json");
}

#[test]
fn an_archive_of_a_docker_without_digests() {
    refused(&tar([("repositories", &b"{}"[..])]), "older than 1.10");
}

#[test]
fn an_old_archive_whose_configuration_is_not_the_one_it_is_named_by() {
    let listed =
        format!(r#"[{{"Config":"{}.json","RepoTags":null,"Layers":null}}]"#, "0".repeat(64));
    let config = format!("{}.json", "0".repeat(64));
    let bytes = tar([("manifest.json", listed.as_bytes()), (&config, &b"{}"[..])]);
    refused(&bytes, "has the digest");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// Whatever is done to an archive, it is loaded whole or not at all.
    #[test]
    fn spoiled_archives_are_loaded_whole_or_not_at_all(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = spoiled(|_, _| {});
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let scratch = Scratch::new();
        let store = scratch.open();
        let loaded = load(&store, &bytes).is_ok();
        let audit = store.audit(&[], true).unwrap();
        prop_assert!(audit.is_sound() && audit.extra.is_empty(), "{:?}", audit);
        prop_assert_eq!(loaded, !store.list().unwrap().is_empty());
    }
}

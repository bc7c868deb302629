//! The image `demo`, made of nothing but the program that carries it.
//!
//! An OCI image layout as any other, so that it goes in by the same door: an index with an image
//! for Linux, whose files are one static executable and its names, and an image for WASI, whose
//! file is a module written here. The same executable gives the same bytes.

#[cfg(test)]
mod tests;
mod wasm;

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use base::Digest;

use crate::{
    layer::{Attributes, Entry, EntryKind, tar_write::TarWriter},
    platform::Platform,
    store::digest_of,
    wire::{
        self, ANNOTATION_NAME, ANNOTATION_REF, ContainerConfig, Descriptor, History, ImageConfig,
        RootFs, media_type,
    },
};

/// What the image is called.
pub const NAME: &str = "docker.io/library/demo:latest";

/// The executable's path in the image.
const EXECUTABLE: &str = "demo";
/// The module's path in the image.
const MODULE: &str = "demo.wasm";

/// Files that programs expect to find.
const FILES: [(&str, &str); 4] = [
    ("etc/group", "root:x:0:\ndemo:x:1000:\nnogroup:x:65534:\n"),
    ("etc/hostname", "demo\n"),
    ("etc/os-release", "NAME=Wythe demo\nID=wythe-demo\nPRETTY_NAME=\"Wythe demo image\"\n"),
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\ndemo:x:1000:1000:demo:/home/demo:/bin/sh\n\
         nobody:x:65534:65534:nobody:/:/bin/false\n",
    ),
];

/// Directories, with their modes and owners; every one after those above it.
const DIRECTORIES: [(&str, u16, u32); 12] = [
    ("bin", 0o755, 0),
    ("dev", 0o755, 0),
    ("etc", 0o755, 0),
    ("home", 0o755, 0),
    ("home/demo", 0o755, 1000),
    ("proc", 0o555, 0),
    ("root", 0o700, 0),
    ("run", 0o755, 0),
    ("srv", 0o755, 0),
    ("sys", 0o555, 0),
    ("tmp", 0o1777, 0),
    ("var", 0o755, 0),
];

/// The image as an archive for [`crate::Store::load`]. `executable` is a static program that
/// behaves by the name it is called, and `applets` are its names.
pub fn archive(executable: &[u8], applets: &[&str]) -> Vec<u8> {
    let mut blobs = BTreeMap::new();
    let linux = ImageConfig {
        config: Some(ContainerConfig {
            env: Some(vec!["PATH=/bin".to_owned()]),
            cmd: Some(vec![format!("/{EXECUTABLE}")]),
            working_dir: "/".to_owned(),
            ..ContainerConfig::default()
        }),
        ..for_platform(&Platform::host())
    };
    let wasi = ImageConfig {
        config: Some(ContainerConfig {
            entrypoint: Some(vec![format!("/{MODULE}")]),
            working_dir: "/".to_owned(),
            ..ContainerConfig::default()
        }),
        ..for_platform(&Platform::wasi())
    };
    let manifests = vec![
        image(&mut blobs, linux, &linux_layer(executable, applets)),
        image(&mut blobs, wasi, &wasi_layer()),
    ];
    let index = wire::Index {
        schema_version: 2,
        media_type: Some(media_type::INDEX.to_owned()),
        manifests,
        annotations: BTreeMap::new(),
    };
    let mut target = add(&mut blobs, media_type::INDEX, wire::to_json(&index));
    target.annotations = [(ANNOTATION_NAME, NAME), (ANNOTATION_REF, "latest")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    let top = wire::Index { manifests: vec![target], ..index };
    layout(&blobs, &top)
}

fn for_platform(platform: &Platform) -> ImageConfig {
    ImageConfig {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        ..ImageConfig::default()
    }
}

/// Adds an image of one layer.
fn image(blobs: &mut BTreeMap<Digest, Vec<u8>>, config: ImageConfig, layer: &[u8]) -> Descriptor {
    let history = History {
        created_by: Some("wythe".to_owned()),
        comment: Some("made from the program itself".to_owned()),
        ..History::default()
    };
    let config = ImageConfig {
        rootfs: RootFs { diff_ids: vec![digest_of(layer)], ..RootFs::default() },
        history: vec![history],
        ..config
    };
    let layer = add(blobs, media_type::LAYER, layer.to_vec());
    let manifest = wire::Manifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.to_owned()),
        config: add(blobs, media_type::CONFIG, wire::to_json(&config)),
        layers: vec![layer],
        annotations: BTreeMap::new(),
    };
    let platform = Some(config.platform());
    let manifest = add(blobs, media_type::MANIFEST, wire::to_json(&manifest));
    Descriptor { platform, ..manifest }
}

fn add(blobs: &mut BTreeMap<Digest, Vec<u8>>, media_type: &str, bytes: Vec<u8>) -> Descriptor {
    let (digest, size) = (digest_of(&bytes), bytes.len() as u64);
    blobs.insert(digest, bytes);
    Descriptor::new(media_type, digest, size)
}

fn layout(blobs: &BTreeMap<Digest, Vec<u8>>, index: &wire::Index) -> Vec<u8> {
    let layout = wire::Layout { image_layout_version: "1.0.0".to_owned() };
    in_memory(|tar| {
        put(tar, "oci-layout", 0o644, &wire::to_json(&layout))?;
        put(tar, "index.json", 0o644, &wire::to_json(index))?;
        for (digest, bytes) in blobs {
            put(tar, &format!("blobs/sha256/{}", digest.hex()), 0o644, bytes)?;
        }
        Ok(())
    })
}

/// The executable once, and a hard link for each of its names.
fn linux_layer(executable: &[u8], applets: &[&str]) -> Vec<u8> {
    in_memory(|tar| {
        for (path, mode, owner) in DIRECTORIES {
            let mut entry = entry(&format!("{path}/"), mode, EntryKind::Directory);
            (entry.attributes.uid, entry.attributes.gid) = (owner, owner);
            tar.entry(&entry)?;
        }
        for (path, text) in FILES {
            put(tar, path, 0o644, text.as_bytes())?;
        }
        put(tar, EXECUTABLE, 0o755, executable)?;
        for applet in applets {
            let link = EntryKind::HardLink(EXECUTABLE.into());
            tar.entry(&entry(&format!("bin/{applet}"), 0o755, link))?;
        }
        Ok(())
    })
}

fn wasi_layer() -> Vec<u8> {
    in_memory(|tar| put(tar, MODULE, 0o755, &wasm::module()))
}

fn in_memory(write: impl FnOnce(&mut TarWriter<Vec<u8>>) -> io::Result<()>) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    let written = write(&mut tar).and_then(|()| tar.finish());
    written.expect("memory takes every write, and every entry gets the data it announces")
}

fn put<W: Write>(tar: &mut TarWriter<W>, path: &str, mode: u16, bytes: &[u8]) -> io::Result<()> {
    let size = bytes.len() as u64;
    tar.entry(&entry(path, mode, EntryKind::File { size, segments: None }))?;
    tar.data(bytes)
}

fn entry(path: &str, mode: u16, kind: EntryKind) -> Entry {
    let attributes = Attributes { mode, ..Attributes::default() };
    Entry { path: path.as_bytes().to_vec(), attributes, kind }
}

//! What the tests of this crate share: stores in scratch directories, and archives to load.

use std::{collections::BTreeMap, io::Write, sync::atomic::AtomicU32};

use base::{Digest, clock::Timestamp};

use crate::{
    Form, Load, Loaded, Options, Platform, Store,
    layer::{Attributes, Entry, EntryKind, tar_write::TarWriter},
    load::LoadError,
    mounts::Attach,
    store::{Fuse, digest_of},
    wire::{self, ContainerConfig, Descriptor, ImageConfig, RootFs, media_type},
};

/// A store's directories; everything in them is unmounted and gone in the end.
pub(crate) struct Scratch {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) form: Form,
}

impl Scratch {
    /// For a store that keeps EROFS files and mounts none, which needs no root.
    pub(crate) fn new() -> Scratch {
        Scratch { dir: tempfile::tempdir().unwrap(), form: Form::Erofs(Attach::File) }
    }

    pub(crate) fn with(form: Form) -> Scratch {
        Scratch { form, ..Scratch::new() }
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            data: self.dir.path().join("data"),
            run: self.dir.path().join("run"),
            form: Some(self.form),
            platform: "linux/amd64".parse().unwrap(),
        }
    }

    pub(crate) fn open(&self) -> Store {
        Store::open(&self.options()).unwrap()
    }

    pub(crate) fn open_with(&self, fuse: Fuse) -> Result<Store, crate::OpenError> {
        Store::open_with(&self.options(), fuse)
    }
}

/// A time that is later than all before.
pub(crate) fn now() -> Timestamp {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    Timestamp(u64::from(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) * 1_000_000_000)
}

/// Loads everything.
pub(crate) fn load(store: &Store, archive: &[u8]) -> Result<Vec<Loaded>, LoadError> {
    load_for(store, archive, None)
}

pub(crate) fn load_for(
    store: &Store,
    archive: &[u8],
    platform: Option<&str>,
) -> Result<Vec<Loaded>, LoadError> {
    let platforms = platform.iter().map(|text| text.parse().unwrap()).collect();
    store.load(archive, &Load { platforms, name: None, now: now() }, &mut |_| {})
}

/// Plain files as a tar archive.
pub(crate) fn tar<'f>(files: impl IntoIterator<Item = (&'f str, &'f [u8])>) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    for (path, bytes) in files {
        file(&mut tar, path, bytes);
    }
    tar.finish().unwrap()
}

fn file(tar: &mut TarWriter<Vec<u8>>, path: &str, bytes: &[u8]) {
    let kind = EntryKind::File { size: bytes.len() as u64, segments: None };
    tar.entry(&entry(path, kind)).unwrap();
    if !bytes.is_empty() {
        tar.data(bytes).unwrap();
    }
}

pub(crate) fn entry(path: &str, kind: EntryKind) -> Entry {
    let attributes = Attributes { mode: 0o644, ..Attributes::default() };
    Entry { path: path.into(), attributes, kind }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// A layer of one file: the blob, and the diff id of what is in it.
#[derive(Clone)]
pub(crate) struct TestLayer {
    pub(crate) blob: Vec<u8>,
    pub(crate) diff_id: Digest,
    pub(crate) media_type: String,
}

pub(crate) fn layer(path: &str, text: &str) -> TestLayer {
    let blob = tar([(path, text.as_bytes())]);
    TestLayer { diff_id: digest_of(&blob), blob, media_type: media_type::LAYER.to_owned() }
}

impl TestLayer {
    pub(crate) fn gzipped(self) -> TestLayer {
        let media_type = format!("{}.gzip", media_type::DOCKER_LAYER);
        TestLayer { blob: gzip(&self.blob), media_type, ..self }
    }

    pub(crate) fn zstded(self) -> TestLayer {
        let media_type = format!("{}+zstd", media_type::LAYER);
        TestLayer { blob: zstd(&self.blob), media_type, ..self }
    }
}

/// An archive in the making: an OCI layout whose parts a test may spoil.
#[derive(Default, Clone)]
pub(crate) struct Layout {
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
    pub(crate) top: Vec<Descriptor>,
}

impl Layout {
    pub(crate) fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let (digest, size) = (digest_of(&bytes), bytes.len() as u64);
        self.blobs.insert(digest, bytes);
        Descriptor::new(media_type, digest, size)
    }

    /// Adds configuration, layers and manifest of an image.
    pub(crate) fn image(&mut self, platform: &str, layers: &[TestLayer]) -> Descriptor {
        let diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        self.image_with(config(platform, diff_ids), layers)
    }

    pub(crate) fn image_with(&mut self, config: ImageConfig, layers: &[TestLayer]) -> Descriptor {
        let platform = config.platform();
        let manifest = wire::Manifest {
            schema_version: 2,
            media_type: Some(media_type::MANIFEST.to_owned()),
            config: self.add(media_type::CONFIG, wire::to_json(&config)),
            layers: layers.iter().map(|l| self.add(&l.media_type, l.blob.clone())).collect(),
            annotations: BTreeMap::new(),
        };
        let descriptor = self.add(media_type::MANIFEST, wire::to_json(&manifest));
        Descriptor { platform: Some(platform), ..descriptor }
    }

    pub(crate) fn index(&mut self, manifests: Vec<Descriptor>) -> Descriptor {
        self.add(media_type::INDEX, wire::to_json(&index(manifests)))
    }

    /// Names something in `index.json`.
    pub(crate) fn name(&mut self, descriptor: Descriptor, name: &str) {
        let annotations = [(wire::ANNOTATION_NAME.to_owned(), name.to_owned())].into();
        self.top.push(Descriptor { annotations, ..descriptor });
    }

    pub(crate) fn files(&self) -> Vec<(String, Vec<u8>)> {
        let blob = |(digest, bytes): (&Digest, &Vec<u8>)| {
            (format!("blobs/sha256/{}", digest.hex()), bytes.clone())
        };
        let layout = br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec();
        let top = wire::to_json(&index(self.top.clone()));
        let mut files: Vec<_> = self.blobs.iter().map(blob).collect();
        files.extend([("index.json".to_owned(), top), ("oci-layout".to_owned(), layout)]);
        files
    }

    pub(crate) fn archive(&self) -> Vec<u8> {
        archive(&self.files())
    }
}

pub(crate) fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    tar(files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())))
}

fn index(manifests: Vec<Descriptor>) -> wire::Index {
    let media_type = Some(media_type::INDEX.to_owned());
    wire::Index { schema_version: 2, media_type, manifests, annotations: BTreeMap::new() }
}

pub(crate) fn config(platform: &str, diff_ids: Vec<Digest>) -> ImageConfig {
    let Platform { os, architecture, variant } = platform.parse().unwrap();
    ImageConfig {
        os,
        architecture,
        variant,
        created: Some("2026-01-02T03:04:05Z".to_owned()),
        config: Some(ContainerConfig {
            cmd: Some(vec!["/x".to_owned()]),
            ..ContainerConfig::default()
        }),
        rootfs: RootFs { diff_ids, ..RootFs::default() },
        ..ImageConfig::default()
    }
}

/// An archive with one named image.
pub(crate) fn simple(name: &str, layers: &[TestLayer]) -> Vec<u8> {
    let mut layout = Layout::default();
    let image = layout.image("linux/amd64", layers);
    layout.name(image, name);
    layout.archive()
}

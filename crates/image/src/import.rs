//! Making an image of a root file system's archive.
//!
//! The archive is read once: each byte goes to the blob that `save` will give back, and through
//! the layer writer.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
};

use base::{Digest, ErrorKind, clock::Timestamp};

use crate::{
    change::{self, ChangeError},
    layer::{Compression, Layer, LayerError},
    load::Loaded,
    platform::Platform,
    progress::{Progress, Tell},
    reference::Reference,
    store::{self, NewBlob, Store, StoreError, Target},
    wire::{self, Descriptor, History, ImageConfig, RootFs, media_type},
};

/// What kind of image to make.
#[derive(Clone, Debug)]
pub struct Import {
    /// Its name, if it gets one.
    pub name: Option<Reference>,
    /// What it was built for.
    pub platform: Platform,
    /// Instructions as in a Dockerfile: `CMD ["bash"]`, `ENV A=b`.
    pub changes: Vec<String>,
    /// What its history says of it.
    pub message: Option<String>,
    /// The time at which it is made.
    pub now: Timestamp,
}

/// Why an image was not made.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// An instruction is wrong.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The archive is not one.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The store cannot take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ImportError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ImportError::Change(error) => error.kind(),
            ImportError::Layer(error) => error.kind(),
            ImportError::Store(error) => error.kind(),
        }
    }
}

impl Store {
    /// Makes an image with one layer: the files of an archive, plain, gzip or zstd.
    ///
    /// # Errors
    /// When the archive cannot be read or an instruction is wrong; then nothing stays.
    pub fn import(
        &self,
        input: impl Read + Send,
        import: &Import,
        tell: Tell<'_>,
    ) -> Result<Loaded, ImportError> {
        let config = change::apply(import.changes.iter().map(String::as_str))?;
        let lease = self.lease();
        let mut tee = Tee::new(input, self.new_blob()?);
        let unpacked = self.unpack(&mut tee, &mut |bytes| tell(Progress::Reading { bytes }));
        let blob = tee.end()?;
        let (unpacked, blob) = (unpacked?, blob.seal());
        assert_eq!(unpacked.layer.blob, blob.digest, "both saw the same bytes");
        lease.pin(|needs| {
            needs.blobs.insert(blob.digest);
            needs.layers.insert(unpacked.layer.diff_id);
        });
        blob.place(&lease)?;
        let layer = self.place_layer(&lease, unpacked)?;
        tell(Progress::LayerReady { blob: layer.blob, reused: false });

        let documents = documents(import, config, &layer);
        self.put(&lease, &documents.config)?;
        let digest = self.put(&lease, &documents.manifest)?;
        let target = target(import, &documents, digest, layer);
        let id = target.primary(self.host()).config;
        self.change(|table| {
            table.add(digest, target);
            if let Some(name) = &import.name {
                table.name(name.clone().or_latest(), digest, import.now);
            }
        })?;
        let references = import.name.clone().map(Reference::or_latest).into_iter().collect();
        Ok(Loaded { id, target: digest, platforms: vec![import.platform.clone()], references })
    }
}

/// The manifest and configuration of a new image.
struct Documents {
    config: Vec<u8>,
    config_digest: Digest,
    manifest: Vec<u8>,
    layer_type: String,
}

fn documents(import: &Import, config: wire::ContainerConfig, layer: &Layer) -> Documents {
    let created = rfc3339(import.now);
    let comment = import.message.clone().unwrap_or_else(|| "Imported from -".to_owned());
    let history = History {
        created: Some(created.clone()),
        comment: Some(comment.clone()),
        ..History::default()
    };
    let config = ImageConfig {
        created: Some(created),
        architecture: import.platform.architecture.clone(),
        variant: import.platform.variant.clone(),
        os: import.platform.os.clone(),
        comment: Some(comment),
        config: Some(config),
        rootfs: RootFs { diff_ids: vec![layer.diff_id], ..RootFs::default() },
        history: vec![history],
        ..ImageConfig::default()
    };
    let config = wire::to_json(&config);
    let config_digest = store::digest_of(&config);
    let layer_type = match layer.compression {
        Compression::None => media_type::LAYER.to_owned(),
        Compression::Gzip => format!("{}+gzip", media_type::LAYER),
        Compression::Zstd => format!("{}+zstd", media_type::LAYER),
    };
    let manifest = wire::Manifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.to_owned()),
        config: Descriptor::new(media_type::CONFIG, config_digest, config.len() as u64),
        layers: vec![Descriptor::new(&layer_type, layer.blob, layer.blob_bytes)],
        annotations: BTreeMap::new(),
    };
    Documents { config, config_digest, manifest: wire::to_json(&manifest), layer_type }
}

fn target(import: &Import, documents: &Documents, digest: Digest, layer: Layer) -> Target {
    let bytes = documents.manifest.len() as u64;
    let layer = store::Layer {
        blob: layer.blob,
        blob_bytes: layer.blob_bytes,
        media_type: documents.layer_type.clone(),
        diff_id: layer.diff_id,
        content_bytes: layer.content_bytes,
    };
    let manifest = store::Manifest {
        digest,
        media_type: media_type::MANIFEST.to_owned(),
        bytes,
        platform: import.platform.clone(),
        config: documents.config_digest,
        layers: vec![layer],
    };
    Target {
        media_type: media_type::MANIFEST.to_owned(),
        bytes,
        added: import.now,
        indexes: Vec::new(),
        manifests: vec![manifest],
    }
}

/// A time as Go writes it.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_nanosecond(i128::from(at.0));
    at.expect("64 bits of nanoseconds end in the year 2554").to_string()
}

/// Whatever is read from the input is written to the blob, too.
pub(crate) struct Tee<'s, R> {
    input: R,
    blob: NewBlob<'s>,
    /// Why the blob could not be written: not the input's fault.
    failure: Option<io::Error>,
}

impl<'s, R> Tee<'s, R> {
    pub(crate) fn new(input: R, blob: NewBlob<'s>) -> Tee<'s, R> {
        Tee { input, blob, failure: None }
    }

    /// The blob, if all of it could be written.
    pub(crate) fn end(self) -> Result<NewBlob<'s>, StoreError> {
        match self.failure {
            Some(source) => Err(StoreError::Disk { doing: "store a blob", source }),
            None => Ok(self.blob),
        }
    }
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(into)?;
        match self.blob.write_all(into.get(..read).unwrap_or_default()) {
            Ok(()) => Ok(read),
            Err(error) => {
                self.failure = Some(error);
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
    }
}

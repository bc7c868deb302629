//! An image on its way in from a registry, piece by piece: documents first, then layers, side by
//! side, each in one pass; and in the end the table. And the pieces of one on its way out.
//!
//! What has come is held by the [`Arrival`]. If that is dropped before [`Arrival::finish`], it
//! goes again, unless another one has it too.

use std::{fs::File, io::Read, sync::Arc};

use base::{Digest, ErrorKind, clock::Timestamp};

use crate::{
    platform::{self, Platform},
    reference::Reference,
    store::{
        self, LayerBlob, Lease, ResolveError, Store, StoreError, Table, Target, digest_of, lookup,
    },
    wire::{self, Descriptor, Document, DocumentError, media_type},
};

/// Why an image that a registry sent cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum ArrivalError {
    /// A document is none.
    #[error("cannot read {name}")]
    Document {
        /// Which.
        name: Digest,
        /// Why.
        #[source]
        source: DocumentError,
    },
    /// Manifest and configuration do not fit.
    #[error("manifest {manifest} has {layers} layers, but its configuration {diff_ids}")]
    Layers {
        /// The manifest.
        manifest: Digest,
        /// Layers there.
        layers: usize,
        /// Layers in the configuration.
        diff_ids: usize,
    },
    /// Something other than an image.
    #[error(
        "{manifest} is no image that can be unpacked: its configuration is of type \"{media_type}\""
    )]
    MediaType {
        /// The manifest.
        manifest: Digest,
        /// Its configuration's type.
        media_type: String,
    },
    /// There is nothing for the platform.
    #[error("no matching manifest for {wanted} in the manifest list entries")]
    NoPlatform {
        /// For which.
        wanted: Platform,
    },
    /// It is for another platform.
    #[error(
        "image with reference was found but does not provide the specified platform ({wanted}): it is for {have}"
    )]
    Platform {
        /// For which it should be.
        wanted: Box<Platform>,
        /// For which it is.
        have: Box<Platform>,
    },
    /// The store could not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ArrivalError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ArrivalError::Document { source, .. } => source.kind(),
            ArrivalError::Layers { .. } => ErrorKind::Corrupt,
            ArrivalError::MediaType { .. } => ErrorKind::Unsupported,
            ArrivalError::NoPlatform { .. } | ArrivalError::Platform { .. } => ErrorKind::NotFound,
            ArrivalError::Store(error) => error.kind(),
        }
    }
}

/// A layer that an image needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrivingLayer {
    /// Its compressed form.
    pub blob: Digest,
    /// The length of that.
    pub bytes: u64,
    /// What it unpacks to.
    pub diff_id: Digest,
    media_type: String,
}

/// An image that is coming, as its documents describe it.
#[derive(Clone, Debug)]
pub struct Arriving {
    /// What it was asked for by: an index, or the manifest itself.
    target: Digest,
    target_type: String,
    target_bytes: u64,
    indexes: Vec<Digest>,
    documents: Vec<Vec<u8>>,
    manifest: Digest,
    manifest_type: String,
    manifest_bytes: u64,
    config: Digest,
    platform: Platform,
    /// Its layers, bottom first.
    pub layers: Vec<ArrivingLayer>,
}

/// What a document says is to be fetched next.
#[derive(Clone, Debug)]
pub enum Next {
    /// This manifest or index, of the index.
    Entry(Descriptor),
    /// This configuration, of the manifest.
    Config(Descriptor),
}

impl Arriving {
    /// What comes after this manifest or index, for this platform.
    ///
    /// # Errors
    /// [`ArrivalError`].
    pub fn next(bytes: &[u8], wanted: &Platform) -> Result<Next, ArrivalError> {
        let name = digest_of(bytes);
        match wire::document(bytes).map_err(|source| ArrivalError::Document { name, source })? {
            Document::Manifest(manifest) => match manifest.config.media_type.as_str() {
                media_type::CONFIG | media_type::DOCKER_CONFIG => Ok(Next::Config(manifest.config)),
                other => {
                    let media_type = other.chars().take(200).collect();
                    Err(ArrivalError::MediaType { manifest: name, media_type })
                }
            },
            Document::Index(index) => choose(index.manifests, wanted).map(Next::Entry),
        }
    }

    /// Puts the documents together: indexes from the outside in, the manifest, its configuration.
    ///
    /// # Errors
    /// [`ArrivalError`].
    pub fn new(
        indexes: Vec<Vec<u8>>,
        manifest_bytes: Vec<u8>,
        config_bytes: Vec<u8>,
    ) -> Result<Arriving, ArrivalError> {
        let digest = digest_of(&manifest_bytes);
        let read = |source| ArrivalError::Document { name: digest, source };
        let Document::Manifest(manifest) = wire::document(&manifest_bytes).map_err(read)? else {
            let media_type = media_type::INDEX.to_owned();
            return Err(ArrivalError::MediaType { manifest: digest, media_type });
        };
        let config = wire::image_config(&config_bytes)
            .map_err(|source| ArrivalError::Document { name: manifest.config.digest, source })?;
        let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            return Err(ArrivalError::Layers { manifest: digest, layers, diff_ids });
        }
        let layer = |(descriptor, diff_id): (&Descriptor, Digest)| ArrivingLayer {
            blob: descriptor.digest,
            bytes: descriptor.size,
            diff_id,
            media_type: descriptor.media_type.clone(),
        };
        let platform = config.platform();
        let layers = manifest.layers.iter().zip(config.rootfs.diff_ids).map(layer).collect();
        let manifest_type = manifest.media_type.unwrap_or(media_type::MANIFEST.to_owned());
        let (target, target_type, target_bytes) = match indexes.first() {
            None => (digest, manifest_type.clone(), manifest_bytes.len() as u64),
            Some(index) => {
                let target = digest_of(index);
                let read = wire::index(index);
                let read =
                    read.map_err(|source| ArrivalError::Document { name: target, source })?;
                let media_type = read.media_type.unwrap_or(media_type::INDEX.to_owned());
                (target, media_type, index.len() as u64)
            }
        };
        Ok(Arriving {
            target,
            target_type,
            target_bytes,
            indexes: indexes.iter().map(|index| digest_of(index)).collect(),
            manifest: digest,
            manifest_type,
            manifest_bytes: manifest_bytes.len() as u64,
            config: manifest.config.digest,
            documents: indexes.into_iter().chain([manifest_bytes, config_bytes]).collect(),
            platform,
            layers,
        })
    }

    /// The image's id.
    pub fn id(&self) -> Digest {
        self.config
    }

    /// Whether it is for this platform.
    ///
    /// # Errors
    /// [`ArrivalError::Platform`] if not.
    pub fn check(&self, wanted: &Platform) -> Result<(), ArrivalError> {
        match self.platform.rank(wanted) {
            Some(_) => Ok(()),
            None => {
                let (wanted, have) = (wanted.clone().into(), self.platform.clone().into());
                Err(ArrivalError::Platform { wanted, have })
            }
        }
    }
}

/// The entry for a platform. One that does not say what it is for is taken if nothing else fits.
fn choose(entries: Vec<Descriptor>, wanted: &Platform) -> Result<Descriptor, ArrivalError> {
    let known: Vec<_> = entries
        .iter()
        .filter_map(|entry| {
            let platform = entry.platform.as_ref()?;
            let (os, architecture) = (&platform.os, &platform.architecture);
            Some((Platform::new(os, architecture, platform.variant.as_deref()), entry))
        })
        .collect();
    let best = platform::best(&known, wanted, |(platform, _)| platform).map(|(_, entry)| *entry);
    let silent = || entries.iter().find(|entry| entry.platform.is_none());
    let chosen = best.or_else(silent).cloned();
    chosen.ok_or_else(|| ArrivalError::NoPlatform { wanted: wanted.clone() })
}

/// An image on its way into the store.
#[derive(Debug)]
pub struct Arrival {
    store: Arc<Store>,
    lease: Lease<'static>,
}

impl Store {
    /// Begins to take an image.
    pub fn arrival(self: &Arc<Store>) -> Arrival {
        Arrival { store: Arc::clone(self), lease: self.shared_lease() }
    }
}

impl Arrival {
    /// Whether a layer is here, as blob and unpacked; then it stays. What only its blob is here
    /// of is unpacked.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn has(&self, layer: &ArrivingLayer) -> Result<bool, StoreError> {
        let wanted = layer.wanted();
        self.pin(layer);
        if self.store.layer_here(&wanted).is_some() {
            return Ok(true);
        }
        if !self.store.has_blob(&layer.blob) {
            return Ok(false);
        }
        self.store.layer_from_blob(&self.lease, wanted, &mut |_| {}).map(|_| true)
    }

    /// Takes a layer. `progress` is told how many bytes of it were unpacked.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing of it is kept.
    pub fn take(
        &self,
        layer: &ArrivingLayer,
        input: impl Read + Send,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), StoreError> {
        self.pin(layer);
        self.store.layer_from_stream(&self.lease, layer.wanted(), input, progress).map(drop)
    }

    /// Puts it into the table, under this name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn finish(
        &self,
        arriving: &Arriving,
        name: Reference,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for document in &arriving.documents {
            self.store.put(&self.lease, document)?;
        }
        let layers = arriving.layers.iter().map(|layer| self.layer(layer));
        let manifest = store::Manifest {
            digest: arriving.manifest,
            media_type: arriving.manifest_type.clone(),
            bytes: arriving.manifest_bytes,
            platform: arriving.platform.clone(),
            config: arriving.config,
            layers: layers.collect::<Result<_, _>>()?,
        };
        let target = Target {
            media_type: arriving.target_type.clone(),
            bytes: arriving.target_bytes,
            added: now,
            indexes: arriving.indexes.clone(),
            manifests: vec![manifest],
        };
        self.store.change(|table| {
            table.add(arriving.target, target);
            table.name(name, arriving.target, now);
        })
    }

    fn layer(&self, layer: &ArrivingLayer) -> Result<store::Layer, StoreError> {
        let content_bytes = self.store.layer_here(&layer.wanted());
        Ok(store::Layer {
            blob: layer.blob,
            blob_bytes: layer.bytes,
            media_type: layer.media_type.clone(),
            diff_id: layer.diff_id,
            content_bytes: content_bytes.ok_or(StoreError::Missing(layer.blob))?,
        })
    }

    fn pin(&self, layer: &ArrivingLayer) {
        self.lease.pin(|needs| {
            needs.blobs.insert(layer.blob);
            needs.layers.insert(layer.diff_id);
        });
    }
}

impl ArrivingLayer {
    fn wanted(&self) -> LayerBlob {
        LayerBlob { blob: self.blob, bytes: self.bytes, diff_id: self.diff_id }
    }
}

/// A blob that is going out.
#[derive(Clone, Debug)]
pub struct BlobFile {
    /// Its digest.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
    /// Its bytes.
    pub file: Arc<File>,
    /// Names of images that have it too: where it may be known already.
    pub known_in: Vec<Reference>,
}

/// An image on its way out: what goes, in the order in which it must.
#[derive(Debug)]
pub struct Departure {
    /// Layers and configurations.
    pub blobs: Vec<BlobFile>,
    /// Manifests and indexes from the inside out, each with its media type; the last is the one
    /// that gets the name.
    pub documents: Vec<(String, Vec<u8>)>,
    /// Whether of an image for several platforms only one goes.
    pub alone: bool,
    /// Keeps all of it here meanwhile.
    _lease: Lease<'static>,
}

impl Store {
    /// What must go to a registry for this name, of this platform alone if one is given. Of an
    /// index of which not all is here, the image that serves the platform, or the host, goes.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub fn departure(
        self: &Arc<Store>,
        name: &str,
        wanted: Option<&Platform>,
    ) -> Result<Departure, ResolveError> {
        let lease = self.shared_lease();
        let table = self.table();
        lease.pin(|needs| needs.blobs.extend(table.needs().blobs));
        let digest = lookup(&table, name)?.target(&table);
        let target = table.targets.get(&digest).expect("found in this table");
        let whole = wanted.is_none() && self.is_whole(target)?;
        let chosen = match wanted {
            None => target.primary(self.host()),
            Some(platform) => target
                .best(platform)
                .ok_or_else(|| ResolveError::lacks(name.to_owned(), target, platform))?,
        };
        let manifests =
            if whole { target.manifests.as_slice() } else { std::slice::from_ref(chosen) };
        let mut departure = Departure {
            blobs: Vec::new(),
            documents: Vec::new(),
            alone: !whole && !target.indexes.is_empty(),
            _lease: lease,
        };
        for manifest in manifests {
            for blob in manifest.layers.iter().map(|layer| layer.blob).chain([manifest.config]) {
                departure.blob(self, blob, &table)?;
            }
            departure.document(self, &manifest.digest, &manifest.media_type)?;
        }
        if whole {
            for index in target.indexes.iter().rev() {
                let media_type =
                    if *index == digest { &target.media_type } else { media_type::INDEX };
                departure.document(self, index, media_type)?;
            }
        }
        Ok(departure)
    }

    /// Whether everything that its indexes name is here.
    fn is_whole(&self, target: &Target) -> Result<bool, StoreError> {
        for index in &target.indexes {
            let bytes = self.read_document(index)?;
            let read = wire::index(&bytes);
            let read = read.map_err(|source| StoreError::Document { blob: *index, source })?;
            let here = |entry: &Descriptor| {
                target.indexes.contains(&entry.digest)
                    || target.manifests.iter().any(|m| m.digest == entry.digest)
            };
            if !read.manifests.iter().all(here) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Departure {
    fn blob(&mut self, store: &Store, digest: Digest, table: &Table) -> Result<(), StoreError> {
        if self.blobs.iter().any(|blob| blob.digest == digest) {
            return Ok(());
        }
        let file = store.open_blob(&digest)?;
        let failed = |source| StoreError::Disk { doing: "read a blob", source };
        let bytes = file.metadata().map_err(failed)?.len();
        let has = |target: &Target| {
            let layers = target.manifests.iter().flat_map(|manifest| &manifest.layers);
            layers.into_iter().any(|layer| layer.blob == digest)
        };
        let owners = table.targets.iter().filter(|(_, target)| has(target));
        let known_in = owners.flat_map(|(owner, _)| table.names_of(owner)).cloned().collect();
        self.blobs.push(BlobFile { digest, bytes, file: Arc::new(file), known_in });
        Ok(())
    }

    fn document(
        &mut self,
        store: &Store,
        digest: &Digest,
        media_type: &str,
    ) -> Result<(), StoreError> {
        self.documents.push((media_type.to_owned(), store.read_document(digest)?));
        Ok(())
    }
}

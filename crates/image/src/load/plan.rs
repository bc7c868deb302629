//! Which images are in an archive, and what each needs.
//!
//! Reads documents and writes nothing. Everything that a document says of another is checked
//! here: digests (by looking files up by what they have, not what they are called), lengths,
//! numbers of layers, nesting.

mod docker;
mod oci;

use std::collections::{BTreeMap, BTreeSet};

use base::Digest;

use super::{Load, LoadError, archive::Staged};
use crate::{
    platform::{self, Platform},
    reference::Reference,
    store::Store,
    wire::{self, Descriptor, media_type},
};

/// A manifest or index to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlannedTarget {
    pub(super) digest: Digest,
    pub(super) media_type: String,
    pub(super) bytes: u64,
    pub(super) indexes: Vec<Digest>,
    pub(super) manifests: Vec<PlannedManifest>,
    pub(super) names: Vec<Reference>,
    /// Indexes, manifests and configurations.
    pub(super) documents: BTreeMap<Digest, Vec<u8>>,
}

/// An image to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlannedManifest {
    pub(super) digest: Digest,
    pub(super) media_type: String,
    pub(super) bytes: u64,
    pub(super) platform: Platform,
    pub(super) config: Digest,
    pub(super) layers: Vec<PlannedLayer>,
}

/// A layer to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlannedLayer {
    pub(super) blob: Digest,
    pub(super) bytes: u64,
    pub(super) media_type: String,
    pub(super) diff_id: Digest,
}

impl PlannedTarget {
    /// Keeps what serves the wanted platforms best, and marks those that are served.
    fn choose(&mut self, wanted: &[Platform], served: &mut [bool]) {
        let mut chosen = BTreeSet::new();
        for (wanted, served) in wanted.iter().zip(served) {
            let best = platform::best(&self.manifests, wanted, |m| &m.platform);
            *served |= best.is_some();
            chosen.extend(best.map(|manifest| manifest.digest));
        }
        self.manifests.retain(|m| wanted.is_empty() || chosen.contains(&m.digest));
    }
}

/// Decides what to load.
pub(super) fn plan(
    staged: &Staged<'_>,
    store: &Store,
    load: &Load,
) -> Result<Vec<PlannedTarget>, LoadError> {
    let source = Source { staged, store };
    let wanted = load.platforms.as_slice();
    let mut targets = match (source.file("index.json")?, source.file("manifest.json")?) {
        (Some(index), listed) => oci::plan(&source, &index, listed.as_deref(), wanted)?,
        (None, Some(listed)) => docker::plan(&source, &listed)?,
        (None, None) => return Err(LoadError::NotAnImage(what_it_is(staged))),
    };
    let mut served = vec![false; wanted.len()];
    for target in &mut targets {
        target.choose(wanted, &mut served);
    }
    if let Some((wanted, _)) = wanted.iter().zip(served).find(|(_, served)| !served) {
        return Err(LoadError::NoPlatform { wanted: Some(wanted.clone()) });
    }
    targets.retain(|target| !target.manifests.is_empty());
    match (targets.as_mut_slice(), &load.name) {
        ([], _) => return Err(LoadError::NoPlatform { wanted: None }),
        ([one], Some(name)) if one.names.is_empty() => one.names = vec![name.clone().or_latest()],
        _ => {}
    }
    Ok(targets)
}

fn what_it_is(staged: &Staged<'_>) -> &'static str {
    if staged.find("repositories").is_some() {
        "it was written by a Docker older than 1.10, in a format without digests"
    } else if staged.find("etc/passwd").is_some() || staged.find("bin/sh").is_some() {
        "it looks like a root file system, which `import` takes"
    } else {
        "it has neither index.json (OCI image layout) nor manifest.json (docker save)"
    }
}

/// Where documents come from: the archive, or else the store, for an archive may leave out what
/// its reader has.
struct Source<'a> {
    staged: &'a Staged<'a>,
    store: &'a Store,
}

impl Source<'_> {
    /// The document in the file of that name.
    fn file(&self, name: &str) -> Result<Option<Vec<u8>>, LoadError> {
        match self.staged.find(name) {
            Some((digest, _)) => self.staged.document(&digest),
            None => Ok(None),
        }
    }

    /// The document with this digest.
    fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>, LoadError> {
        match self.staged.document(digest)? {
            None if self.store.has_blob(digest) => Ok(Some(self.store.read_document(digest)?)),
            found => Ok(found),
        }
    }

    /// The document that a descriptor names, checked against it.
    fn described(&self, descriptor: &Descriptor) -> Result<Option<Vec<u8>>, LoadError> {
        let found = self.document(&descriptor.digest)?;
        if let Some(bytes) = &found {
            same_length(descriptor, bytes.len() as u64)?;
        }
        Ok(found)
    }

    /// Whether a layer's blob is there, as long as it should be.
    fn check_blob(&self, descriptor: &Descriptor) -> Result<(), LoadError> {
        match self.staged.length(&descriptor.digest) {
            Some(bytes) => same_length(descriptor, bytes),
            None if self.store.has_blob(&descriptor.digest) => Ok(()),
            None => Err(LoadError::Missing(format!("blob {}", descriptor.digest))),
        }
    }

    /// An image from its manifest. Its documents are added to `documents`.
    fn manifest(
        &self,
        digest: Digest,
        bytes: Vec<u8>,
        manifest: &wire::Manifest,
        documents: &mut BTreeMap<Digest, Vec<u8>>,
    ) -> Result<PlannedManifest, LoadError> {
        let found = self.described(&manifest.config)?;
        let missing = || LoadError::Missing(format!("configuration {}", manifest.config.digest));
        let config_bytes = found.ok_or_else(missing)?;
        let config = wire::image_config(&config_bytes).map_err(|source| LoadError::Document {
            name: manifest.config.digest.to_string(),
            source,
        })?;
        let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            return Err(LoadError::Layers { manifest: digest, layers, diff_ids });
        }
        let planned = PlannedManifest {
            digest,
            media_type: manifest.media_type.clone().unwrap_or(media_type::MANIFEST.to_owned()),
            bytes: bytes.len() as u64,
            platform: config.platform(),
            config: manifest.config.digest,
            layers: manifest.layers.iter().zip(config.rootfs.diff_ids).map(planned_layer).collect(),
        };
        documents.insert(digest, bytes);
        documents.insert(planned.config, config_bytes);
        Ok(planned)
    }
}

fn planned_layer((descriptor, diff_id): (&Descriptor, Digest)) -> PlannedLayer {
    PlannedLayer {
        blob: descriptor.digest,
        bytes: descriptor.size,
        media_type: descriptor.media_type.clone(),
        diff_id,
    }
}

fn same_length(descriptor: &Descriptor, found: u64) -> Result<(), LoadError> {
    match descriptor.size == found {
        true => Ok(()),
        false => Err(LoadError::Size { blob: descriptor.digest, wanted: descriptor.size, found }),
    }
}

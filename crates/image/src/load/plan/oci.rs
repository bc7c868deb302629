//! OCI image layouts, and what `docker save` writes since Docker 25: a layout with a
//! `manifest.json` beside it, for old readers.
//!
//! Source: OCI image-spec, image-layout.md; containerd, `core/images/archive/importer.go`.

use std::collections::{BTreeMap, BTreeSet};

use base::Digest;

use super::{PlannedManifest, PlannedTarget, Source, docker};
use crate::{
    load::LoadError,
    platform::Platform,
    reference::Reference,
    wire::{self, ANNOTATION_NAME, ANNOTATION_REF, Descriptor, Document, media_type},
};

/// Indexes within indexes.
const DEPTH_MAX: usize = 4;
/// Manifests and indexes of one archive.
const DOCUMENTS_MAX: usize = 2_000;

pub(super) fn plan(
    source: &Source<'_>,
    index: &[u8],
    listed: Option<&[u8]>,
    wanted: &[Platform],
) -> Result<Vec<PlannedTarget>, LoadError> {
    let named = |source| LoadError::Document { name: "index.json".to_owned(), source };
    let index = wire::index(index).map_err(named)?;
    let by_config = listed.map(|l| docker::names(source, l)).transpose()?.unwrap_or_default();
    let mut targets: BTreeMap<Digest, PlannedTarget> = BTreeMap::new();
    for descriptor in &index.manifests {
        let name = name(descriptor)?;
        if let Some(known) = targets.get_mut(&descriptor.digest) {
            known.names.extend(name);
            continue;
        }
        if let Some(mut target) = target(source, descriptor, wanted)? {
            target.names.extend(name);
            let configs = target.manifests.iter().map(|manifest| manifest.config);
            let listed = configs.filter_map(|config| by_config.get(&config)).flatten().cloned();
            target.names.extend(listed.collect::<Vec<_>>());
            targets.insert(target.digest, target);
        }
    }
    for target in targets.values_mut() {
        target.names.sort();
        target.names.dedup();
    }
    Ok(targets.into_values().collect())
}

/// The name of an entry of `index.json`. A bare word, as a tag without a repository, is none.
fn name(descriptor: &Descriptor) -> Result<Option<Reference>, LoadError> {
    let annotation = |key: &str| descriptor.annotations.get(key).filter(|text| !text.is_empty());
    let full = annotation(ANNOTATION_NAME);
    let other = annotation(ANNOTATION_REF).filter(|text| text.contains([':', '/']));
    match full.or(other) {
        Some(text) => Ok(Some(text.parse::<Reference>()?.or_latest())),
        None => Ok(None),
    }
}

/// An entry of `index.json`, or nothing if there is no image in it.
fn target(
    source: &Source<'_>,
    descriptor: &Descriptor,
    wanted: &[Platform],
) -> Result<Option<PlannedTarget>, LoadError> {
    let mut walk = Walk {
        source,
        wanted,
        indexes: Vec::new(),
        manifests: Vec::new(),
        documents: BTreeMap::new(),
        seen: BTreeSet::new(),
    };
    walk.visit(descriptor, 0)?;
    if walk.manifests.is_empty() {
        return Ok(None);
    }
    Ok(Some(PlannedTarget {
        digest: descriptor.digest,
        media_type: descriptor.media_type.clone(),
        bytes: descriptor.size,
        indexes: walk.indexes,
        manifests: walk.manifests,
        names: Vec::new(),
        documents: walk.documents,
    }))
}

/// A way through indexes down to manifests.
struct Walk<'a> {
    source: &'a Source<'a>,
    wanted: &'a [Platform],
    indexes: Vec<Digest>,
    manifests: Vec<PlannedManifest>,
    documents: BTreeMap<Digest, Vec<u8>>,
    seen: BTreeSet<Digest>,
}

impl Walk<'_> {
    fn visit(&mut self, descriptor: &Descriptor, depth: usize) -> Result<(), LoadError> {
        if depth > DEPTH_MAX {
            let max = DEPTH_MAX as u64;
            return Err(LoadError::TooLarge { what: "indexes within each other", max });
        }
        if !self.seen.insert(descriptor.digest) {
            return Ok(());
        }
        if self.seen.len() > DOCUMENTS_MAX {
            let max = DOCUMENTS_MAX as u64;
            return Err(LoadError::TooLarge { what: "manifests", max });
        }
        let Some(bytes) = self.source.described(descriptor)? else {
            // An index may name images that were left out of the archive.
            return match depth {
                0 => Err(LoadError::Missing(format!("manifest {}", descriptor.digest))),
                _ => Ok(()),
            };
        };
        let named = |source| LoadError::Document { name: descriptor.digest.to_string(), source };
        match wire::document(&bytes).map_err(named)? {
            Document::Index(index) => {
                self.documents.insert(descriptor.digest, bytes);
                self.indexes.push(descriptor.digest);
                index.manifests.iter().try_for_each(|entry| self.visit(entry, depth + 1))
            }
            Document::Manifest(manifest) => self.manifest(descriptor, bytes, &manifest, depth),
        }
    }

    fn manifest(
        &mut self,
        descriptor: &Descriptor,
        bytes: Vec<u8>,
        manifest: &wire::Manifest,
        depth: usize,
    ) -> Result<(), LoadError> {
        if let Some((what, media_type)) = not_an_image(descriptor, manifest) {
            // Beside images an index names their signatures and provenance.
            return match depth {
                0 => Err(LoadError::MediaType { manifest: descriptor.digest, what, media_type }),
                _ => Ok(()),
            };
        }
        let mut documents = BTreeMap::new();
        let planned = self.source.manifest(descriptor.digest, bytes, manifest, &mut documents)?;
        let fits = |wanted| planned.platform.rank(wanted).is_some();
        if !self.wanted.is_empty() && !self.wanted.iter().any(fits) {
            return Ok(());
        }
        manifest.layers.iter().try_for_each(|layer| self.source.check_blob(layer))?;
        self.documents.append(&mut documents);
        self.manifests.push(planned);
        Ok(())
    }
}

/// What tells that a manifest is not an image's.
fn not_an_image(
    descriptor: &Descriptor,
    manifest: &wire::Manifest,
) -> Option<(&'static str, String)> {
    let unknown = descriptor.platform.as_ref().is_some_and(|p| p.os == "unknown");
    let config = manifest.config.media_type.as_str();
    if unknown || !matches!(config, media_type::CONFIG | media_type::DOCKER_CONFIG) {
        return Some(("configuration", config.to_owned()));
    }
    let odd = manifest.layers.iter().find(|layer| !is_layer(&layer.media_type))?;
    Some(("layer", odd.media_type.clone()))
}

/// Source: OCI image-spec, media-types.md; Docker image manifest version 2, schema 2.
fn is_layer(media_type: &str) -> bool {
    let bases = [
        media_type::LAYER,
        media_type::DOCKER_LAYER,
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    ];
    let compression = bases.iter().find_map(|base| media_type.strip_prefix(base));
    matches!(compression, Some("" | "+gzip" | "+zstd" | ".gzip" | ".zstd"))
}

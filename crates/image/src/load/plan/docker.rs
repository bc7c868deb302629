//! Archives with a `manifest.json` alone: `docker save` before Docker 25, and podman.
//!
//! They have a configuration and layers but no manifest, so we write one. It is the same for the
//! same archive.
//!
//! Source: Docker image specification 1.2, "Combined Image JSON + Filesystem Changeset Format".

use std::collections::BTreeMap;

use base::Digest;

use super::{PlannedTarget, Source};
use crate::{
    load::LoadError,
    reference::Reference,
    store::digest_of,
    wire::{self, ArchiveImage, Descriptor, media_type},
};

pub(super) fn plan(source: &Source<'_>, listed: &[u8]) -> Result<Vec<PlannedTarget>, LoadError> {
    images(listed)?.iter().map(|image| target(source, image)).collect()
}

/// Names that `manifest.json` gives to configurations.
pub(super) fn names(
    source: &Source<'_>,
    listed: &[u8],
) -> Result<BTreeMap<Digest, Vec<Reference>>, LoadError> {
    let mut names: BTreeMap<Digest, Vec<Reference>> = BTreeMap::new();
    for image in images(listed)? {
        let (config, _) = source.staged.find_named(&image.config)?;
        names.entry(config).or_default().extend(tags(&image)?);
    }
    Ok(names)
}

fn images(listed: &[u8]) -> Result<Vec<ArchiveImage>, LoadError> {
    let named = |source| LoadError::Document { name: "manifest.json".to_owned(), source };
    wire::archive_images(listed).map_err(named)
}

fn tags(image: &ArchiveImage) -> Result<Vec<Reference>, LoadError> {
    let tags = image.repo_tags.iter().flatten();
    tags.map(|tag| Ok(tag.parse::<Reference>()?.or_latest())).collect()
}

fn target(source: &Source<'_>, image: &ArchiveImage) -> Result<PlannedTarget, LoadError> {
    let (config, config_bytes) = source.staged.find_named(&image.config)?;
    // It is named by the image's id.
    let stem = image.config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
    if let Some(wanted) = Digest::from_hex(stem).ok().filter(|wanted| *wanted != config) {
        return Err(LoadError::Digest { name: image.config.clone(), wanted, found: config });
    }
    let layers = image.layers.iter().flatten().map(|name| layer(source, name));
    let manifest = wire::Manifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.to_owned()),
        config: Descriptor::new(media_type::CONFIG, config, config_bytes),
        layers: layers.collect::<Result<_, _>>()?,
        annotations: BTreeMap::new(),
    };
    let bytes = wire::to_json(&manifest);
    let (digest, length) = (digest_of(&bytes), bytes.len() as u64);
    let mut documents = BTreeMap::new();
    let planned = source.manifest(digest, bytes, &manifest, &mut documents)?;
    Ok(PlannedTarget {
        digest,
        media_type: media_type::MANIFEST.to_owned(),
        bytes: length,
        indexes: Vec::new(),
        manifests: vec![planned],
        names: tags(image)?,
        documents,
    })
}

fn layer(source: &Source<'_>, name: &str) -> Result<Descriptor, LoadError> {
    let (digest, bytes) = source.staged.find_named(name)?;
    let start = source.staged.bytes(&digest, 4)?.unwrap_or_default();
    let suffix = match start.as_slice() {
        [0x1f, 0x8b, ..] => "+gzip",
        [0x28, 0xb5, 0x2f, 0xfd] => "+zstd",
        _ => "",
    };
    Ok(Descriptor::new(&format!("{}{suffix}", media_type::LAYER), digest, bytes))
}

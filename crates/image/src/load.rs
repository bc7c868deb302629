//! Loading images from an archive: what `docker save` writes, of any age, and OCI image layouts.
//!
//! ```text
//! archive ──archive.rs──▶ staged files ──plan.rs──▶ targets ──▶ blobs ──▶ layers ──▶ table
//! ```
//!
//! The archive is read once, in whatever order its blobs come; nothing of it is in the store
//! before all that the images need was found and verified, and no image is before all of it is on
//! the disk.

mod archive;
mod error;
mod inflate;
mod plan;
#[cfg(test)]
mod tests;

use std::io::Read;

use base::{Digest, clock::Timestamp};

use crate::{
    platform::Platform,
    progress::Tell,
    reference::Reference,
    store::{self, LayerBlob, Lease, Store, StoreError, Target},
};

pub use error::LoadError;

use archive::Staged;
use plan::{PlannedManifest, PlannedTarget};

/// What to load, and when it is.
#[derive(Clone, Debug)]
pub struct Load {
    /// Only the images that serve these platforms best; none for all that are in the archive.
    pub platforms: Vec<Platform>,
    /// A name for the image, if the archive holds one image and no name.
    pub name: Option<Reference>,
    /// The time at which it is loaded.
    pub now: Timestamp,
}

/// What was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The image's id; of an index, that of the host's image or of the first.
    pub id: Digest,
    /// The manifest or index.
    pub target: Digest,
    /// What is there of it.
    pub platforms: Vec<Platform>,
    /// The names it got.
    pub references: Vec<Reference>,
}

impl Store {
    /// Loads the images of an archive: plain, gzip or zstd.
    ///
    /// # Errors
    /// When the archive cannot be read, or is not what it should be; then nothing of it stays.
    pub fn load(
        &self,
        input: impl Read,
        load: &Load,
        tell: Tell<'_>,
    ) -> Result<Vec<Loaded>, LoadError> {
        let mut staged = archive::stage(self, input, tell)?;
        let planned = plan::plan(&staged, self, load)?;
        let lease = self.lease();
        let mut targets = Vec::new();
        for planned in &planned {
            targets.push(self.bring_in(&lease, &mut staged, planned, load.now, tell)?);
        }
        self.change(|table| {
            for (planned, target) in planned.iter().zip(&targets) {
                table.add(planned.digest, target.clone());
                for name in &planned.names {
                    table.name(name.clone(), planned.digest, load.now);
                }
            }
        })?;
        let loaded = planned.into_iter().zip(targets);
        Ok(loaded.map(|(planned, target)| answer(planned, &target, self.host())).collect())
    }

    /// Puts the blobs of a target in place, and the layers made of them.
    fn bring_in(
        &self,
        lease: &Lease<'_>,
        staged: &mut Staged<'_>,
        planned: &PlannedTarget,
        now: Timestamp,
        tell: Tell<'_>,
    ) -> Result<Target, LoadError> {
        for document in planned.documents.values() {
            self.put(lease, document)?;
        }
        let mut manifests = Vec::new();
        for manifest in &planned.manifests {
            manifests.push(self.bring_in_layers(lease, staged, manifest, tell)?);
        }
        Ok(Target {
            media_type: planned.media_type.clone(),
            bytes: planned.bytes,
            added: now,
            indexes: planned.indexes.clone(),
            manifests,
        })
    }

    fn bring_in_layers(
        &self,
        lease: &Lease<'_>,
        staged: &mut Staged<'_>,
        manifest: &PlannedManifest,
        tell: Tell<'_>,
    ) -> Result<store::Manifest, StoreError> {
        let mut layers = Vec::new();
        for layer in &manifest.layers {
            lease.pin(|needs| {
                needs.blobs.insert(layer.blob);
            });
            if !self.has_blob(&layer.blob) {
                staged
                    .take(&layer.blob)
                    .ok_or(StoreError::Missing(layer.blob))?
                    .place(lease, self)?;
            }
            let wanted = LayerBlob { blob: layer.blob, bytes: layer.bytes, diff_id: layer.diff_id };
            layers.push(store::Layer {
                blob: layer.blob,
                blob_bytes: layer.bytes,
                media_type: layer.media_type.clone(),
                diff_id: layer.diff_id,
                content_bytes: self.layer_from_blob(lease, wanted, tell)?,
            });
        }
        Ok(store::Manifest {
            digest: manifest.digest,
            media_type: manifest.media_type.clone(),
            bytes: manifest.bytes,
            platform: manifest.platform.clone(),
            config: manifest.config,
            layers,
        })
    }
}

fn answer(planned: PlannedTarget, target: &Target, host: &Platform) -> Loaded {
    Loaded {
        id: target.primary(host).config,
        target: planned.digest,
        platforms: target.manifests.iter().map(|m| m.platform.clone()).collect(),
        references: planned.names,
    }
}

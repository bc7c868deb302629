//! Which images there are.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use base::{Digest, clock::Timestamp};

use super::{Store, StoreError, Table, Target};
use crate::{platform::Platform, reference::Reference};

/// One row of `image ls`: an image with all its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its id. Of an index it is that of the host's image, or of the first.
    pub id: Digest,
    /// Its names with a tag; none if it is dangling.
    pub tags: Vec<Reference>,
    /// Its names with a digest, given or derived.
    pub digests: Vec<Reference>,
    /// When it was made, RFC 3339, as its maker says.
    pub created: Option<String>,
    /// When it came into the store.
    pub added: Timestamp,
    /// Bytes of content of its layers.
    pub bytes: u64,
    /// Everything it was built for that is here, each with its image.
    pub variants: Vec<Variant>,
    /// Whatever the maker noted.
    pub labels: BTreeMap<String, String>,
    /// Ids of all images in it: containers may use any.
    pub ids: BTreeSet<Digest>,
}

/// The image for one platform.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Variant {
    /// What it was built for.
    pub platform: Platform,
    /// Its id.
    pub id: Digest,
    /// Its manifest.
    pub manifest: Digest,
    /// Type of that.
    pub media_type: String,
    /// Bytes of that.
    pub manifest_bytes: u64,
    /// Bytes of content of its layers.
    pub bytes: u64,
    /// Bytes of its layers as they came.
    pub blob_bytes: u64,
}

impl Store {
    /// All images, newest first.
    ///
    /// # Errors
    /// When a configuration cannot be read.
    pub fn list(&self) -> Result<Vec<Summary>, StoreError> {
        let table = self.table();
        let mut by_id: BTreeMap<Digest, Vec<(&Digest, &Target)>> = BTreeMap::new();
        for (digest, target) in &table.targets {
            let id = target.primary(self.host()).config;
            by_id.entry(id).or_default().push((digest, target));
        }
        let rows = by_id.into_iter().map(|(id, targets)| self.summary(&table, id, &targets));
        let mut rows = rows.collect::<Result<Vec<_>, _>>()?;
        let age = |row: &Summary| {
            let created =
                row.created.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
            Reverse((created, row.added, row.id))
        };
        rows.sort_by_key(age);
        Ok(rows)
    }

    fn summary(
        &self,
        table: &Table,
        id: Digest,
        targets: &[(&Digest, &Target)],
    ) -> Result<Summary, StoreError> {
        let config = self.read_config(&id)?;
        let manifests = || targets.iter().flat_map(|(_, target)| &target.manifests);
        let primary = manifests().find(|manifest| manifest.config == id);
        let variants: BTreeSet<_> = manifests().map(Variant::of).collect();
        let (tags, digests) = names(table, targets.iter().map(|(digest, _)| **digest));
        Ok(Summary {
            id,
            tags,
            digests,
            created: config.created,
            added: targets.iter().map(|(_, target)| target.added).max().unwrap_or(Timestamp(0)),
            bytes: primary.map_or(0, |manifest| Variant::of(manifest).bytes),
            variants: variants.into_iter().collect(),
            labels: config.config.and_then(|c| c.labels).unwrap_or_default(),
            ids: manifests().map(|m| m.config).collect(),
        })
    }
}

impl Variant {
    pub(super) fn of(manifest: &super::Manifest) -> Variant {
        Variant {
            platform: manifest.platform.clone(),
            id: manifest.config,
            manifest: manifest.digest,
            media_type: manifest.media_type.clone(),
            manifest_bytes: manifest.bytes,
            bytes: manifest.layers.iter().map(|layer| layer.content_bytes).sum(),
            blob_bytes: manifest.layers.iter().map(|layer| layer.blob_bytes).sum(),
        }
    }
}

/// Names with a tag, and names with a digest: those given, and the repository of every tag with
/// the target's own digest.
pub(crate) fn names(
    table: &Table,
    targets: impl Iterator<Item = Digest>,
) -> (Vec<Reference>, Vec<Reference>) {
    let (mut tags, mut digests) = (BTreeSet::new(), BTreeSet::new());
    for target in targets {
        for name in table.names_of(&target) {
            digests.insert(name.at(name.digest().unwrap_or(target)));
            if name.tag().is_some() {
                tags.insert(name.clone());
            }
        }
    }
    (tags.into_iter().collect(), digests.into_iter().collect())
}

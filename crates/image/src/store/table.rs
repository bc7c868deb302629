//! The table: which images there are, what they are made of, what they are called.
//!
//! Persisted as `images.json`; `tests/golden/images.v1.json` shows the format. It is replaced as a
//! whole, so it is always one state or the next.

use std::collections::{BTreeMap, BTreeSet};

use base::{Digest, clock::Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    platform::{self, Platform},
    reference::Reference,
};

/// The format that we write, and the newest that we read.
const VERSION: u32 = 1;

/// What the store knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    /// What was loaded, by the digest of its manifest or index.
    pub(crate) targets: BTreeMap<Digest, Target>,
    /// Names, each with a tag or a digest, never both.
    pub(crate) references: BTreeMap<Reference, Named>,
}

/// One thing that was loaded: a manifest, or an index with some of its manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    pub(crate) media_type: String,
    pub(crate) bytes: u64,
    pub(crate) added: Timestamp,
    /// The index and those below it, if it is one.
    pub(crate) indexes: Vec<Digest>,
    /// The images in it that are here; never empty.
    pub(crate) manifests: Vec<Manifest>,
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: u64,
    pub(crate) platform: Platform,
    /// The image's id.
    pub(crate) config: Digest,
    pub(crate) layers: Vec<Layer>,
}

/// One layer: a blob, and what it unpacks to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Layer {
    pub(crate) blob: Digest,
    pub(crate) blob_bytes: u64,
    pub(crate) media_type: String,
    pub(crate) diff_id: Digest,
    pub(crate) content_bytes: u64,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Named {
    pub(crate) target: Digest,
    pub(crate) since: Timestamp,
}

/// Why a table was not read.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It is not what we wrote.
    #[error("the image table is damaged")]
    Damaged(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It is from the future.
    #[error(
        "the image table has format {found}, and this build knows none above {VERSION}: use the \
         build that wrote it"
    )]
    Newer {
        /// Its format.
        found: u32,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    targets: BTreeMap<Digest, Target>,
    references: BTreeMap<String, Named>,
}

impl Table {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Table, TableError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let damaged = |e: serde_json::Error| TableError::Damaged(e.into());
        let Version { version: found } = serde_json::from_slice(bytes).map_err(damaged)?;
        if found != VERSION {
            return Err(TableError::Newer { found });
        }
        let file: File = serde_json::from_slice(bytes).map_err(damaged)?;
        let references =
            file.references.into_iter().map(|(name, named)| Ok((name.parse()?, named)));
        let references: Result<_, crate::reference::ReferenceError> = references.collect();
        let references = references.map_err(|e| TableError::Damaged(e.into()))?;
        let table = Table { targets: file.targets, references };
        match table.flaw() {
            None => Ok(table),
            Some(flaw) => Err(TableError::Damaged(flaw.into())),
        }
    }

    /// What we never write, but somebody's editor may have.
    fn flaw(&self) -> Option<&'static str> {
        if self.targets.values().any(|target| target.manifests.is_empty()) {
            return Some("a target has no manifest");
        }
        if self.references.keys().any(|name| name.tag().is_some() == name.digest().is_some()) {
            return Some("a name has neither a tag nor a digest, or both");
        }
        let dangles = |named: &Named| !self.targets.contains_key(&named.target);
        self.references.values().any(dangles).then_some("a name stands for nothing")
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let references = self.references.iter().map(|(name, named)| (name.to_string(), *named));
        let file = File {
            version: VERSION,
            targets: self.targets.clone(),
            references: references.collect(),
        };
        let mut bytes = serde_json::to_vec_pretty(&file).expect("the table has string keys");
        bytes.push(b'\n');
        bytes
    }

    /// Names a target; it must be in the table.
    pub(crate) fn name(&mut self, reference: Reference, target: Digest, since: Timestamp) {
        assert!(self.targets.contains_key(&target), "only what is in the table can be named");
        let named = Named { target, since };
        match self.references.get_mut(&reference) {
            // The same name for the same thing is no change and writes nothing.
            Some(old) if old.target == target => {}
            Some(old) => *old = named,
            None => {
                self.references.insert(reference, named);
            }
        }
    }

    /// Adds a target. One that is there already gains the manifests that it did not have.
    pub(crate) fn add(&mut self, digest: Digest, target: Target) {
        let Some(old) = self.targets.get_mut(&digest) else {
            self.targets.insert(digest, target);
            return;
        };
        let missing = |m: &Manifest| old.manifests.iter().all(|have| have.digest != m.digest);
        let missing: Vec<_> = target.manifests.into_iter().filter(missing).collect();
        let deeper: Vec<_> =
            target.indexes.into_iter().filter(|index| !old.indexes.contains(index)).collect();
        if !missing.is_empty() || !deeper.is_empty() {
            old.manifests.extend(missing);
            old.indexes.extend(deeper);
        }
    }

    /// Names of a target.
    pub(crate) fn names_of(&self, target: &Digest) -> impl Iterator<Item = &Reference> {
        let target = *target;
        self.references.iter().filter(move |(_, n)| n.target == target).map(|(name, _)| name)
    }

    /// Targets in which an image is, by its id.
    pub(crate) fn targets_with(&self, id: &Digest) -> impl Iterator<Item = (&Digest, &Target)> {
        let id = *id;
        self.targets.iter().filter(move |(_, t)| t.manifests.iter().any(|m| m.config == id))
    }

    /// Every layer of every image.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &Layer> {
        self.targets.values().flat_map(|t| &t.manifests).flat_map(|m| &m.layers)
    }

    /// Everything that must be on the disk.
    pub(crate) fn needs(&self) -> Needs {
        let mut needs = Needs::default();
        for (digest, target) in &self.targets {
            needs.blobs.insert(*digest);
            needs.blobs.extend(&target.indexes);
            for manifest in &target.manifests {
                needs.blobs.extend([manifest.digest, manifest.config]);
                needs.blobs.extend(manifest.layers.iter().map(|layer| layer.blob));
                needs.layers.extend(manifest.layers.iter().map(|layer| layer.diff_id));
            }
        }
        needs
    }
}

impl Target {
    /// The image that serves a platform best.
    pub(crate) fn best(&self, wanted: &Platform) -> Option<&Manifest> {
        platform::best(&self.manifests, wanted, |m| &m.platform)
    }

    /// The images that serve these platforms best; of no platforms all.
    ///
    /// # Errors
    /// The first platform that none serves.
    pub(crate) fn best_of_each<'w>(
        &self,
        wanted: &'w [Platform],
    ) -> Result<Vec<&Manifest>, &'w Platform> {
        platform::best_of_each(&self.manifests, wanted, |m| &m.platform)
    }

    /// The image by which a target is known: the host's, or else its first.
    pub(crate) fn primary(&self, host: &Platform) -> &Manifest {
        let first = self.manifests.first().expect("a target is never added without a manifest");
        self.best(host).unwrap_or(first)
    }
}

/// Files of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) blobs: BTreeSet<Digest>,
    /// By diff id.
    pub(crate) layers: BTreeSet<Digest>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: u8) -> Digest {
        Digest::from_sha256([byte; 32])
    }

    fn sample() -> Table {
        let layer = Layer {
            blob: digest(4),
            blob_bytes: 100,
            media_type: crate::wire::media_type::LAYER.to_owned(),
            diff_id: digest(5),
            content_bytes: 90,
        };
        let manifest = |n| Manifest {
            digest: digest(n),
            media_type: crate::wire::media_type::MANIFEST.to_owned(),
            bytes: 200,
            platform: Platform::new("linux", "amd64", None),
            config: digest(3),
            layers: vec![layer.clone()],
        };
        let target = Target {
            media_type: crate::wire::media_type::INDEX.to_owned(),
            bytes: 300,
            added: Timestamp(7),
            indexes: vec![digest(1)],
            manifests: vec![manifest(2)],
        };
        let mut table = Table::default();
        table.add(digest(1), target);
        table.name("demo:latest".parse().unwrap(), digest(1), Timestamp(8));
        table
    }

    #[test]
    fn the_format_is_the_golden_one() {
        let golden = include_str!("../../tests/golden/images.v1.json");
        assert_eq!(String::from_utf8(sample().to_bytes()).unwrap(), golden);
        assert_eq!(Table::parse(golden.as_bytes()).unwrap(), sample());
    }

    #[test]
    fn a_table_from_the_future_and_a_torn_one_are_refused() {
        assert!(matches!(
            Table::parse(br#"{"version":2,"new":1}"#),
            Err(TableError::Newer { found: 2 })
        ));
        let whole = sample().to_bytes();
        for end in [0, 1, whole.len() / 2] {
            assert!(matches!(Table::parse(&whole[..end]), Err(TableError::Damaged(_))), "{end}");
        }
    }

    #[test]
    fn a_table_that_contradicts_itself_is_refused() {
        let golden = String::from_utf8(sample().to_bytes()).unwrap();
        let target = digest(1).to_string();
        for spoiled in [
            golden.replacen(&target, &digest(8).to_string(), 1),
            golden.replace("demo:latest", "demo"),
            golden.replace("demo:latest", &format!("demo:latest@{target}")),
        ] {
            let refused = Table::parse(spoiled.as_bytes());
            assert!(matches!(refused, Err(TableError::Damaged(_))), "{spoiled}");
        }
        let mut empty = sample();
        empty.targets.values_mut().for_each(|target| target.manifests.clear());
        assert!(Table::parse(&empty.to_bytes()).is_err());
    }

    #[test]
    fn adding_again_changes_nothing_and_adding_more_adds_it() {
        let mut table = sample();
        let again = table.targets[&digest(1)].clone();
        table.add(digest(1), again.clone());
        assert_eq!(table, sample());
        let mut more = again;
        more.manifests[0].digest = digest(9);
        table.add(digest(1), more);
        assert_eq!(table.targets[&digest(1)].manifests.len(), 2);
    }
}

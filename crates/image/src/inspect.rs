//! What `docker image inspect` and `docker history` say of an image.
//!
//! Source: Docker Engine API v1.50, `ImageInspect`, `HistoryResponseItem`.

use std::collections::BTreeMap;

use base::clock::Timestamp;
use serde::Serialize;

use crate::{
    import::rfc3339,
    platform::Platform,
    reference::Reference,
    store::{Image, ResolveError, Store, names},
    wire::{ContainerConfig, Descriptor},
};

/// An image as `docker image inspect` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Inspect {
    /// Digest of its configuration.
    pub id: String,
    /// Names with a tag.
    pub repo_tags: Vec<String>,
    /// Names with a digest.
    pub repo_digests: Vec<String>,
    /// Always empty: images are not built in chains any more.
    pub parent: String,
    /// What its maker said.
    pub comment: String,
    /// When it was made, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Version of the Docker that made it.
    pub docker_version: String,
    /// Who made it.
    pub author: String,
    /// What to run in it by default.
    pub config: ContainerConfig,
    /// Processor architecture.
    pub architecture: String,
    /// Variant of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Operating system.
    pub os: String,
    /// Bytes of content of its layers.
    pub size: u64,
    /// How its layers are kept.
    pub graph_driver: GraphDriver,
    /// Its layers.
    #[serde(rename = "RootFS")]
    pub root_fs: InspectRootFs,
    /// What the store notes of it.
    pub metadata: Metadata,
    /// The manifest or index that it came with.
    pub descriptor: Descriptor,
}

/// How layers are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GraphDriver {
    /// Nothing that a client could use.
    pub data: BTreeMap<String, String>,
    /// `erofs` or `directory`.
    pub name: String,
}

/// The layers of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InspectRootFs {
    /// Always `layers`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Diff ids, bottom first.
    pub layers: Vec<String>,
}

/// What the store notes of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Metadata {
    /// When it last got a name, RFC 3339.
    pub last_tag_time: String,
}

/// One step in an image's making, the last one first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HistoryRow {
    /// The image's id at the last step, `<missing>` before it.
    pub id: String,
    /// Seconds since 1970; 0 if nobody noted it.
    pub created: i64,
    /// By which command.
    pub created_by: String,
    /// The image's names at the last step.
    pub tags: Option<Vec<String>>,
    /// Bytes of content that it added.
    pub size: u64,
    /// What was said.
    pub comment: String,
}

impl Store {
    /// Everything about an image.
    ///
    /// # Errors
    /// As [`Store::image`].
    pub fn inspect(
        &self,
        name: &str,
        platform: Option<&Platform>,
    ) -> Result<Inspect, ResolveError> {
        let image = self.image(name, platform)?;
        let table = self.table();
        let targets = table.targets_with(&image.id).map(|(digest, _)| *digest);
        let (tags, digests) = names(&table, targets);
        let named = image.references.iter().filter_map(|name| table.references.get(name));
        let last = named.map(|named| named.since).max().unwrap_or(Timestamp(0));
        // The image may have gone since it was read; then nothing is known of its target.
        let target = table.targets.get(&image.target);
        let (media_type, size) = target.map_or(("", 0), |t| (t.media_type.as_str(), t.bytes));
        let descriptor = Descriptor::new(media_type, image.target, size);
        let driver = match self.form() {
            crate::Form::Erofs(_) => "erofs",
            crate::Form::Directory(_) => "directory",
        };
        let familiar = |names: &[Reference]| names.iter().map(Reference::familiar).collect();
        let config = image.config;
        Ok(Inspect {
            id: image.id.to_string(),
            repo_tags: familiar(&tags),
            repo_digests: familiar(&digests),
            parent: String::new(),
            comment: config.comment.unwrap_or_default(),
            created: config.created,
            docker_version: config.docker_version.unwrap_or_default(),
            author: config.author.unwrap_or_default(),
            config: config.config.unwrap_or_default(),
            architecture: config.architecture,
            variant: config.variant,
            os: config.os,
            size: image.layer_bytes.iter().sum(),
            graph_driver: GraphDriver { data: BTreeMap::new(), name: driver.to_owned() },
            root_fs: InspectRootFs {
                kind: config.rootfs.kind,
                layers: image.layers.iter().map(ToString::to_string).collect(),
            },
            metadata: Metadata { last_tag_time: rfc3339(last) },
            descriptor,
        })
    }
}

impl Image {
    /// How the image came about, the last step first.
    pub fn history(&self) -> Vec<HistoryRow> {
        let mut bytes = self.layer_bytes.iter();
        let steps = self.config.history.iter().map(|step| {
            let size = if step.empty_layer { 0 } else { bytes.next().copied().unwrap_or(0) };
            HistoryRow {
                id: "<missing>".to_owned(),
                created: step.created.as_deref().map_or(0, seconds),
                created_by: step.created_by.clone().unwrap_or_default(),
                tags: None,
                size,
                comment: step.comment.clone().unwrap_or_default(),
            }
        });
        let mut rows: Vec<_> = steps.collect();
        rows.reverse();
        if let Some(last) = rows.first_mut() {
            last.id = self.id.to_string();
            let tagged = self.references.iter().filter(|name| name.tag().is_some());
            last.tags = Some(tagged.map(Reference::familiar).collect());
        }
        rows
    }
}

fn seconds(rfc3339: &str) -> i64 {
    rfc3339.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second)
}

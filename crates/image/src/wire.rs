//! The documents of an image, exactly as the specifications write them, read within limits.
//!
//! Sources: OCI image-spec 1.1 (descriptor.md, manifest.md, image-index.md, config.md,
//! image-layout.md); Docker image manifest version 2, schema 2; Docker image specification 1.3
//! for what its configuration has beyond OCI's.

mod config;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use base::{Digest, ErrorKind};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::platform::Platform;

pub use config::{ContainerConfig, Empty, Healthcheck, History, ImageConfig, RootFs};

/// Longest manifest, index or configuration we read.
/// Source: distribution-spec 1.1, "Pushing Manifests": registries should take at least 4 MiB.
pub const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
/// Most layers of one image. Source: `OVL_MAX_STACK`, fs/overlayfs/params.h.
pub const LAYERS_MAX: usize = 500;
/// Most entries of one index.
pub const INDEX_ENTRIES_MAX: usize = 1_000;

/// Media types that we write, and read.
pub mod media_type {
    /// OCI index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI configuration.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// OCI layer, without its compression.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// Docker's index.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker's manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker's layer, without its compression.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
}

/// Annotation with an image's name in full. Source: containerd, `images/annotations.go`.
pub const ANNOTATION_NAME: &str = "io.containerd.image.name";
/// Annotation with an image's tag, or whatever the writer put there.
/// Source: OCI image-spec, annotations.md.
pub const ANNOTATION_REF: &str = "org.opencontainers.image.ref.name";

/// Why a document was not read.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is not JSON of the right shape.
    #[error("it is not a valid {what}")]
    Json {
        /// What it should be.
        what: &'static str,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// It is longer than we read.
    #[error("it is longer than {DOCUMENT_BYTES_MAX} bytes")]
    Long,
    /// It is neither a manifest nor an index that we know.
    #[error("its media type \"{0}\" is neither an image manifest nor an index")]
    MediaType(String),
    /// Its version is not 2.
    #[error("its schema version is {0}, and only 2 can be read")]
    Version(u32),
    /// It claims to be both, which lets two readers see two images. Source: CVE-2021-41190.
    #[error("it has both layers and manifests")]
    Ambiguous,
    /// There is too much in it.
    #[error("it has more than {max} {what}")]
    Many {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        max: usize,
    },
}

impl DocumentError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            DocumentError::Json { .. } | DocumentError::Ambiguous => ErrorKind::Corrupt,
            DocumentError::Long | DocumentError::Many { .. } => ErrorKind::Exhausted,
            DocumentError::MediaType(_) | DocumentError::Version(_) => ErrorKind::Unsupported,
        }
    }
}

/// What points at a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What kind of thing the blob is.
    pub media_type: String,
    /// The blob's digest.
    pub digest: Digest,
    /// The blob's length.
    pub size: u64,
    /// What the image behind it was built for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Whatever the writer noted.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// Points at a blob and says no more of it.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Descriptor {
        let (media_type, annotations) = (media_type.to_owned(), BTreeMap::new());
        Descriptor { media_type, digest, size, platform: None, annotations }
    }
}

/// A list of manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What is in it.
    #[serde(default, deserialize_with = "null_default")]
    pub manifests: Vec<Descriptor>,
    /// Whatever the writer noted.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

/// A configuration and the layers it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, bottom first.
    #[serde(default, deserialize_with = "null_default")]
    pub layers: Vec<Descriptor>,
    /// Whatever the writer noted.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

/// One image of `manifest.json`, the table of contents of `docker save`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ArchiveImage {
    /// Name of the configuration's file in the archive.
    pub config: String,
    /// Names of the image.
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    /// Names of the layers' files, bottom first.
    #[serde(default)]
    pub layers: Option<Vec<String>>,
}

/// The file `oci-layout`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Layout {
    /// Always `1.0.0`.
    pub image_layout_version: String,
}

/// What a manifest's blob turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// A list.
    Index(Index),
}

/// Reads a manifest or an index, whichever it is.
///
/// # Errors
/// When it is neither, or beyond a limit.
pub fn document(bytes: &[u8]) -> Result<Document, DocumentError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        schema_version: u32,
        #[serde(default)]
        media_type: Option<String>,
        #[serde(default)]
        config: Option<serde::de::IgnoredAny>,
        #[serde(default)]
        layers: Option<serde::de::IgnoredAny>,
        #[serde(default)]
        manifests: Option<serde::de::IgnoredAny>,
    }
    let shape: Shape = json(bytes, "image manifest")?;
    if shape.schema_version != 2 {
        return Err(DocumentError::Version(shape.schema_version));
    }
    let one = shape.config.is_some() || shape.layers.is_some();
    match (shape.media_type.as_deref(), one, shape.manifests.is_some()) {
        (_, true, true) => Err(DocumentError::Ambiguous),
        (Some(media_type::MANIFEST | media_type::DOCKER_MANIFEST) | None, true, false) => {
            manifest(bytes).map(Document::Manifest)
        }
        (Some(media_type::INDEX | media_type::DOCKER_INDEX) | None, false, _) => {
            index(bytes).map(Document::Index)
        }
        (Some(other), _, _) => Err(DocumentError::MediaType(other.to_owned())),
    }
}

fn manifest(bytes: &[u8]) -> Result<Manifest, DocumentError> {
    let manifest: Manifest = json(bytes, "image manifest")?;
    at_most(manifest.layers.len(), LAYERS_MAX, "layers")?;
    Ok(manifest)
}

/// Reads an index.
///
/// # Errors
/// When it is none, or beyond a limit.
pub fn index(bytes: &[u8]) -> Result<Index, DocumentError> {
    let index: Index = json(bytes, "image index")?;
    at_most(index.manifests.len(), INDEX_ENTRIES_MAX, "entries")?;
    Ok(index)
}

/// Reads the configuration of an image.
///
/// # Errors
/// When it is none, or beyond a limit.
pub fn image_config(bytes: &[u8]) -> Result<ImageConfig, DocumentError> {
    let config: ImageConfig = json(bytes, "image configuration")?;
    at_most(config.rootfs.diff_ids.len(), LAYERS_MAX, "layers")?;
    Ok(config)
}

/// Reads `manifest.json`.
///
/// # Errors
/// When it is none, or beyond a limit.
pub fn archive_images(bytes: &[u8]) -> Result<Vec<ArchiveImage>, DocumentError> {
    let images: Vec<ArchiveImage> = json(bytes, "manifest.json")?;
    at_most(images.len(), INDEX_ENTRIES_MAX, "images")?;
    let most = images.iter().filter_map(|i| i.layers.as_ref()).map(Vec::len).max();
    at_most(most.unwrap_or(0), LAYERS_MAX, "layers")?;
    Ok(images)
}

/// Writes a document of ours.
pub fn to_json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("documents have string keys and no failing serializers")
}

fn at_most(count: usize, max: usize, what: &'static str) -> Result<(), DocumentError> {
    if count > max { Err(DocumentError::Many { what, max }) } else { Ok(()) }
}

/// Nesting is bounded by the parser itself, at 128.
fn json<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, DocumentError> {
    if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
        return Err(DocumentError::Long);
    }
    serde_json::from_slice(bytes).map_err(|source| DocumentError::Json { what, source })
}

/// Go writes `null` for an empty list or map.
fn null_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

//! Manifests and indexes, as far as a registry has to understand them: what they name.
//!
//! Sources: OCI image-spec 1.1 (manifest.md, image-index.md, descriptor.md); Docker image manifest
//! version 2, schema 2.

use std::collections::BTreeMap;

use base::Digest;
use image::wire::media_type::{DOCKER_INDEX, DOCKER_MANIFEST, INDEX, MANIFEST};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The types that are taken.
pub(crate) const MEDIA_TYPES: [&str; 4] = [MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    subject: Option<Descriptor>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    size: u64,
    /// Where it can be had instead. Source: image-spec, "non-distributable layers".
    #[serde(default)]
    urls: Option<Vec<String>>,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Debug, Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

/// What a manifest says that a registry goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Its type.
    pub(crate) media_type: String,
    /// Configuration and layers, with their lengths.
    pub(crate) blobs: Vec<(Digest, u64)>,
    /// Entries of an index.
    pub(crate) manifests: Vec<Entry>,
    /// What it refers to.
    pub(crate) subject: Option<Digest>,
    /// What kind of artefact it is.
    pub(crate) artifact_type: Option<String>,
    /// Whatever its writer noted.
    pub(crate) annotations: BTreeMap<String, String>,
}

/// One entry of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its digest.
    pub(crate) digest: Digest,
    /// Its type.
    pub(crate) media_type: String,
    /// Operating system and architecture, where they are told.
    pub(crate) platform: Option<(String, String)>,
}

/// Why it is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    /// It is not JSON of the right shape.
    #[error("it is not a manifest: {0}")]
    Json(#[from] serde_json::Error),
    /// Its version is not 2.
    #[error("its schema version is {0}, and only 2 is taken")]
    Version(u32),
    /// Its type is none that is served.
    #[error("its media type \"{0}\" is none of {all}", all = MEDIA_TYPES.join(", "))]
    MediaType(String),
    /// Header and document say different things.
    #[error("it says that it is {inside}, and Content-Type says {outside}")]
    TwoTypes {
        /// What it says.
        inside: String,
        /// What the header says.
        outside: String,
    },
    /// Two readers would see two images in it. Source: CVE-2021-41190.
    #[error("it has both layers and manifests")]
    Ambiguous,
    /// It has not what a document of its type has.
    #[error("{0} is missing in it")]
    Missing(&'static str),
}

impl Manifest {
    /// Reads a manifest of this type; where the type is not told, of the one that it says itself.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(bytes: &[u8], told: Option<&str>) -> Result<Manifest, ManifestError> {
        let document: Document = serde_json::from_slice(bytes)?;
        if document.schema_version != 2 {
            return Err(ManifestError::Version(document.schema_version));
        }
        let one = document.config.is_some() || document.layers.is_some();
        if one && document.manifests.is_some() {
            return Err(ManifestError::Ambiguous);
        }
        let media_type = match (told, &document.media_type) {
            (Some(outside), Some(inside)) if outside != inside => {
                let (inside, outside) = (inside.clone(), outside.to_owned());
                return Err(ManifestError::TwoTypes { inside, outside });
            }
            (Some(outside), _) => outside.to_owned(),
            (None, Some(inside)) => inside.clone(),
            (None, None) if document.manifests.is_some() => INDEX.to_owned(),
            (None, None) => MANIFEST.to_owned(),
        };
        if !MEDIA_TYPES.contains(&media_type.as_str()) {
            return Err(ManifestError::MediaType(media_type));
        }
        if is_index(&media_type) {
            if one || document.manifests.is_none() {
                return Err(ManifestError::Missing("the list of manifests"));
            }
        } else if document.config.is_none() {
            return Err(ManifestError::Missing("the configuration"));
        }
        Ok(document.understood(media_type))
    }
}

/// Whether it is a list of others.
pub(crate) fn is_index(media_type: &str) -> bool {
    media_type == INDEX || media_type == DOCKER_INDEX
}

impl Document {
    fn understood(self, media_type: String) -> Manifest {
        let kind = self.artifact_type.filter(|kind| !kind.is_empty());
        // Source: distribution-spec 1.1, "Listing Referrers": of an image manifest without one it
        // is the type of its configuration.
        let kind = kind.or_else(|| Some(self.config.as_ref()?.media_type.clone()));
        let layers = self.layers.unwrap_or_default().into_iter();
        let blobs = self.config.into_iter().chain(layers);
        let here = blobs.filter(|blob| blob.urls.as_ref().is_none_or(Vec::is_empty));
        let entries = self.manifests.unwrap_or_default().into_iter().map(|entry| Entry {
            digest: entry.digest,
            media_type: entry.media_type,
            platform: entry.platform.map(|platform| (platform.os, platform.architecture)),
        });
        Manifest {
            media_type,
            blobs: here.map(|blob| (blob.digest, blob.size)).collect(),
            manifests: entries.collect(),
            subject: self.subject.map(|subject| subject.digest),
            artifact_type: kind,
            annotations: self.annotations.unwrap_or_default(),
        }
    }
}

/// Entry of an answer to who refers to something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Referrer {
    /// Its type.
    pub(crate) media_type: String,
    /// Its digest.
    pub(crate) digest: Digest,
    /// Its length.
    pub(crate) size: u64,
    /// What kind of artefact it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    /// Whatever its writer noted.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// What was written by [`to_bytes`].
///
/// # Errors
/// When it is something else.
pub(crate) fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(bytes)
}

pub(crate) fn to_bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("our rows have string keys and no failing serializers")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(digit: &str) -> String {
        format!("sha256:{}", digit.repeat(64))
    }

    fn manifest(more: &str) -> String {
        let (config, layer, far) = (digest("a"), digest("b"), digest("c"));
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"x/y","digest":"{config}","size":2}},
            "layers":[{{"mediaType":"l","digest":"{layer}","size":3}},
            {{"mediaType":"l","digest":"{far}","size":4,"urls":["https://x"]}}]{more}}}"#
        )
    }

    #[test]
    fn what_a_manifest_names_is_found() {
        let read = Manifest::parse(manifest("").as_bytes(), Some(MANIFEST)).unwrap();
        let digest = |digit: &str| digest(digit).parse::<Digest>().unwrap();
        assert_eq!(read.blobs, [(digest("a"), 2), (digest("b"), 3)]);
        assert_eq!(read.artifact_type.as_deref(), Some("x/y"));
        let more = format!(
            r#","artifactType":"sbom","annotations":{{"k":"v"}},"subject":{{"digest":"{}","size":9}}"#,
            digest("d")
        );
        let read = Manifest::parse(manifest(&more).as_bytes(), None).unwrap();
        assert_eq!((read.media_type.as_str(), read.subject), (MANIFEST, Some(digest("d"))));
        assert_eq!(read.artifact_type.as_deref(), Some("sbom"));
        let list = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"m","digest":"{}","size":1,
            "platform":{{"os":"linux","architecture":"arm64"}}}}]}}"#,
            digest("e")
        );
        let read = Manifest::parse(list.as_bytes(), None).unwrap();
        assert_eq!(read.media_type, INDEX);
        let entry = read.manifests.first().unwrap();
        assert_eq!(entry.platform, Some(("linux".to_owned(), "arm64".to_owned())));
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        let said =
            |text: &str, told| Manifest::parse(text.as_bytes(), told).unwrap_err().to_string();
        assert!(said("{", None).contains("not a manifest"));
        assert!(said(r#"{"schemaVersion":1}"#, None).contains("version is 1"));
        assert!(said(r#"{"schemaVersion":2}"#, None).contains("configuration is missing"));
        assert!(said(r#"{"schemaVersion":2}"#, Some(INDEX)).contains("list of manifests"));
        assert!(said(&manifest(r#","manifests":[]"#), None).contains("both"));
        assert!(said(&manifest(""), Some("text/plain")).contains("text/plain"));
        let other = manifest(&format!(r#","mediaType":"{DOCKER_MANIFEST}""#));
        assert!(said(&other, Some(MANIFEST)).contains("Content-Type says"));
        assert!(said(&manifest("").replace("sha256", "sha512"), None).contains("sha256"));
    }
}

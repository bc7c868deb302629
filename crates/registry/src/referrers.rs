//! What refers to an image: signatures, provenance, bills of materials.
//!
//! Source: distribution-spec 1.1, "Listing Referrers" and "Referrers Tag Schema".

use std::collections::BTreeMap;

use base::Digest;
use serde::Deserialize;

use crate::{
    RegistryError, Repository,
    exchange::{Ask, Payload, read},
    manifest::MANIFEST_BYTES_MAX,
};

/// One artefact that refers to an image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Referrer {
    /// Media type of its manifest.
    pub media_type: String,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Length of its manifest.
    pub size: u64,
    /// What kind of artefact it is.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// Whatever its writer noted.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Referrer>,
}

impl Repository {
    /// What refers to the manifest of this digest; of registries without that question, what the
    /// tag says that stands in for it.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn referrers(&self, digest: Digest) -> Result<Vec<Referrer>, RegistryError> {
        let at = self.own()?;
        let path = format!("{}/v2/{}/referrers/{digest}", at.prefix, self.path);
        let ask = Ask::get(path, format!("referrers of {digest}"));
        let bytes = match self.exchange(at, &ask, &Payload::None).await {
            Ok(response) => read(at, response, MANIFEST_BYTES_MAX, "referrers").await?,
            Err(RegistryError::NotFound { .. }) => {
                match self.manifest(&format!("sha256-{}", digest.hex())).await {
                    Ok(manifest) => manifest.bytes.to_vec(),
                    Err(RegistryError::NotFound { .. }) => return Ok(Vec::new()),
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        };
        let malformed = |_| RegistryError::Malformed { host: at.name.clone(), what: "referrers" };
        serde_json::from_slice::<Index>(&bytes).map(|index| index.manifests).map_err(malformed)
    }
}

//! Manifests and indexes: small documents, checked against their digests here.

use base::Digest;
use bytes::Bytes;
use reqwest::{Method, Response, header::CONTENT_TYPE};
use sha2::{Digest as _, Sha256};

use crate::{
    Endpoint, RegistryError, Repository,
    exchange::{Ask, Payload, To, read},
};

/// Longest manifest or index that is read.
///
/// Source: distribution-spec 1.1, "Pushing Manifests": registries should take at least 4 MiB.
pub const MANIFEST_BYTES_MAX: u64 = 4 << 20;

/// What is asked for.
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// A manifest or index as a registry gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its digest, computed.
    pub digest: Digest,
    /// Its bytes.
    pub bytes: Bytes,
    /// What the registry calls it.
    pub media_type: String,
    /// Which host served it.
    pub host: String,
    /// Whether that was a mirror.
    pub mirror: bool,
}

impl Repository {
    /// The manifest of a tag or digest, from the first host that has it.
    ///
    /// # Errors
    /// [`RegistryError`]; the registry's own, if no mirror had it.
    pub async fn manifest(&self, name: &str) -> Result<Manifest, RegistryError> {
        let mut last = None;
        for (number, at) in self.sources() {
            match self.manifest_at(at, name).await {
                Ok(manifest) => {
                    self.served(number);
                    return Ok(manifest);
                }
                Err(error) if error.is_of_host() => {
                    tracing::debug!(host = at.name, %error, "a host does not serve the manifest");
                    // The registry's own word counts more than its mirrors'.
                    if last.is_none() || !at.mirror {
                        last = Some(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(match last {
            Some(error) => error,
            None => match self.own() {
                Err(error) => error,
                Ok(at) => RegistryError::Malformed { host: at.name.clone(), what: "nothing" },
            },
        })
    }

    /// The digest that a tag has at the registry itself, if it tells one without the manifest.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn manifest_digest(&self, tag: &str) -> Result<Option<Digest>, RegistryError> {
        let at = self.own()?;
        let what = format!("manifest for {}", self.named(at, tag));
        let mut ask = Ask::new(Method::HEAD, To::Path(self.manifest_path(at, tag)), what, true);
        ask.accept = Some(ACCEPTED);
        let response = self.exchange(at, &ask, &Payload::None).await?;
        Ok(told_digest(&response))
    }

    async fn manifest_at(&self, at: &Endpoint, name: &str) -> Result<Manifest, RegistryError> {
        let what = format!("manifest for {}", self.named(at, name));
        let mut ask = Ask::get(self.manifest_path(at, name), what.clone());
        ask.accept = Some(ACCEPTED);
        let response = self.exchange(at, &ask, &Payload::None).await?;
        let media_type = media_type(&response);
        if media_type.starts_with("application/vnd.docker.distribution.manifest.v1+") {
            return Err(RegistryError::Schema1 { what: self.named(at, name) });
        }
        let told = told_digest(&response);
        let bytes = read(at, response, MANIFEST_BYTES_MAX, &what).await?;
        let digest = digest_of(&bytes);
        let wanted = name.parse::<Digest>().ok().or(told);
        if let Some(wanted) = wanted.filter(|wanted| *wanted != digest) {
            return Err(RegistryError::Digest { host: at.name.clone(), wanted, found: digest });
        }
        let (host, mirror) = (at.name.clone(), at.mirror);
        Ok(Manifest { digest, bytes: bytes.into(), media_type, host, mirror })
    }

    /// Puts a manifest in place, under a tag or its digest.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn put_manifest(
        &self,
        name: &str,
        bytes: Bytes,
        media_type: &str,
    ) -> Result<(), RegistryError> {
        let at = self.own()?;
        let path = To::Path(self.manifest_path(at, name));
        let ask = Ask::new(Method::PUT, path, self.named(at, name), true);
        let wanted = digest_of(&bytes);
        let payload = Payload::Bytes { bytes, media_type: media_type.to_owned() };
        let response = self.exchange(at, &ask, &payload).await?;
        match told_digest(&response).filter(|found| *found != wanted) {
            Some(found) => Err(RegistryError::Digest { host: at.name.clone(), wanted, found }),
            None => Ok(()),
        }
    }

    fn manifest_path(&self, at: &Endpoint, name: &str) -> String {
        format!("{}/v2/{}/manifests/{name}", at.prefix, self.path)
    }

    pub(crate) fn named(&self, at: &Endpoint, name: &str) -> String {
        let mark = if name.contains(':') { '@' } else { ':' };
        match at.name.as_str() {
            "docker.io" => {
                let path = self.path.strip_prefix("library/").unwrap_or(&self.path);
                format!("{path}{mark}{name}")
            }
            host => format!("{host}/{}{mark}{name}", self.path),
        }
    }
}

/// The digest of some bytes.
pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

fn media_type(response: &Response) -> String {
    let header = response.headers().get(CONTENT_TYPE).and_then(|header| header.to_str().ok());
    let bare = header.unwrap_or_default().split(';').next().unwrap_or_default();
    bare.trim().to_owned()
}

/// The digest that a registry tells, if it is one that we can check.
fn told_digest(response: &Response) -> Option<Digest> {
    response.headers().get("docker-content-digest")?.to_str().ok()?.trim().parse().ok()
}

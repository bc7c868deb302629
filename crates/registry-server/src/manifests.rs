//! Manifests and indexes: read by tag or digest, put, deleted.

use std::{sync::Arc, time::Duration};

use base::Digest;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{
    HeaderMap, StatusCode,
    header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, LOCATION},
};
use image::wire::media_type::{DOCKER_MANIFEST, MANIFEST};
use listen::Incoming;
use registry::{MANIFEST_BYTES_MAX, digest_of};

use crate::{
    accept::Accepted,
    error::{Code, Refusal},
    name::{Name, Reference},
    reply::{Answer, CONTENT_DIGEST, SUBJECT, reply, stale, with},
    server::Registry,
    store::{Lack, Store, StoreError},
    table::Row,
    wire::{Entry, Manifest, is_index},
};

/// How long a client may take for a manifest.
const WITHIN: Duration = Duration::from_secs(60);
/// Whose entry of an index somebody gets who knows no indexes, as with Docker's registry.
const OLD_CLIENTS: (&str, &str) = ("linux", "amd64");

pub(crate) fn unknown(name: &Name, reference: &Reference) -> Refusal {
    let why = format!("manifest unknown: {name} has no {reference}");
    Refusal::new(404, Code::ManifestUnknown, why)
}

/// A manifest that was found.
struct Found {
    digest: Digest,
    row: Row,
    bytes: Vec<u8>,
}

/// `GET` and `HEAD`.
pub(crate) async fn get(
    registry: &Arc<Registry>,
    name: Name,
    reference: Reference,
    headers: &HeaderMap,
) -> Answer {
    let lines = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let accepted = Accepted::parse(lines);
    let (found, is_stale) = bring(registry, &name, &reference).await?;
    // Who names a digest knows what he gets.
    let understood =
        matches!(reference, Reference::Digest(_)) || accepted.takes(&found.row.media_type);
    let found = match understood {
        true => found,
        false => {
            let instead = instead(&found, &accepted).ok_or_else(|| {
                let media_type = &found.row.media_type;
                let why =
                    format!("the manifest is of type {media_type}, which Accept does not name");
                Refusal::new(404, Code::ManifestUnknown, why)
            })?;
            bring(registry, &name, &Reference::Digest(instead)).await?.0
        }
    };
    let (digest, length) = (found.digest.to_string(), found.bytes.len().to_string());
    let headers = [
        (CONTENT_TYPE, found.row.media_type.as_str()),
        (CONTENT_LENGTH, length.as_str()),
        (CONTENT_DIGEST, digest.as_str()),
    ];
    let reply = with(StatusCode::OK, &headers, listen::full(found.bytes));
    Ok(if is_stale { stale(reply) } else { reply })
}

/// Finds a manifest, at the upstream too if there is one; and whether it may be stale.
async fn bring(
    registry: &Arc<Registry>,
    name: &Name,
    reference: &Reference,
) -> Result<(Found, bool), Refusal> {
    let is_stale = match &registry.upstream {
        Some(upstream) => upstream.bring(registry, name, reference).await?,
        None => false,
    };
    let asked = (name.clone(), reference.clone());
    let found = registry.on_store(move |store| find(store, &asked.0, &asked.1)).await?;
    Ok((found.ok_or_else(|| unknown(name, reference))?, is_stale))
}

fn find(store: &Store, name: &Name, by: &Reference) -> Result<Option<Found>, StoreError> {
    let digest = match by {
        Reference::Digest(digest) => Some(*digest),
        Reference::Tag(tag) => store.table().tag(name, tag)?,
        Reference::Neither(_) => None,
    };
    let Some(digest) = digest else { return Ok(None) };
    let found = store.manifest(name, &digest)?;
    Ok(found.map(|(row, bytes)| Found { digest, row, bytes }))
}

/// The entry of an index for those who know manifests alone.
fn instead(index: &Found, accepted: &Accepted) -> Option<Digest> {
    if !is_index(&index.row.media_type) {
        return None;
    }
    let read = Manifest::parse(&index.bytes, Some(&index.row.media_type)).ok()?;
    chosen(&read.manifests, accepted)
}

fn chosen(entries: &[Entry], accepted: &Accepted) -> Option<Digest> {
    let right = |entry: &&Entry| {
        let platform = entry.platform.as_ref().map(|(os, arch)| (os.as_str(), arch.as_str()));
        let known = entry.media_type == MANIFEST || entry.media_type == DOCKER_MANIFEST;
        platform == Some(OLD_CLIENTS) && known && accepted.takes(&entry.media_type)
    };
    entries.iter().find(right).map(|entry| entry.digest)
}

/// `PUT`.
pub(crate) async fn put(
    registry: &Arc<Registry>,
    name: Name,
    reference: Reference,
    headers: &HeaderMap,
    body: Incoming,
) -> Answer {
    let invalid = |status, why: String| Refusal::new(status, Code::ManifestInvalid, why);
    let told = headers.get(CONTENT_TYPE).and_then(|header| header.to_str().ok());
    let told = told.map(|text| text.split(';').next().unwrap_or_default().trim().to_owned());
    let told = told.filter(|text| !text.is_empty());
    let bytes = whole(body).await?;
    let digest = digest_of(&bytes);
    let tag = match reference {
        Reference::Tag(tag) => Some(tag),
        Reference::Digest(wanted) if wanted == digest => None,
        Reference::Digest(wanted) => {
            let why = format!("the manifest's digest is {digest}, not {wanted}");
            return Err(Refusal::new(400, Code::DigestInvalid, why));
        }
        Reference::Neither(text) => {
            let shown: String = text.chars().take(200).collect();
            return Err(invalid(400, format!("\"{shown}\" is neither a tag nor a digest")));
        }
    };
    let manifest = Manifest::parse(&bytes, told.as_deref());
    let manifest = manifest.map_err(|error| invalid(400, error.to_string()))?;
    let subject = manifest.subject;
    let location = format!("/v2/{name}/manifests/{digest}");
    let work = move |store: &Store| {
        store.put_manifest(&name, &digest, &bytes, manifest, tag.as_ref(), true)
    };
    if let Some(lack) = registry.on_store(work).await? {
        return Err(lacking(lack));
    }
    let (text, subject) = (digest.to_string(), subject.map(|subject| subject.to_string()));
    let mut all = vec![(LOCATION, location.as_str()), (CONTENT_DIGEST, text.as_str())];
    all.extend(subject.as_deref().map(|subject| (SUBJECT, subject)));
    Ok(reply(StatusCode::CREATED, &all))
}

fn lacking(lack: Lack) -> Refusal {
    match lack {
        Lack::Missing(digest) => {
            let why = format!("the manifest names {digest}, which is not in the repository");
            Refusal::new(404, Code::ManifestBlobUnknown, why)
        }
        Lack::Length { blob, is, said } => {
            let why = format!("{blob} has {is} bytes, and the manifest says {said}");
            Refusal::new(400, Code::SizeInvalid, why)
        }
    }
}

/// All of a body that is not too long.
async fn whole(body: Incoming) -> Result<Vec<u8>, Refusal> {
    let most = usize::try_from(MANIFEST_BYTES_MAX).unwrap_or(usize::MAX);
    let whole = Limited::new(body, most).collect();
    let Ok(whole) = tokio::time::timeout(WITHIN, whole).await else {
        return Err(Refusal::new(408, Code::ManifestInvalid, "the manifest did not come in time"));
    };
    let whole = whole.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
        Some(_) => {
            let why = format!("the manifest is longer than {MANIFEST_BYTES_MAX} bytes");
            Refusal::new(413, Code::SizeInvalid, why)
        }
        None => Refusal::new(400, Code::ManifestInvalid, format!("the body broke off: {error}")),
    })?;
    Ok(whole.to_bytes().to_vec())
}

/// `DELETE`: of a tag, that alone; of a digest, the manifest and the tags that name it.
pub(crate) async fn delete(registry: &Arc<Registry>, name: Name, reference: Reference) -> Answer {
    let asked = (name.clone(), reference.clone());
    let work = move |store: &Store| {
        Ok(match &asked.1 {
            Reference::Tag(tag) => store.table().drop_tag(&asked.0, tag)?,
            Reference::Digest(digest) => store.table().drop_manifest(&asked.0, digest)?,
            Reference::Neither(_) => false,
        })
    };
    match registry.on_store(work).await? {
        true => Ok(reply(StatusCode::ACCEPTED, &[])),
        false => Err(unknown(&name, &reference)),
    }
}

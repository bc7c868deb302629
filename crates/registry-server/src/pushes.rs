//! Blobs on their way in: in one request, in two, in chunks, or from another repository.
//!
//! Source: distribution-spec 1.1, "Pushing Blobs".

use std::sync::Arc;

use base::Digest;
use form_urlencoded::parse;
use hyper::{
    HeaderMap, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE},
};
use listen::Incoming;

use crate::{
    error::{Code, Refusal},
    name::{Name, UploadId},
    range,
    reply::{Answer, CONTENT_DIGEST, Reply, UPLOAD_UUID, reply},
    route::digest,
    server::Registry,
    uploads::Upload,
};

/// `POST`: an upload begins; or there is none to do, for all comes at once, or is here already.
pub(crate) async fn begin(
    registry: &Arc<Registry>,
    name: Name,
    query: &str,
    headers: &HeaderMap,
    body: Incoming,
) -> Answer {
    if let Some(mounted) = mounted(registry, &name, query).await? {
        return Ok(created(&name, &mounted));
    }
    let wanted = value(query, "digest").map(|text| digest(&text)).transpose()?;
    let blob = registry.on_store(|store| store.begin()).await?;
    let upload = registry.uploads.begin(&name, blob)?;
    match wanted {
        None => Ok(under_way(StatusCode::ACCEPTED, &upload)),
        Some(wanted) => {
            // Nobody else knows of it: it goes with this request, however that ends.
            let _forgotten = Forgotten { registry, upload: &upload };
            finish(registry, &upload, wanted, headers, body).await
        }
    }
}

/// Forgets an upload when it is dropped.
struct Forgotten<'a> {
    registry: &'a Registry,
    upload: &'a Upload,
}

impl Drop for Forgotten<'_> {
    fn drop(&mut self) {
        self.registry.uploads.remove(&self.upload.id);
    }
}

/// What another repository has and this one has by now too.
async fn mounted(
    registry: &Arc<Registry>,
    name: &Name,
    query: &str,
) -> Result<Option<Digest>, Refusal> {
    let Some(wanted) = value(query, "mount").filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let wanted = digest(&wanted)?;
    let from = match value(query, "from").filter(|text| !text.is_empty()) {
        // A repository that cannot be has nothing: then it is an upload like others.
        Some(from) => match from.parse() {
            Ok(from) => Some(from),
            Err(_) => return Ok(None),
        },
        None => None,
    };
    let name = name.clone();
    let work = move |store: &crate::Store| store.mount(&name, from.as_ref(), &wanted);
    Ok(registry.on_store(work).await?.then_some(wanted))
}

/// `GET`: how far it is.
pub(crate) fn standing(registry: &Registry, name: &Name, id: &UploadId) -> Answer {
    let upload = registry.uploads.get(name, id)?;
    Ok(under_way(StatusCode::NO_CONTENT, &upload))
}

/// `PATCH`: more of it.
pub(crate) async fn append(
    registry: &Registry,
    name: &Name,
    id: &UploadId,
    headers: &HeaderMap,
    body: Incoming,
) -> Answer {
    let upload = registry.uploads.get(name, id)?;
    let appended = upload.append(body, brought(headers)?).await;
    appended.map_err(|refusal| kept(refusal, registry, &upload))?;
    Ok(under_way(StatusCode::ACCEPTED, &upload))
}

/// `PUT`: the rest of it, and its digest.
pub(crate) async fn end(
    registry: &Arc<Registry>,
    name: &Name,
    id: &UploadId,
    query: &str,
    headers: &HeaderMap,
    body: Incoming,
) -> Answer {
    let upload = registry.uploads.get(name, id)?;
    let Some(wanted) = value(query, "digest") else {
        let why = "the digest is missing in the query";
        return Err(Refusal::new(400, Code::DigestInvalid, why));
    };
    finish(registry, &upload, digest(&wanted)?, headers, body).await
}

/// `DELETE`: nothing of it stays.
pub(crate) fn cancel(registry: &Registry, name: &Name, id: &UploadId) -> Answer {
    registry.uploads.get(name, id)?;
    registry.uploads.remove(id);
    Ok(reply(StatusCode::NO_CONTENT, &[]))
}

async fn finish(
    registry: &Arc<Registry>,
    upload: &Arc<Upload>,
    wanted: Digest,
    headers: &HeaderMap,
    body: Incoming,
) -> Answer {
    let appended = upload.append(body, brought(headers)?).await;
    appended.map_err(|refusal| kept(refusal, registry, upload))?;
    let blob = upload.take().await?;
    registry.uploads.remove(&upload.id);
    let name = upload.repository.clone();
    let is_it = registry.on_store(move |store| store.add_blob(&name, blob, &wanted)).await?;
    if !is_it {
        let why = format!("what was uploaded is not {wanted}");
        return Err(Refusal::new(400, Code::DigestInvalid, why));
    }
    Ok(created(&upload.repository, &wanted))
}

/// The bytes that a request brings, as far as it says which they are.
fn brought(headers: &HeaderMap) -> Result<Option<(u64, u64)>, Refusal> {
    let Some(header) = headers.get(CONTENT_RANGE) else { return Ok(None) };
    let range = header.to_str().ok().and_then(range::brought);
    let (first, last) = range.ok_or_else(|| {
        Refusal::new(416, Code::BlobUploadInvalid, "Content-Range is not FIRST-LAST")
    })?;
    let length = headers.get(CONTENT_LENGTH).and_then(|header| header.to_str().ok()?.parse().ok());
    match length {
        Some(0) | None => {}
        Some(length) if length == last - first + 1 => {}
        Some(length) => {
            let why = format!("Content-Range is {first}-{last}, and Content-Length {length}");
            return Err(Refusal::new(400, Code::SizeInvalid, why));
        }
    }
    Ok(Some((first, last)))
}

/// The first value of this name in a query.
fn value(query: &str, name: &str) -> Option<String> {
    let mut pairs = parse(query.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn location(upload: &Upload) -> String {
    format!("/v2/{}/blobs/uploads/{}", upload.repository, upload.id)
}

/// 201: the blob is there.
fn created(name: &Name, digest: &Digest) -> Reply {
    let (location, digest) = (format!("/v2/{name}/blobs/{digest}"), digest.to_string());
    reply(StatusCode::CREATED, &[(LOCATION, &location), (CONTENT_DIGEST, &digest)])
}

/// How far an upload is, and where it goes on.
fn under_way(status: StatusCode, upload: &Upload) -> Reply {
    let (location, standing) = (location(upload), range::standing(upload.bytes()));
    let id = upload.id.to_string();
    reply(status, &[(LOCATION, &location), (RANGE, &standing), (UPLOAD_UUID, &id)])
}

/// A refusal that says where the upload goes on. Where the disk would not take more, it does not,
/// and must not go on taking room.
fn kept(refusal: Refusal, registry: &Registry, upload: &Upload) -> Refusal {
    if refusal.status >= 500 {
        registry.uploads.remove(&upload.id);
        return refusal;
    }
    refusal
        .with(LOCATION, location(upload))
        .with(RANGE, range::standing(upload.bytes()))
        .with(UPLOAD_UUID, upload.id.to_string())
}

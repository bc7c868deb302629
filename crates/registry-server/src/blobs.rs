//! Blobs: read, whole or in part, and deleted.

use std::{fs::File, os::unix::fs::FileExt as _, sync::Arc};

use base::Digest;
use bytes::Bytes;
use hyper::{
    HeaderMap, StatusCode,
    header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE},
};
use listen::{Body, Broken};

use crate::{
    error::{Code, Refusal},
    name::Name,
    range::{Wanted, wanted},
    reply::{Answer, CONTENT_DIGEST, reply, with},
    server::Registry,
    table::Dropped,
    upstream::flight::Flight,
};

/// Read from a file at a time, in bytes.
const PART_BYTES: u64 = 128 << 10;

pub(crate) fn unknown(digest: &Digest) -> Refusal {
    let why = format!("blob unknown to registry: {digest}");
    Refusal::new(404, Code::BlobUnknown, why)
}

/// A blob, as far as it is.
enum Found {
    Here(File, u64),
    /// On its way from the upstream.
    Coming(Arc<Flight>),
    /// At the upstream.
    There(u64),
}

/// `GET` and `HEAD`.
pub(crate) async fn get(
    registry: &Arc<Registry>,
    name: Name,
    digest: Digest,
    headers: &HeaderMap,
    head: bool,
) -> Answer {
    let range = headers.get(RANGE).and_then(|header| header.to_str().ok());
    let mut found = find(registry, &name, digest, head).await?;
    if let Found::Coming(flight) = &found
        && range.is_some()
    {
        // Whoever wants a part of it waits for all of it.
        flight.landed().await;
        let here = here(registry, &name, digest, false).await?;
        found = here.ok_or_else(|| unknown(&digest))?;
    }
    let bytes = match &found {
        Found::Here(_, bytes) | Found::There(bytes) => *bytes,
        Found::Coming(flight) => flight.bytes,
    };
    let (status, first, count, range) = match wanted(range, bytes) {
        Wanted::Whole => (StatusCode::OK, 0, bytes, None),
        Wanted::Part { first, last } => {
            let range = format!("bytes {first}-{last}/{bytes}");
            (StatusCode::PARTIAL_CONTENT, first, last - first + 1, Some(range))
        }
        Wanted::Nothing => {
            let refusal = Refusal::new(416, Code::SizeInvalid, "the blob has no such bytes");
            return Err(refusal.with(CONTENT_RANGE, format!("bytes */{bytes}")));
        }
    };
    let (text, count_text) = (digest.to_string(), count.to_string());
    let mut all = vec![
        (CONTENT_LENGTH, count_text.as_str()),
        (CONTENT_TYPE, "application/octet-stream"),
        (ACCEPT_RANGES, "bytes"),
        (CONTENT_DIGEST, text.as_str()),
    ];
    all.extend(range.as_deref().map(|range| (CONTENT_RANGE, range)));
    let body = match found {
        Found::Here(file, _) => of_file(file, first, count),
        Found::Coming(flight) => flight.body(),
        Found::There(_) => listen::full(""),
    };
    Ok(with(status, &all, body))
}

/// Where a blob is. Who wants its bytes sets off its way here.
async fn find(
    registry: &Arc<Registry>,
    name: &Name,
    digest: Digest,
    head: bool,
) -> Result<Found, Refusal> {
    if let Some(found) = here(registry, name, digest, head).await? {
        return Ok(found);
    }
    let Some(upstream) = &registry.upstream else { return Err(unknown(&digest)) };
    if head {
        let bytes = upstream.blob_bytes(name, &digest).await?;
        return bytes.map(Found::There).ok_or_else(|| unknown(&digest));
    }
    match upstream.flight(registry, name, digest).await? {
        Some(flight) => Ok(Found::Coming(flight)),
        // It may have come meanwhile.
        None => here(registry, name, digest, false).await?.ok_or_else(|| unknown(&digest)),
    }
}

async fn here(
    registry: &Arc<Registry>,
    name: &Name,
    digest: Digest,
    relied: bool,
) -> Result<Option<Found>, Refusal> {
    let name = name.clone();
    let found = registry.on_store(move |store| store.blob(&name, &digest, relied)).await?;
    Ok(found.map(|(file, bytes)| Found::Here(file, bytes)))
}

/// A part of a file as a body.
fn of_file(file: File, from: u64, count: u64) -> Body {
    let end = from + count;
    listen::parts((Arc::new(file), from), move |(file, at)| async move {
        if at >= end {
            return None;
        }
        let length = PART_BYTES.min(end - at);
        let part = read(Arc::clone(&file), at, length).await;
        Some((part, (file, at + length)))
    })
}

/// Some bytes of a file, all of which are there.
pub(crate) async fn read(file: Arc<File>, at: u64, length: u64) -> Result<Bytes, Broken> {
    let length = usize::try_from(length)?;
    let work = move || {
        let mut part = vec![0; length];
        file.read_exact_at(&mut part, at)?;
        Ok::<_, std::io::Error>(part)
    };
    Ok(tokio::task::spawn_blocking(work).await??.into())
}

/// `DELETE`.
pub(crate) async fn delete(registry: &Arc<Registry>, name: Name, digest: Digest) -> Answer {
    match registry.on_store(move |store| store.drop_blob(&name, &digest)).await? {
        Dropped::Gone => Ok(reply(StatusCode::ACCEPTED, &[])),
        Dropped::Unknown => Err(unknown(&digest)),
        Dropped::Needed(by) => {
            let why = format!("the blob is part of manifest {by}: delete that first");
            Err(Refusal::new(405, Code::Unsupported, why))
        }
    }
}

//! Lists: repositories, tags, referrers.

use std::sync::Arc;

use base::Digest;
use form_urlencoded::parse;
use hyper::header::{HeaderValue, LINK};
use image::wire::media_type::INDEX;
use registry::MANIFEST_BYTES_MAX;
use serde_json::{Value, json};

use crate::{
    error::Refusal,
    name::Name,
    page::Asked,
    reply::{Answer, FILTERS_APPLIED, Reply, json as reply_json, stale},
    route::digest,
    server::Registry,
    store::Store,
    table::Row,
    wire::Referrer,
};

/// Longest page of referrers, in bytes, unless one alone is longer.
const PAGE_BYTES_MAX: u64 = MANIFEST_BYTES_MAX;

/// `GET /v2/_catalog`.
pub(crate) async fn catalog(registry: &Arc<Registry>, query: &str) -> Answer {
    let asked = Asked::parse(query)?;
    let all = registry.on_store(|store| Ok(store.table().repositories()?)).await?;
    let (page, more) = asked.of(all);
    let reply = reply_json("application/json", &json!({ "repositories": page }));
    Ok(linked(reply, "/v2/_catalog", &asked, page.last().filter(|_| more)))
}

/// `GET` of a repository's tags.
pub(crate) async fn tags(registry: &Arc<Registry>, name: Name, query: &str) -> Answer {
    let asked = Asked::parse(query)?;
    let there = match &registry.upstream {
        Some(upstream) => upstream.tags(&name).await?,
        None => None,
    };
    let is_stale = registry.upstream.is_some() && there.is_none();
    let all = match there {
        Some(there) => Some(there),
        None => {
            let of = name.clone();
            registry.on_store(move |store| Ok(store.table().tags(&of)?)).await?
        }
    };
    let all = all.ok_or_else(|| Refusal::no_repository(&name))?;
    let (page, more) = asked.of(all);
    let body = json!({ "name": name.as_str(), "tags": page });
    let path = format!("/v2/{name}/tags/list");
    let reply = reply_json("application/json", &body);
    let reply = linked(reply, &path, &asked, page.last().filter(|_| more));
    Ok(if is_stale { stale(reply) } else { reply })
}

fn linked(mut reply: Reply, path: &str, asked: &Asked, last: Option<&String>) -> Reply {
    let link = last.map(|last| HeaderValue::from_str(&asked.link(path, last)));
    if let Some(Ok(link)) = link {
        reply.headers_mut().insert(LINK, link);
    }
    reply
}

/// `GET` of what refers to a manifest; of one that is not there, nothing does.
pub(crate) async fn referrers(
    registry: &Arc<Registry>,
    name: Name,
    subject: Digest,
    query: &str,
) -> Answer {
    let (mut kind, mut after) = (None, None);
    for (key, value) in parse(query.as_bytes()) {
        match key.as_ref() {
            "artifactType" if !value.is_empty() => kind = Some(value.into_owned()),
            "last" if !value.is_empty() => after = Some(digest(&value)?),
            _ => {}
        }
    }
    let there = match &registry.upstream {
        Some(upstream) => upstream.referrers(&name, subject).await?,
        None => None,
    };
    let is_stale = registry.upstream.is_some() && there.is_none();
    let all = match there {
        Some(there) => of_upstream(there, after.as_ref()),
        None => {
            let of = name.clone();
            let work =
                move |store: &Store| Ok(store.table().referrers(&of, &subject, after.as_ref())?);
            registry.on_store(work).await?.into_iter().map(of_row).collect()
        }
    };
    let (page, next) = page(all, kind.as_deref());
    let body = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": page });
    let mut reply = reply_json(INDEX, &body);
    let headers = reply.headers_mut();
    if kind.is_some() {
        headers.insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    if let Some(next) = next {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if let Some(kind) = &kind {
            query.append_pair("artifactType", kind);
        }
        query.append_pair("last", &next.to_string());
        let path = format!("/v2/{name}/referrers/{subject}");
        if let Ok(link) =
            HeaderValue::from_str(&format!("<{path}?{}>; rel=\"next\"", query.finish()))
        {
            headers.insert(LINK, link);
        }
    }
    Ok(if is_stale { stale(reply) } else { reply })
}

fn of_row((digest, row): (Digest, Row)) -> Referrer {
    Referrer {
        media_type: row.media_type,
        digest,
        size: row.bytes,
        artifact_type: row.artifact_type,
        annotations: row.annotations,
    }
}

/// The upstream's list, in the order in which ours is.
fn of_upstream(all: Vec<registry::Referrer>, after: Option<&Digest>) -> Vec<Referrer> {
    let mut all: Vec<_> = all
        .into_iter()
        .filter(|referrer| after.is_none_or(|after| referrer.digest > *after))
        .map(|referrer| Referrer {
            media_type: referrer.media_type,
            digest: referrer.digest,
            size: referrer.size,
            artifact_type: referrer.artifact_type,
            annotations: referrer.annotations,
        })
        .collect();
    all.sort_by_key(|referrer| referrer.digest);
    all
}

/// As many as fit one page, and behind which there are more.
fn page(all: Vec<Referrer>, kind: Option<&str>) -> (Vec<Value>, Option<Digest>) {
    let (mut page, mut bytes, mut last) = (Vec::new(), 0, None);
    for referrer in all {
        if kind.is_some_and(|kind| referrer.artifact_type.as_deref() != Some(kind)) {
            continue;
        }
        let entry = json!(referrer);
        bytes += entry.to_string().len() as u64;
        if bytes > PAGE_BYTES_MAX && !page.is_empty() {
            return (page, last);
        }
        page.push(entry);
        last = Some(referrer.digest);
    }
    (page, None)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn referrer(n: u8, kind: &str, annotation: usize) -> Referrer {
        Referrer {
            media_type: "m".to_owned(),
            digest: digest(n),
            size: 1,
            artifact_type: Some(kind.to_owned()),
            annotations: BTreeMap::from([("k".to_owned(), "x".repeat(annotation))]),
        }
    }

    fn digest(n: u8) -> Digest {
        Digest::from_sha256([n; 32])
    }

    #[test]
    fn referrers_come_in_pages_of_bounded_length() {
        let large = 3 << 20;
        let all = [(1, "a", 0), (2, "b", 0), (3, "a", large), (4, "a", large)];
        let all: Vec<_> = all.map(|(n, kind, length)| referrer(n, kind, length)).into();
        let (first, next) = page(all.clone(), None);
        assert_eq!((first.len(), next), (3, Some(digest(3))));
        let (of_kind, next) = page(all.clone(), Some("b"));
        assert_eq!((of_kind.len(), next), (1, None));
        let (rest, next) = page(all.into_iter().skip(3).collect(), Some("a"));
        assert_eq!((rest.len(), next), (1, None));
    }
}

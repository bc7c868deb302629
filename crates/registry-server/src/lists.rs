//! Lists: repositories, tags, referrers.

use std::{ops::ControlFlow, sync::Arc};

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
    let mut page = Page::of(kind.clone());
    match there {
        Some(there) => {
            let mut all = of_upstream(there, after.as_ref()).into_iter();
            let _ = all.try_for_each(|referrer| page.take(referrer));
        }
        None => {
            let of = name.clone();
            let work = move |store: &Store| {
                let take = |digest, row| page.take(of_row(digest, row));
                store.table().referrers(&of, &subject, after.as_ref(), take)?;
                Ok(page)
            };
            page = registry.on_store(work).await?;
        }
    }
    let next = page.last.filter(|_| page.more);
    let body = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": page.entries });
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

fn of_row(digest: Digest, row: Row) -> Referrer {
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

/// As many as fit one page.
#[derive(Debug, Default)]
struct Page {
    kind: Option<String>,
    entries: Vec<Value>,
    bytes: u64,
    last: Option<Digest>,
    /// Whether there are more behind it.
    more: bool,
}

impl Page {
    /// Of these alone, if a kind is asked for.
    fn of(kind: Option<String>) -> Page {
        Page { kind, ..Page::default() }
    }

    /// Takes one that is asked for, until one does not fit.
    fn take(&mut self, referrer: Referrer) -> ControlFlow<()> {
        if self.kind.is_some() && referrer.artifact_type != self.kind {
            return ControlFlow::Continue(());
        }
        let entry = json!(referrer);
        self.bytes += entry.to_string().len() as u64;
        if self.bytes > PAGE_BYTES_MAX && !self.entries.is_empty() {
            self.more = true;
            return ControlFlow::Break(());
        }
        self.entries.push(entry);
        self.last = Some(referrer.digest);
        ControlFlow::Continue(())
    }
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
        let page = |skip: usize, kind: Option<&str>| {
            let mut page = Page::of(kind.map(str::to_owned));
            let mut read = 0;
            for referrer in all.iter().skip(skip).cloned() {
                read += 1;
                if page.take(referrer).is_break() {
                    break;
                }
            }
            (page.entries.len(), page.last.filter(|_| page.more), read)
        };
        assert_eq!(page(0, None), (3, Some(digest(3)), 4));
        assert_eq!(page(0, Some("b")), (1, None, 4));
        assert_eq!(page(3, Some("a")), (1, None, 1));
        assert_eq!(page(2, None), (1, Some(digest(3)), 2), "no more is read than fits");
    }
}

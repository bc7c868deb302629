//! Tags of a repository, page by page.

use std::collections::BTreeSet;

use reqwest::{Response, Url, header::LINK};
use serde::Deserialize;

use crate::{
    Endpoint, RegistryError, Repository,
    exchange::{Ask, Payload, read},
};

/// Most tags of one repository.
const TAGS_MAX: usize = 100_000;
/// Longest page.
const PAGE_BYTES_MAX: u64 = 8 << 20;
/// Tags that are asked for at once.
const PAGE_TAGS: usize = 1_000;

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Repository {
    /// Every tag.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn tags(&self) -> Result<Vec<String>, RegistryError> {
        let mut last = None;
        for (number, at) in self.sources() {
            match self.tags_at(at).await {
                Ok(tags) => {
                    self.served(number);
                    return Ok(tags);
                }
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) => Err(error),
            None => self.own().map(|_| Vec::new()),
        }
    }

    async fn tags_at(&self, at: &Endpoint) -> Result<Vec<String>, RegistryError> {
        let mut path = format!("{}/v2/{}/tags/list?n={PAGE_TAGS}", at.prefix, self.path);
        let mut tags = BTreeSet::new();
        loop {
            let ask = Ask::get(path, format!("tags of {}", self.path));
            let response = self.exchange(at, &ask, &Payload::None).await?;
            let next = next_page(&response);
            let bytes = read(at, response, PAGE_BYTES_MAX, "a list of tags").await?;
            let malformed = |_| RegistryError::Malformed { host: at.name.clone(), what: "tags" };
            let page: Page = serde_json::from_slice(&bytes).map_err(malformed)?;
            let before = tags.len();
            tags.extend(page.tags.unwrap_or_default());
            if tags.len() > TAGS_MAX {
                let what = format!("the list of tags of {}", self.path);
                return Err(RegistryError::Long { what, most: TAGS_MAX as u64 });
            }
            match next.filter(|_| tags.len() > before) {
                Some(next) => path = next,
                None => return Ok(tags.into_iter().collect()),
            }
        }
    }
}

/// Path and query of the next page: whatever host a link names, we stay at ours.
fn next_page(response: &Response) -> Option<String> {
    let url = next_link(response.headers().get(LINK)?.to_str().ok()?, response.url())?;
    Some(match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    })
}

/// Source: RFC 8288; distribution-spec 1.1, "Listing Tags".
fn next_link(header: &str, base: &Url) -> Option<Url> {
    let (target, parameters) = header.strip_prefix('<')?.split_once('>')?;
    parameters.contains("rel=\"next\"").then(|| base.join(target).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found() {
        let base = Url::parse("https://r.example/v2/a/tags/list?n=1").unwrap();
        let next = |header: &str| next_link(header, &base).map(|url| url.to_string());
        let want = "https://r.example/v2/a/tags/list?last=x&n=1";
        assert_eq!(next("</v2/a/tags/list?last=x&n=1>; rel=\"next\"").as_deref(), Some(want));
        for bad in ["", "/v2", "</v2>", "</v2>; rel=\"prev\""] {
            assert_eq!(next(bad), None, "{bad}");
        }
    }
}

//! A stretch of a blob on its way here, from one host or, when that breaks off, the next.
//!
//! ```text
//! ask ──206──▶ bytes ──cut──▶ ask from there on (Range, If-Range) ──silence──▶ the next host
//!  └───200──▶ all of the blob: what is here already is passed over
//! ```

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use base::Digest;
use bytes::Bytes;
use reqwest::{
    Response, StatusCode,
    header::{CONTENT_RANGE, ETAG},
};

use crate::{
    Endpoint, RegistryError, Repository,
    exchange::{Ask, Payload, Range},
    retry,
};

/// How often one stretch is taken up again.
const RESUMES_MAX: u32 = 100;

/// Which blob.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
}

/// Told of bytes that have come, all stretches of a blob together.
#[derive(Clone, Default)]
pub(crate) struct Watch {
    came: Arc<AtomicU64>,
    tell: Option<Arc<dyn Fn(u64) + Send + Sync>>,
}

impl Watch {
    pub(crate) fn new(tell: Arc<dyn Fn(u64) + Send + Sync>) -> Watch {
        Watch { came: Arc::default(), tell: Some(tell) }
    }

    fn more(&self, blob: Blob, bytes: usize) {
        let Some(tell) = &self.tell else { return };
        let came = self.came.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        // Pieces that were of no use have come as well.
        tell(came.min(blob.bytes));
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.came).finish()
    }
}

/// A stretch that is coming.
#[derive(Debug)]
pub(crate) struct Span<'r> {
    repository: &'r Repository,
    blob: Blob,
    watch: Watch,
    /// The next byte, and the one behind the last.
    at: u64,
    end: u64,
    /// Whether a host may send all of the blob instead.
    whole: bool,
    /// The host did, where it may not.
    rangeless: bool,
    response: Option<Response>,
    /// Bytes that come again, from a host that knows no ranges.
    skip: u64,
    /// The endpoints that are still to be asked, the present one first.
    sources: Vec<usize>,
    /// Which of them gave bytes.
    served: BTreeSet<usize>,
    /// What one of them calls these bytes.
    tag: Option<(usize, String)>,
    /// Cuts altogether, and without a byte since the last.
    cuts: u32,
    stalls: u32,
}

impl<'r> Span<'r> {
    /// All that comes from `at` on.
    pub(crate) fn rest(repository: &'r Repository, blob: Blob, at: u64, watch: Watch) -> Span<'r> {
        Span { watch, ..Span::new(repository, blob, (at, blob.bytes), true) }
    }

    /// A piece, or from its beginning on all of the blob, if a host knows no ranges.
    pub(crate) fn first(
        repository: &'r Repository,
        blob: Blob,
        end: u64,
        watch: Watch,
    ) -> Span<'r> {
        Span { watch, ..Span::new(repository, blob, (0, end), true) }
    }

    /// The piece from `at` to `end`, from the same hosts as this one.
    pub(crate) fn piece(&self, at: u64, end: u64) -> Span<'r> {
        let span = Span::new(self.repository, self.blob, (at, end), false);
        let (sources, tag) = (self.sources.clone(), self.tag.clone());
        Span { sources, tag, watch: self.watch.clone(), ..span }
    }

    fn new(repository: &'r Repository, blob: Blob, (at, end): (u64, u64), whole: bool) -> Self {
        Span {
            repository,
            blob,
            watch: Watch::default(),
            at,
            end,
            whole,
            rangeless: false,
            response: None,
            skip: 0,
            sources: repository.sources().map(|(number, _)| number).collect(),
            served: BTreeSet::new(),
            tag: None,
            cuts: 0,
            stalls: 0,
        }
    }

    /// Whether it is the blob's last stretch.
    pub(crate) fn is_last(&self) -> bool {
        self.end == self.blob.bytes
    }

    /// Whether its host sends nothing but whole blobs, and so none of this piece.
    pub(crate) fn is_refused(&self) -> bool {
        self.rangeless
    }

    /// The endpoints that gave bytes of it.
    pub(crate) fn served(&self) -> &BTreeSet<usize> {
        &self.served
    }

    /// Waits until a host has begun to answer.
    ///
    /// # Errors
    /// [`RegistryError`], if none does.
    pub(crate) async fn begin(&mut self) -> Result<(), RegistryError> {
        while self.response.is_none() && !self.rangeless {
            self.open().await?;
        }
        Ok(())
    }

    /// The next bytes; none when all of it has come, or none of it does ([`Span::is_refused`]).
    ///
    /// # Errors
    /// [`RegistryError`], when it is longer or shorter than it should be, or no host gives the
    /// rest.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            let Some(mut response) = self.response.take() else {
                if self.rangeless || (self.at == self.end && self.cuts > 0) {
                    return Ok(None);
                }
                self.open().await?;
                continue;
            };
            match response.chunk().await {
                Ok(Some(part)) => {
                    self.response = Some(response);
                    if let Some(part) = self.take(part)? {
                        return Ok(Some(part));
                    }
                }
                // All has come; how the connection ends is all the same.
                Ok(None) | Err(_) if self.at == self.end => {
                    self.cuts = self.cuts.max(1);
                    return Ok(None);
                }
                // With a length in the head that is an error; without, the end looks like one.
                Ok(None) => self.cut(self.length(self.at)).await?,
                Err(source) => {
                    let host = self.host();
                    let source = source.without_url();
                    self.cut(RegistryError::Transport { host, source }).await?;
                }
            }
        }
    }

    /// What of these bytes is new.
    fn take(&mut self, mut part: Bytes) -> Result<Option<Bytes>, RegistryError> {
        let again = usize::try_from(self.skip).unwrap_or(usize::MAX).min(part.len());
        self.skip -= again as u64;
        drop(part.split_to(again));
        if part.is_empty() {
            return Ok(None);
        }
        let at = self.at + part.len() as u64;
        if at > self.end {
            return Err(self.length(at));
        }
        self.at = at;
        self.watch.more(self.blob, part.len());
        self.stalls = 0;
        self.served.extend(self.sources.first());
        Ok(Some(part))
    }

    /// Waits before it is taken up again, or gives up.
    async fn cut(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.cuts += 1;
        self.stalls += 1;
        if self.cuts > RESUMES_MAX {
            return Err(error);
        }
        match retry::wait(self.stalls, retry::TRIES_MAX, None) {
            // What brought bytes is asked again at once.
            Some(_) if self.stalls == 1 => Ok(()),
            Some(pause) => {
                tokio::time::sleep(pause).await;
                Ok(())
            }
            None => self.elsewhere(error),
        }
    }

    /// Goes to the next host, if there is one.
    fn elsewhere(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.stalls = 0;
        if self.sources.len() <= 1 || !error.is_of_host() {
            return Err(error);
        }
        let host = self.host();
        self.sources.remove(0);
        tracing::debug!(%error, host, "a blob is asked for elsewhere");
        Ok(())
    }

    async fn open(&mut self) -> Result<(), RegistryError> {
        let repository = self.repository;
        let source = self.sources.first().copied();
        let Some((source, at)) = source.and_then(|it| Some((it, repository.endpoints.get(it)?)))
        else {
            return Err(repository.own().err().unwrap_or_else(|| self.length(self.at)));
        };
        let path = format!("{}/v2/{}/blobs/{}", at.prefix, repository.path, self.blob.digest);
        let mut ask = Ask::get(path, format!("blob {}", self.blob.digest));
        ask.range = self.range(source);
        let checked = match repository.exchange(at, &ask, &Payload::None).await {
            Ok(response) => self.check(at, &response).map(|skip| (skip, response)),
            Err(error) => Err(error),
        };
        match checked {
            Ok((None, _)) => self.rangeless = true,
            Ok((Some(skip), response)) => {
                self.tag = strong_tag(&response).map(|tag| (source, tag)).or(self.tag.take());
                (self.skip, self.response) = (skip, Some(response));
            }
            Err(error) => self.elsewhere(error)?,
        }
        Ok(())
    }

    /// What is asked for: nothing in particular, if it is all of the blob.
    fn range(&self, source: usize) -> Option<Range> {
        if self.at == 0 && self.is_last() {
            return None;
        }
        let last = (!self.is_last()).then(|| self.end.saturating_sub(1));
        let tag = self.tag.as_ref().filter(|(of, _)| *of == source).map(|(_, tag)| tag.clone());
        Some(Range { from: self.at, last, tag })
    }

    /// Whether these are the bytes that were asked for; how many of them come again, or nothing
    /// if it is all of the blob where that is of no use.
    fn check(&mut self, at: &Endpoint, response: &Response) -> Result<Option<u64>, RegistryError> {
        let length = response.content_length();
        if response.status() != StatusCode::PARTIAL_CONTENT {
            if let Some(found) = length.filter(|length| *length != self.blob.bytes) {
                return Err(self.length(found));
            }
            if !self.whole {
                return Ok(None);
            }
            self.end = self.blob.bytes;
            return Ok(Some(self.at));
        }
        let header = response.headers().get(CONTENT_RANGE).and_then(|header| header.to_str().ok());
        let Some((start, total)) = header.and_then(content_range) else {
            return Err(RegistryError::Malformed { host: at.name.clone(), what: "a range" });
        };
        if let Some(found) = total.filter(|total| *total != self.blob.bytes) {
            return Err(self.length(found));
        }
        if start != self.at || length.is_some_and(|length| start + length > self.end) {
            return Err(RegistryError::Malformed { host: at.name.clone(), what: "a range" });
        }
        Ok(Some(0))
    }

    fn host(&self) -> String {
        let at = self.sources.first().and_then(|source| self.repository.endpoints.get(*source));
        at.map(|at| at.name.clone()).unwrap_or_default()
    }

    fn length(&self, found: u64) -> RegistryError {
        let (host, blob, wanted) = (self.host(), self.blob.digest, self.blob.bytes);
        RegistryError::Length { host, blob, wanted, found }
    }
}

/// Start and total of `bytes 0-9/100`; the total may be unknown, `*`.
///
/// Source: RFC 9110, section 14.4.
fn content_range(header: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = header.strip_prefix("bytes ")?.split_once('/')?;
    let start = range.split_once('-')?.0.parse().ok()?;
    match total {
        "*" => Some((start, None)),
        total => Some((start, Some(total.parse().ok()?))),
    }
}

/// The name of these very bytes. A weak one names others as well.
///
/// Source: RFC 9110, sections 8.8.3 and 13.1.5.
fn strong_tag(response: &Response) -> Option<String> {
    let tag = response.headers().get(ETAG)?.to_str().ok()?;
    tag.starts_with('"').then(|| tag.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 0-0/*"), Some((0, None)));
        for bad in ["", "bytes */10", "bytes 5/10", "5-9/10", "bytes 5-9", "bytes 5-9/x"] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}

//! Blobs on their way here. A connection that is cut is taken up again where it was cut, at the
//! same host or the next one.
//!
//! Lengths are checked here; the digest of a large blob by whoever takes it, who hashes it anyway.

use base::Digest;
use bytes::Bytes;
use reqwest::{
    Method, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_RANGE},
};

use crate::{
    Endpoint, RegistryError, Repository,
    exchange::{Ask, Payload, To},
    manifest::digest_of,
    retry,
};

/// How often one blob is taken up again.
const RESUMES_MAX: u32 = 100;

/// A blob that is coming.
#[derive(Debug)]
pub struct Download<'r> {
    repository: &'r Repository,
    digest: Digest,
    bytes: u64,
    done: u64,
    response: Option<Response>,
    /// Bytes that come again, from a host that knows no ranges.
    skip: u64,
    /// Which endpoint is asked, in the repository's order.
    turn: usize,
    /// Cuts altogether, and without a byte since the last.
    cuts: u32,
    stalls: u32,
}

impl Repository {
    /// A blob of this length.
    pub fn blob(&self, digest: Digest, bytes: u64) -> Download<'_> {
        Download {
            repository: self,
            digest,
            bytes,
            done: 0,
            response: None,
            skip: 0,
            turn: 0,
            cuts: 0,
            stalls: 0,
        }
    }

    /// Length of a blob at the registry itself.
    ///
    /// # Errors
    /// [`RegistryError`]; [`RegistryError::Malformed`] if the registry does not tell it.
    pub async fn blob_bytes(&self, digest: Digest) -> Result<u64, RegistryError> {
        let at = self.own()?;
        let path = format!("{}/v2/{}/blobs/{digest}", at.prefix, self.path);
        let ask = Ask::new(Method::HEAD, To::Path(path), format!("blob {digest}"), true);
        let response = self.exchange(at, &ask, &Payload::None).await?;
        // Of an answer to HEAD the client itself takes no length.
        let header = response.headers().get(CONTENT_LENGTH);
        let bytes = header.and_then(|header| header.to_str().ok()?.parse().ok());
        bytes.ok_or_else(|| RegistryError::Malformed { host: at.name.clone(), what: "a length" })
    }

    /// A small blob, whole and verified.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn document(
        &self,
        digest: Digest,
        bytes: u64,
        most: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        if bytes > most {
            return Err(RegistryError::Long { what: digest.to_string(), most });
        }
        let mut all = Vec::new();
        let mut download = self.blob(digest, bytes);
        while let Some(part) = download.next().await? {
            all.extend_from_slice(&part);
        }
        match digest_of(&all) {
            found if found == digest => Ok(all),
            found => {
                let host = self.own()?.name.clone();
                Err(RegistryError::Digest { host, wanted: digest, found })
            }
        }
    }
}

impl Download<'_> {
    /// The next bytes; none when it is whole.
    ///
    /// # Errors
    /// [`RegistryError`], when it is longer or shorter than it should be, or no host gives the
    /// rest.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            let Some(mut response) = self.response.take() else {
                if self.done == self.bytes && self.cuts > 0 {
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
                Ok(None) if self.done == self.bytes => {
                    self.cuts = self.cuts.max(1);
                    return Ok(None);
                }
                // With a length in the head that is an error; without, the end looks like one.
                Ok(None) => self.cut(self.short()).await?,
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
        let done = self.done + part.len() as u64;
        if done > self.bytes {
            return Err(self.length(done));
        }
        self.done = done;
        self.stalls = 0;
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
        self.turn += 1;
        self.stalls = 0;
        if self.turn >= self.repository.endpoints.len() || !error.is_of_host() {
            return Err(error);
        }
        tracing::debug!(%error, "a blob is asked for elsewhere");
        Ok(())
    }

    async fn open(&mut self) -> Result<(), RegistryError> {
        let repository = self.repository;
        let Some((_, at)) = repository.in_order().nth(self.turn) else {
            return Err(repository.own().err().unwrap_or_else(|| self.short()));
        };
        let path = format!("{}/v2/{}/blobs/{}", at.prefix, repository.path, self.digest);
        let mut ask = Ask::get(path, format!("blob {}", self.digest));
        ask.from = self.done;
        match repository.exchange(at, &ask, &Payload::None).await {
            Ok(response) => match self.check(at, &response) {
                Ok(skip) => {
                    (self.skip, self.response) = (skip, Some(response));
                    Ok(())
                }
                Err(error) => self.elsewhere(error),
            },
            Err(error) => self.elsewhere(error),
        }
    }

    /// Whether these are the bytes that were asked for; how many of them come again.
    fn check(&self, at: &Endpoint, response: &Response) -> Result<u64, RegistryError> {
        let length = response.content_length();
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return match length.filter(|length| *length != self.bytes) {
                Some(found) => Err(self.length(found)),
                None => Ok(self.done),
            };
        }
        let header = response.headers().get(CONTENT_RANGE).and_then(|header| header.to_str().ok());
        let start = header
            .and_then(|text| text.strip_prefix("bytes ")?.split_once('-')?.0.parse::<u64>().ok());
        if start != Some(self.done) {
            return Err(RegistryError::Malformed { host: at.name.clone(), what: "a range" });
        }
        match length.filter(|length| self.done + length > self.bytes) {
            Some(found) => Err(self.length(self.done + found)),
            None => Ok(0),
        }
    }

    fn host(&self) -> String {
        let at = self.repository.in_order().nth(self.turn);
        at.map(|(_, at)| at.name.clone()).unwrap_or_default()
    }

    fn short(&self) -> RegistryError {
        self.length(self.done)
    }

    fn length(&self, found: u64) -> RegistryError {
        let (host, blob, wanted) = (self.host(), self.digest, self.bytes);
        RegistryError::Length { host, blob, wanted, found }
    }
}

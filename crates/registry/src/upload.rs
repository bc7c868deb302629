//! Blobs on their way out: not sent if they are there, mounted if they are in another repository,
//! sent in one request if they are small, and else in parts that can be taken up again.
//!
//! Source: distribution-spec 1.1, "Pushing Blobs".

use std::{fs::File, sync::Arc};

use base::Digest;
use reqwest::{Method, Response, StatusCode, Url, header::RANGE};

use crate::{
    Endpoint, RegistryError, Repository,
    exchange::{Ask, Payload, Sent, To, located},
    retry,
};

/// Blobs up to this length go in one request.
const WHOLE_BYTES_MAX: u64 = 4 << 20;
/// Bytes of one part of a longer one.
const PART_BYTES: u64 = 64 << 20;

/// A blob that is here.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its digest.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
    /// Its bytes.
    pub file: Arc<File>,
}

/// How a blob came to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was.
    Existed,
    /// It was in another repository of the registry.
    Mounted {
        /// Which.
        from: String,
    },
    /// It was sent.
    Sent,
}

impl Repository {
    /// Whether a blob is there.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn has_blob(&self, digest: Digest) -> Result<bool, RegistryError> {
        let at = self.own()?;
        let path = format!("{}/v2/{}/blobs/{digest}", at.prefix, self.path);
        let ask = Ask::new(Method::HEAD, To::Path(path), format!("blob {digest}"), true);
        match self.exchange(at, &ask, &Payload::None).await {
            Ok(_) => Ok(true),
            Err(RegistryError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Brings a blob there. `sent` is told how many bytes have gone.
    ///
    /// # Errors
    /// [`RegistryError`]; what was begun at the registry is for its own clean-up.
    pub async fn push_blob(
        &self,
        source: &Source,
        mount_from: Option<&str>,
        sent: Arc<dyn Fn(u64) + Send + Sync>,
    ) -> Result<Pushed, RegistryError> {
        if self.has_blob(source.digest).await? {
            return Ok(Pushed::Existed);
        }
        let at = self.own()?;
        let response = self.begin(at, source, mount_from).await?;
        if response.status() == StatusCode::CREATED {
            let from = mount_from.unwrap_or_default().to_owned();
            return Ok(Pushed::Mounted { from });
        }
        let upload = Upload { repository: self, at, source, sent };
        upload.run(located(at, &response)?).await?;
        Ok(Pushed::Sent)
    }

    async fn begin(
        &self,
        at: &Endpoint,
        source: &Source,
        mount_from: Option<&str>,
    ) -> Result<Response, RegistryError> {
        let mut path = format!("{}/v2/{}/blobs/uploads/", at.prefix, self.path);
        if let Some(from) = mount_from {
            path += &format!("?mount={}&from={from}", source.digest);
        }
        let what = format!("an upload to {}", self.path);
        let ask = Ask::new(Method::POST, To::Path(path), what, true);
        self.exchange(at, &ask, &Payload::None).await
    }
}

/// One upload.
struct Upload<'a> {
    repository: &'a Repository,
    at: &'a Endpoint,
    source: &'a Source,
    sent: Sent,
}

impl Upload<'_> {
    async fn run(&self, mut location: Url) -> Result<(), RegistryError> {
        if self.source.bytes <= WHOLE_BYTES_MAX {
            return self.end(location, self.part(0, self.source.bytes, false)).await;
        }
        let (mut done, mut failures) = (0, 0);
        while done < self.source.bytes {
            let length = PART_BYTES.min(self.source.bytes - done);
            match self.patch(&location, self.part(done, length, true)).await {
                Ok(response) => {
                    location = located(self.at, &response)?;
                    done += length;
                    failures = 0;
                }
                Err(error @ (RegistryError::Transport { .. } | RegistryError::Status { .. })) => {
                    failures += 1;
                    let pause = retry::wait(failures, retry::TRIES_MAX, None);
                    let Some(pause) = pause else { return Err(error) };
                    tokio::time::sleep(pause).await;
                    let Some((next, there)) = self.standing(&location).await else {
                        return Err(error);
                    };
                    // What the registry says it has cannot be more than was sent of it.
                    if there < done || there > done + length {
                        return Err(error);
                    }
                    (location, done) = (next, there);
                }
                Err(error) => return Err(error),
            }
        }
        self.end(location, Payload::None).await
    }

    fn part(&self, from: u64, bytes: u64, range: bool) -> Payload {
        let (file, sent) = (Arc::clone(&self.source.file), Arc::clone(&self.sent));
        Payload::File { file, from, bytes, range, sent }
    }

    async fn patch(&self, location: &Url, part: Payload) -> Result<Response, RegistryError> {
        let what = format!("blob {}", self.source.digest);
        let ask = Ask::new(Method::PATCH, To::Url(location.clone()), what, false);
        self.repository.exchange(self.at, &ask, &part).await
    }

    /// Where an upload goes on, and how much of it is there.
    async fn standing(&self, location: &Url) -> Option<(Url, u64)> {
        let what = format!("blob {}", self.source.digest);
        let ask = Ask::new(Method::GET, To::Url(location.clone()), what, true);
        let response = self.repository.exchange(self.at, &ask, &Payload::None).await.ok()?;
        let range = response.headers().get(RANGE)?.to_str().ok()?;
        let last: u64 = range.trim_start_matches("bytes=").split_once('-')?.1.parse().ok()?;
        let there = if last == 0 { 0 } else { last + 1 };
        Some((located(self.at, &response).unwrap_or_else(|_| location.clone()), there))
    }

    async fn end(&self, mut location: Url, payload: Payload) -> Result<(), RegistryError> {
        location.query_pairs_mut().append_pair("digest", &self.source.digest.to_string());
        let what = format!("blob {}", self.source.digest);
        let ask = Ask::new(Method::PUT, To::Url(location), what, false);
        self.repository.exchange(self.at, &ask, &payload).await.map(drop)
    }
}

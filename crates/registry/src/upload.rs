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
/// Bytes of one part of a longer one, unless the registry wants larger ones.
const PART_BYTES: u64 = 64 << 20;
/// Bytes of a part below which no registry's limit is looked for.
const PART_BYTES_MIN: u64 = 1 << 20;
/// How often a blob is begun anew, when the registry has forgotten what it had of it.
const RESTARTS_MAX: u32 = 2;
/// How long a part must be at least. Source: distribution-spec 1.1, "Pushing a blob in chunks".
const PART_MIN: &str = "oci-chunk-min-length";

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
        let (mut restarts, mut most) = (0, PART_BYTES);
        loop {
            let response = self.begin(at, source, mount_from).await?;
            if response.status() == StatusCode::CREATED {
                let from = mount_from.unwrap_or_default().to_owned();
                return Ok(Pushed::Mounted { from });
            }
            let (least, sent) = (part_bytes_min(&response), Arc::clone(&sent));
            let part = most.max(least);
            let mut upload = Upload { repository: self, at, source, sent, part, least };
            let error = match upload.run(located(at, &response)?).await {
                Ok(()) => return Ok(Pushed::Sent),
                Err(error) => error,
            };
            restarts += 1;
            let pause = retry::wait(restarts, RESTARTS_MAX + 1, None);
            let may = may_begin_anew(&error) || upload.part < part;
            let Some(pause) = pause.filter(|_| may) else { return Err(error) };
            most = upload.part;
            tokio::time::sleep(pause).await;
            // The answer may be all that was lost.
            if self.has_blob(source.digest).await? {
                return Ok(Pushed::Sent);
            }
        }
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

/// How long parts must be.
fn part_bytes_min(response: &Response) -> u64 {
    let header = response.headers().get(PART_MIN).and_then(|header| header.to_str().ok());
    header.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Whether what failed may work from its beginning.
fn may_begin_anew(error: &RegistryError) -> bool {
    is_cut(error) || matches!(error, RegistryError::NotFound { .. })
}

/// One upload.
struct Upload<'a> {
    repository: &'a Repository,
    at: &'a Endpoint,
    source: &'a Source,
    sent: Sent,
    /// Bytes of a part, and the least that the registry takes.
    part: u64,
    least: u64,
}

impl Upload<'_> {
    async fn run(&mut self, mut location: Url) -> Result<(), RegistryError> {
        let total = self.source.bytes;
        if total <= WHOLE_BYTES_MAX.min(self.part) {
            match self.end(location.clone(), self.payload(0, total, false)).await {
                Err(error) if self.shrinks(&error) => {}
                done => return done,
            }
        }
        let (mut done, mut failures) = (0, 0);
        while done < total {
            let length = self.part.min(total - done);
            let error = match self.patch(&location, self.payload(done, length, true)).await {
                Ok(response) => {
                    location = located(self.at, &response)?;
                    done += length;
                    failures = 0;
                    continue;
                }
                Err(error) => error,
            };
            if !self.shrinks(&error) {
                failures += 1;
                match retry::wait(failures, retry::TRIES_MAX, None) {
                    Some(pause) if is_cut(&error) => tokio::time::sleep(pause).await,
                    Some(_) | None => return Err(error),
                }
            }
            // What the registry says it has cannot be more than was sent of it.
            match self.standing(&location).await {
                Some((next, there)) if (done..=done + length).contains(&there) => {
                    (location, done) = (next, there);
                }
                Some(_) | None => return Err(error),
            }
        }
        self.close(location).await
    }

    /// Whether a part was too long for what stands before the registry; the next are shorter.
    fn shrinks(&mut self, error: &RegistryError) -> bool {
        if !matches!(error, RegistryError::Status { status: 413, .. }) {
            return false;
        }
        let shorter = self.part.min(self.source.bytes) / 4;
        let may = shorter >= PART_BYTES_MIN.max(self.least);
        if may {
            self.part = shorter;
        }
        may
    }

    /// Ends an upload all of whose bytes are there. An answer that was lost is asked for again.
    async fn close(&self, location: Url) -> Result<(), RegistryError> {
        let mut tries = 0;
        loop {
            let error = match self.end(location.clone(), Payload::None).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            tries += 1;
            match retry::wait(tries, retry::TRIES_MAX, None) {
                Some(pause) if is_cut(&error) => tokio::time::sleep(pause).await,
                Some(_) | None => return Err(error),
            }
            if self.repository.has_blob(self.source.digest).await? {
                return Ok(());
            }
        }
    }

    fn payload(&self, from: u64, bytes: u64, range: bool) -> Payload {
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

/// Whether an upload goes on after this.
fn is_cut(error: &RegistryError) -> bool {
    if let RegistryError::Status { status, .. } = error {
        // 416: the registry has not as much of it as we believed.
        return retry::passes(*status) || *status == 416;
    }
    matches!(error, RegistryError::Transport { .. })
}

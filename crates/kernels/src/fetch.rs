//! Files from a mirror: by HTTP, with limits, and by their digests where those are known.

use std::{
    fs::File,
    io::{self, Write as _},
    time::Duration,
};

use base::Digest;
use reqwest::{Client, Response, Url, redirect::Policy};
use sha2::{Digest as _, Sha256};

use crate::debian::release::Listed;

/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// How long nothing may come before a connection counts as cut.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Most redirects that are followed.
const REDIRECTS_MAX: usize = 5;
/// What we call ourselves.
const AGENT: &str = concat!("wythe/", env!("CARGO_PKG_VERSION"));

/// Why a file did not come.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There is no HTTP client.
    #[error("cannot set up HTTP")]
    Client(#[source] reqwest::Error),
    /// It is no URL.
    #[error("{0} is no URL")]
    Url(String),
    /// Nobody answered, or no more.
    #[error("cannot fetch {url}")]
    Transport {
        /// What.
        url: String,
        /// What went wrong.
        #[source]
        source: reqwest::Error,
    },
    /// The mirror has something to say.
    #[error("cannot fetch {url}: the mirror answers {status}")]
    Status {
        /// What.
        url: String,
        /// Its answer.
        status: u16,
    },
    /// It ended early.
    #[error("{url} was cut short: {got} bytes of {wanted}")]
    Short {
        /// What.
        url: String,
        /// How many came.
        got: u64,
        /// How many it has.
        wanted: u64,
    },
    /// It does not end where it should.
    #[error("{url} is longer than {most} bytes")]
    Long {
        /// What.
        url: String,
        /// How many it may have.
        most: u64,
    },
    /// It is another file.
    #[error("{url} has digest {found}, and the signed index says {wanted}: it was changed")]
    Digest {
        /// What.
        url: String,
        /// What it has.
        found: Digest,
        /// What it should have.
        wanted: Digest,
    },
    /// It could not be written.
    #[error("cannot write {url} to the disk")]
    Write {
        /// What.
        url: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Fetches files.
#[derive(Clone, Debug)]
pub(crate) struct Fetcher {
    far: Client,
    /// No proxy leads to the loopback.
    near: Client,
}

/// Is told how many bytes have come of how many.
pub(crate) type Told<'t> = &'t mut (dyn FnMut(u64, u64) + Send);

impl Fetcher {
    pub(crate) fn new() -> Result<Fetcher, FetchError> {
        let builder = || {
            Client::builder()
                .user_agent(AGENT)
                .redirect(Policy::limited(REDIRECTS_MAX))
                .connect_timeout(CONNECT_WITHIN)
                .read_timeout(SILENCE_MAX)
                .http1_only()
        };
        let far = builder().build().map_err(FetchError::Client)?;
        let near = builder().no_proxy().build().map_err(FetchError::Client)?;
        Ok(Fetcher { far, near })
    }

    async fn ask(&self, url: &str) -> Result<Response, FetchError> {
        let parsed = Url::parse(url).map_err(|_| FetchError::Url(url.to_owned()))?;
        let near = parsed.host_str().is_some_and(is_loopback);
        let client = if near { &self.near } else { &self.far };
        let response = client.get(parsed).send().await.map_err(|source| transport(url, source))?;
        match response.status().as_u16() {
            200 => Ok(response),
            status => Err(FetchError::Status { url: url.to_owned(), status }),
        }
    }

    /// A file whose digest nobody knows, of at most so many bytes.
    pub(crate) async fn unknown(
        &self,
        url: &str,
        most: u64,
        told: Told<'_>,
    ) -> Result<Vec<u8>, FetchError> {
        let mut response = self.ask(url).await?;
        let wanted = response.content_length();
        let long = || FetchError::Long { url: url.to_owned(), most };
        if wanted.is_some_and(|bytes| bytes > most) {
            return Err(long());
        }
        let mut all = Vec::new();
        while let Some(part) = next(&mut response, url).await? {
            all.extend_from_slice(&part);
            if all.len() as u64 > most {
                return Err(long());
            }
            told(all.len() as u64, wanted.unwrap_or(0));
        }
        Ok(all)
    }

    /// A file that an index lists, into `to`. Only when this returns are its bytes what they
    /// should be.
    pub(crate) async fn listed(
        &self,
        url: &str,
        listed: Listed,
        mut to: impl FnMut(&[u8]) -> io::Result<()>,
        told: Told<'_>,
    ) -> Result<(), FetchError> {
        let mut response = self.ask(url).await?;
        let named = || url.to_owned();
        let (mut hash, mut got) = (Sha256::new(), 0);
        while let Some(part) = next(&mut response, url).await? {
            got += part.len() as u64;
            if got > listed.bytes {
                return Err(FetchError::Long { url: named(), most: listed.bytes });
            }
            hash.update(&part);
            to(&part).map_err(|source| FetchError::Write { url: named(), source })?;
            told(got, listed.bytes);
        }
        if got < listed.bytes {
            return Err(FetchError::Short { url: named(), got, wanted: listed.bytes });
        }
        let found = Digest::from_sha256(hash.finalize().into());
        if found != listed.digest {
            return Err(FetchError::Digest { url: named(), found, wanted: listed.digest });
        }
        Ok(())
    }

    /// The same into a file.
    pub(crate) async fn file(
        &self,
        url: &str,
        listed: Listed,
        file: &mut File,
        told: Told<'_>,
    ) -> Result<(), FetchError> {
        self.listed(url, listed, |part| file.write_all(part), told).await
    }
}

async fn next(
    response: &mut Response,
    url: &str,
) -> Result<Option<impl AsRef<[u8]> + std::ops::Deref<Target = [u8]> + use<>>, FetchError> {
    response.chunk().await.map_err(|source| transport(url, source))
}

fn transport(url: &str, source: reqwest::Error) -> FetchError {
    FetchError::Transport { url: url.to_owned(), source: source.without_url() }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

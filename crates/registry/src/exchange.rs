//! One request and its answer: authorization, redirects, retries, and errors as registries say
//! them.

use std::{fs::File, os::unix::fs::FileExt as _, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use reqwest::{
    Body, Method, Response, Url,
    header::{
        ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, IF_RANGE,
        LOCATION, RANGE, RETRY_AFTER, WWW_AUTHENTICATE,
    },
};
use serde::Deserialize;

use crate::{Endpoint, RegistryError, Repository, challenge, retry};

/// Redirects that are followed.
const REDIRECTS_MAX: usize = 10;
/// Longest text of an error that is read.
const ERROR_BYTES_MAX: u64 = 16 << 10;
/// Read from a file at a time.
const PART_BYTES: u64 = 1 << 20;

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) to: To,
    pub(crate) accept: Option<&'static str>,
    /// Which bytes; all of them, if it does not say.
    pub(crate) range: Option<Range>,
    /// What of, for messages.
    pub(crate) what: String,
    /// Whether it may be sent again when nobody knows whether it arrived.
    pub(crate) again: bool,
}

/// A stretch of what is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) from: u64,
    /// The last byte; to the end, if it does not say.
    pub(crate) last: Option<u64>,
    /// What the host called the bytes before these: of others it sends all.
    pub(crate) tag: Option<String>,
}

/// Where it is asked.
#[derive(Clone, Debug)]
pub(crate) enum To {
    /// A path, with a query, of the endpoint.
    Path(String),
    /// Where the registry sent us.
    Url(Url),
}

/// What goes along.
#[derive(Clone)]
pub(crate) enum Payload {
    None,
    Bytes {
        bytes: Bytes,
        media_type: String,
    },
    /// A part of a file.
    File {
        file: Arc<File>,
        from: u64,
        bytes: u64,
        range: bool,
        sent: Sent,
    },
}

/// Told how many bytes of a file were sent so far.
pub(crate) type Sent = Arc<dyn Fn(u64) + Send + Sync>;

impl Ask {
    pub(crate) fn get(path: String, what: String) -> Ask {
        Ask::new(Method::GET, To::Path(path), what, true)
    }

    pub(crate) fn new(method: Method, to: To, what: String, again: bool) -> Ask {
        Ask { method, to, accept: None, range: None, what, again }
    }
}

impl Repository {
    /// Asks an endpoint until there is an answer that counts; one of 2xx.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub(crate) async fn exchange(
        &self,
        at: &Endpoint,
        ask: &Ask,
        payload: &Payload,
    ) -> Result<Response, RegistryError> {
        let mut tries = 0;
        let mut proved = false;
        loop {
            tries += 1;
            let sent = self.follow(at, ask, payload).await;
            let response = match sent {
                Ok(response) => response,
                Err(RegistryError::Transport { host, source }) => {
                    let most =
                        if source.is_connect() { retry::CONNECTS_MAX } else { retry::TRIES_MAX };
                    let pause = retry::wait(tries, most, None);
                    match pause.filter(|_| ask.again || source.is_connect()) {
                        Some(pause) => tokio::time::sleep(pause).await,
                        None => return Err(RegistryError::Transport { host, source }),
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            let status = response.status().as_u16();
            if response.status().is_success() {
                return Ok(response);
            }
            if status == 401 && !proved {
                proved = true;
                self.prove(at, &response).await?;
                continue;
            }
            let after = retry_after(response.headers());
            let pause = retry::wait(tries, retry::TRIES_MAX, after);
            match pause.filter(|_| retry::passes(status) && (ask.again || status == 429)) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(refusal(at, ask, response, after).await),
            }
        }
    }

    /// Gets what the host wants to see.
    async fn prove(&self, at: &Endpoint, response: &Response) -> Result<(), RegistryError> {
        let headers = response.headers().get_all(WWW_AUTHENTICATE);
        let challenges = headers.iter().filter_map(|header| header.to_str().ok());
        let challenges: Vec<_> = challenges.flat_map(challenge::parse).collect();
        let authorization = self.authorization(at, &challenges).await?;
        self.learn(at, |session| session.authorization = Some(authorization));
        Ok(())
    }

    /// Sends it, and goes where the registry sends readers.
    async fn follow(
        &self,
        at: &Endpoint,
        ask: &Ask,
        payload: &Payload,
    ) -> Result<Response, RegistryError> {
        let mut url = match &ask.to {
            To::Url(url) => url.clone(),
            To::Path(path) => {
                let response = self.first(at, path, ask, payload).await?;
                match self.next_hop(at, ask, &response)? {
                    Some(url) => url,
                    None => return Ok(response),
                }
            }
        };
        for _ in 0..REDIRECTS_MAX {
            let response = self.send(at, url, ask, payload).await?;
            match self.next_hop(at, ask, &response)? {
                Some(next) => url = next,
                None => return Ok(response),
            }
        }
        Err(RegistryError::Redirects { host: at.name.clone(), most: REDIRECTS_MAX })
    }

    /// The first request to a host that may speak plain HTTP finds out whether it does.
    async fn first(
        &self,
        at: &Endpoint,
        path: &str,
        ask: &Ask,
        payload: &Payload,
    ) -> Result<Response, RegistryError> {
        let url = |plain: bool| {
            let scheme = if plain { "http" } else { "https" };
            let url = Url::parse(&format!("{scheme}://{}{path}", at.authority));
            url.map_err(|_| RegistryError::Malformed { host: at.name.clone(), what: "a path" })
        };
        let known = self.session(at).plain.or(at.plain.then_some(true));
        let known = known.or((!at.insecure).then_some(false));
        if let Some(plain) = known {
            return self.send(at, url(plain)?, ask, payload).await;
        }
        let (plain, sent) = match self.send(at, url(false)?, ask, payload).await {
            Err(RegistryError::Transport { source, .. }) if source.is_connect() => {
                (true, self.send(at, url(true)?, ask, payload).await)
            }
            sent => (false, sent),
        };
        if sent.is_ok() {
            self.learn(at, |session| session.plain = Some(plain));
        }
        sent
    }

    /// Sends it once. What proves who we are goes along only to the endpoint itself.
    async fn send(
        &self,
        at: &Endpoint,
        url: Url,
        ask: &Ask,
        payload: &Payload,
    ) -> Result<Response, RegistryError> {
        let own = is_own(&url, at);
        let http = self.client.http(at, &url)?;
        let mut request = http.request(ask.method.clone(), url);
        if let Some(accept) = ask.accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some(Range { from, last, tag }) = &ask.range {
            let last = last.map(|last| last.to_string()).unwrap_or_default();
            request = request.header(RANGE, format!("bytes={from}-{last}"));
            if let Some(tag) = tag {
                request = request.header(IF_RANGE, tag);
            }
        }
        if let Some(authorization) = self.session(at).authorization.filter(|_| own) {
            request = request.header(AUTHORIZATION, authorization);
        }
        request = match payload {
            Payload::None if ask.method == Method::GET || ask.method == Method::HEAD => request,
            Payload::None => request.header(CONTENT_LENGTH, 0),
            Payload::Bytes { bytes, media_type } => {
                request.header(CONTENT_TYPE, media_type).body(bytes.clone())
            }
            Payload::File { file, from, bytes, range, sent } => {
                if *range {
                    let last = (from + bytes).saturating_sub(1);
                    request = request.header(CONTENT_RANGE, format!("{from}-{last}"));
                }
                request
                    .header(CONTENT_TYPE, "application/octet-stream")
                    .header(CONTENT_LENGTH, *bytes)
                    .body(streamed(Arc::clone(file), *from, *bytes, Arc::clone(sent)))
            }
        };
        let sent = request.send().await;
        sent.map_err(|source| RegistryError::Transport {
            host: at.name.clone(),
            source: source.without_url(),
        })
    }

    /// Where an answer sends us, if it does.
    fn next_hop(
        &self,
        at: &Endpoint,
        ask: &Ask,
        response: &Response,
    ) -> Result<Option<Url>, RegistryError> {
        let reads = ask.method == Method::GET || ask.method == Method::HEAD;
        if !reads || !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        located(at, response).map(Some)
    }
}

/// The `Location` of an answer, as far as we go there: not from TLS to plain HTTP.
pub(crate) fn located(at: &Endpoint, response: &Response) -> Result<Url, RegistryError> {
    let header = response.headers().get(LOCATION).and_then(|header| header.to_str().ok());
    let malformed = || RegistryError::Malformed { host: at.name.clone(), what: "a location" };
    let url = response.url().join(header.ok_or_else(malformed)?).map_err(|_| malformed())?;
    let may = url.scheme() == "https" || (url.scheme() == "http" && at.insecure);
    match may && url.has_host() {
        true => Ok(url),
        // The query may be a signature.
        false => {
            let to: String =
                url.as_str().split('?').next().unwrap_or_default().chars().take(200).collect();
            Err(RegistryError::Redirect { host: at.name.clone(), to })
        }
    }
}

/// Whether this is the endpoint's own host and port, over a transport that it was promised.
pub(crate) fn is_own(url: &Url, at: &Endpoint) -> bool {
    let scheme = url.scheme();
    let own = Url::parse(&format!("{scheme}://{}", at.authority));
    let same = own.is_ok_and(|own| {
        own.host_str() == url.host_str()
            && own.port_or_known_default() == url.port_or_known_default()
    });
    same && (scheme == "https" || at.insecure)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// A part of a file as a body.
fn streamed(file: Arc<File>, from: u64, bytes: u64, sent: Sent) -> Body {
    let end = from + bytes;
    let parts = stream::try_unfold(from, move |at| {
        let (file, sent) = (Arc::clone(&file), Arc::clone(&sent));
        async move {
            if at >= end {
                return Ok::<_, std::io::Error>(None);
            }
            let read = tokio::task::spawn_blocking(move || {
                let length = usize::try_from(PART_BYTES.min(end - at)).unwrap_or(usize::MAX);
                let mut part = vec![0; length];
                file.read_exact_at(&mut part, at)?;
                Ok::<_, std::io::Error>(part)
            });
            let part = read.await.map_err(std::io::Error::other)??;
            let next = at + part.len() as u64;
            sent(next);
            Ok(Some((Bytes::from(part), next)))
        }
    });
    Body::wrap_stream(parts)
}

/// A short body, read within a limit.
///
/// # Errors
/// [`RegistryError::Long`], [`RegistryError::Transport`].
pub(crate) async fn read(
    at: &Endpoint,
    mut response: Response,
    most: u64,
    what: &str,
) -> Result<Vec<u8>, RegistryError> {
    let mut bytes = Vec::new();
    let long = || RegistryError::Long { what: what.to_owned(), most };
    if response.content_length().is_some_and(|length| length > most) {
        return Err(long());
    }
    loop {
        let part = response.chunk().await.map_err(|source| RegistryError::Transport {
            host: at.name.clone(),
            source: source.without_url(),
        })?;
        let Some(part) = part else { return Ok(bytes) };
        if bytes.len() as u64 + part.len() as u64 > most {
            return Err(long());
        }
        bytes.extend_from_slice(&part);
    }
}

/// What a refusal says. Source: distribution-spec 1.1, "Error Codes".
#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    errors: Vec<OneSaid>,
    /// What token services say (RFC 6749, section 5.2; Docker's own).
    #[serde(default)]
    details: Option<String>,
    #[serde(default)]
    error_description: Option<String>,
}

#[derive(Deserialize)]
struct OneSaid {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

pub(crate) async fn refusal(
    at: &Endpoint,
    ask: &Ask,
    response: Response,
    after: Option<Duration>,
) -> RegistryError {
    let status = response.status().as_u16();
    let bytes = read(at, response, ERROR_BYTES_MAX, "an error").await.unwrap_or_default();
    let said = said(&bytes);
    let (host, what) = (at.name.clone(), ask.what.clone());
    let or = |other: &str| said.clone().unwrap_or_else(|| other.to_owned());
    match status {
        401 => RegistryError::Denied { what, said: or("unauthorized: authentication required") },
        403 => RegistryError::Denied { what, said: or("denied") },
        404 => RegistryError::NotFound { what, said: or("not found") },
        429 => RegistryError::TooMany { host, after },
        status => RegistryError::Status { host, status, what, said: or("nothing") },
    }
}

/// The first error of a refusal: `manifest unknown: no such tag`.
fn said(bytes: &[u8]) -> Option<String> {
    let said: Said = serde_json::from_slice(bytes).ok()?;
    let text = match said.errors.first() {
        Some(first) => {
            format!("{}: {}", first.code.to_ascii_lowercase().replace('_', " "), first.message)
        }
        None => said.details.or(said.error_description)?,
    };
    // It may go to a terminal.
    Some(text.chars().filter(|c| !c.is_control()).take(500).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Hosts;

    #[test]
    fn secrets_go_to_the_endpoint_alone() {
        let far = Hosts::default().own("reg.example:5000", false).unwrap();
        let near = Hosts::default().own("127.0.0.1:5000", false).unwrap();
        let own = |url: &str, at: &Endpoint| is_own(&Url::parse(url).unwrap(), at);
        assert!(own("https://reg.example:5000/v2/", &far));
        assert!(own("http://127.0.0.1:5000/v2/", &near));
        for other in [
            "http://reg.example:5000/",
            "https://reg.example/",
            "https://reg.example:5001/",
            "https://reg.example.evil:5000/",
            "https://user@evil:5000/",
        ] {
            assert!(!own(other, &far), "{other}");
        }
    }

    #[test]
    fn errors_are_told_in_the_registrys_words() {
        let text =
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown\u001b[2J"}]}"#;
        assert_eq!(said(text.as_bytes()).unwrap(), "manifest unknown: manifest unknown[2J");
        assert_eq!(
            said(br#"{"details":"incorrect username or password"}"#).unwrap(),
            "incorrect username or password"
        );
        assert_eq!(said(b"<html>"), None);
    }
}

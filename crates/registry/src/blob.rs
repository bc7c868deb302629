//! Blobs on their way here, each in one stream, however it comes.
//!
//! ```text
//! small  ──────────────────────────────▶ one request
//! large  ──▶ the first piece ──206──▶ pieces side by side, handed over in order
//!                           └─200──▶ that request, to its end
//! ```
//!
//! Lengths are checked here; the digest of a large blob by whoever takes it, who hashes it anyway
//! and says if it was wrong ([`Download::distrust`]).

use std::{collections::BTreeSet, fmt, pin::Pin, sync::Arc, vec};

use base::Digest;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use reqwest::{Method, header::CONTENT_LENGTH};

use crate::{
    Endpoint, RegistryError, Repository,
    exchange::{Ask, Payload, To},
    manifest::digest_of,
    span::{Blob, Span, Watch},
};

/// Blobs of this length and more come in pieces.
const SPLIT_BYTES_MIN: u64 = 16 << 20;
/// Bytes of a piece.
const PIECE_BYTES: u64 = 4 << 20;
/// Pieces of one blob that come at the same time, or have come and wait for their turn: four
/// times [`PIECE_BYTES`] of memory.
const PIECES_AT_ONCE: usize = 4;

/// A blob that is coming.
#[derive(Debug)]
pub struct Download<'r> {
    repository: &'r Repository,
    blob: Blob,
    watch: Watch,
    /// Bytes that were handed over.
    done: u64,
    way: Way<'r>,
    /// The endpoints that gave bytes.
    served: BTreeSet<usize>,
}

enum Way<'r> {
    /// Nobody was asked.
    Unknown,
    /// In one stretch.
    One(Box<Span<'r>>),
    /// In pieces: the bytes of the present one, and those to come.
    Pieces(vec::IntoIter<Bytes>, Pieces<'r>),
}

type Pieces<'r> = Pin<Box<dyn Stream<Item = Result<Piece, RegistryError>> + Send + 'r>>;

/// A piece that has come.
struct Piece {
    parts: Vec<Bytes>,
    served: BTreeSet<usize>,
    /// Its host sends nothing but whole blobs.
    refused: bool,
}

impl fmt::Debug for Way<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Way::Unknown => f.write_str("Unknown"),
            Way::One(span) => f.debug_tuple("One").field(span).finish(),
            Way::Pieces(ready, _) => f.debug_tuple("Pieces").field(&ready.len()).finish(),
        }
    }
}

impl Repository {
    /// A blob of this length.
    pub fn blob(&self, digest: Digest, bytes: u64) -> Download<'_> {
        Download {
            repository: self,
            blob: Blob { digest, bytes },
            watch: Watch::default(),
            done: 0,
            way: Way::Unknown,
            served: BTreeSet::new(),
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

    /// A small blob, whole and verified; from the next host, if one sends something else.
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
        loop {
            let mut download = self.blob(digest, bytes);
            match download.verified().await {
                Err(error) if error.is_lie() && download.distrust() => {
                    tracing::debug!(%error, "a document is asked for elsewhere");
                }
                done => return done,
            }
        }
    }
}

impl<'r> Download<'r> {
    /// Tells how many bytes have come, those that have yet to be handed over too.
    #[must_use]
    pub fn watched(mut self, tell: Arc<dyn Fn(u64) + Send + Sync>) -> Download<'r> {
        self.watch = Watch::new(tell);
        self
    }

    /// The next bytes; none when it is whole.
    ///
    /// # Errors
    /// [`RegistryError`], when it is longer or shorter than it should be, or no host gives the
    /// rest.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            let part = match &mut self.way {
                Way::Unknown => {
                    self.way = begin(self.repository, self.blob, self.watch.clone()).await?;
                    continue;
                }
                Way::One(span) => {
                    let part = span.next().await?;
                    self.served.extend(span.served());
                    part
                }
                Way::Pieces(ready, coming) => match ready.next() {
                    Some(part) => Some(part),
                    None => match coming.next().await.transpose()? {
                        None => None,
                        Some(piece) if piece.refused => {
                            // The rest in one stretch.
                            let watch = self.watch.clone();
                            let rest = Span::rest(self.repository, self.blob, self.done, watch);
                            self.way = Way::One(Box::new(rest));
                            continue;
                        }
                        Some(piece) => {
                            self.served.extend(piece.served);
                            *ready = piece.parts.into_iter();
                            continue;
                        }
                    },
                },
            };
            self.done += part.as_ref().map_or(0, |part| part.len() as u64);
            return Ok(part);
        }
    }

    /// The hosts that gave bytes of it so far.
    pub fn served_by(&self) -> Vec<&'r Endpoint> {
        self.served.iter().filter_map(|number| self.repository.endpoints.get(*number)).collect()
    }

    /// Says that these are not the right bytes: whoever gave them is not asked by this repository
    /// any more; of several, the mirrors. Answers whether there is another host to ask.
    pub fn distrust(&self) -> bool {
        let mirror = |number: &usize| {
            self.repository.endpoints.get(*number).is_some_and(|endpoint| endpoint.mirror)
        };
        let mirrors: BTreeSet<_> = self.served.iter().copied().filter(mirror).collect();
        self.repository.distrust(if mirrors.is_empty() { &self.served } else { &mirrors })
    }

    async fn verified(&mut self) -> Result<Vec<u8>, RegistryError> {
        let mut all = Vec::new();
        while let Some(part) = self.next().await? {
            all.extend_from_slice(&part);
        }
        let wanted = self.blob.digest;
        match digest_of(&all) {
            found if found == wanted => Ok(all),
            found => {
                let host = self.served_by().first().map(|at| at.name.clone()).unwrap_or_default();
                Err(RegistryError::Digest { host, wanted, found })
            }
        }
    }
}

/// Asks for a blob, and sees how it comes.
async fn begin(
    repository: &Repository,
    blob: Blob,
    watch: Watch,
) -> Result<Way<'_>, RegistryError> {
    if blob.bytes < SPLIT_BYTES_MIN {
        return Ok(Way::One(Box::new(Span::rest(repository, blob, 0, watch))));
    }
    let mut first = Span::first(repository, blob, PIECE_BYTES, watch);
    first.begin().await?;
    if first.is_last() {
        return Ok(Way::One(Box::new(first)));
    }
    let starts = (1..).map(|number| number * PIECE_BYTES).take_while(move |at| *at < blob.bytes);
    let further: Vec<_> =
        starts.map(|at| first.piece(at, blob.bytes.min(at + PIECE_BYTES))).collect();
    let all = stream::iter([first].into_iter().chain(further));
    Ok(Way::Pieces(Vec::new().into_iter(), Box::pin(all.map(fetch).buffered(PIECES_AT_ONCE))))
}

async fn fetch(mut span: Span<'_>) -> Result<Piece, RegistryError> {
    let mut parts = Vec::new();
    while let Some(part) = span.next().await? {
        parts.push(part);
    }
    Ok(Piece { parts, served: span.served().clone(), refused: span.is_refused() })
}

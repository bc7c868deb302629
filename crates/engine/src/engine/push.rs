//! Images to registries: blobs side by side, then manifests from the inside out, byte for byte as
//! they came, so that digests stay.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use base::Reference;
use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};
use image::{BlobFile, Departure};
use registry::{Pushed, RegistryError, Repository, Source};

use super::Engine;
use crate::{
    EngineError, TransferEvent, TransferNews, TransferRequest,
    actor::blocking,
    error::chain,
    images::{platform, reference, unresolved},
    registries::short,
};

/// Blobs that go at the same time, as in Docker.
const BLOBS_AT_ONCE: usize = 5;
/// Other repositories that a token is asked for, to mount blobs from.
const SOURCES_MAX: usize = 4;
/// How much must have gone before that is told again.
const TOLD_BYTES: u64 = 512 << 10;

impl Engine {
    /// Pushes an image, or all tags of a repository.
    ///
    /// # Errors
    /// [`EngineError::NoSuchImage`], [`EngineError::Image`].
    pub async fn push(
        &self,
        request: TransferRequest,
        news: TransferNews,
    ) -> Result<(), EngineError> {
        let asked = reference(&request.reference)?;
        let names = match request.all_tags {
            false => vec![asked.clone().or_latest()],
            true => self.tags_here(&asked).await?,
        };
        let repository = format!("{}/{}", asked.domain(), asked.path());
        news.tell(TransferEvent::Refers { repository }).await;
        for name in names {
            if name.digest().is_some() {
                let why = "cannot push a digest reference".to_owned();
                return Err(EngineError::Invalid { what: name.familiar(), why });
            }
            Box::pin(self.push_one(name, &request, &news)).await?;
        }
        Ok(())
    }

    async fn tags_here(&self, asked: &Reference) -> Result<Vec<Reference>, EngineError> {
        if asked.tag().is_some() || asked.digest().is_some() {
            let why = "tag can't be used with --all-tags/-a".to_owned();
            return Err(EngineError::Invalid { what: asked.familiar(), why });
        }
        let images = self.images().await?;
        let names = images.iter().flat_map(|image| &image.references);
        let names = names.filter_map(|name| name.parse::<Reference>().ok());
        let mut names: Vec<_> =
            names.filter(|name| name.tag().is_some() && name.same_repository(asked)).collect();
        names.sort();
        names.dedup();
        match names.is_empty() {
            true => Err(absent(asked)),
            false => Ok(names),
        }
    }

    async fn push_one(
        &self,
        name: Reference,
        request: &TransferRequest,
        news: &TransferNews,
    ) -> Result<(), EngineError> {
        let shared = Arc::clone(&self.inner.shared);
        let wanted = request.platform.as_deref().map(platform).transpose()?;
        let asked = name.clone();
        let prepare = move || {
            let client = shared.registries.client()?;
            let store = shared.images.store().ok_or_else(|| absent(&asked))?;
            match store.departure(&asked.to_string(), wanted.as_ref()) {
                Ok(departure) => Ok((client, departure)),
                Err(image::ResolveError::NotFound { .. }) => Err(absent(&asked)),
                Err(error) => Err(unresolved(error)),
            }
        };
        let (client, departure) = blocking("reading the image", prepare).await?;
        let sources = sources(&departure, &name);
        let credentials = request.credentials.clone();
        let repository = client.writer(&name, &sources, credentials, request.insecure);
        let push = Push { name, repository, news };
        push.run(&departure).await?;
        self.inner.shared.tell_image("push", &push.name.familiar());
        Ok(())
    }
}

/// Docker's words.
fn absent(name: &Reference) -> EngineError {
    EngineError::Image {
        kind: base::ErrorKind::NotFound,
        text: format!("An image does not exist locally with the tag: {}", name.familiar_name()),
    }
}

/// Other repositories of the same registry that may have blobs of this image.
fn sources(departure: &Departure, name: &Reference) -> Vec<String> {
    let known = departure.blobs.iter().filter_map(|blob| source(blob, name));
    let mut sources: Vec<_> = known.map(str::to_owned).collect();
    sources.sort();
    sources.dedup();
    sources.truncate(SOURCES_MAX);
    sources
}

fn source<'b>(blob: &'b BlobFile, name: &Reference) -> Option<&'b str> {
    let elsewhere =
        |other: &&Reference| other.domain() == name.domain() && other.path() != name.path();
    blob.known_in.iter().find(elsewhere).map(Reference::path)
}

/// One image on its way out.
struct Push<'n> {
    name: Reference,
    repository: Repository,
    news: &'n TransferNews,
}

impl Push<'_> {
    async fn run(&self, departure: &Departure) -> Result<(), EngineError> {
        let blobs = stream::iter(departure.blobs.iter().map(Ok));
        blobs.try_for_each_concurrent(BLOBS_AT_ONCE, |blob| self.blob(blob)).await?;
        let mut digest = None;
        for (number, (media_type, bytes)) in departure.documents.iter().enumerate() {
            let known = digest_of(bytes);
            let last = number + 1 == departure.documents.len();
            let tag = self.name.tag().filter(|_| last).map(str::to_owned);
            let at = tag.unwrap_or_else(|| known.clone());
            let put = self.repository.put_manifest(&at, Bytes::from(bytes.clone()), media_type);
            put.await.map_err(|error| self.refused(&error))?;
            digest = Some((known, bytes.len() as u64));
        }
        if departure.alone {
            let text = "Not all multiplatform-content is present and only the available \
                        single-platform image was pushed";
            self.news.tell(TransferEvent::Status { text: text.to_owned() }).await;
        }
        if let Some((digest, size)) = digest {
            let tag = self.name.tag().unwrap_or_default().to_owned();
            self.news.tell(TransferEvent::Tagged { tag, digest, size }).await;
        }
        Ok(())
    }

    async fn blob(&self, blob: &BlobFile) -> Result<(), EngineError> {
        let (id, total) = (short(&blob.digest), blob.bytes);
        let (digest, bytes, file) = (blob.digest, blob.bytes, Arc::clone(&blob.file));
        let (news, told, shown) = (self.news.clone(), AtomicU64::new(0), id.clone());
        let sent = Arc::new(move |done: u64| {
            if done >= told.load(Ordering::Relaxed) + TOLD_BYTES || done == total {
                told.store(done, Ordering::Relaxed);
                news.hint(TransferEvent::Pushing { id: shown.clone(), done, total });
            }
        });
        let source_of = source(blob, &self.name);
        let whole = Source { digest, bytes, file };
        let pushed = self.repository.push_blob(&whole, source_of, sent);
        let event = match pushed.await.map_err(|error| self.refused(&error))? {
            Pushed::Existed => TransferEvent::PushExists { id },
            Pushed::Mounted { from } => TransferEvent::Mounted { id, from },
            Pushed::Sent => TransferEvent::Pushed { id },
        };
        self.news.tell(event).await;
        Ok(())
    }

    fn refused(&self, error: &RegistryError) -> EngineError {
        let text = match error.said_no() {
            Some(said) => format!("push access denied for {}: {said}", self.name.familiar_name()),
            None => chain(error),
        };
        EngineError::Image { kind: error.kind(), text }
    }
}

fn digest_of(bytes: &[u8]) -> String {
    registry::digest_of(bytes).to_string()
}

//! Images from registries.
//!
//! ```text
//! registry ──parts──▶ channel ──▶ one pass: blob kept, hashed, inflated, layer written
//! (async, 3 layers at once)       (a thread of its own for each layer)
//! ```
//!
//! A pull that is dropped ends its downloads; the threads see their channels end and take away
//! what they have written.

use std::{
    collections::BTreeSet,
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use base::{Digest, ErrorKind, Reference, clock::Timestamp, reference::registry_of};
use bytes::{Buf as _, Bytes};
use futures_util::{TryStreamExt as _, stream};
use image::{Arrival, Arriving, ArrivingLayer, Next, Platform, StoreError, wire};
use registry::{
    Credentials, Download, Endpoint, MANIFEST_BYTES_MAX, Manifest, RegistryError, Repository,
};
use tokio::sync::mpsc;

use super::{Engine, Shared};
use crate::{
    DistributionView, EngineError, LoginRequest, Pulled, TransferEvent, TransferNews,
    TransferRequest,
    actor::blocking,
    error::chain,
    images::{platform, reference, wrong},
    registries::{Flight, refused, short},
};

/// Layers that come at the same time, as in Docker.
const LAYERS_AT_ONCE: usize = 3;
/// Parts of a layer between the network and the thread that unpacks it.
const PARTS_WAITING: usize = 32;
/// Indexes within indexes.
const INDEXES_MAX: usize = 4;
/// How much must have come before that is told again.
const TOLD_BYTES: u64 = 512 << 10;

impl Engine {
    /// Pulls an image, or all tags of a repository.
    ///
    /// # Errors
    /// [`EngineError::Image`]; then nothing of the image stays.
    pub async fn pull(
        &self,
        request: TransferRequest,
        news: TransferNews,
    ) -> Result<Vec<Pulled>, EngineError> {
        let asked = reference(&request.reference)?;
        let wanted = request.platform.as_deref().map(platform).transpose()?;
        let shared = Arc::clone(&self.inner.shared);
        let client = blocking("reading registries.toml", move || shared.registries.client());
        let client = client.await?;
        let names = match request.all_tags {
            false => vec![asked.clone().or_latest()],
            true => {
                if asked.tag().is_some() || asked.digest().is_some() {
                    let why = "tag can't be used with --all-tags/-a".to_owned();
                    return Err(EngineError::Invalid { what: request.reference, why });
                }
                let repository =
                    client.reader(&asked, request.credentials.clone(), request.insecure);
                let tags = repository.tags().await.map_err(|error| refused(&asked, &error))?;
                let named = tags.iter().map(|tag| format!("{asked}:{tag}"));
                named.map(|name| reference(&name)).collect::<Result<_, _>>()?
            }
        };
        let mut pulled = Vec::new();
        for name in names {
            let repository = client.reader(&name, request.credentials.clone(), request.insecure);
            let (shared, news, host) = (&self.inner.shared, news.clone(), String::new());
            let pull = Pull { shared, name, repository, news, host };
            pulled.push(Box::pin(pull.run(wanted.clone())).await?);
        }
        Ok(pulled)
    }

    /// What a registry has under a name.
    ///
    /// # Errors
    /// [`EngineError::Image`].
    pub async fn distribution(
        &self,
        name: &str,
        credentials: Option<Credentials>,
    ) -> Result<DistributionView, EngineError> {
        let name = reference(name)?.or_latest();
        let shared = Arc::clone(&self.inner.shared);
        let client = blocking("reading registries.toml", move || shared.registries.client());
        let repository = client.await?.reader(&name, credentials, false);
        let refused = |error| refused(&name, &error);
        let manifest = repository.manifest(&tag_or_digest(&name)).await.map_err(refused)?;
        let platforms = match Arriving::next(&manifest.bytes, &Platform::host()) {
            Ok(Next::Config(config)) => {
                let bytes = repository.document(config.digest, config.size, MANIFEST_BYTES_MAX);
                let bytes = bytes.await.map_err(refused)?;
                let config = wire::image_config(&bytes);
                config.map(|config| vec![config.platform()]).unwrap_or_default()
            }
            Ok(Next::Entry(_)) | Err(_) => platforms(&manifest.bytes),
        };
        Ok(DistributionView {
            media_type: manifest.media_type.clone(),
            digest: manifest.digest.to_string(),
            size: manifest.bytes.len() as u64,
            platforms: platforms.into_iter().map(|p| (p.os, p.architecture, p.variant)).collect(),
        })
    }

    /// Whether a registry takes these credentials.
    ///
    /// # Errors
    /// [`EngineError::Image`].
    pub async fn login(&self, login: LoginRequest) -> Result<(), EngineError> {
        let shared = Arc::clone(&self.inner.shared);
        let client = blocking("reading registries.toml", move || shared.registries.client());
        let (client, server) = (client.await?, registry_of(&login.server));
        let checked = client.check(server, Some(login.credentials), login.insecure).await;
        checked.map_err(|error| EngineError::Image {
            kind: error.kind(),
            text: match error.said_no() {
                Some(said) => {
                    format!("login attempt to https://{server}/v2/ failed: {said}")
                }
                None => chain(&error),
            },
        })
    }
}

/// The platforms that an index names.
fn platforms(index: &[u8]) -> Vec<Platform> {
    let entries = wire::index(index).map(|index| index.manifests).unwrap_or_default();
    let named = entries.into_iter().filter_map(|entry| entry.platform);
    named.filter(|platform| platform.os != "unknown").collect()
}

fn tag_or_digest(name: &Reference) -> String {
    match (name.digest(), name.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, Some(tag)) => tag.to_owned(),
        (None, None) => "latest".to_owned(),
    }
}

/// One image on its way here.
struct Pull<'e> {
    shared: &'e Arc<Shared>,
    name: Reference,
    repository: Repository,
    news: TransferNews,
    /// Who served the manifest.
    host: String,
}

impl Pull<'_> {
    async fn run(mut self, wanted: Option<Platform>) -> Result<Pulled, EngineError> {
        let store = self.shared.images.store().ok_or_else(|| EngineError::Unsupported {
            what: "pulling".to_owned(),
            why: "there is no image store".to_owned(),
        })?;
        let tag = tag_or_digest(&self.name);
        let repository = self.name.path().to_owned();
        self.news.tell(TransferEvent::Resolving { repository, tag: tag.clone() }).await;
        let top = self.repository.manifest(&tag).await.map_err(|error| self.refused(&error))?;
        self.host = top.host.clone();
        let (host, mirror) = (top.host.clone(), top.mirror);
        self.news.tell(TransferEvent::Served { host, mirror }).await;
        let digest = top.digest;
        let before = self.target_here().await;
        let arriving = self.describe(top, wanted.as_ref()).await?;
        let arrival = Arc::new(store.arrival());
        self.layers(&arrival, &arriving).await?;
        let name = match self.name.digest() {
            Some(digest) => self.name.at(digest),
            None => self.name.clone(),
        };
        let shared = Arc::clone(self.shared);
        let finish = move || {
            let finished = arrival.finish(&arriving, name, Timestamp::now());
            drop(arrival);
            shared.images.recount();
            finished.map_err(|error| wrong(error.kind(), &error))
        };
        blocking("storing the image", finish).await?;
        self.shared.tell_image("pull", &self.name.familiar());
        self.told(digest, before).await
    }

    async fn told(&self, digest: Digest, before: Option<String>) -> Result<Pulled, EngineError> {
        let digest = digest.to_string();
        let new = before.as_deref() != Some(&digest);
        self.news.tell(TransferEvent::Digest { digest: digest.clone() }).await;
        let familiar = self.name.familiar();
        let text = match new {
            true => format!("Downloaded newer image for {familiar}"),
            false => format!("Image is up to date for {familiar}"),
        };
        self.news.tell(TransferEvent::Status { text }).await;
        Ok(Pulled { reference: self.name.to_string(), digest, new })
    }

    /// What is here under the name.
    async fn target_here(&self) -> Option<String> {
        let (shared, name) = (Arc::clone(self.shared), self.name.to_string());
        let find = move || Ok(shared.images.find(&name).ok().map(|image| image.target));
        blocking("finding the image", find).await.ok().flatten()
    }

    /// Fetches the documents, down to the configuration.
    async fn describe(
        &self,
        top: Manifest,
        wanted: Option<&Platform>,
    ) -> Result<Arriving, EngineError> {
        let bad = |error: image::ArrivalError| wrong(error.kind(), &error);
        let host = Platform::host();
        let platform = wanted.unwrap_or(&host);
        let (mut indexes, mut bytes) = (Vec::new(), top.bytes);
        let config = loop {
            match Arriving::next(&bytes, platform).map_err(bad)? {
                Next::Config(config) => break config,
                Next::Entry(entry) => {
                    if indexes.len() == INDEXES_MAX {
                        let why =
                            format!("there are more than {INDEXES_MAX} indexes in each other");
                        return Err(EngineError::Invalid { what: self.name.familiar(), why });
                    }
                    indexes.push(bytes.to_vec());
                    let next = self.repository.manifest(&entry.digest.to_string()).await;
                    let next = next.map_err(|error| self.refused(&error))?;
                    bytes = next.bytes;
                }
            }
        };
        let fetched = self.repository.document(config.digest, config.size, MANIFEST_BYTES_MAX);
        let config = fetched.await.map_err(|error| self.refused(&error))?;
        let arriving = Arriving::new(indexes, bytes.to_vec(), config).map_err(bad)?;
        if let Some(wanted) = wanted {
            arriving.check(wanted).map_err(bad)?;
        }
        Ok(arriving)
    }

    async fn layers(&self, arrival: &Arc<Arrival>, arriving: &Arriving) -> Result<(), EngineError> {
        let mut seen = BTreeSet::new();
        let distinct = arriving.layers.iter().filter(|layer| seen.insert(layer.blob));
        let layers: Vec<_> = distinct.cloned().collect();
        for layer in &layers {
            self.news.tell(TransferEvent::Waiting { id: short(&layer.blob) }).await;
        }
        let each = stream::iter(layers.into_iter().map(Ok));
        each.try_for_each_concurrent(LAYERS_AT_ONCE, |layer| self.layer(Arc::clone(arrival), layer))
            .await
    }

    async fn layer(&self, arrival: Arc<Arrival>, layer: ArrivingLayer) -> Result<(), EngineError> {
        let id = short(&layer.blob);
        let flight = self.shared.registries.flight(layer.blob);
        let _held = flight.turn(&self.news).await;
        let (looker, looked) = (Arc::clone(&arrival), layer.clone());
        let look = move || looker.has(&looked).map_err(|error| wrong(error.kind(), &error));
        if blocking("looking for a layer", look).await? {
            self.news.tell(TransferEvent::Exists { id }).await;
            return Ok(());
        }
        while let Some(why) = self.fetch(&arrival, &layer, &flight).await? {
            tracing::warn!(layer = %layer.blob, why, "a layer is fetched again");
            self.news.tell(TransferEvent::Note { text: format!("Layer {id}: {why}") }).await;
        }
        self.news.tell(TransferEvent::Complete { id }).await;
        Ok(())
    }

    /// Fetches a layer. If those who sent it lied and there are others to ask, answers what was
    /// wrong.
    async fn fetch(
        &self,
        arrival: &Arc<Arrival>,
        layer: &ArrivingLayer,
        flight: &Arc<Flight>,
    ) -> Result<Option<String>, EngineError> {
        let (parts, coming) = mpsc::channel(PARTS_WAITING);
        let came = Arc::new(AtomicBool::new(false));
        let teller = Teller::new(layer, flight, &self.news);
        let extracting = Teller::new(layer, flight, &self.news);
        let unpack =
            unpack(Arc::clone(arrival), layer.clone(), coming, Arc::clone(&came), extracting);
        let download = self.repository.blob(layer.blob, layer.bytes);
        let mut download = download.watched(Arc::new(move |done| {
            teller.tell(done, |id, done, total| TransferEvent::Downloading { id, done, total });
        }));
        let fed = self.feed(layer, &mut download, parts, &came);
        let (fed, unpacked) = tokio::join!(fed, unpack);
        let hosts = download.served_by();
        let (error, lie) = match (fed, unpacked?) {
            (Ok(()), Ok(())) => {
                self.tell_hosts(layer, &hosts).await;
                return Ok(None);
            }
            // A download that failed is why the unpacking did.
            (Err(error), _) => (self.refused(&error), error.is_lie()),
            (Ok(()), Err(error)) => (unlike(layer, &hosts, &error), is_lie(&error)),
        };
        match lie && download.distrust() {
            true => Ok(Some(format!("{}; it is asked for elsewhere", base::chain(&error)))),
            false => Err(error),
        }
    }

    /// Says who served a layer, if that is not who served the manifest.
    async fn tell_hosts(&self, layer: &ArrivingLayer, hosts: &[&Endpoint]) {
        if hosts.iter().all(|at| at.name == self.host) {
            return;
        }
        let named = hosts.iter().map(|at| match at.mirror {
            true => format!("mirror {}", at.name),
            false => at.name.clone(),
        });
        let named = named.collect::<Vec<_>>().join(", ");
        let text = format!("Layer {} served by {named}", short(&layer.blob));
        self.news.tell(TransferEvent::Note { text }).await;
    }

    async fn feed(
        &self,
        layer: &ArrivingLayer,
        download: &mut Download<'_>,
        parts: mpsc::Sender<Part>,
        came: &AtomicBool,
    ) -> Result<(), RegistryError> {
        while let Some(part) = download.next().await? {
            if parts.send(Part::Bytes(part)).await.is_err() {
                // The thread has stopped, and says why.
                return Ok(());
            }
        }
        came.store(true, Ordering::Relaxed);
        parts.send(Part::End).await.ok();
        self.news.tell(TransferEvent::Downloaded { id: short(&layer.blob) }).await;
        Ok(())
    }

    fn refused(&self, error: &RegistryError) -> EngineError {
        refused(&self.name, error)
    }
}

/// Tells how far a layer has come, now and then.
struct Teller {
    id: String,
    total: u64,
    /// What was told.
    told: AtomicU64,
    flight: Arc<Flight>,
    news: TransferNews,
}

impl Teller {
    fn new(layer: &ArrivingLayer, flight: &Arc<Flight>, news: &TransferNews) -> Teller {
        let (id, total, told) = (short(&layer.blob), layer.bytes, AtomicU64::new(0));
        Teller { id, total, told, flight: Arc::clone(flight), news: news.clone() }
    }

    /// Tells it as this event, if that is worth it.
    fn tell(&self, done: u64, event: impl FnOnce(String, u64, u64) -> TransferEvent) {
        if done >= self.told.load(Ordering::Relaxed) + TOLD_BYTES {
            self.told.store(done, Ordering::Relaxed);
            self.flight.tell(&self.news, event(self.id.clone(), done, self.total));
        }
    }
}

async fn unpack(
    arrival: Arc<Arrival>,
    layer: ArrivingLayer,
    coming: mpsc::Receiver<Part>,
    came: Arc<AtomicBool>,
    teller: Teller,
) -> Result<Result<(), StoreError>, EngineError> {
    let work = move || {
        let mut progress = |done: u64| {
            if came.load(Ordering::Relaxed) {
                teller.tell(done, |id, done, total| TransferEvent::Extracting { id, done, total });
            }
        };
        let feed = Feed { coming, current: Bytes::new(), ended: false };
        Ok(arrival.take(&layer, feed, &mut progress))
    };
    blocking("unpacking a layer", work).await
}

/// Whether what came was not what was asked for; other hosts may have that.
fn is_lie(error: &StoreError) -> bool {
    match error {
        StoreError::Damaged { .. } => true,
        // It may be this host, too, that cannot write.
        StoreError::Layer { source, .. } => matches!(
            source.kind(),
            ErrorKind::Corrupt | ErrorKind::InvalidInput | ErrorKind::Unsupported
        ),
        StoreError::Disk { .. }
        | StoreError::Missing(_)
        | StoreError::Document { .. }
        | StoreError::DiffId { .. } => false,
    }
}

/// What is wrong with a layer that came from these hosts.
fn unlike(layer: &ArrivingLayer, hosts: &[&Endpoint], error: &StoreError) -> EngineError {
    let text = match error {
        StoreError::Damaged { found, .. } => {
            let names: Vec<_> = hosts.iter().map(|at| at.name.as_str()).collect();
            format!("registry {} sent {found} for {}", names.join(", "), layer.blob)
        }
        StoreError::Disk { .. }
        | StoreError::Missing(_)
        | StoreError::Document { .. }
        | StoreError::Layer { .. }
        | StoreError::DiffId { .. } => base::chain(error),
    };
    EngineError::Image { kind: error.kind(), text }
}

/// What comes of a layer. Without its end it is not whole, whatever it looks like.
enum Part {
    Bytes(Bytes),
    End,
}

/// The parts of a layer as something to read, on a thread that may wait.
struct Feed {
    coming: mpsc::Receiver<Part>,
    current: Bytes,
    ended: bool,
}

impl Read for Feed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.coming.blocking_recv() {
                Some(Part::Bytes(part)) => self.current = part,
                Some(Part::End) => self.ended = true,
                None => return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut off")),
            }
        }
        let length = self.current.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..length), self.current.get(..length)) {
            to.copy_from_slice(from);
        }
        self.current.advance(length);
        Ok(length)
    }
}

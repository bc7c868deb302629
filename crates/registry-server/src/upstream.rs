//! The registry behind this one (`--mirror`): what is missing here is fetched there, once, and kept.
//!
//! ```text
//! tag    ──HEAD──▶ same digest, and here ──▶ served
//!          │  └──▶ another ──GET──▶ kept ──▶ served
//!          └─ nobody answers ──▶ what is here is served, and said to be stale
//! digest ──▶ here, or fetched
//! ```
//!
//! Blobs are streamed on while they come (`flight.rs`).

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use base::{Digest, ErrorKind, chain, clock::monotonic};
use registry::{Client, Credentials, Endpoint, RegistryError, Repository};
use tokio::{sync::Mutex as AsyncMutex, task::JoinSet};
use tracing::warn;

use crate::{
    error::{Code, Refusal},
    name::{Name, Reference, Tag},
    server::Registry,
    store::Store,
    wire::Manifest,
};

pub(crate) mod flight;

use flight::Flight;

/// How long the upstream may take to say what a tag is, or how long a blob.
const ASK_WITHIN: Duration = Duration::from_secs(10);
/// How long it may take for a manifest.
const FETCH_WITHIN: Duration = Duration::from_secs(60);
/// How long an upstream that does not answer is not asked again.
const REST: Duration = Duration::from_secs(5);
/// Blobs that come at once. Whoever asked for one may have left; it comes all the same.
const FLIGHTS_MAX: usize = 256;
/// Repositories whose tokens are kept in mind.
const REPOSITORIES_MAX: usize = 1_000;

/// An upstream registry, and what is under way from there.
#[derive(Debug)]
pub struct Upstream {
    client: Client,
    endpoint: Endpoint,
    credentials: Option<Credentials>,
    repositories: Mutex<HashMap<Name, Arc<Repository>>>,
    /// Not asked before then.
    resting: Mutex<Option<Instant>>,
    /// Who fetches what; others wait, and find it here.
    fetching: Mutex<HashMap<Wanted, Arc<AsyncMutex<()>>>>,
    flights: Mutex<HashMap<Wanted, Arc<Flight>>>,
    /// What brings them.
    tasks: Mutex<JoinSet<()>>,
}

type Wanted = (Name, Digest);

/// Why nothing came from there.
#[derive(Debug)]
enum Failure {
    /// It has it not.
    Missing,
    /// It does not let us.
    Denied(String),
    /// It does not answer, or not as it should. What is here may be served instead.
    Down { too_many: bool, why: String },
}

impl Upstream {
    /// An upstream, by its URL.
    pub fn new(url: &str) -> Option<Upstream> {
        let url = url.trim_end_matches('/');
        let endpoint = Endpoint::parse(url).filter(|_| url.contains("://"))?;
        Some(Upstream {
            client: Client::default(),
            endpoint,
            credentials: None,
            repositories: Mutex::default(),
            resting: Mutex::default(),
            fetching: Mutex::default(),
            flights: Mutex::default(),
            tasks: Mutex::default(),
        })
    }

    /// Asked as somebody: all who get in here read what he may.
    #[must_use]
    pub fn asked_as(mut self, credentials: Option<Credentials>) -> Upstream {
        self.credentials = credentials;
        self
    }

    /// Host and port.
    pub fn name(&self) -> &str {
        &self.endpoint.name
    }

    /// Sees to it that what is asked for is here, if it is anywhere. Answers whether what is here
    /// may be stale.
    pub(crate) async fn bring(
        &self,
        registry: &Arc<Registry>,
        name: &Name,
        reference: &Reference,
    ) -> Result<bool, Refusal> {
        match reference {
            Reference::Neither(_) => Ok(false),
            Reference::Digest(digest) => match self.fetch(registry, name, *digest, None).await {
                Ok(()) | Err(Failure::Missing) => Ok(false),
                Err(failure) => Err(self.refusal(failure)),
            },
            Reference::Tag(tag) => self.bring_tag(registry, name, tag).await,
        }
    }

    async fn bring_tag(
        &self,
        registry: &Arc<Registry>,
        name: &Name,
        tag: &Tag,
    ) -> Result<bool, Refusal> {
        let failure = match self.follow(registry, name, tag).await {
            Ok(()) => return Ok(false),
            Err(failure) => failure,
        };
        let (of, at) = (name.clone(), tag.clone());
        match failure {
            Failure::Missing => {
                registry.on_store(move |store| Ok(store.table().drop_tag(&of, &at)?)).await?;
                Ok(false)
            }
            Failure::Down { too_many, why } => {
                let here = registry.on_store(move |store| Ok(store.table().tag(&of, &at)?)).await?;
                if here.is_none() {
                    return Err(self.refusal(Failure::Down { too_many, why }));
                }
                warn!(upstream = self.name(), %name, %tag, why, "what is served may be stale");
                Ok(true)
            }
            failure @ Failure::Denied(_) => Err(self.refusal(failure)),
        }
    }

    /// Makes a tag here what it is there.
    async fn follow(
        &self,
        registry: &Arc<Registry>,
        name: &Name,
        tag: &Tag,
    ) -> Result<(), Failure> {
        let repository = self.repository(name);
        let told = self.within(ASK_WITHIN, repository.manifest_digest(tag.as_str())).await?;
        let digest = match told {
            Some(digest) => digest,
            // Some tell it with the manifest alone.
            None => self.within(FETCH_WITHIN, repository.manifest(tag.as_str())).await?.digest,
        };
        let (of, at) = (name.clone(), tag.clone());
        let same = registry.on_store(move |store| {
            let is = store.table().tag(&of, &at)? == Some(digest);
            Ok(is && store.table().manifest(&of, &digest)?.is_some())
        });
        if same.await.map_err(|error| own(&error))? {
            return Ok(());
        }
        self.fetch(registry, name, digest, Some(tag)).await
    }

    /// Fetches a manifest that is not here, and gives it its tag.
    async fn fetch(
        &self,
        registry: &Arc<Registry>,
        name: &Name,
        digest: Digest,
        tag: Option<&Tag>,
    ) -> Result<(), Failure> {
        let here = {
            let of = name.clone();
            move |store: &Store| store.uses_manifest(&of, &digest)
        };
        if tag.is_none() && on(registry, here.clone()).await? {
            return Ok(());
        }
        let turn = self.turn(name, digest);
        let _turn = turn.lock().await;
        if !on(registry, here).await? {
            let repository = self.repository(name);
            let text = digest.to_string();
            let fetched = self.within(FETCH_WITHIN, repository.manifest(&text)).await?;
            let read = Manifest::parse(&fetched.bytes, Some(&fetched.media_type));
            let read = read.map_err(|error| Failure::Down {
                too_many: false,
                why: format!("the manifest {digest} is not taken: {error}"),
            })?;
            let of = name.clone();
            let keep = move |store: &Store| store.keep_manifest(&of, &digest, &fetched.bytes, read);
            on(registry, keep).await?;
        }
        let Some(tag) = tag else { return Ok(()) };
        let (of, at) = (name.clone(), tag.clone());
        on(registry, move |store| Ok(store.table().put_tag(&of, &at, &digest)?)).await
    }

    /// Length of a blob that is not here; none if it is nowhere.
    pub(crate) async fn blob_bytes(
        &self,
        name: &Name,
        digest: &Digest,
    ) -> Result<Option<u64>, Refusal> {
        let repository = self.repository(name);
        match self.within(ASK_WITHIN, repository.blob_bytes(*digest)).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Failure::Missing) => Ok(None),
            Err(failure) => Err(self.refusal(failure)),
        }
    }

    /// A blob that is not here, on its way: a flight that has begun, or begins; none if it is
    /// nowhere, or here meanwhile.
    pub(crate) async fn flight(
        &self,
        registry: &Arc<Registry>,
        name: &Name,
        digest: Digest,
    ) -> Result<Option<Arc<Flight>>, Refusal> {
        let wanted = (name.clone(), digest);
        let turn = self.turn(name, digest);
        let _turn = turn.lock().await;
        if let Some(flight) = self.flights().get(&wanted) {
            return Ok(Some(Arc::clone(flight)));
        }
        let of = name.clone();
        if registry.on_store(move |store| Ok(store.table().blob(&of, &digest)?.is_some())).await? {
            return Ok(None);
        }
        if self.flights().len() >= FLIGHTS_MAX {
            let why = format!("{FLIGHTS_MAX} blobs are on their way already");
            return Err(Refusal::new(429, Code::TooManyRequests, why));
        }
        let Some(bytes) = self.blob_bytes(name, &digest).await? else { return Ok(None) };
        let blob = registry.on_store(|store| store.begin()).await?;
        let (flight, bring) = Flight::prepare(self.repository(name), digest, bytes, blob)?;
        let flight = Arc::new(flight);
        self.flights().insert(wanted.clone(), Arc::clone(&flight));
        let registry = Arc::clone(registry);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            bring.run(&registry, &wanted.0).await;
            if let Some(upstream) = &registry.upstream {
                upstream.flights().remove(&wanted);
            }
        });
        Ok(Some(flight))
    }

    /// Every tag there; nothing if nobody answers.
    pub(crate) async fn tags(&self, name: &Name) -> Result<Option<Vec<String>>, Refusal> {
        let repository = self.repository(name);
        self.if_up(self.within(FETCH_WITHIN, repository.tags()).await)
    }

    /// What refers to a manifest there; nothing if nobody answers.
    pub(crate) async fn referrers(
        &self,
        name: &Name,
        subject: Digest,
    ) -> Result<Option<Vec<registry::Referrer>>, Refusal> {
        let repository = self.repository(name);
        self.if_up(self.within(FETCH_WITHIN, repository.referrers(subject)).await)
    }

    fn if_up<T: Default>(&self, done: Result<T, Failure>) -> Result<Option<T>, Refusal> {
        match done {
            Ok(done) => Ok(Some(done)),
            Err(Failure::Missing | Failure::Down { .. }) => Ok(None),
            Err(failure @ Failure::Denied(_)) => Err(self.refusal(failure)),
        }
    }

    /// Asks, unless it did not answer a moment ago.
    async fn within<T>(
        &self,
        within: Duration,
        asked: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, Failure> {
        let resting = *self.resting();
        if resting.is_some_and(|until| monotonic() < until) {
            let why = "it did not answer a moment ago".to_owned();
            return Err(Failure::Down { too_many: false, why });
        }
        let failure = match tokio::time::timeout(within, asked).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => failure(&error),
            Err(_) => {
                let why = format!("it did not answer within {} s", within.as_secs());
                Failure::Down { too_many: false, why }
            }
        };
        if matches!(failure, Failure::Down { too_many: false, .. }) {
            *self.resting() = monotonic().checked_add(REST);
        }
        Err(failure)
    }

    fn refusal(&self, failure: Failure) -> Refusal {
        let host = self.name();
        match failure {
            Failure::Missing => Refusal::new(404, Code::NameUnknown, format!("{host} has it not")),
            Failure::Denied(why) => Refusal::new(403, Code::Denied, format!("{host}: {why}")),
            Failure::Down { too_many: true, why } => {
                Refusal::new(429, Code::TooManyRequests, format!("{host}: {why}"))
            }
            Failure::Down { too_many: false, why } => {
                Refusal::new(503, Code::Unavailable, format!("{host}: {why}"))
            }
        }
    }

    fn repository(&self, name: &Name) -> Arc<Repository> {
        let mut all = self.repositories.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REPOSITORIES_MAX && !all.contains_key(name) {
            // Tokens are had again.
            all.clear();
        }
        let made = || {
            let credentials = self.credentials.clone();
            Arc::new(self.client.at(self.endpoint.clone(), name.as_str(), credentials))
        };
        Arc::clone(all.entry(name.clone()).or_insert_with(made))
    }

    /// The turn to fetch something.
    fn turn(&self, name: &Name, digest: Digest) -> Arc<AsyncMutex<()>> {
        let mut all = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        // Of what nobody fetches nothing has to be known.
        all.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(all.entry((name.clone(), digest)).or_default())
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Wanted, Arc<Flight>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resting(&self) -> MutexGuard<'_, Option<Instant>> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a registry's error means to those who ask us.
fn failure(error: &RegistryError) -> Failure {
    match error.kind() {
        ErrorKind::NotFound => Failure::Missing,
        ErrorKind::PermissionDenied => {
            Failure::Denied(error.said_no().unwrap_or("access denied").to_owned())
        }
        ErrorKind::Exhausted => Failure::Down { too_many: true, why: chain(error) },
        ErrorKind::InvalidInput
        | ErrorKind::Conflict
        | ErrorKind::Unsupported
        | ErrorKind::Unavailable
        | ErrorKind::DeadlineExceeded
        | ErrorKind::Corrupt
        | ErrorKind::CommandNotFound
        | ErrorKind::CommandNotRunnable
        | ErrorKind::Internal => Failure::Down { too_many: false, why: chain(error) },
    }
}

/// Our own store's failure, which is nobody's there.
fn own(error: &Refusal) -> Failure {
    Failure::Down { too_many: false, why: error.to_string() }
}

async fn on<T: Send + 'static>(
    registry: &Arc<Registry>,
    work: impl FnOnce(&Store) -> Result<T, crate::StoreError> + Send + 'static,
) -> Result<T, Failure> {
    registry.on_store(work).await.map_err(|error| own(&error))
}

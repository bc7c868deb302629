//! The client, and one repository of a registry as it is asked.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base::Reference;
use reqwest::redirect::Policy;

use crate::{
    Credentials, Endpoint, Hosts, RegistryError,
    exchange::{Ask, Payload},
};

/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// How long nothing may come before a connection counts as cut.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// What we call ourselves.
const AGENT: &str = concat!("wythe/", env!("CARGO_PKG_VERSION"));

/// A client of registries. Cloning it gives another handle to the same connections.
#[derive(Clone, Debug, Default)]
pub struct Client(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    hosts: Hosts,
    verified: OnceLock<reqwest::Client>,
    unverified: OnceLock<reqwest::Client>,
    rooted: Mutex<BTreeMap<PathBuf, reqwest::Client>>,
}

impl Client {
    /// A client that knows this of hosts. Connections are made when they are needed, the system's
    /// roots are read when TLS is.
    pub fn new(hosts: Hosts) -> Client {
        Client(Arc::new(Shared { hosts, ..Shared::default() }))
    }

    /// The repository of this name, to read from: itself and its mirrors.
    pub fn reader(
        &self,
        name: &Reference,
        credentials: Option<Credentials>,
        insecure: bool,
    ) -> Repository {
        let endpoints = self.0.hosts.endpoints(name.domain(), insecure);
        let scopes = vec![scope(name.path(), "pull")];
        Repository::new(self, name, endpoints, scopes, credentials)
    }

    /// The repository of this name at one host, to read from, and nowhere else.
    pub fn at(
        &self,
        endpoint: Endpoint,
        path: &str,
        credentials: Option<Credentials>,
    ) -> Repository {
        Repository {
            client: self.clone(),
            path: path.to_owned(),
            endpoints: vec![endpoint],
            scopes: vec![scope(path, "pull")],
            credentials,
            sessions: Mutex::default(),
            serving: AtomicUsize::new(0),
        }
    }

    /// The repository of this name, to write to; blobs may be mounted from these others.
    pub fn writer(
        &self,
        name: &Reference,
        sources: &[String],
        credentials: Option<Credentials>,
        insecure: bool,
    ) -> Repository {
        let endpoints = self.0.hosts.own(name.domain(), insecure).into_iter().collect();
        let own = scope(name.path(), "pull,push");
        let scopes = [own].into_iter().chain(sources.iter().map(|path| scope(path, "pull")));
        Repository::new(self, name, endpoints, scopes.collect(), credentials)
    }

    /// Whether a registry takes these credentials.
    ///
    /// # Errors
    /// [`RegistryError::Denied`] if not.
    pub async fn check(
        &self,
        domain: &str,
        credentials: Option<Credentials>,
        insecure: bool,
    ) -> Result<(), RegistryError> {
        let Some(at) = self.0.hosts.own(domain, insecure) else {
            let what = format!("registry {domain}");
            return Err(RegistryError::NotFound { what, said: "that is no host".to_owned() });
        };
        let repository = Repository {
            client: self.clone(),
            path: String::new(),
            endpoints: vec![at.clone()],
            scopes: Vec::new(),
            credentials,
            sessions: Mutex::default(),
            serving: AtomicUsize::new(0),
        };
        let ask = Ask::get(format!("{}/v2/", at.prefix), format!("registry {domain}"));
        repository.exchange(&at, &ask, &Payload::None).await.map(drop)
    }

    /// The HTTP client for an endpoint.
    pub(crate) fn http(&self, at: &Endpoint) -> Result<reqwest::Client, RegistryError> {
        let shared = &self.0;
        if at.insecure {
            return once(
                &shared.unverified,
                || Ok(builder().tls_danger_accept_invalid_certs(true)),
            );
        }
        let Some(path) = &at.ca else { return once(&shared.verified, || Ok(builder())) };
        let mut rooted = shared.rooted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = rooted.get(path) {
            return Ok(client.clone());
        }
        let client = build(builder().tls_certs_merge(roots(path)?))?;
        rooted.insert(path.clone(), client.clone());
        Ok(client)
    }
}

fn scope(path: &str, actions: &str) -> String {
    format!("repository:{path}:{actions}")
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(AGENT)
        // We follow redirects ourselves: tokens stay with the host they are for.
        .redirect(Policy::none())
        .connect_timeout(CONNECT_WITHIN)
        .read_timeout(SILENCE_MAX)
        .http1_only()
}

fn build(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, RegistryError> {
    builder.build().map_err(|error| RegistryError::Tls { why: base::chain(&error) })
}

fn once(
    cell: &OnceLock<reqwest::Client>,
    make: impl FnOnce() -> Result<reqwest::ClientBuilder, RegistryError>,
) -> Result<reqwest::Client, RegistryError> {
    if let Some(client) = cell.get() {
        return Ok(client.clone());
    }
    let client = build(make()?)?;
    Ok(cell.get_or_init(|| client).clone())
}

fn roots(path: &Path) -> Result<Vec<reqwest::Certificate>, RegistryError> {
    let read = fs::read(path);
    let pem = read.map_err(|source| RegistryError::Roots { path: path.to_owned(), source })?;
    reqwest::Certificate::from_pem_bundle(&pem)
        .map_err(|error| RegistryError::Tls { why: format!("{}: {error}", path.display()) })
}

/// One repository, and what was learnt of the hosts that serve it.
#[derive(Debug)]
pub struct Repository {
    pub(crate) client: Client,
    /// Its name within the registry.
    pub(crate) path: String,
    pub(crate) endpoints: Vec<Endpoint>,
    /// What tokens are asked for.
    pub(crate) scopes: Vec<String>,
    pub(crate) credentials: Option<Credentials>,
    sessions: Mutex<BTreeMap<Endpoint, Session>>,
    /// Which endpoint served last.
    serving: AtomicUsize,
}

/// What was learnt of one host.
#[derive(Clone, Default)]
pub(crate) struct Session {
    /// Whether it speaks plain HTTP.
    pub(crate) plain: Option<bool>,
    /// What it wants to see.
    pub(crate) authorization: Option<String>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = self.authorization.as_ref().map(|_| "***");
        f.debug_struct("Session")
            .field("plain", &self.plain)
            .field("authorization", &shown)
            .finish()
    }
}

impl Repository {
    fn new(
        client: &Client,
        name: &Reference,
        endpoints: Vec<Endpoint>,
        scopes: Vec<String>,
        credentials: Option<Credentials>,
    ) -> Repository {
        Repository {
            client: client.clone(),
            path: name.path().to_owned(),
            endpoints,
            scopes,
            credentials,
            sessions: Mutex::default(),
            serving: AtomicUsize::new(0),
        }
    }

    /// The registry itself.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`] if its name is no host's.
    pub(crate) fn own(&self) -> Result<&Endpoint, RegistryError> {
        self.endpoints.last().ok_or_else(|| RegistryError::NotFound {
            what: format!("the registry of {}", self.path),
            said: "its name is no host's".to_owned(),
        })
    }

    /// The endpoints in the order in which they are asked: the one that served last first.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = (usize, &Endpoint)> {
        let first = self.serving.load(Ordering::Relaxed);
        let numbered = self.endpoints.iter().enumerate();
        numbered.clone().skip(first).chain(numbered.take(first))
    }

    pub(crate) fn served(&self, endpoint: usize) {
        self.serving.store(endpoint, Ordering::Relaxed);
    }

    pub(crate) fn session(&self, at: &Endpoint) -> Session {
        self.sessions().get(at).cloned().unwrap_or_default()
    }

    pub(crate) fn learn(&self, at: &Endpoint, what: impl FnOnce(&mut Session)) {
        what(self.sessions().entry(at.clone()).or_default());
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<Endpoint, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

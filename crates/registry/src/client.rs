//! The client, and one repository of a registry as it is asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base::Reference;
use reqwest::{Url, redirect::Policy};

use crate::{
    Credentials, Endpoint, Hosts, RegistryError, Trust,
    exchange::{Ask, Payload, is_own},
    hosts::is_loopback,
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
    ways: Mutex<BTreeMap<Way, reqwest::Client>>,
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
            distrusted: Mutex::default(),
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
            distrusted: Mutex::default(),
        };
        let ask = Ask::get(format!("{}/v2/", at.prefix), format!("registry {domain}"));
        repository.exchange(&at, &ask, &Payload::None).await.map(drop)
    }

    /// The HTTP client for a request that an endpoint, or a host that it names, is to answer.
    pub(crate) fn http(&self, at: &Endpoint, url: &Url) -> Result<reqwest::Client, RegistryError> {
        let way = Way {
            insecure: at.insecure,
            near: url.host_str().is_some_and(is_loopback),
            // Who we are is for the endpoint alone.
            trust: Trust {
                identity: at.trust.identity.clone().filter(|_| is_own(url, at)),
                ..at.trust.clone()
            },
        };
        let mut ways = self.0.ways.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = ways.get(&way) {
            return Ok(client.clone());
        }
        let client = way.client()?;
        ways.insert(way, client.clone());
        Ok(client)
    }
}

/// How a host is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    insecure: bool,
    /// No proxy leads to the loopback.
    near: bool,
    trust: Trust,
}

impl Way {
    fn client(&self) -> Result<reqwest::Client, RegistryError> {
        let mut builder = reqwest::Client::builder()
            .user_agent(AGENT)
            // We follow redirects ourselves: tokens stay with the host they are for.
            .redirect(Policy::none())
            .connect_timeout(CONNECT_WITHIN)
            .read_timeout(SILENCE_MAX)
            .http1_only();
        if self.near {
            builder = builder.no_proxy();
        }
        builder = match self.insecure {
            true => builder.tls_danger_accept_invalid_certs(true),
            false => builder.tls_certs_merge(self.trust.certificates()?),
        };
        if let Some(identity) = self.trust.proof()? {
            builder = builder.identity(identity);
        }
        builder.build().map_err(|error| RegistryError::Tls { why: base::chain(&error) })
    }
}

fn scope(path: &str, actions: &str) -> String {
    format!("repository:{path}:{actions}")
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
    /// Which sent something wrong.
    distrusted: Mutex<BTreeSet<usize>>,
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
            distrusted: Mutex::default(),
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

    /// The endpoints in the order in which they are asked: the one that served last first, and
    /// none that sent something wrong.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (usize, &Endpoint)> {
        let first = self.serving.load(Ordering::Relaxed);
        let distrusted = self.distrusted().clone();
        let numbered = self.endpoints.iter().enumerate();
        let in_order = numbered.clone().skip(first).chain(numbered.take(first));
        in_order.filter(move |(number, _)| !distrusted.contains(number))
    }

    /// Asks these endpoints no more. Whether there are others.
    pub(crate) fn distrust(&self, endpoints: &BTreeSet<usize>) -> bool {
        self.distrusted().extend(endpoints);
        !endpoints.is_empty() && self.sources().next().is_some()
    }

    fn distrusted(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.distrusted.lock().unwrap_or_else(PoisonError::into_inner)
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

//! The way of a request: who asks, what for, and the answer.

use std::{io, sync::Arc, time::Duration};

use base::clock::monotonic;
use hyper::{
    HeaderMap, Request, StatusCode,
    header::{ALLOW, AUTHORIZATION, HeaderValue, SERVER, WWW_AUTHENTICATE},
    http::request::Parts,
};
use listen::{Incoming, Listener};
use serde_json::json;
use tracing::{debug, error, info};

use crate::{
    blobs,
    error::{Code, Refusal},
    htpasswd::Htpasswd,
    lists, manifests, pushes,
    reply::{API_VERSION, Answer, Reply, json},
    route::Route,
    store::{Collected, GRACE, Store, StoreError},
    uploads::Uploads,
    upstream::Upstream,
};

/// How often a registry that serves collects what nobody needs.
pub const COLLECT_EVERY: Duration = Duration::from_secs(3600);
/// How often uploads are looked at that nobody goes on with.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);
/// How long a cache keeps what no tag leads to: it can be fetched again.
const CACHE_KEEPS: Duration = Duration::from_secs(7 * 24 * 3600);
/// What a client is asked to prove. Source: RFC 7617.
const CHALLENGE: &str = "Basic realm=\"Wythe registry\", charset=\"UTF-8\"";

/// What every endpoint needs.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) store: Store,
    pub(crate) uploads: Uploads,
    users: Option<Htpasswd>,
    /// What this registry is a cache of.
    pub(crate) upstream: Option<Upstream>,
}

/// Serves a registry. Cloning it gives another handle.
#[derive(Clone, Debug)]
pub struct Server(Arc<Registry>);

impl Server {
    /// A server of this store; with a file of users, for these alone; with an upstream, of what
    /// that has, and nothing is pushed here.
    pub fn new(store: Store, users: Option<Htpasswd>, upstream: Option<Upstream>) -> Server {
        Server(Arc::new(Registry { store, uploads: Uploads::default(), users, upstream }))
    }

    /// Serves a socket until `stop` is done.
    ///
    /// # Errors
    /// If the socket cannot be used any more.
    pub async fn serve(
        &self,
        listener: Listener,
        stop: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let registry = Arc::clone(&self.0);
        let answer = move |request| answer(Arc::clone(&registry), request);
        listen::serve(listener, listen::Limits::default(), answer, stop).await
    }

    /// Forgets what nobody goes on with, and collects what nobody needs, for as long as it is
    /// polled.
    pub async fn tidy(&self) {
        let mut expire = tokio::time::interval(EXPIRE_EVERY);
        let mut collect = tokio::time::interval(COLLECT_EVERY);
        // What is due at once is not: there is nothing yet, or somebody waits for an answer.
        expire.reset();
        collect.reset();
        let (untagged, grace) = match self.0.upstream {
            Some(_) => (true, CACHE_KEEPS),
            None => (false, GRACE),
        };
        loop {
            tokio::select! {
                _ = expire.tick() => self.0.uploads.expire(monotonic()),
                _ = collect.tick() => match self.collect(untagged, grace).await {
                    Ok(done) if done == Collected::default() => {}
                    Ok(done) => info!(blobs = done.blobs, bytes = done.bytes, "collected"),
                    Err(error) => error!(error = base::chain(&error), "not collected"),
                },
            }
        }
    }

    /// See [`Store::collect`].
    ///
    /// # Errors
    /// As there.
    pub async fn collect(&self, untagged: bool, grace: Duration) -> Result<Collected, StoreError> {
        let registry = Arc::clone(&self.0);
        let work = move || registry.store.collect(untagged, grace);
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
            let source = io::Error::other(error);
            Err(StoreError::Disk { doing: "collect blobs", source })
        })
    }
}

impl Registry {
    /// Does something with the store on a thread that may wait for the disk.
    pub(crate) async fn on_store<T: Send + 'static>(
        self: &Arc<Registry>,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let registry = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&registry.store)).await;
        let broken = |_| Refusal::new(500, Code::Unknown, "the store broke off");
        Ok(done.map_err(broken)??)
    }

    /// Lets those in who may.
    async fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(users) = &self.users else { return Ok(()) };
        let authorization = headers.get(AUTHORIZATION).and_then(|header| header.to_str().ok());
        match users.check(authorization).await {
            Some(_) => Ok(()),
            None => {
                let refusal = Refusal::new(401, Code::Unauthorized, "authentication required");
                Err(refusal.with(WWW_AUTHENTICATE, CHALLENGE))
            }
        }
    }
}

/// Answers one request.
async fn answer(registry: Arc<Registry>, request: Request<Incoming>) -> Reply {
    let (parts, body) = request.into_parts();
    // Boxed: the futures of all endpoints together are large.
    let done = Box::pin(carry_out(&registry, &parts, body)).await;
    let mut reply = done.unwrap_or_else(|refusal| {
        let (status, message) = (refusal.status, &refusal.message);
        let path = parts.uri.path();
        match status {
            500.. => error!(status, message, method = %parts.method, path, "failed"),
            _ => debug!(status, message, method = %parts.method, path, "refused"),
        }
        refusal.reply()
    });
    if parts.method == hyper::Method::HEAD {
        *reply.body_mut() = listen::full("");
    }
    let headers = reply.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    headers.insert(SERVER, HeaderValue::from_static(concat!("Wythe/", env!("CARGO_PKG_VERSION"))));
    reply
}

async fn carry_out(registry: &Arc<Registry>, parts: &Parts, body: Incoming) -> Answer {
    registry.admit(&parts.headers).await?;
    let reads = matches!(parts.method.as_str(), "GET" | "HEAD");
    if let Some(upstream) = registry.upstream.as_ref().filter(|_| !reads) {
        let why = format!("this registry is a cache of {}: push there", upstream.name());
        return Err(Refusal::new(405, Code::Unsupported, why).with(ALLOW, "GET, HEAD"));
    }
    let query = parts.uri.query().unwrap_or_default();
    let headers = &parts.headers;
    match (Route::parse(parts.uri.path())?, parts.method.as_str()) {
        (Route::Base, "GET" | "HEAD") => Ok(json("application/json", &json!({}))),
        (Route::Catalog, "GET") => lists::catalog(registry, query).await,
        (Route::Tags(name), "GET") => lists::tags(registry, name, query).await,
        (Route::Referrers(name, of), "GET") => lists::referrers(registry, name, of, query).await,
        (Route::Manifest(name, of), "GET" | "HEAD") => {
            manifests::get(registry, name, of, headers).await
        }
        (Route::Manifest(name, of), "PUT") => {
            manifests::put(registry, name, of, headers, body).await
        }
        (Route::Manifest(name, of), "DELETE") => manifests::delete(registry, name, of).await,
        (Route::Blob(name, digest), "GET" | "HEAD") => {
            let head = parts.method == hyper::Method::HEAD;
            blobs::get(registry, name, digest, headers, head).await
        }
        (Route::Blob(name, digest), "DELETE") => blobs::delete(registry, name, digest).await,
        (Route::Uploads(name), "POST") => pushes::begin(registry, name, query, headers, body).await,
        (Route::Upload(name, id), "GET" | "HEAD") => pushes::standing(registry, &name, &id),
        (Route::Upload(name, id), "PATCH") => {
            pushes::append(registry, &name, &id, headers, body).await
        }
        (Route::Upload(name, id), "PUT") => {
            pushes::end(registry, &name, &id, query, headers, body).await
        }
        (Route::Upload(name, id), "DELETE") => pushes::cancel(registry, &name, &id),
        (route, _) => {
            let status = StatusCode::METHOD_NOT_ALLOWED.as_u16();
            let refusal = Refusal::new(status, Code::Unsupported, "this is not done here");
            Err(refusal.with(ALLOW, methods(&route)))
        }
    }
}

/// What can be done at a path.
fn methods(route: &Route) -> &'static str {
    match route {
        Route::Base => "GET, HEAD",
        Route::Catalog | Route::Tags(_) | Route::Referrers(..) => "GET",
        Route::Manifest(..) => "GET, HEAD, PUT, DELETE",
        Route::Blob(..) => "GET, HEAD, DELETE",
        Route::Uploads(_) => "POST",
        Route::Upload(..) => "GET, HEAD, PATCH, PUT, DELETE",
    }
}

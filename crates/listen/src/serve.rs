//! Connections: accepted within limits, and each request handed to whoever answers it.

use std::{convert::Infallible, future::Future, io, sync::Arc, time::Duration};

use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
    task::JoinSet,
};
use tracing::{debug, warn};

use crate::{
    Body,
    listener::{Arrived, Listener, is_passing},
};

/// Connections at once; further ones wait until one has ended.
const CONNECTIONS_MAX: usize = 12_000;

/// How long a client may take for the head of a request, the first or the next one.
const HEAD_WITHIN: Duration = Duration::from_secs(60);

/// Largest head of a request, in bytes.
const HEAD_MAX: usize = 64 << 10;

/// How long accepting rests when the host has no more descriptors.
const REST: Duration = Duration::from_millis(50);

/// Serves a socket until `stop` is done. Connections that were taken over (upgrades) go on, others
/// end with it.
///
/// # Errors
/// If the socket cannot be used any more.
pub async fn serve<A, F>(
    listener: Listener,
    answer: A,
    stop: impl Future<Output = ()>,
) -> io::Result<()>
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(connections_max()));
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            () = &mut stop => return Ok(()),
            accepted = accepted => accepted,
        };
        match accepted {
            Ok(arrived) => {
                let answer = answer.clone();
                connections.spawn(async move {
                    admit(answer, arrived).await;
                    drop(permit);
                });
            }
            Err(error) if is_passing(&error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(REST).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Connections at once, with as many descriptors left for everything else.
///
/// Source: getrlimit(2), `RLIMIT_NOFILE`.
fn connections_max() -> usize {
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let most = most.and_then(|most| usize::try_from(most / 2).ok());
    most.map_or(CONNECTIONS_MAX, |most| most.min(CONNECTIONS_MAX))
}

/// Serves who has come; under TLS, once it is known who that is.
async fn admit<A, F>(answer: A, arrived: Arrived)
where
    A: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    match arrived {
        Arrived::Unix(stream) => connection(answer, stream).await,
        Arrived::Plain(stream) => connection(answer, stream).await,
        Arrived::Tls(stream, acceptor) => {
            match tokio::time::timeout(HEAD_WITHIN, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => connection(answer, stream).await,
                Ok(Err(error)) => warn!(%error, "a client is not who it should be"),
                Err(_) => debug!("a client did not say who it is"),
            }
        }
    }
}

async fn connection<A, F>(answer: A, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static)
where
    A: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answered = answer(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = served.await {
        debug!(%error, "a connection ended");
    }
}

//! Connections: accepted within limits, and each request handed to whoever answers it.

use std::{convert::Infallible, future::Future, io, sync::Arc, time::Duration};

use hyper::{Request, Response, body, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::Semaphore,
    task::JoinSet,
};
use tracing::{debug, warn};

use crate::{
    Body, Incoming,
    listener::{Arrived, Listener, is_passing},
};

/// Connections at once, as far as there are descriptors for them.
const CONNECTIONS_MAX: usize = 12_000;

/// How long a client may take for what has to come whole.
const WHOLE_WITHIN: Duration = Duration::from_secs(60);

/// Clients beyond all room that are told so at the same time; further ones are not even told.
const TURNED_AWAY_MAX: usize = 256;

/// How long one of those may take to ask.
const TURNED_AWAY_WITHIN: Duration = Duration::from_secs(1);

/// Largest head of a request, in bytes.
const HEAD_MAX: usize = 64 << 10;

/// How long accepting rests when the host has no more descriptors.
const REST: Duration = Duration::from_millis(50);

/// What a server grants its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; who comes after that gets 503.
    pub connections: usize,
    /// How long what has to come whole may take: the head of a request, the first or the next
    /// one; a short body; the client's side of TLS.
    pub whole_within: Duration,
}

impl Default for Limits {
    /// As many connections as there are descriptors for, with a quarter left for everything else.
    ///
    /// Source: getrlimit(2), `RLIMIT_NOFILE`.
    fn default() -> Limits {
        let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let most = most.and_then(|most| usize::try_from(most / 4 * 3).ok());
        let connections = most.map_or(CONNECTIONS_MAX, |most| most.min(CONNECTIONS_MAX));
        Limits { connections, whole_within: WHOLE_WITHIN }
    }
}

/// Serves a socket until `stop` is done. Connections that were taken over (upgrades) go on, others
/// end with it.
///
/// # Errors
/// If the socket cannot be used any more.
pub async fn serve<A, F>(
    listener: Listener,
    limits: Limits,
    answer: A,
    stop: impl Future<Output = ()>,
) -> io::Result<()>
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let (most, within) = (limits.connections, limits.whole_within);
    let room = Arc::new(Semaphore::new(most));
    let lobby = Arc::new(Semaphore::new(TURNED_AWAY_MAX));
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = &mut stop => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(arrived) => {
                if let Ok(permit) = Arc::clone(&room).try_acquire_owned() {
                    let answer = answer.clone();
                    connections.spawn(async move {
                        admit(answer, arrived, within).await;
                        drop(permit);
                    });
                } else if let Ok(permit) = Arc::clone(&lobby).try_acquire_owned() {
                    connections.spawn(async move {
                        turn_away(arrived, most).await;
                        drop(permit);
                    });
                }
            }
            Err(error) if is_passing(&error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(REST).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Says that there is no room. Under TLS nothing is said: that would need as much room.
async fn turn_away(arrived: Arrived, most: usize) {
    warn!(most, "no room for another connection");
    let told = async {
        match arrived {
            Arrived::Unix(stream) => no_room(stream, most).await,
            Arrived::Plain(stream) => no_room(stream, most).await,
            Arrived::Tls(..) => Ok(()),
        }
    };
    // Whoever takes longer, or has left, is not told.
    drop(tokio::time::timeout(TURNED_AWAY_WITHIN, told).await);
}

async fn no_room(mut stream: impl AsyncRead + AsyncWrite + Unpin, most: usize) -> io::Result<()> {
    // Who has not asked yet would not listen.
    if stream.read(&mut [0; 4096]).await? > 0 {
        let body = format!(
            "{{\"message\":\"there are {most} connections already, and no room for more\"}}\n"
        );
        let head = format!(
            "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await?;
    }
    stream.shutdown().await
}

/// Serves who has come; under TLS, once it is known who that is.
async fn admit<A, F>(answer: A, arrived: Arrived, within: Duration)
where
    A: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    match arrived {
        Arrived::Unix(stream) => connection(answer, stream, within).await,
        Arrived::Plain(stream) => connection(answer, stream, within).await,
        Arrived::Tls(stream, acceptor) => {
            match tokio::time::timeout(within, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => connection(answer, stream, within).await,
                Ok(Err(error)) => warn!(%error, "a client is not who it should be"),
                Err(_) => debug!("a client did not say who it is"),
            }
        }
    }
}

async fn connection<A, F>(
    answer: A,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    within: Duration,
) where
    A: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request: Request<body::Incoming>| {
        let (head, body) = request.into_parts();
        let body = Incoming::new(body, &head.headers);
        let answered = answer(Request::from_parts(head, body));
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(within)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = served.await {
        debug!(%error, "a connection ended");
    }
}

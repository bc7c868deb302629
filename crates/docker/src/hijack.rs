//! A client's own connection as the socket of somebody attached.
//!
//! Once a client has got the answer 101, its connection is no HTTP any more but the streams of a
//! process, in exactly the format that a shim speaks with those attached. So the socket itself is
//! handed down: not a byte of it passes through the daemon. Only a connection that is no plain
//! socket (TLS), or on which the client spoke before it was its turn, is carried by a task.

use std::{
    io,
    os::{fd::OwnedFd, unix::net},
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{
    Response, StatusCode,
    header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE},
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional},
    net::UnixStream,
};
use tracing::debug;

use crate::{
    body,
    call::Call,
    error::ApiError,
    reply::{self, Reply},
    route::Version,
};

/// Bytes of one part of a body.
const PART_BYTES: usize = 32 << 10;

/// The first version whose clients look at the type of a stream.
const MULTIPLEXED_SINCE: Version = Version(1, 42);

/// The type of a stream: as the terminal writes it, or in frames.
pub(crate) fn content_type(terminal: bool, version: Version) -> &'static str {
    match !terminal && version >= MULTIPLEXED_SINCE {
        true => "application/vnd.docker.multiplexed-stream",
        false => "application/vnd.docker.raw-stream",
    }
}

/// Answers, and hands the client's connection to `take` once the answer has gone out. To a client
/// that did not ask for its connection, what comes is streamed in the answer's body.
pub(crate) fn hand_over(
    call: Call,
    content_type: &'static str,
    take: impl FnOnce(OwnedFd) + Send + 'static,
) -> Reply {
    if !call.headers.contains_key(UPGRADE) {
        return streamed(call, content_type, take);
    }
    switch(call.upgrade, take);
    switched(content_type)
}

/// Hands the client's connection to `take` once the answer has gone out.
pub(crate) fn switch(upgrade: OnUpgrade, take: impl FnOnce(OwnedFd) + Send + 'static) {
    tokio::spawn(async move {
        let socket = match upgrade.await {
            Ok(upgraded) => socket(upgraded),
            Err(error) => return debug!(%error, "a client left before it was attached"),
        };
        match socket {
            Ok(socket) => take(socket),
            Err(error) => debug!(%error, "a connection cannot be attached"),
        }
    });
}

/// The answer after which the connection is the client's.
fn switched(content_type: &'static str) -> Reply {
    let mut reply = Response::new(body::full(Bytes::new()));
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = reply.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// The streams as the body of the answer, and the body of the request as standard input.
fn streamed(
    mut call: Call,
    content_type: &'static str,
    take: impl FnOnce(OwnedFd) + Send + 'static,
) -> Reply {
    let (ours, theirs) = match pair() {
        Ok(pair) => pair,
        Err(error) => {
            let message = format!("cannot make a socket: {error}");
            return reply::refusal(&ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message));
        }
    };
    let (output, mut input) = ours.into_split();
    if let Some(mut body) = call.body.take() {
        tokio::spawn(async move {
            while let Some(Ok(frame)) = body.frame().await {
                if let Ok(part) = frame.into_data()
                    && input.write_all(&part).await.is_err()
                {
                    break;
                }
            }
        });
    }
    take(theirs);
    let body = body::parts(output, |mut output| async move {
        let mut part = Vec::with_capacity(PART_BYTES);
        match output.read_buf(&mut part).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(part.into()), output)),
            Err(error) => Some((Err(error.into()), output)),
        }
    });
    reply::streamed(content_type, body)
}

/// Two sockets, one of them for a shim.
pub(crate) fn pair() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}

fn socket(upgraded: Upgraded) -> io::Result<OwnedFd> {
    match upgraded.downcast::<TokioIo<UnixStream>>() {
        Ok(parts) if parts.read_buf.is_empty() => Ok(parts.io.into_inner().into_std()?.into()),
        Ok(parts) => carried(parts.io.into_inner(), parts.read_buf),
        Err(upgraded) => carried(TokioIo::new(upgraded), Bytes::new()),
    }
}

/// A socket whose other end a task connects with the client, to whom `early` came from already.
pub(crate) fn carried(
    mut client: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    early: Bytes,
) -> io::Result<OwnedFd> {
    let (mut ours, theirs) = pair()?;
    tokio::spawn(async move {
        let carry = async {
            ours.write_all(&early).await?;
            copy_bidirectional(&mut client, &mut ours).await
        };
        if let Err(error) = carry.await {
            debug!(%error, "an attached connection broke");
        }
    });
    Ok(theirs)
}

//! Archives between a body and an engine that reads and writes descriptors.

use std::{future::Future, io, os::fd::OwnedFd};

use bytes::Bytes;
use engine::EngineError;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::unix::pipe::{Receiver, Sender},
    task::JoinHandle,
};

use crate::{
    body::{self, Body, Broken},
    error::ApiError,
};

/// Bytes of one part of a body.
const PART_BYTES: usize = 64 << 10;

fn no_pipe(error: io::Error) -> ApiError {
    ApiError::new(hyper::StatusCode::INTERNAL_SERVER_ERROR, format!("cannot make a pipe: {error}"))
}

/// A body of what `work` writes to the descriptor it is given. If it fails after that has begun,
/// the body breaks off: a client sees that it is not whole.
///
/// # Errors
/// 500 if there is no pipe.
pub(crate) fn written_by<W>(work: impl FnOnce(OwnedFd) -> W) -> Result<Body, ApiError>
where
    W: Future<Output = Result<(), EngineError>> + Send + 'static,
{
    let (reader, writer) = io::pipe().map_err(no_pipe)?;
    rustix::io::ioctl_fionbio(&reader, true).map_err(|error| no_pipe(error.into()))?;
    let reader = Receiver::from_owned_fd(reader.into()).map_err(no_pipe)?;
    let work = tokio::spawn(work(writer.into()));
    Ok(body::parts((reader, work), next))
}

type Written = (Receiver, JoinHandle<Result<(), EngineError>>);

async fn next((mut reader, work): Written) -> Option<(Result<Bytes, Broken>, Written)> {
    let mut part = Vec::with_capacity(PART_BYTES);
    match reader.read_buf(&mut part).await {
        Ok(0) => {
            let broken: Broken = match work.await {
                Ok(Ok(())) => return None,
                Ok(Err(failure)) => failure.into(),
                Err(failure) => failure.into(),
            };
            // Nothing is read after an error.
            let done = tokio::spawn(async { Ok(()) });
            Some((Err(broken), (reader, done)))
        }
        Ok(_) => Some((Ok(part.into()), (reader, work))),
        Err(error) => Some((Err(error.into()), (reader, work))),
    }
}

/// What `work` makes of a body, which it reads from the descriptor it is given.
///
/// # Errors
/// Those of the work; 400 if the body broke off and the work did not mind.
pub(crate) async fn read_by<T, W>(
    body: Incoming,
    work: impl FnOnce(OwnedFd) -> W,
) -> Result<T, ApiError>
where
    W: Future<Output = Result<T, EngineError>>,
{
    let (reader, writer) = io::pipe().map_err(no_pipe)?;
    rustix::io::ioctl_fionbio(&writer, true).map_err(|error| no_pipe(error.into()))?;
    let writer = Sender::from_owned_fd(writer.into()).map_err(no_pipe)?;
    let (fed, done) = tokio::join!(feed(body, writer), work(reader.into()));
    let done = done?;
    fed.map_err(|error| ApiError::bad(format!("the request broke off: {error}")))?;
    Ok(done)
}

/// Writes a body to a pipe. A reader that wants no more is none of its business.
async fn feed(mut body: Incoming, mut to: Sender) -> Result<(), hyper::Error> {
    while let Some(frame) = body.frame().await {
        if let Ok(part) = frame?.into_data()
            && to.write_all(&part).await.is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}

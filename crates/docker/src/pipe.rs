//! Archives between a body and an engine that reads and writes descriptors.

use std::{
    future::Future,
    io,
    os::{fd::OwnedFd, unix::net},
    pin::pin,
};

use bytes::Bytes;
use engine::EngineError;
use http_body_util::BodyExt as _;
use listen::Incoming;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixStream, unix::pipe::Receiver},
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

/// What `work` makes of a body, which it reads from the descriptor it is given. A body that breaks
/// off, as when its client leaves, is a connection that breaks off: the work sees an error and not
/// an end, and takes nothing for whole that is not.
///
/// # Errors
/// Those of the work; 400 if the body broke off.
pub(crate) async fn read_by<T, W>(
    body: Incoming,
    work: impl FnOnce(OwnedFd) -> W,
) -> Result<T, ApiError>
where
    W: Future<Output = Result<T, EngineError>>,
{
    let (feeder, reader) = Feeder::new().map_err(no_pipe)?;
    let (mut feeding, mut work) = (pin!(feed(body, feeder)), pin!(work(reader)));
    let fed = tokio::select! {
        biased;
        // A work that wants no more does not wait for a client that is slow to say it.
        done = &mut work => return Ok(done?),
        fed = &mut feeding => fed,
    };
    let done = work.await;
    fed.map_err(|error| ApiError::bad(format!("the request broke off: {error}")))?;
    Ok(done?)
}

/// Writes a body. A reader that wants no more is none of its business.
async fn feed(mut body: Incoming, mut to: Feeder) -> Result<(), hyper::Error> {
    while let Some(frame) = body.frame().await {
        if let Ok(part) = frame?.into_data()
            && to.socket.write_all(&part).await.is_err()
        {
            return Ok(());
        }
    }
    to.finish();
    Ok(())
}

/// The end of a socket that somebody reads to its end, or to `ECONNRESET`: it has a byte that
/// nobody took, unless it was finished, and a socket that is closed with such a byte is reset.
///
/// Source: unix(7); `unix_release_sock` in the kernel's `net/unix/af_unix.c`.
struct Feeder {
    socket: UnixStream,
}

impl Feeder {
    fn new() -> io::Result<(Feeder, OwnedFd)> {
        let (ours, mut theirs) = net::UnixStream::pair()?;
        io::Write::write_all(&mut theirs, &[0])?;
        ours.set_nonblocking(true)?;
        Ok((Feeder { socket: UnixStream::from_std(ours)? }, theirs.into()))
    }

    /// All has been written: the reader will find an end.
    fn finish(self) {
        // Not through the event loop, which may not know yet that there is something to be read.
        let taken = rustix::io::read(&self.socket, &mut [0]);
        debug_assert!(taken == Ok(1), "the byte is there from the beginning: {taken:?}");
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read as _};

    use super::*;

    #[tokio::test]
    async fn only_what_was_finished_has_an_end() {
        for whole in [true, false] {
            let (mut feeder, reader) = Feeder::new().unwrap();
            feeder.socket.write_all(b"archive").await.unwrap();
            match whole {
                true => feeder.finish(),
                false => drop(feeder),
            }
            let mut text = Vec::new();
            let read = File::from(reader).read_to_end(&mut text);
            assert_eq!(text, b"archive");
            assert_eq!(read.is_ok(), whole, "{read:?}");
        }
    }
}

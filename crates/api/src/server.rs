//! Serves an engine on a unix socket.
//!
//! One task per connection; a task that waits for the engine watches its client too, and drops
//! the request when the client has gone. A client that does not read its answers holds up nobody
//! but itself.

use std::{
    fs::Permissions,
    io,
    os::fd::OwnedFd,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    sync::Arc,
    time::Duration,
};

use base::ErrorKind;
use engine::Engine;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinSet,
};
use tracing::{debug, warn};
use wire::{Conn, Reader, WireError, Writer};

use crate::{Failure, Hello, PROTOCOL, Reply, Request};

mod answer;
mod failure;
mod networks;
mod transfer;
mod volumes;

/// Most connections at a time; further ones wait in the listener's queue. Each waiting `run`,
/// `wait` and `logs -f` holds one.
const CONNECTIONS_MAX: usize = 4096;

/// How long a new client may take to say who it is.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// How long accepting rests when the process or the host has no descriptor left.
const REST: Duration = Duration::from_millis(100);

/// Serves one engine.
#[derive(Debug)]
pub struct Server {
    engine: Engine,
    build: String,
}

/// Makes the daemon's socket, 0660, owned by this group if one is given. What an earlier daemon
/// left at the path is removed: call this only as the one who may serve it.
///
/// # Errors
/// Whatever the kernel says.
pub fn listen(path: &Path, group: Option<u32>) -> io::Result<std::os::unix::net::UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    // Until the next lines the caller's umask decides who may connect: the daemon's is 0077.
    if group.is_some() {
        chown(path, None, group)?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(0o660))?;
    Ok(listener)
}

impl Server {
    /// A server for this engine, of this build's version.
    pub fn new(engine: Engine, build: impl Into<String>) -> Server {
        Server { engine, build: build.into() }
    }

    /// Serves until `stop` is done. Requests under way are dropped then, which the engine stands.
    ///
    /// # Errors
    /// If the listener can accept no more at all.
    pub async fn serve(
        self,
        listener: UnixListener,
        stop: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let server = Arc::new(self);
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
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
                Ok((stream, _)) => {
                    let server = Arc::clone(&server);
                    connections.spawn(async move {
                        if let Err(error) = server.connection(stream).await {
                            debug!(%error, "connection ended");
                        }
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

    async fn connection(&self, stream: UnixStream) -> Result<(), WireError> {
        let (mut reader, mut writer) = Conn::new(stream).split();
        let hello = tokio::time::timeout(HELLO_WITHIN, reader.recv::<Hello>()).await;
        let Ok(Some((hello, _))) = hello.unwrap_or(Ok(None)) else { return Ok(()) };
        let ours = Hello { protocol: PROTOCOL, build: self.build.clone() };
        writer.send(&ours, &[]).await?;
        if hello.protocol != PROTOCOL {
            return Ok(());
        }
        let mut next = None;
        loop {
            let Some((request, fds)) = (match next.take() {
                Some(early) => Some(early),
                None => receive(&mut reader, &mut writer).await?,
            }) else {
                return Ok(());
            };
            next = self.attended(request, fds, &mut reader, &mut writer).await?;
        }
    }

    /// Answers a request for as long as the client is there. What it sent meanwhile comes back.
    async fn attended(
        &self,
        request: Request,
        fds: Vec<OwnedFd>,
        reader: &mut Reader,
        writer: &mut Writer,
    ) -> Result<Option<(Request, Vec<OwnedFd>)>, WireError> {
        let answer = answer::answer(&self.engine, request, fds, writer);
        tokio::pin!(answer);
        tokio::select! {
            biased;
            done = &mut answer => done.map(|()| None),
            early = reader.recv() => match early? {
                // From here on the answer is not watched: it is short of one message.
                Some(early) => answer.await.map(|()| Some(early)),
                None => Err(WireError::Io(io::ErrorKind::ConnectionAborted.into())),
            },
        }
    }
}

/// The next request; one that cannot be read is answered and ends the connection.
async fn receive(
    reader: &mut Reader,
    writer: &mut Writer,
) -> Result<Option<(Request, Vec<OwnedFd>)>, WireError> {
    match reader.recv().await {
        Err(WireError::Json(error)) => {
            let message = format!("this daemon does not understand the request: {error}");
            let failure = Failure { kind: ErrorKind::InvalidInput, message, hints: Vec::new() };
            writer.send(&Reply::Failed(failure), &[]).await?;
            Ok(None)
        }
        other => other,
    }
}

/// Whether accepting can go on after this: `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`, or a client
/// that went away in the queue.
///
/// Source: accept(2).
fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let passing =
        [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::CONNABORTED, Errno::INTR];
    passing.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests;

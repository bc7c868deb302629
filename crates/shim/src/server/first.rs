//! The first connection of a shim, which decides what it is for.

use std::{
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::Arc,
    time::Duration,
};

use base::Deadline;
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    process::Signal,
};
use tokio::net::{UnixListener, UnixStream as TokioUnixStream};
use wire::Conn;
use workload::{DriverError, Isolation, SandboxHandle};

use super::{
    Shim, State,
    connection::{HANDSHAKE, Received, welcome},
};
use crate::{
    ForkServerError,
    directory::{Directory, Socket},
    protocol::{Answer, Call, Reply, Request},
};

/// How long the fork server may take to end.
const LEAVE_SECONDS: i64 = 5;

/// How long an answer may take to be read.
const ANSWER: Duration = Duration::from_secs(5);

/// Serves whoever made the fork server fork this process.
pub(super) async fn serve(
    shim: Arc<Shim>,
    directory: &Directory,
    stream: UnixStream,
    fork_server: OwnedFd,
) -> Result<(), ForkServerError> {
    let failed = |source| ForkServerError::Io { doing: "talk to the client", source };
    stream.set_nonblocking(true).map_err(failed)?;
    let conn = Conn::new(TokioUnixStream::from_std(stream).map_err(failed)?);
    // A client that goes away or says nothing has not made anything begin.
    let Some(mut conn) = welcome(conn, &shim.build).await else { return Ok(()) };
    let first = tokio::time::timeout(HANDSHAKE, conn.recv::<Call>()).await;
    let Ok(Ok(Some((call, fds)))) = first else { return Ok(()) };
    let received = Received::new(call, fds);
    let id = received.id;
    let result = match received.request {
        Request::Create { ref spec, .. } => {
            drop(fork_server);
            let socket = Socket::Sandbox(spec.id.clone());
            match claim(directory, &socket) {
                // The client was killed before this shim could be found. Whoever has looked for
                // it since has found nothing, and it must stay so.
                Ok(_) if has_gone(&conn) => return Ok(directory.remove(&socket)?),
                Ok(listener) => {
                    shim.state.send_replace(State::Creating(spec.id.clone()));
                    shim.serve(listener, conn, received).await;
                    return Ok(());
                }
                Err(error) => Err(error),
            }
        }
        Request::Reclaim { handle } => {
            drop(fork_server);
            reclaim(&shim, directory, handle, received.by).await.map(|()| Reply::Done)
        }
        Request::Leave => leave(&fork_server).map(|()| Reply::Done),
        Request::Handle
        | Request::Spawn { .. }
        | Request::Process { .. }
        | Request::Forget { .. }
        | Request::Limit { .. }
        | Request::Usage
        | Request::HostPids
        | Request::Pause
        | Request::Resume
        | Request::Save { .. }
        | Request::Destroy
        | Request::Vacate
        | Request::Signal { .. }
        | Request::Resize { .. }
        | Request::Attach { .. }
        | Request::FileStat { .. }
        | Request::FilesRead { .. }
        | Request::FilesWrite { .. }
        | Request::Wait { .. }
        | Request::Chores(_) => Err(DriverError::State {
            what: "a shim that was just forked".to_owned(),
            state: "empty".to_owned(),
        }),
    };
    // Should the client not hear it: nothing is left behind either way.
    let _ = tokio::time::timeout(ANSWER, conn.send(&Answer { id, result }, &[])).await;
    Ok(())
}

fn claim(directory: &Directory, socket: &Socket) -> Result<UnixListener, DriverError> {
    let listener = directory.listen(socket).map_err(|error| error.to_driver_error())?;
    let listener = listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener));
    listener.map_err(|error| DriverError::step("listen at the sandbox's socket", &error))
}

/// Whether the client has closed its connection.
fn has_gone(conn: &Conn) -> bool {
    let mut polled = [PollFd::new(conn.stream(), PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match rustix::event::poll(&mut polled, Some(&now)) {
        Ok(1..) => polled[0].revents().contains(PollFlags::HUP),
        Ok(0) | Err(_) => false,
    }
}

/// Removes what is left of a sandbox, holding its socket meanwhile so that nobody makes it anew.
async fn reclaim(
    shim: &Shim,
    directory: &Directory,
    handle: SandboxHandle,
    by: Deadline,
) -> Result<(), DriverError> {
    let socket = Socket::Sandbox(handle.sandbox.clone());
    let listener = claim(directory, &socket)?;
    let result = destroy_leftovers(shim, handle.isolation, handle, by).await;
    let removed = directory.remove(&socket).map_err(|error| error.to_driver_error());
    drop(listener);
    result.and(removed)
}

async fn destroy_leftovers(
    shim: &Shim,
    isolation: Isolation,
    handle: SandboxHandle,
    by: Deadline,
) -> Result<(), DriverError> {
    let driver = (shim.make_driver)(isolation)?;
    match driver.recover(handle, by).await? {
        Some(sandbox) => sandbox.destroy(by).await,
        None => Ok(()),
    }
}

/// Ends the fork server and waits until it is gone, so that its place can be taken.
fn leave(fork_server: &OwnedFd) -> Result<(), DriverError> {
    let failed = |error: rustix::io::Errno| {
        DriverError::step("end the fork server", &std::io::Error::from(error))
    };
    match rustix::process::pidfd_send_signal(fork_server, Signal::TERM) {
        Ok(()) => {}
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(failed(error)),
    }
    let timeout = Timespec { tv_sec: LEAVE_SECONDS, tv_nsec: 0 };
    let mut polled = [PollFd::new(fork_server, PollFlags::IN)];
    match rustix::event::poll(&mut polled, Some(&timeout)).map_err(failed)? {
        0 => Err(DriverError::DeadlinePassed { doing: "ending the fork server".to_owned() }),
        _ => Ok(()),
    }
}

//! A place at a container's streams, taken before the socket is there.
//!
//! Docker's clients are attached by the connection on which they asked, once the answer has gone
//! out on it. The container may be started meanwhile, and must not say anything that they miss.

use std::{os::fd::OwnedFd, time::Duration};

use tokio::{sync::oneshot, time::timeout};

/// How long a start waits for a socket whose place is taken.
const WAIT: Duration = Duration::from_secs(5);

/// A place at a container's streams.
#[derive(Debug)]
pub struct Seat(oneshot::Sender<OwnedFd>);

impl Seat {
    pub(crate) fn new() -> (Seat, Attach) {
        let (sender, receiver) = oneshot::channel();
        (Seat(sender), Attach::Soon(receiver))
    }

    /// Connects this socket; see [`workload::Process::attach`]. If the container is gone, or could
    /// not be started, the socket is closed.
    pub fn take(self, socket: OwnedFd) {
        // Nobody is there any more to be attached to: dropping it says so.
        let _ = self.0.send(socket);
    }
}

/// A socket to attach.
#[derive(Debug)]
pub(crate) enum Attach {
    /// It is here.
    Now(OwnedFd),
    /// It comes.
    Soon(oneshot::Receiver<OwnedFd>),
}

impl Attach {
    /// The socket, unless whoever took the place has gone.
    pub(crate) async fn socket(self) -> Option<OwnedFd> {
        match self {
            Attach::Now(socket) => Some(socket),
            Attach::Soon(coming) => timeout(WAIT, coming).await.ok()?.ok(),
        }
    }
}

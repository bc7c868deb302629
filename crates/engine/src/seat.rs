//! A place at a container's streams, taken before the socket is there.
//!
//! Docker's clients are attached by the connection on which they asked, once the answer has gone
//! out on it. The container may be started meanwhile, and must not say anything that they miss.

use std::time::Duration;

use base::clock::Timestamp;
use tokio::{sync::oneshot, time::timeout};
use workload::Attachment;

/// How long a start waits for a socket whose place is taken.
const WAIT: Duration = Duration::from_secs(5);

/// A place at a container's streams.
#[derive(Debug)]
pub struct Seat {
    socket: oneshot::Sender<Attachment>,
    mark: oneshot::Receiver<Timestamp>,
}

/// Where in the log somebody has come in.
#[derive(Debug)]
pub struct Mark(oneshot::Receiver<Timestamp>);

impl Seat {
    pub(crate) fn new() -> (Seat, Attach) {
        let (sender, receiver) = oneshot::channel();
        let (told, mark) = oneshot::channel();
        (Seat { socket: sender, mark }, Attach::Soon(receiver, told))
    }

    /// Connects this socket; see [`workload::Process::attach`]. If the container is gone, or could
    /// not be started, the socket is closed.
    pub fn take(self, attachment: Attachment) -> Mark {
        // Nobody is there any more to be attached to: dropping it says so.
        let _ = self.socket.send(attachment);
        Mark(self.mark)
    }
}

impl Mark {
    /// What the log has up to this time, that included, was said before, and the socket gets the
    /// rest. It is known as soon as there is a process; `None` if there will be none.
    pub async fn reached(self) -> Option<Timestamp> {
        self.0.await.ok()
    }
}

/// Somebody to attach.
#[derive(Debug)]
pub(crate) enum Attach {
    /// Its socket is here.
    Now(Attachment),
    /// It comes, and is told where it came in.
    Soon(oneshot::Receiver<Attachment>, oneshot::Sender<Timestamp>),
}

impl Attach {
    /// Who it is, and whom to tell, unless whoever took the place has gone.
    pub(crate) async fn here(self) -> Option<(Attachment, Told)> {
        match self {
            Attach::Now(attachment) => Some((attachment, Told(None))),
            Attach::Soon(coming, told) => {
                let attachment = timeout(WAIT, coming).await.ok()?.ok()?;
                Some((attachment, Told(Some(told))))
            }
        }
    }
}

/// Who is to be told where they came in.
#[derive(Debug)]
pub(crate) struct Told(Option<oneshot::Sender<Timestamp>>);

impl Told {
    pub(crate) fn tell(self, at: Timestamp) {
        if let Some(told) = self.0 {
            // Who has gone does not hear it.
            let _ = told.send(at);
        }
    }
}

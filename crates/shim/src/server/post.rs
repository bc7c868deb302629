//! A shim that nothing but streams lead to: no socket in a directory, no descriptors.

use std::{
    collections::BTreeMap,
    fmt,
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::{Arc, Mutex},
};

use base::Deadline;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use wire::Conn;
use workload::{DriverError, Pending};

use super::{
    CONNECTIONS_MAX, FAREWELL, Shim, State,
    connection::{converse, welcome},
    tickets::Tickets,
};
use crate::{MakeDriver, protocol::Chore};

/// A stream that has come.
#[derive(Debug)]
pub enum Arrival {
    /// Somebody who will speak the protocol. It may be any stream socket.
    Caller(OwnedFd),
    /// What a call will name by this ticket.
    Stream(u64, OwnedFd),
}

/// Does a chore.
pub type DoChore =
    dyn Fn(Chore, Deadline) -> Pending<'static, Result<(), DriverError>> + Send + Sync;

/// A shim for whoever's streams reach it.
pub struct Post {
    shim: Arc<Shim>,
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post").field("shim", &self.shim).finish()
    }
}

impl Post {
    /// A shim that holds nothing yet, over the drivers that this makes, and over what else is done
    /// where it is; `build` names it to its callers.
    pub fn new(driver: Arc<MakeDriver>, chores: Option<Arc<DoChore>>, build: String) -> Post {
        Post {
            shim: Arc::new(Shim {
                make_driver: driver,
                directory: None,
                tickets: Tickets::default(),
                chores,
                build,
                state: watch::Sender::new(State::Empty),
                processes: Mutex::new(BTreeMap::new()),
            }),
        }
    }

    /// Serves those who come, until the sandbox was destroyed or nobody can come any more. Its first call
    /// is [`Request::Create`](crate::protocol::Request::Create), by whomever.
    pub async fn serve(self, mut arrivals: mpsc::Receiver<Arrival>) {
        let shim = self.shim;
        let mut connections = JoinSet::new();
        while !shim.is_over() {
            tokio::select! {
                arrived = arrivals.recv(), if connections.len() < CONNECTIONS_MAX => match arrived {
                    Some(Arrival::Stream(ticket, stream)) => shim.tickets.put(ticket, stream),
                    Some(Arrival::Caller(stream)) => {
                        connections.spawn(greet(Arc::clone(&shim), stream));
                    }
                    None => break,
                },
                Some(_) = connections.join_next() => {}
                () = shim.over() => {}
            }
        }
        let farewell = async { while connections.join_next().await.is_some() {} };
        // Who has not read their answers by then never will.
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }
}

async fn greet(shim: Arc<Shim>, stream: OwnedFd) {
    let stream = UnixStream::from(stream);
    let stream = stream
        .set_nonblocking(true)
        .and_then(|()| tokio::net::UnixStream::from_std(stream))
        .map(Conn::new);
    match stream {
        Ok(conn) => {
            if let Some(conn) = welcome(conn, &shim.build).await {
                converse(shim, conn, None).await;
            }
        }
        Err(error) => tracing::warn!(%error, "a stream cannot be used"),
    }
}

//! A shim: the process that holds one sandbox.
//!
//! ```text
//! Empty ──Create──▶ Creating ──▶ Live ──Destroy──▶ Over        (the process ends)
//!   │                  │            └──Vacate───▶ Empty       (of one without a socket)
//!   │                  └──────────failed──────────▶ Over
//!   └──Reclaim, Leave, nothing───────────────────▶ Over
//! ```
//!
//! Whoever is connected, and whether anybody is, makes no difference to the sandbox: calls that
//! change it run to their end even if their caller has gone.

mod connection;
mod execute;
mod first;
mod post;
mod tickets;

use std::{
    collections::BTreeMap,
    fmt,
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base::{Deadline, ProcessId, SandboxId};
use tokio::{net::UnixListener, sync::watch, task::JoinSet};
use workload::{DriverError, Process, Sandbox};

pub use self::post::{Arrival, DoChore, Post};
use self::{
    connection::{Received, converse, welcome},
    tickets::Tickets,
};
use crate::{
    ForkServer, ForkServerError, MakeDriver,
    directory::{Directory, Socket},
};

/// Most clients connected to one shim at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;

/// How long answers may take to be read once the sandbox is gone.
const FAREWELL: Duration = Duration::from_secs(2);

/// Between two tries to accept a connection while this process is out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
pub(crate) struct Shim {
    make_driver: Arc<MakeDriver>,
    /// Where its socket is; of one that is reached by streams alone, nowhere.
    directory: Option<Arc<Directory>>,
    /// Streams in place of descriptors.
    tickets: Tickets,
    /// What else is done where it is.
    chores: Option<Arc<DoChore>>,
    build: String,
    state: watch::Sender<State>,
    /// Every process that was spawned and not forgotten.
    processes: Mutex<BTreeMap<ProcessId, Arc<dyn Process>>>,
}

/// See the module's diagram.
#[derive(Clone, Debug)]
enum State {
    Empty,
    Creating(SandboxId),
    Live(Arc<dyn Sandbox>),
    Over,
}

impl fmt::Debug for Shim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shim").field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}

/// Becomes a shim for the client at the other end of `stream`, until it is over.
pub(crate) fn run(
    config: &ForkServer,
    stream: UnixStream,
    fork_server: OwnedFd,
) -> Result<(), ForkServerError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|source| ForkServerError::Io { doing: "begin to wait for clients", source })?;
    let directory = Arc::new(Directory::open(&config.run_dir)?);
    let shim = Arc::new(Shim {
        make_driver: Arc::clone(&config.driver),
        directory: Some(Arc::clone(&directory)),
        tickets: Tickets::default(),
        chores: None,
        build: config.build.clone(),
        state: watch::Sender::new(State::Empty),
        processes: Mutex::new(BTreeMap::new()),
    });
    runtime.block_on(first::serve(shim, &directory, stream, fork_server))
}

impl Shim {
    /// Accepts clients until it is over, and serves the first one from its first call on.
    async fn serve(self: Arc<Shim>, listener: UnixListener, conn: wire::Conn, first: Received) {
        let mut connections = JoinSet::new();
        connections.spawn(converse(Arc::clone(&self), conn, Some(first)));
        while !self.is_over() {
            tokio::select! {
                accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                    match accepted {
                        Ok((stream, _)) => {
                            connections.spawn(Arc::clone(&self).greet(stream));
                        }
                        Err(_) => tokio::time::sleep(PAUSE).await,
                    }
                }
                Some(_) = connections.join_next() => {}
                () = self.over() => {}
            }
        }
        drop(listener);
        let farewell = async { while connections.join_next().await.is_some() {} };
        // Who has not read their answers by then never will.
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }

    async fn greet(self: Arc<Shim>, stream: tokio::net::UnixStream) {
        if let Some(conn) = welcome(wire::Conn::new(stream), &self.build).await {
            converse(self, conn, None).await;
        }
    }

    /// The sandbox, once it is made.
    async fn sandbox(&self, by: Deadline) -> Result<Arc<dyn Sandbox>, DriverError> {
        let mut states = self.state.subscribe();
        let made = states.wait_for(|state| !matches!(state, State::Creating(_)));
        let passed = || DriverError::DeadlinePassed { doing: "creating the sandbox".to_owned() };
        let state =
            tokio::time::timeout_at(by.instant().into(), made).await.map_err(|_| passed())?;
        match state.as_deref() {
            Ok(State::Live(sandbox)) => Ok(Arc::clone(sandbox)),
            Ok(State::Empty | State::Creating(_) | State::Over) | Err(_) => {
                Err(DriverError::Gone { what: "the sandbox".to_owned() })
            }
        }
    }

    fn process(&self, id: &ProcessId) -> Result<Arc<dyn Process>, DriverError> {
        let found = self.processes().get(id).cloned();
        found.ok_or_else(|| DriverError::Gone { what: format!("process {id}") })
    }

    fn processes(&self) -> MutexGuard<'_, BTreeMap<ProcessId, Arc<dyn Process>>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is the sandbox it is for. One that nobody claimed a socket for is for the first
    /// that is asked of it.
    fn is_to_create(&self, id: &SandboxId) -> bool {
        let claimed = |state: &State| matches!(state, State::Creating(of) if of == id);
        let first = self.directory.is_none()
            && self.state.send_if_modified(|state| {
                let empty = matches!(state, State::Empty);
                if empty {
                    *state = State::Creating(id.clone());
                }
                empty
            });
        first || (self.directory.is_some() && claimed(&self.state.borrow()))
    }

    fn is_over(&self) -> bool {
        matches!(*self.state.borrow(), State::Over)
    }

    /// Waits until it is over.
    async fn over(&self) {
        // An error would say that the sender has gone, and that is in `self`.
        let _ = self.state.subscribe().wait_for(|state| matches!(state, State::Over)).await;
    }

    /// There is nothing left to hold: removes the socket, so that whoever hears of the end finds
    /// nothing, and lets everybody know.
    fn end(&self, id: &SandboxId) {
        if self.is_over() {
            return;
        }
        let socket = Socket::Sandbox(id.clone());
        if let Some(Err(error)) = self.directory.as_ref().map(|of| of.remove(&socket)) {
            tracing::warn!(sandbox = %id, %error, "a socket is left behind");
        }
        self.state.send_replace(State::Over);
    }
}

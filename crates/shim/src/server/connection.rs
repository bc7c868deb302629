//! A shim's side of one connection.

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use base::Deadline;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use wire::{Conn, Writer};
use workload::DriverError;

use super::{FAREWELL, Shim, State, execute::execute};
use crate::protocol::{Answer, Call, Hello, PROTOCOL, Reply, Request, Welcome};

/// How long a client may take to say what it wants.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);

/// Most calls of one client under way at once. Each of its processes can have one that waits.
const CALLS_MAX: usize = 16_384;

/// Answers that may wait to be sent.
const ANSWERS_MAX: usize = 16;

/// A call as it came in, its deadline running.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) id: u64,
    pub(super) by: Deadline,
    pub(super) ticket: Option<u64>,
    pub(super) request: Request,
    pub(super) fds: Vec<OwnedFd>,
}

impl Received {
    pub(super) fn new(call: Call, fds: Vec<OwnedFd>) -> Received {
        let left = call.left_ms.map_or(Duration::MAX, Duration::from_millis);
        let (by, ticket) = (Deadline::after(left), call.ticket);
        Received { id: call.id, by, ticket, request: call.request, fds }
    }
}

/// Exchanges versions; the connection, if the client can be understood.
pub(super) async fn welcome(mut conn: Conn, build: &str) -> Option<Conn> {
    let hello = tokio::time::timeout(HANDSHAKE, conn.recv::<Hello>()).await.ok()?;
    let (hello, _) = hello.ok().flatten()?;
    let welcome = Welcome { protocol: PROTOCOL, build: build.to_owned(), pid: std::process::id() };
    let sent = tokio::time::timeout(HANDSHAKE, conn.send(&welcome, &[])).await.ok()?;
    sent.ok()?;
    (hello.protocol == PROTOCOL).then_some(conn)
}

/// Serves a client until it goes or the shim is over. A frame that is no call ends the
/// connection: nothing after it can be trusted.
pub(super) async fn converse(shim: Arc<Shim>, conn: Conn, first: Option<Received>) {
    let (mut reader, writer) = conn.split();
    let (answers, queue) = mpsc::channel(ANSWERS_MAX);
    // Closed when an answer could not be sent: no other one will be.
    let heard = answers.clone();
    let mut calls = Calls::new(Arc::clone(&shim), answers);
    let receiving = async move {
        if let Some(first) = first {
            calls.begin(first);
        }
        loop {
            tokio::select! {
                received = reader.recv::<Call>() => match received {
                    Ok(Some((call, fds))) => calls.begin(Received::new(call, fds)),
                    Ok(None) => break calls.abandon().await,
                    Err(error) => {
                        tracing::warn!(%error, "a client does not speak the protocol");
                        break calls.abandon().await;
                    }
                },
                () = calls.one_ended() => {}
                // The client must see that this connection has ended, or it would wait for answers
                // that nobody sends.
                () = heard.closed() => {
                    drop(reader);
                    break calls.abandon().await;
                }
                () = shim.over() => break calls.finish().await,
            }
        }
    };
    tokio::join!(receiving, send_answers(writer, queue));
}

async fn send_answers(mut writer: Writer, mut queue: mpsc::Receiver<Answer>) {
    while let Some(answer) = queue.recv().await {
        if writer.send(&answer, &[]).await.is_err() {
            // What is under way must not wait for room in the queue.
            queue.close();
        }
    }
}

/// The calls of one client that are under way.
struct Calls {
    shim: Arc<Shim>,
    answers: mpsc::Sender<Answer>,
    running: JoinSet<()>,
    /// Told when the client has gone: nobody waits any more.
    gone: watch::Sender<bool>,
}

impl Calls {
    fn new(shim: Arc<Shim>, answers: mpsc::Sender<Answer>) -> Calls {
        Calls { shim, answers, running: JoinSet::new(), gone: watch::Sender::new(false) }
    }

    fn begin(&mut self, call: Received) {
        let (shim, answers) = (Arc::clone(&self.shim), self.answers.clone());
        let gone = self.gone.subscribe();
        let id = call.id;
        let refused = self.refuse(&call);
        let large = matches!(call.request, Request::Create { .. } | Request::Spawn { .. });
        self.running.spawn(async move {
            let result = match refused {
                Some(error) => Err(error),
                None => survive(&shim, call, gone).await,
            };
            // Nobody hears it if the client has gone.
            let _ = answers.send(Answer { id, result }).await;
            if large {
                // Specs, with their system call policies, are the largest things a shim ever
                // holds. The answer goes out first.
                tokio::task::yield_now().await;
                sys::fork::trim_memory();
            }
        });
    }

    fn refuse(&self, call: &Received) -> Option<DriverError> {
        if self.running.len() >= CALLS_MAX {
            let what = "calls of one client at once".to_owned();
            return Some(DriverError::Invalid { what, why: format!("more than {CALLS_MAX}") });
        }
        let came = call.fds.len() + usize::from(call.ticket.is_some());
        if came != call.request.fds() {
            let why = format!("{came} came and {} belong to it", call.request.fds());
            return Some(DriverError::Invalid { what: "descriptors of a call".to_owned(), why });
        }
        None
    }

    /// Waits until any call has ended; for ever if there is none.
    async fn one_ended(&mut self) {
        if self.running.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// The client has gone: lets what changes the sandbox run to its end.
    async fn abandon(mut self) {
        self.gone.send_replace(true);
        while self.running.join_next().await.is_some() {}
    }

    /// The sandbox is gone: everybody gets their answers, but nobody is waited for for long.
    async fn finish(mut self) {
        let all = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL / 2, all).await.is_err() {
            self.abandon().await;
        }
    }
}

/// Executes a call in a task of its own: a driver that panics takes one call down, not the shim.
async fn survive(
    shim: &Arc<Shim>,
    call: Received,
    gone: watch::Receiver<bool>,
) -> Result<Reply, DriverError> {
    let running = tokio::spawn({
        let shim = Arc::clone(shim);
        async move { execute(&shim, call, gone).await }
    });
    running.await.unwrap_or_else(|_| {
        let half_made = match &*shim.state.borrow() {
            State::Creating(id) => Some(id.clone()),
            State::Empty | State::Live(_) | State::Over => None,
        };
        if let Some(id) = half_made {
            shim.end(&id);
        }
        Err(DriverError::Unreachable { why: "the driver panicked".to_owned() })
    })
}

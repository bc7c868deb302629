//! A client's side of one connection: many calls at once, each with its own answer.

use std::{
    collections::HashMap,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base::{Deadline, SandboxId, chain};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};
use wire::{Conn, Reader, WireError, Writer};
use workload::DriverError;

use crate::{
    DirectoryError,
    protocol::{Answer, Call, Hello, PROTOCOL, Reply, Request, Welcome},
};

/// Longest time a shim may take to say who it is.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What an answer may take beyond the call's deadline: a driver that has run out of time undoes
/// what it has done before it says so.
const GRACE: Duration = Duration::from_secs(1);

/// Why there is no reply.
#[derive(Debug)]
pub(super) enum CallError {
    /// Nobody listens at the socket: there is no shim.
    Nobody,
    /// The connection broke.
    Lost(String),
    /// The shim answered, or it does not in time, or what it says is not understood.
    Driver(DriverError),
}

impl CallError {
    /// In the words of the contract.
    pub(super) fn into_driver_error(self, id: &SandboxId) -> DriverError {
        match self {
            CallError::Nobody => {
                DriverError::Unreachable { why: format!("no shim holds sandbox {id} any more") }
            }
            CallError::Lost(why) => DriverError::Unreachable { why },
            CallError::Driver(error) => error,
        }
    }
}

impl From<DirectoryError> for CallError {
    fn from(error: DirectoryError) -> CallError {
        if error.is_nobody() {
            return CallError::Nobody;
        }
        CallError::Driver(DriverError::Unreachable { why: chain(&error) })
    }
}

fn lost(error: &WireError) -> CallError {
    match error {
        WireError::TooLong { .. } | WireError::TooManyDescriptors { .. } => {
            let what = "the request to the shim".to_owned();
            CallError::Driver(DriverError::Invalid { what, why: error.to_string() })
        }
        WireError::DescriptorsLost
        | WireError::StrayDescriptors { .. }
        | WireError::Truncated { .. }
        | WireError::Json(_)
        | WireError::Io(_) => CallError::Lost(format!("the connection broke: {}", chain(error))),
    }
}

/// Exchanges versions with whoever is at the other end.
pub(super) async fn handshake(
    stream: UnixStream,
    by: Deadline,
) -> Result<(Conn, Welcome), CallError> {
    let patience = Deadline::after(HANDSHAKE);
    let limited = by < patience;
    let by = by.min(patience);
    let exchange = async {
        let stream = tokio::net::UnixStream::from_std(stream).map_err(WireError::Io)?;
        let mut conn = Conn::new(stream);
        conn.send(&Hello { protocol: PROTOCOL }, &[]).await?;
        let welcome = conn.recv::<Welcome>().await?;
        Ok::<_, WireError>((conn, welcome))
    };
    let passed = |_| {
        let (doing, why) =
            ("waiting for a shim".to_owned(), "it does not say who it is".to_owned());
        CallError::Driver(if limited {
            DriverError::DeadlinePassed { doing }
        } else {
            DriverError::Unreachable { why }
        })
    };
    match tokio::time::timeout_at(by.instant().into(), exchange).await.map_err(passed)? {
        Ok((_, Some((welcome, _)))) if welcome.protocol != PROTOCOL => {
            let Welcome { protocol, build, .. } = welcome;
            let why = format!(
                "it is of build {build} and speaks protocol {protocol}, this build speaks {PROTOCOL}"
            );
            Err(CallError::Driver(DriverError::Unreachable { why }))
        }
        Ok((conn, Some((welcome, _)))) => Ok((conn, welcome)),
        Ok((_, None)) => Err(CallError::Lost("it hung up".to_owned())),
        Err(error) => Err(lost(&error)),
    }
}

/// Calls that wait for their answers.
#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    calls: HashMap<u64, oneshot::Sender<Result<Reply, DriverError>>>,
    /// Why there will be no more answers.
    closed: Option<String>,
}

type Shared = Arc<Mutex<Waiting>>;

fn lock(waiting: &Shared) -> std::sync::MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// There will be no more answers: tells all who wait.
fn close(waiting: &Shared, why: String) {
    let mut waiting = lock(waiting);
    waiting.closed.get_or_insert(why);
    waiting.calls.clear();
}

/// A connection after its handshake.
#[derive(Debug)]
pub(super) struct Connection {
    writer: tokio::sync::Mutex<Writer>,
    waiting: Shared,
    closed: watch::Receiver<bool>,
    receiving: JoinHandle<()>,
}

impl Connection {
    pub(super) fn new(conn: Conn) -> Connection {
        let (reader, writer) = conn.split();
        let waiting = Shared::default();
        let (closing, closed) = watch::channel(false);
        let receiving = tokio::spawn(receive(reader, Arc::clone(&waiting), closing));
        Connection { writer: tokio::sync::Mutex::new(writer), waiting, closed, receiving }
    }

    pub(super) fn is_open(&self) -> bool {
        lock(&self.waiting).closed.is_none()
    }

    /// Waits until the other side has closed it.
    pub(super) async fn closed(&self) {
        // An error says that the sender is gone, with the same meaning.
        let _ = self.closed.clone().wait_for(|closed| *closed).await;
    }

    /// Makes a call and waits for its answer. Dropped, it waits no longer; the shim goes on.
    pub(super) async fn call(
        &self,
        request: Request,
        fd: Option<&OwnedFd>,
        by: Option<Deadline>,
    ) -> Result<Reply, CallError> {
        self.call_with(request, fd, None, by).await
    }

    /// The same, with a stream in place of a descriptor.
    pub(super) async fn call_with(
        &self,
        request: Request,
        fd: Option<&OwnedFd>,
        ticket: Option<u64>,
        by: Option<Deadline>,
    ) -> Result<Reply, CallError> {
        let (id, answered) = self.register()?;
        let _unregister = Unregister { waiting: &self.waiting, id };
        let left_ms = by.map(|by| u64::try_from(by.remaining().as_millis()).unwrap_or(u64::MAX));
        let call = Call { id, left_ms, ticket, request };
        let fds: Vec<BorrowedFd<'_>> = fd.iter().map(|fd| fd.as_fd()).collect();
        let exchange = async {
            self.writer.lock().await.send(&call, &fds).await.map_err(|error| self.lost(&error))?;
            match answered.await {
                Ok(result) => result.map_err(CallError::Driver),
                Err(_) => Err(self.why_closed()),
            }
        };
        let Some(by) = by else { return exchange.await };
        let limit = by.instant() + GRACE;
        tokio::time::timeout_at(limit.into(), exchange).await.unwrap_or_else(|_| {
            let doing = "waiting for the shim's answer".to_owned();
            Err(CallError::Driver(DriverError::DeadlinePassed { doing }))
        })
    }

    fn register(&self) -> Result<(u64, oneshot::Receiver<Result<Reply, DriverError>>), CallError> {
        let mut waiting = lock(&self.waiting);
        if let Some(why) = &waiting.closed {
            return Err(CallError::Lost(why.clone()));
        }
        let id = waiting.next;
        waiting.next += 1;
        let (answer, answered) = oneshot::channel();
        waiting.calls.insert(id, answer);
        Ok((id, answered))
    }

    /// A call could not be sent. If that is the end of the connection, everybody is to know, so
    /// that nobody tries this one again.
    fn lost(&self, error: &WireError) -> CallError {
        let error = lost(error);
        if let CallError::Lost(why) = &error {
            close(&self.waiting, why.clone());
        }
        error
    }

    fn why_closed(&self) -> CallError {
        let why = lock(&self.waiting).closed.clone();
        CallError::Lost(why.unwrap_or_else(|| "the connection was closed".to_owned()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.receiving.abort();
    }
}

/// Takes a call out of those that wait, however it ends.
struct Unregister<'a> {
    waiting: &'a Shared,
    id: u64,
}

impl Drop for Unregister<'_> {
    fn drop(&mut self) {
        lock(self.waiting).calls.remove(&self.id);
    }
}

/// Hands answers to those who wait for them, until the connection ends.
async fn receive(mut reader: Reader, waiting: Shared, closing: watch::Sender<bool>) {
    let why = loop {
        match reader.recv::<Answer>().await {
            Ok(Some((_, fds))) if !fds.is_empty() => break "it sent descriptors".to_owned(),
            Ok(Some((answer, _))) => {
                let call = lock(&waiting).calls.remove(&answer.id);
                if let Some(call) = call {
                    // Who asked may have stopped waiting.
                    let _ = call.send(answer.result);
                }
            }
            Ok(None) => break "it hung up".to_owned(),
            Err(error) => break chain(&error),
        }
    };
    close(&waiting, why);
    closing.send_replace(true);
}

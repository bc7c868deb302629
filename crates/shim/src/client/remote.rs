//! Calls to a shim over one stream that somebody else has connected.

use std::os::{fd::OwnedFd, unix::net::UnixStream};

use base::Deadline;
use workload::DriverError;

use super::connection::{CallError, Connection, handshake};
use crate::protocol::{Reply, Request};

/// A shim at the other end of a stream ([`crate::Post`]).
///
/// No descriptors go over it. Where a request has one, it is called with the ticket of a stream
/// that leads to the same shim.
#[derive(Debug)]
pub struct Remote {
    connection: Connection,
}

impl Remote {
    /// Says hello over a stream socket of any family. Needs a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// [`DriverError::Unreachable`] if the other end speaks another protocol or none, or hangs up;
    /// [`DriverError::DeadlinePassed`].
    pub async fn new(stream: OwnedFd, by: Deadline) -> Result<Remote, DriverError> {
        let stream = UnixStream::from(stream);
        let failed = |error: std::io::Error| DriverError::step("use a stream", &error);
        stream.set_nonblocking(true).map_err(failed)?;
        let (conn, _welcome) = handshake(stream, by).await.map_err(words)?;
        Ok(Remote { connection: Connection::new(conn) })
    }

    /// Makes a call and waits for its answer. Dropped, it waits no longer; the shim goes on.
    ///
    /// # Errors
    /// What the shim answers; [`DriverError::Unreachable`] if it is gone, and
    /// [`DriverError::DeadlinePassed`] if it does not answer in time.
    pub async fn call(
        &self,
        request: Request,
        ticket: Option<u64>,
        by: Option<Deadline>,
    ) -> Result<Reply, DriverError> {
        self.connection.call_with(request, None, ticket, by).await.map_err(words)
    }

    /// Whether it can still be called.
    pub fn is_open(&self) -> bool {
        self.connection.is_open()
    }

    /// Waits until the other end has hung up.
    pub async fn closed(&self) {
        self.connection.closed().await;
    }
}

fn words(error: CallError) -> DriverError {
    match error {
        CallError::Nobody => DriverError::Unreachable { why: "nobody is there".to_owned() },
        CallError::Lost(why) => DriverError::Unreachable { why },
        CallError::Driver(error) => error,
    }
}

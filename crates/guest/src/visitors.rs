//! Who comes from the host: callers at one port, streams at another.

use std::{
    io::{self, Read as _},
    net::Shutdown,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    thread,
    time::Duration,
};

use shim::Arrival;
use tokio::sync::mpsc;

use crate::ground::{GroundError, failed};

/// Where callers come; the host is told there that the agent is ready, too.
const CALLERS: u32 = 1024;

/// Where streams come. Each begins with its number, 8 bytes in little endian.
const STREAMS: u32 = 1025;

/// Those that may wait to be looked at.
const WAITING_MAX: usize = 64;

/// How long a stream may take to say its number.
const NUMBER_WITHIN: Duration = Duration::from_secs(5);

/// Between two tries to accept while something is missing.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens, tells the host, and gives those who come.
pub(crate) fn receive() -> Result<mpsc::Receiver<Arrival>, GroundError> {
    let (sender, arrivals) = mpsc::channel(WAITING_MAX);
    listen(CALLERS, sender.clone(), |stream| Ok(Arrival::Caller(stream)))?;
    listen(STREAMS, sender, |stream| {
        let mut stream = UnixStream::from(stream);
        stream.set_read_timeout(Some(NUMBER_WITHIN))?;
        let mut number = [0; 8];
        stream.read_exact(&mut number)?;
        stream.set_read_timeout(None)?;
        Ok(Arrival::Stream(u64::from_le_bytes(number), stream.into()))
    })?;
    // Connecting is all there is to say. A host that does not listen for it finds out by itself.
    match sys::vsock::connect(sys::vsock::HOST, CALLERS) {
        Ok(told) => drop(UnixStream::from(told).shutdown(Shutdown::Both)),
        Err(error) => tracing::warn!(%error, "the host does not listen"),
    }
    Ok(arrivals)
}

fn listen(
    port: u32,
    arrivals: mpsc::Sender<Arrival>,
    take: impl Fn(OwnedFd) -> io::Result<Arrival> + Send + 'static,
) -> Result<(), GroundError> {
    let listener = sys::vsock::listen(port).map_err(failed(format!("listen at port {port}")))?;
    let thread = thread::Builder::new().name(format!("port {port}"));
    let accepting = move || accept(listener.as_fd(), &arrivals, take);
    thread.spawn(accepting).map_err(failed("start a thread")).map(drop)
}

fn accept(
    listener: impl AsFd,
    arrivals: &mpsc::Sender<Arrival>,
    take: impl Fn(OwnedFd) -> io::Result<Arrival>,
) {
    loop {
        let arrival = sys::vsock::accept(&listener).and_then(&take);
        match arrival {
            Ok(arrival) => {
                if arrivals.blocking_send(arrival).is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "somebody did not get in");
                thread::sleep(PAUSE);
            }
        }
    }
}

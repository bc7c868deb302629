//! The same frames on a blocking socket, for programs that run no tokio (yet).
//!
//! A time limit is the socket's own (`SO_RCVTIMEO`, `SO_SNDTIMEO`) and shows as
//! [`WireError::Io`] of kind `WouldBlock`.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    WireError,
    frame::{Decoder, Step, encode},
    socket,
};

/// Sends one frame, with these descriptors.
///
/// # Errors
/// Any [`WireError`].
pub fn send<T: Serialize + ?Sized>(
    socket: impl AsFd,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> Result<(), WireError> {
    let frame = encode(message, fds.len())?;
    let mut rest = frame.as_slice();
    let mut fds = fds;
    while !rest.is_empty() {
        let sent = uninterrupted(|| socket::send(socket.as_fd(), rest, fds))?;
        rest = rest.get(sent..).unwrap_or_default();
        fds = &[];
    }
    Ok(())
}

/// Receives one frame, or `None` if the stream has ended. Nothing beyond it is read.
///
/// # Errors
/// Any [`WireError`]; descriptors that came are closed.
pub fn recv<T: DeserializeOwned>(
    socket: impl AsFd,
) -> Result<Option<(T, Vec<OwnedFd>)>, WireError> {
    let mut decoder = Decoder::default();
    loop {
        let space = decoder.space();
        let received = uninterrupted(|| socket::receive(socket.as_fd(), space))?;
        match decoder.received(received.bytes, received.fds()?)? {
            Step::More => {}
            Step::Frame(frame) => return frame.parse().map(Some),
            Step::End => return Ok(None),
        }
    }
}

fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> Result<T, WireError> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map_err(WireError::Io),
        }
    }
}

//! A connection under tokio.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::{io::Interest, net::UnixStream};

use crate::{
    WireError,
    frame::{Decoder, Step, encode},
    socket,
};

/// Both directions of a connection.
#[derive(Debug)]
pub struct Conn {
    reader: Reader,
    writer: Writer,
}

/// The receiving side.
#[derive(Debug)]
pub struct Reader {
    stream: Arc<UnixStream>,
    decoder: Decoder,
}

/// The sending side. Dropping it does not end the stream; dropping both sides does.
#[derive(Debug)]
pub struct Writer {
    stream: Arc<UnixStream>,
    /// A frame of which a part is sent.
    frame: Vec<u8>,
    /// How much of it is sent.
    sent: usize,
}

impl Conn {
    /// Speaks over this stream, of which nobody else reads or writes any more.
    pub fn new(stream: UnixStream) -> Conn {
        let stream = Arc::new(stream);
        Conn {
            reader: Reader { stream: Arc::clone(&stream), decoder: Decoder::default() },
            writer: Writer { stream, frame: Vec::new(), sent: 0 },
        }
    }

    /// Sends one frame. See [`Writer::send`].
    ///
    /// # Errors
    /// As [`Writer::send`].
    pub async fn send<T: Serialize + Sync + ?Sized>(
        &mut self,
        message: &T,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), WireError> {
        self.writer.send(message, fds).await
    }

    /// Receives one frame. See [`Reader::recv`].
    ///
    /// # Errors
    /// As [`Reader::recv`].
    pub async fn recv<T: DeserializeOwned>(
        &mut self,
    ) -> Result<Option<(T, Vec<OwnedFd>)>, WireError> {
        self.reader.recv().await
    }

    /// Both sides, each for itself.
    pub fn split(self) -> (Reader, Writer) {
        (self.reader, self.writer)
    }

    /// The socket, for its peer's credentials and such.
    pub fn stream(&self) -> &UnixStream {
        &self.writer.stream
    }

    /// The socket, to go on with in another protocol: nothing beyond the last frame has been read.
    pub fn into_stream(self) -> UnixStream {
        drop(self.reader);
        Arc::into_inner(self.writer.stream).expect("reader and writer held the only two handles")
    }
}

impl Reader {
    /// Receives one frame, or `None` if the stream has ended.
    ///
    /// Cancel-safe: what has arrived of a frame is kept for the next call.
    ///
    /// # Errors
    /// Any [`WireError`]; descriptors that came are closed.
    pub async fn recv<T: DeserializeOwned>(
        &mut self,
    ) -> Result<Option<(T, Vec<OwnedFd>)>, WireError> {
        loop {
            let space = self.decoder.space();
            let stream = &self.stream;
            let received = stream
                .async_io(Interest::READABLE, || socket::receive(stream.as_fd(), space))
                .await
                .map_err(WireError::Io)?;
            match self.decoder.received(received.bytes, received.fds()?)? {
                Step::More => {}
                Step::Frame(frame) => return frame.parse().map(Some),
                Step::End => return Ok(None),
            }
        }
    }
}

impl Writer {
    /// Sends one frame, with these descriptors.
    ///
    /// Cancelled, it has sent nothing, or what is missing of the frame goes out before the next
    /// one: the stream is never torn.
    ///
    /// # Errors
    /// Any [`WireError`]; after [`WireError::Io`] the connection is of no further use.
    pub async fn send<T: Serialize + Sync + ?Sized>(
        &mut self,
        message: &T,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), WireError> {
        let frame = encode(message, fds.len())?;
        self.flush().await?;
        self.sent = self.write(&frame, fds).await?;
        self.frame = frame;
        self.flush().await
    }

    /// Ends the stream for the other side, which can still send.
    ///
    /// # Errors
    /// [`WireError::Io`] if the other side is gone.
    pub fn shutdown(&mut self) -> Result<(), WireError> {
        rustix::net::shutdown(&*self.stream, rustix::net::Shutdown::Write)
            .map_err(|error| WireError::Io(error.into()))
    }

    async fn flush(&mut self) -> Result<(), WireError> {
        while let Some(rest) = self.frame.get(self.sent..).filter(|rest| !rest.is_empty()) {
            self.sent += self.write(rest, &[]).await?;
        }
        self.frame = Vec::new();
        self.sent = 0;
        Ok(())
    }

    async fn write(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<usize, WireError> {
        let send = || -> io::Result<usize> { socket::send(self.stream.as_fd(), bytes, fds) };
        self.stream.async_io(Interest::WRITABLE, send).await.map_err(WireError::Io)
    }
}

#[cfg(test)]
mod tests;

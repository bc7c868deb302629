//! One who is attached: a stream socket, and what waits to go out on it.
//!
//! Operations carry `MSG_DONTWAIT`: whether the socket blocks is its giver's choice and stays so.

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    task::{Context, Poll},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    net::{
        RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketType, recv, send, sendmsg,
        shutdown, sockopt,
    },
};
use tokio::io::{Interest, unix::AsyncFd};
use workload::Attachment;

use super::{
    KeeperError,
    pipe::{poll_read_with, poll_write_with},
};
use crate::descriptor::watch;

/// Most sockets attached to one process.
pub const ATTACHED_MAX: usize = 64;

/// When so many bytes wait for one who is attached, no more is read from the process.
pub const ATTACHED_BYTES_MAX: usize = 64 << 10;

/// The other side is not there any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// It has left.
    Left,
    /// Nobody has left: the machine that this is in was copied, and the copy's sockets lead nowhere.
    Cut,
}

impl From<io::Error> for Gone {
    /// A stream that was connected is not any more only if its transport was reset under it.
    ///
    /// Source: Linux, `virtio_vsock_reset_sock` and `vsock_connectible_recvmsg`.
    fn from(error: io::Error) -> Gone {
        if error.kind() == io::ErrorKind::NotConnected { Gone::Cut } else { Gone::Left }
    }
}

/// What came in.
#[derive(Debug)]
pub(super) enum Received {
    /// So many bytes of input.
    Bytes(usize),
    /// The end of the input; output is still wanted.
    End,
    /// The end of everything.
    Gone(Gone),
}

#[derive(Debug)]
pub(super) struct Attached {
    socket: AsyncFd<OwnedFd>,
    pending: Vec<u8>,
    sent: usize,
    input_open: bool,
    /// Whether input is taken from it.
    pub(super) gives_input: bool,
    /// Whether the input is its own: it was the first one who gives any, or some has come from it.
    pub(super) owns_input: bool,
}

impl Attached {
    pub(super) fn new(attachment: Attachment, first: bool) -> Result<Attached, KeeperError> {
        let Attachment { socket, input, mark: _ } = attachment;
        match sockopt::socket_type(&socket) {
            Ok(SocketType::STREAM) => {}
            Ok(_) | Err(_) => return Err(KeeperError::NotASocket),
        }
        let socket = watch(socket, Interest::READABLE | Interest::WRITABLE)
            .map_err(|source| KeeperError::Io { doing: "attach a socket", source })?;
        Ok(Attached {
            socket,
            pending: Vec::new(),
            sent: 0,
            input_open: true,
            gives_input: input,
            owns_input: input && first,
        })
    }

    /// Whether it takes more without holding the process back.
    pub(super) fn has_room(&self) -> bool {
        self.pending.len() - self.sent < ATTACHED_BYTES_MAX
    }

    /// Sends a piece of output, or keeps what does not go out at once.
    pub(super) fn push(&mut self, header: &[u8], bytes: &[u8]) -> Result<(), Gone> {
        let mut sent = 0;
        if self.pending.is_empty() {
            let parts = [IoSlice::new(header), IoSlice::new(bytes)];
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            sent = match sendmsg(&self.socket, &parts, &mut SendAncillaryBuffer::default(), flags) {
                Ok(sent) => sent,
                Err(Errno::AGAIN | Errno::INTR) => 0,
                Err(errno) => return Err(io::Error::from(errno).into()),
            };
        }
        let header_rest = header.get(sent..).unwrap_or_default();
        let bytes_rest = bytes.get(sent.saturating_sub(header.len())..).unwrap_or_default();
        self.pending.extend_from_slice(header_rest);
        self.pending.extend_from_slice(bytes_rest);
        Ok(())
    }

    /// Sends on what waits; whether anything came of it.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<bool, Gone> {
        let mut progress = false;
        while let Some(rest) = self.pending.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match poll_write_with(&self.socket, cx, |fd| send_some(fd, rest)) {
                Poll::Pending => return Ok(progress),
                Poll::Ready(Ok(count)) => self.sent += count,
                Poll::Ready(Err(error)) => return Err(error.into()),
            }
            progress = true;
        }
        self.pending.clear();
        self.sent = 0;
        Ok(progress)
    }

    /// Receives input.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Received> {
        if !self.input_open {
            return Poll::Pending;
        }
        let call = |fd: BorrowedFd<'_>| recv(fd, &mut *buffer, RecvFlags::DONTWAIT);
        poll_read_with(&self.socket, cx, call).map(|result| match result {
            Ok((count, _)) if count > 0 => {
                self.owns_input = self.gives_input;
                Received::Bytes(count)
            }
            Ok(_) => {
                self.input_open = false;
                if self.gone() { Received::Gone(Gone::Left) } else { Received::End }
            }
            Err(error) => Received::Gone(error.into()),
        })
    }

    /// Whether the other side has closed both directions.
    pub(super) fn gone(&self) -> bool {
        let mut polled = [PollFd::new(&self.socket, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        match rustix::event::poll(&mut polled, Some(&now)) {
            Ok(1..) => polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR),
            Ok(0) | Err(_) => false,
        }
    }

    /// Ends it. What still waits is left with the kernel, which delivers it at the other side's
    /// own pace: the socket's send buffer is made large enough. Where that is forbidden and the
    /// rest does not fit, it is returned, to be sent on.
    pub(super) fn close(mut self) -> Option<Attached> {
        let rest = self.pending.len() - self.sent;
        if rest > 0 {
            let room = sockopt::socket_send_buffer_size(&self.socket).unwrap_or(0);
            // Twice: the kernel counts its own overhead too.
            let wanted = room + 2 * rest;
            if sockopt::set_socket_send_buffer_size_force(&self.socket, wanted).is_err() {
                // Clipped to net.core.wmem_max, which mostly is enough.
                let _ = sockopt::set_socket_send_buffer_size(&self.socket, wanted);
            }
        }
        while let Some(rest) = self.pending.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match send_some(self.socket.as_fd(), rest) {
                Ok(count) => self.sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Some(self),
                Err(_) => return None,
            }
        }
        self.shut();
        None
    }

    /// Whether everything has been sent.
    pub(super) fn is_through(&self) -> bool {
        self.pending.is_empty()
    }

    /// Closes in a way that the other side reads as an end and not as a failure: a unix socket
    /// closed with unread input shows its peer `ECONNRESET`.
    pub(super) fn shut(self) {
        /// Most input that is thrown away here, in pieces of one buffer.
        const PIECES_MAX: usize = 64;
        let _ = shutdown(&self.socket, Shutdown::Both);
        let mut buffer = [0; 4096];
        for _ in 0..PIECES_MAX {
            match recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((1.., _)) => {}
                Ok(_) | Err(_) => break,
            }
        }
    }
}

fn send_some(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
}

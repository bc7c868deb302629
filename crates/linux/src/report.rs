//! What a child says to its parent before it becomes the command, and back.
//!
//! ```text
//!  child ── Warned* ── [Terminal + fd] ── [Sibling + pidfd] ── [Told ⇄ Go] ── Executing ──▶ end of stream: it runs
//!     └──── Failed ──▶ end of stream
//! ```
//!
//! The channel is a sequenced-packet socket pair that execve(2) closes. Messages have a fixed
//! size; writing one is child-safe.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::{Errno, Result},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    },
};

use crate::op::Stage;

/// A message of the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// Operation number `op` failed; the child is gone.
    Failed { op: u16, errno: i32 },
    /// Operation number `op` failed and was let go.
    Warned { op: u16, errno: i32 },
    /// It waits at this stage for [`go`].
    Told(Stage),
    /// The master of its terminal comes along.
    Terminal,
    /// Nothing but execve(2) is left to do.
    Executing,
    /// From here on it is this process, whose pidfd comes along.
    Sibling { pid: u32 },
}

const SIZE: usize = 8;

impl Message {
    fn encode(self) -> [u8; SIZE] {
        let (kind, op, value) = match self {
            Message::Failed { op, errno } => (1, op, errno),
            Message::Warned { op, errno } => (2, op, errno),
            Message::Told(Stage::Created) => (3, 0, 0),
            Message::Told(Stage::Ready) => (3, 1, 0),
            Message::Terminal => (4, 0, 0),
            Message::Executing => (6, 0, 0),
            Message::Sibling { pid } => (5, 0, pid.cast_signed()),
        };
        let ([a, b], [c, d, e, f]) = (u16::to_ne_bytes(op), i32::to_ne_bytes(value));
        [kind, 0, a, b, c, d, e, f]
    }

    fn decode(bytes: [u8; SIZE]) -> Option<Message> {
        let [kind, _, a, b, c, d, e, f] = bytes;
        let (op, value) = (u16::from_ne_bytes([a, b]), i32::from_ne_bytes([c, d, e, f]));
        match (kind, op) {
            (1, _) => Some(Message::Failed { op, errno: value }),
            (2, _) => Some(Message::Warned { op, errno: value }),
            (3, 0) => Some(Message::Told(Stage::Created)),
            (3, 1) => Some(Message::Told(Stage::Ready)),
            (4, _) => Some(Message::Terminal),
            (5, _) => Some(Message::Sibling { pid: value.cast_unsigned() }),
            (6, _) => Some(Message::Executing),
            _ => None,
        }
    }
}

/// A channel: the parent's end, which does not block, and the child's.
pub(crate) fn channel() -> Result<(OwnedFd, OwnedFd)> {
    let (parent, child) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::io::ioctl_fionbio(&parent, true)?;
    Ok((parent, child))
}

/// Sends a message, with a descriptor. Child-safe.
pub(crate) fn send(
    channel: BorrowedFd<'_>,
    message: Message,
    fd: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let bytes = message.encode();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = fd.map(|fd| [fd]);
    if let Some(fds) = &fds {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    let slices = [IoSlice::new(&bytes)];
    rustix::net::sendmsg(channel, &slices, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits for the parent's word. Child-safe.
///
/// # Errors
/// `EPIPE` if the parent is gone or gave up.
pub(crate) fn await_go(channel: BorrowedFd<'_>) -> Result<()> {
    let mut byte = [0];
    loop {
        match rustix::net::recv(channel, &mut byte, RecvFlags::empty()) {
            Ok((_, 1)) => return Ok(()),
            Ok(_) => return Err(Errno::PIPE),
            Err(Errno::INTR) => {}
            Err(other) => return Err(other),
        }
    }
}

/// Whether the parent is still there to hear. Child-safe; true only in a child that has closed its
/// copy of the parent's end.
///
/// # Errors
/// `EPIPE` if it is not.
pub(crate) fn still_heard(channel: BorrowedFd<'_>) -> Result<()> {
    let mut polled = [PollFd::new(&channel, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut polled, Some(&now))?;
    if polled[0].revents().contains(PollFlags::HUP) { Err(Errno::PIPE) } else { Ok(()) }
}

/// Lets the child go on.
pub(crate) fn go(channel: BorrowedFd<'_>) -> Result<()> {
    rustix::net::send(channel, &[1], SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The next message and its descriptor; `None` at the end of the stream.
///
/// # Errors
/// `EAGAIN` if there is none yet, `EBADMSG` for nonsense.
pub(crate) fn receive(channel: &OwnedFd) -> Result<Option<(Message, Option<OwnedFd>)>> {
    let mut bytes = [0; SIZE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        match rustix::net::recvmsg(channel.as_fd(), &mut slices, &mut control, flags) {
            Err(Errno::INTR) => {}
            // The child was killed before it read what was sent to it.
            Err(Errno::CONNRESET) => return Ok(None),
            other => break other?.bytes,
        }
    };
    if received == 0 {
        return Ok(None);
    }
    let mut fd = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message {
            fd = fds.next();
        }
    }
    match Message::decode(bytes) {
        Some(message) if received == SIZE => Ok(Some((message, fd))),
        _ => Err(Errno::BADMSG),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_descriptors_arrive_as_they_were_sent() {
        let (parent, child) = channel().unwrap();
        assert_eq!(receive(&parent).unwrap_err(), Errno::AGAIN);
        let sent = [
            Message::Failed { op: 3, errno: 13 },
            Message::Warned { op: 0, errno: 1 },
            Message::Told(Stage::Created),
            Message::Told(Stage::Ready),
            Message::Sibling { pid: u32::MAX },
        ];
        for message in sent {
            send(child.as_fd(), message, None).unwrap();
        }
        send(child.as_fd(), Message::Terminal, Some(child.as_fd())).unwrap();
        for message in sent {
            assert_eq!(receive(&parent).unwrap().unwrap().0, message);
        }
        assert!(receive(&parent).unwrap().unwrap().1.is_some());
        go(parent.as_fd()).unwrap();
        await_go(child.as_fd()).unwrap();
        drop(child);
        assert!(receive(&parent).unwrap().is_none());
    }
}

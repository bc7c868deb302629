//! One sendmsg(2) and one recvmsg(2), with descriptors.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::{FDS_MAX, WireError};

/// Room for the descriptors of one frame.
const CONTROL_BYTES: usize = rustix::cmsg_space!(ScmRights(FDS_MAX));

/// What one recvmsg(2) brought.
pub(crate) struct Received {
    pub(crate) bytes: usize,
    fds: Vec<OwnedFd>,
    lost: bool,
}

impl Received {
    /// The descriptors, if all that were sent have come.
    pub(crate) fn fds(self) -> Result<Vec<OwnedFd>, WireError> {
        if self.lost { Err(WireError::DescriptorsLost) } else { Ok(self.fds) }
    }
}

/// Sends some of `bytes`, and all of `fds` with the first of them.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); CONTROL_BYTES];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let sent = sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(sent)
}

/// Receives some bytes into `space`, and the descriptors that came with them, close-on-exec.
///
/// Descriptors that the kernel could not hand over (no room for them here or in the message) are
/// closed by it and told by `MSG_CTRUNC`; see unix(7).
pub(crate) fn receive(socket: BorrowedFd<'_>, space: &mut [u8]) -> io::Result<Received> {
    let mut control_space = [MaybeUninit::uninit(); CONTROL_BYTES];
    let mut control = RecvAncillaryBuffer::new(&mut control_space);
    let slices = &mut [IoSliceMut::new(space)];
    let message = recvmsg(socket, slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    // The kernel fills what alignment leaves of the room with one more.
    let lost = message.flags.contains(ReturnFlags::CTRUNC) || fds.len() > FDS_MAX;
    Ok(Received { bytes: message.bytes, fds, lost })
}

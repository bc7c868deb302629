//! The descriptor that frames come from and go to.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::io::Errno;

/// How a frame looks at the descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// A frame with its checksums, no longer than the largest packet: a socket that keeps bounds, or
    /// a tap device.
    Plain,
    /// A frame behind 10 bytes that say which checksums are to be filled in, and into which pieces
    /// a large one is to be cut: a tap device with `IFF_VNET_HDR` and TCP segmentation.
    ///
    /// Source: `struct virtio_net_hdr`, VIRTIO 1.2, 5.1.6.
    Virtio,
    /// A frame behind the 12 bytes of a virtio card. What comes may lack its checksum and be as large as
    /// a packet; what goes is finished, and no longer than the largest packet.
    ///
    /// Source: `struct virtio_net_hdr`, VIRTIO 1.2, 5.1.6, with `num_buffers`.
    Card,
}

/// One side of an interface: each read is a frame, and each write.
#[derive(Debug)]
pub struct Link {
    fd: OwnedFd,
    framing: Framing,
}

/// Room in front of a frame: as much as [`Framing::Card`] needs.
pub(crate) const HEADER_BYTES: usize = 12;
/// Bytes in front of a frame with [`Framing::Virtio`].
const VIRTIO_BYTES: usize = 10;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: its sum covers the pseudo header alone.
const NEEDS_CSUM: u8 = 1;
/// `VIRTIO_NET_HDR_F_DATA_VALID`: its sum has been checked.
const DATA_VALID: u8 = 2;
/// `VIRTIO_NET_HDR_GSO_TCPV4`.
const GSO_TCPV4: u8 = 1;

/// What has to be done to a frame yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Todo {
    /// Where the transport's header begins in the frame, and where its checksum is in that.
    pub(crate) checksum: Option<(u16, u16)>,
    /// The length of all headers and of each piece's payload.
    pub(crate) pieces: Option<(u16, u16)>,
}

impl Link {
    /// Takes a descriptor over.
    ///
    /// # Errors
    /// If it cannot be made not to block.
    pub fn new(fd: OwnedFd, framing: Framing) -> io::Result<Link> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Link { fd, framing })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether frames may be large and without checksums.
    pub(crate) fn offloads(&self) -> bool {
        self.framing == Framing::Virtio
    }

    /// Reads a frame, and whether somebody vouches for its transport's checksum.
    pub(crate) fn receive<'b>(&self, buffer: &'b mut [u8]) -> Result<(&'b [u8], bool), Errno> {
        let length = rustix::io::read(&self.fd, &mut *buffer)?;
        let read = buffer.get(..length).unwrap_or_default();
        match self.framing {
            Framing::Plain => Ok((read, false)),
            Framing::Virtio | Framing::Card => {
                let flags = read.first().copied().unwrap_or_default();
                let verified = flags & (NEEDS_CSUM | DATA_VALID) != 0;
                let header = if self.offloads() { VIRTIO_BYTES } else { HEADER_BYTES };
                Ok((read.get(header..).unwrap_or_default(), verified))
            }
        }
    }

    /// Writes a frame that begins after [`HEADER_BYTES`] of `bytes`.
    pub(crate) fn send(&self, bytes: &mut [u8], todo: Todo) -> Result<(), Errno> {
        let bytes = match self.framing {
            Framing::Plain => bytes.get(HEADER_BYTES..).unwrap_or_default(),
            Framing::Virtio => {
                let bytes = bytes.get_mut(HEADER_BYTES - VIRTIO_BYTES..).unwrap_or_default();
                if let Some(header) = bytes.first_chunk_mut() {
                    *header = virtio(todo);
                }
                bytes
            }
            Framing::Card => {
                // Nothing is left to do, and each is in one buffer.
                if let Some(header) = bytes.first_chunk_mut::<HEADER_BYTES>() {
                    *header = [0; HEADER_BYTES];
                }
                bytes
            }
        };
        rustix::io::write(&self.fd, bytes).map(drop)
    }
}

fn virtio(todo: Todo) -> [u8; VIRTIO_BYTES] {
    let mut header = [0; VIRTIO_BYTES];
    let mut put = |at: usize, value: u16| {
        let place = header.iter_mut().skip(at);
        place.zip(value.to_le_bytes()).for_each(|(place, byte)| *place = byte);
    };
    if let Some((start, offset)) = todo.checksum {
        put(0, NEEDS_CSUM.into());
        put(6, start);
        put(8, offset);
    }
    if let Some((headers, piece)) = todo.pieces {
        put(1, GSO_TCPV4.into());
        put(2, headers);
        put(4, piece);
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_to_do_is_said_in_front() {
        assert_eq!(virtio(Todo::default()), [0; 10]);
        let todo = Todo { checksum: Some((34, 16)), pieces: Some((66, 1448)) };
        assert_eq!(virtio(todo), [1, 1, 66, 0, 0xa8, 5, 34, 0, 16, 0]);
    }
}

//! The form of a frame: `u32 length (little endian) | body of that many bytes`.
//!
//! Pure: bytes and descriptors go in, frames come out. [`Decoder`] never asks for bytes beyond the
//! frame it is reading, so what it has received belongs to that frame and to no other, and a
//! connection can be handed on between two frames.

use std::os::fd::OwnedFd;

use serde::{Serialize, de::DeserializeOwned};

use crate::WireError;

/// Longest body, in bytes. A process with the largest seccomp policy in use needs 0.2 MiB.
pub const FRAME_BYTES_MAX: usize = 4 << 20;

/// Most descriptors one frame may carry. The kernel's own limit is 253 (`SCM_MAX_FD`).
pub const FDS_MAX: usize = 16;

/// Bytes of the length in front of the body.
const HEADER_BYTES: usize = 4;

/// Most bytes asked for at once, so that a length is only believed as far as bytes follow it.
const READ_BYTES_MAX: usize = 64 << 10;

/// One frame as it came.
#[derive(Debug)]
pub struct Frame {
    /// Its body.
    pub body: Vec<u8>,
    /// The descriptors that came with it.
    pub fds: Vec<OwnedFd>,
}

impl Frame {
    /// The message in the body, and the descriptors.
    ///
    /// # Errors
    /// [`WireError::Json`] if the body is no such message; the descriptors are closed then.
    pub fn parse<T: DeserializeOwned>(self) -> Result<(T, Vec<OwnedFd>), WireError> {
        let message = serde_json::from_slice(&self.body).map_err(WireError::Json)?;
        Ok((message, self.fds))
    }
}

/// A message as a frame's bytes.
///
/// # Errors
/// [`WireError::Json`], [`WireError::TooLong`], or [`WireError::TooManyDescriptors`] for the
/// `fds` that are to go with it.
pub fn encode<T: Serialize + ?Sized>(message: &T, fds: usize) -> Result<Vec<u8>, WireError> {
    if fds > FDS_MAX {
        return Err(WireError::TooManyDescriptors { count: fds });
    }
    let mut bytes = vec![0; HEADER_BYTES];
    serde_json::to_writer(&mut bytes, message).map_err(WireError::Json)?;
    let length = bytes.len() - HEADER_BYTES;
    let header = u32::try_from(length).ok().filter(|_| length <= FRAME_BYTES_MAX);
    let header = header.ok_or(WireError::TooLong { bytes: length as u64 })?;
    for (place, byte) in bytes.iter_mut().zip(header.to_le_bytes()) {
        *place = byte;
    }
    Ok(bytes)
}

/// What a piece of the stream led to.
#[derive(Debug)]
pub enum Step {
    /// The frame is not whole yet.
    More,
    /// A frame is whole.
    Frame(Frame),
    /// The stream ended between two frames.
    End,
}

/// Puts frames together from the pieces in which they arrive.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The frame so far, its header first, and room for what was asked for.
    bytes: Vec<u8>,
    /// How much of it has arrived.
    arrived: usize,
    fds: Vec<OwnedFd>,
}

impl Decoder {
    /// Where the next bytes of the stream belong; never empty.
    pub fn space(&mut self) -> &mut [u8] {
        let end = self.frame_bytes().min(self.arrived + READ_BYTES_MAX);
        self.bytes.resize(end, 0);
        self.bytes.get_mut(self.arrived..).unwrap_or_default()
    }

    /// Takes note that `count` bytes were put into [`Decoder::space`], together with these
    /// descriptors; no bytes is the end of the stream.
    ///
    /// # Errors
    /// [`WireError::TooLong`], [`WireError::StrayDescriptors`], [`WireError::Truncated`]: all of
    /// them end the stream.
    pub fn received(&mut self, count: usize, fds: Vec<OwnedFd>) -> Result<Step, WireError> {
        if self.arrived == 0 && count > 0 {
            self.fds = fds;
        } else if !fds.is_empty() {
            return Err(WireError::StrayDescriptors { count: fds.len() });
        }
        if count == 0 {
            let missing = self.frame_bytes() - self.arrived;
            return if self.arrived == 0 {
                Ok(Step::End)
            } else {
                Err(WireError::Truncated { missing })
            };
        }
        self.arrived += count;
        let length = self.frame_bytes() - HEADER_BYTES;
        if length > FRAME_BYTES_MAX {
            return Err(WireError::TooLong { bytes: length as u64 });
        }
        if self.arrived < HEADER_BYTES + length || self.arrived < HEADER_BYTES {
            return Ok(Step::More);
        }
        Ok(Step::Frame(self.take()))
    }

    /// The bytes of the frame being read, as far as that is known: its header's, or all.
    fn frame_bytes(&self) -> usize {
        match self.bytes.first_chunk::<HEADER_BYTES>() {
            Some(header) if self.arrived >= HEADER_BYTES => {
                let length = usize::try_from(u32::from_le_bytes(*header)).unwrap_or(usize::MAX);
                length.saturating_add(HEADER_BYTES)
            }
            Some(_) | None => HEADER_BYTES,
        }
    }

    fn take(&mut self) -> Frame {
        let mut body = std::mem::take(&mut self.bytes);
        body.drain(..HEADER_BYTES);
        self.arrived = 0;
        Frame { body, fds: std::mem::take(&mut self.fds) }
    }
}

#[cfg(test)]
mod tests;

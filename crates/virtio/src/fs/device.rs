//! The device: requests out of its queues, answers into them.
//!
//! Source: virtio 1.2, 5.11.

use std::{ffi::CStr, io, os::fd::OwnedFd};

use serde_json::Value;

use super::{REQUEST_BYTES_MAX, Serve};
use crate::{
    Device, QueueError,
    device::{self, Kind, Queues, RestoreError, Source},
    queue::Queue,
};

/// Queues: what must not wait (what the guest forgets, what it interrupts), and requests. A request
/// of [`super::IO_BYTES_MAX`] has a buffer for each page, and some for headers.
const SIZES: [u16; 2] = [128, 512];

/// How many queues of requests there are.
const REQUEST_QUEUES: u32 = 1;

/// Bytes of a tag, in the configuration and at most.
const TAG_BYTES: usize = 36;

/// What is kept of the buffer for requests when there are none.
const KEPT_BYTES: usize = 16 << 10;

/// The version of what is saved.
const VERSION: u32 = 1;

/// A directory of the host's.
#[derive(Debug)]
pub struct Fs {
    tag: [u8; TAG_BYTES],
    server: Box<dyn Serve>,
    request: Vec<u8>,
}

/// A tag that the guest cannot mount.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no tag of a file system: it is 1 to 36 bytes, none of them zero")]
pub struct TagError(pub String);

impl Fs {
    /// What `server` serves, under the name by which the guest mounts it.
    ///
    /// # Errors
    /// [`TagError`].
    pub fn new(tag: &str, server: Box<dyn Serve>) -> Result<Fs, TagError> {
        let mut bytes = [0; TAG_BYTES];
        if tag.is_empty() || tag.contains('\0') || tag.len() > TAG_BYTES {
            return Err(TagError(tag.to_owned()));
        }
        bytes[..tag.len()].copy_from_slice(tag.as_bytes());
        Ok(Fs { tag: bytes, server, request: Vec::new() })
    }

    /// Gives the directory one more entry, which is elsewhere: see [`super::Server::graft`].
    ///
    /// # Errors
    /// As [`Serve::graft`].
    pub fn graft(&mut self, name: &CStr, what: OwnedFd) -> io::Result<()> {
        self.server.graft(name, what)
    }

    /// Takes such an entry away: see [`super::Server::prune`].
    ///
    /// # Errors
    /// As [`Serve::prune`].
    pub fn prune(&mut self, name: &CStr) -> io::Result<()> {
        self.server.prune(name)
    }

    /// Answers one request; false if there is none.
    fn answer(&mut self, queue: &mut Queue) -> Result<bool, QueueError> {
        let Some(mut chain) = queue.pop()? else { return Ok(false) };
        let bytes = chain.reader.left();
        if bytes > REQUEST_BYTES_MAX {
            return Err(queue.break_with(QueueError::TooLarge));
        }
        self.request.resize(bytes, 0);
        chain.reader.read(&mut self.request);
        if let Some(answer) = self.server.handle(&self.request, chain.writer.left()) {
            chain.writer.write(answer);
        }
        queue.push(chain.head, chain.writer.written());
        Ok(true)
    }
}

impl Device for Fs {
    fn kind(&self) -> Kind {
        Kind::Fs
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &SIZES
    }

    fn read_config(&self, offset: u64, to: &mut [u8]) {
        let mut config = [0; TAG_BYTES + 4];
        config[..TAG_BYTES].copy_from_slice(&self.tag);
        config[TAG_BYTES..].copy_from_slice(&REQUEST_QUEUES.to_le_bytes());
        device::read_bytes(&config, offset, to);
    }

    fn write_config(&mut self, _offset: u64, _from: &[u8]) {}

    fn activate(&mut self, _features: u64) {}

    fn process(&mut self, index: u16, queues: &mut Queues) -> Result<(), QueueError> {
        while let Some(queue) = queues.get(index) {
            if !self.answer(queue)? {
                break;
            }
            // The next may take long.
            queues.tell(index);
        }
        self.request.truncate(KEPT_BYTES);
        self.request.shrink_to(KEPT_BYTES);
        self.server.rest();
        Ok(())
    }

    fn sources(&self) -> Vec<Source<'_>> {
        Vec::new()
    }

    fn ready(&mut self, _token: u32, _queues: &mut Queues) -> Result<(), QueueError> {
        Ok(())
    }

    fn reset(&mut self) {
        self.server.reset();
    }

    fn save(&self) -> Value {
        device::save(VERSION, &self.server.save())
    }

    fn restore(&mut self, saved: Value) -> Result<(), RestoreError> {
        let state = device::restore("file system", VERSION, saved)?;
        self.server.restore(&state);
        Ok(())
    }
}

#[cfg(test)]
mod tests;

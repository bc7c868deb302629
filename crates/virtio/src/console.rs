//! The console: one port, a stream of bytes each way.
//!
//! Nothing is kept here. What the guest writes stays in its buffers until the host takes it, and
//! what the host writes stays in the descriptor until the guest has room: either side that does
//! not read makes the other wait. When nobody is there to read any more, what the guest writes is
//! dropped, as by a terminal that was switched off.
//!
//! Source: virtio 1.2, 5.3.

#[cfg(test)]
mod tests;

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use rustix::{
    fs::{FileType, fstat},
    io::{Errno, ioctl_fionbio, read, write},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Device, QueueError,
    device::{self, Kind, Queues, RestoreError, Source, Wake},
    queue::Chain,
};

/// To the guest.
const RECEIVE: u16 = 0;

/// From the guest.
const TRANSMIT: u16 = 1;

/// The tokens of the descriptors.
const INPUT: u32 = 0;
const OUTPUT: u32 = 1;

/// Bytes that are copied at once.
const STEP: usize = 4096;

/// `VIRTIO_CONSOLE_F_SIZE`.
const F_SIZE: u64 = 1;

/// `VIRTIO_CONSOLE_F_EMERG_WRITE`: a kernel may write a byte before it has a driver.
const F_EMERGENCY: u64 = 1 << 2;

/// Where the configuration takes such a byte.
const EMERGENCY: u64 = 8;

/// The version of what is saved.
const VERSION: u32 = 1;

/// A console.
#[derive(Debug)]
pub struct Console {
    input: Option<Stream>,
    output: Option<Stream>,
    state: State,
}

/// A descriptor, and whether it can be waited for: a regular file cannot and need not.
#[derive(Debug)]
struct Stream {
    fd: OwnedFd,
    waits: bool,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct State {
    columns: u16,
    rows: u16,
    /// How much of the chain that the guest transmits next was taken already.
    taken: usize,
}

impl Console {
    /// A console that reads from one descriptor and writes to another: sockets, pipes, terminals,
    /// or files. They become non-blocking.
    ///
    /// # Errors
    /// If they cannot be.
    pub fn new(input: Option<OwnedFd>, output: Option<OwnedFd>) -> io::Result<Console> {
        let input = input.map(Stream::new).transpose()?;
        let output = output.map(Stream::new).transpose()?;
        Ok(Console { input, output, state: State::default() })
    }

    /// The terminal has another size.
    pub fn resize(&mut self, columns: u16, rows: u16, queues: &Queues) {
        (self.state.columns, self.state.rows) = (columns, rows);
        queues.config_changed();
    }

    /// From the guest to the host, until there is no more or the host takes no more.
    fn transmit(&mut self, queues: &mut Queues) -> Result<(), QueueError> {
        let Some(ring) = queues.get(TRANSMIT) else { return Ok(()) };
        while let Some(Chain { head, mut reader, writer }) = ring.pop()? {
            reader.skip(self.state.taken);
            while reader.left() > 0 {
                let mut bytes = [0; STEP];
                // What is in the guest's memory may change until it is taken; it is taken once.
                let mut ahead = reader.ahead(STEP);
                let there = ahead.read(&mut bytes);
                let Some(went) = self.put(&bytes[..there]) else {
                    ring.put_back(Chain { head, reader, writer });
                    return Ok(());
                };
                reader.skip(went);
                self.state.taken += went;
            }
            self.state.taken = 0;
            ring.push(head, 0);
        }
        Ok(())
    }

    /// Writes to the host; gives how much went, or nothing if it would have to wait.
    fn put(&mut self, bytes: &[u8]) -> Option<usize> {
        let Some(output) = &self.output else { return Some(bytes.len()) };
        loop {
            match write(&output.fd, bytes) {
                // A write of something that writes nothing says that there is no room.
                Ok(0) | Err(Errno::AGAIN) => return None,
                Ok(went) => return Some(went),
                Err(Errno::INTR) => {}
                // Nobody reads it: EPIPE, EIO of a terminal, ENOSPC of a file.
                Err(_) => return Some(bytes.len()),
            }
        }
    }

    /// From the host to the guest, until there is no more or the guest has no more room.
    fn receive(&mut self, queues: &mut Queues) -> Result<(), QueueError> {
        let Some(input) = &self.input else { return Ok(()) };
        let Some(ring) = queues.get(RECEIVE) else { return Ok(()) };
        while let Some(mut chain) = ring.pop()? {
            let mut bytes = [0; STEP];
            let room = chain.writer.left().min(STEP);
            if room == 0 {
                ring.push(chain.head, 0);
                continue;
            }
            match read(&input.fd, &mut bytes[..room]) {
                Ok(came) if came > 0 => {
                    chain.writer.write(&bytes[..came]);
                    ring.push(chain.head, chain.writer.written());
                }
                Err(Errno::INTR) => ring.put_back(chain),
                // Nothing there, or nobody any more.
                Ok(_) | Err(_) => {
                    ring.put_back(chain);
                    break;
                }
            }
        }
        Ok(())
    }
}

impl Stream {
    fn new(fd: OwnedFd) -> io::Result<Stream> {
        ioctl_fionbio(&fd, true)?;
        let waits = FileType::from_raw_mode(fstat(&fd)?.st_mode) != FileType::RegularFile;
        Ok(Stream { fd, waits })
    }

    fn source(&self, token: u32) -> Option<Source<'_>> {
        self.waits.then(|| Source { token, fd: self.fd.as_fd(), wake: Wake::Edge })
    }
}

impl Device for Console {
    fn kind(&self) -> Kind {
        Kind::Console
    }

    fn features(&self) -> u64 {
        F_SIZE | F_EMERGENCY
    }

    fn queue_sizes(&self) -> &[u16] {
        &[64, 64]
    }

    fn read_config(&self, offset: u64, to: &mut [u8]) {
        let [c0, c1] = self.state.columns.to_le_bytes();
        let [r0, r1] = self.state.rows.to_le_bytes();
        // One port; the byte of an emergency is only written.
        device::read_bytes(&[c0, c1, r0, r1, 1, 0, 0, 0, 0, 0, 0, 0], offset, to);
    }

    fn write_config(&mut self, offset: u64, from: &[u8]) {
        if let (EMERGENCY, [byte, ..]) = (offset, from) {
            // A kernel in an emergency does not wait either.
            let _ = self.put(&[*byte]);
        }
    }

    fn activate(&mut self, _features: u64) {}

    fn process(&mut self, queue: u16, queues: &mut Queues) -> Result<(), QueueError> {
        match queue {
            RECEIVE => self.receive(queues),
            _ => self.transmit(queues),
        }
    }

    fn sources(&self) -> Vec<Source<'_>> {
        let input = self.input.as_ref().and_then(|input| input.source(INPUT));
        let output = self.output.as_ref().and_then(|output| output.source(OUTPUT));
        input.into_iter().chain(output).collect()
    }

    fn ready(&mut self, token: u32, queues: &mut Queues) -> Result<(), QueueError> {
        match token {
            INPUT => self.receive(queues),
            _ => self.transmit(queues),
        }
    }

    fn reset(&mut self) {
        self.state.taken = 0;
    }

    fn save(&self) -> Value {
        device::save(VERSION, &self.state)
    }

    fn restore(&mut self, saved: Value) -> Result<(), RestoreError> {
        self.state = device::restore("console", VERSION, saved)?;
        Ok(())
    }
}

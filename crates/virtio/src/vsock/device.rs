//! The device: packets in and out of its queues.

use std::{io, os::fd::AsFd as _};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Config, Counters, HEADER_BYTES, Header, Host, Mux, connection::BUFFER_BYTES};
use crate::{
    Device, QueueError,
    device::{self, Kind, Queues, RestoreError, Source, Wake},
};

/// Queues: packets for the guest, packets of the guest's, and what has happened to all of them.
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
const EVENT: u16 = 2;
const SIZES: [u16; 3] = [256, 256, 16];

/// All connections are gone. Source: virtio 1.2, 5.10.6.8, `VIRTIO_VSOCK_EVENT_TRANSPORT_RESET`.
const TRANSPORT_RESET: u32 = 0;

/// Most bytes of a packet. What a guest sends beyond the buffer that it was told of is a violation
/// whatever it is, so of that one byte is read.
const PAYLOAD_MAX: usize = BUFFER_BYTES as usize;

/// The only descriptor.
const SOCKETS: u32 = 0;

/// The version of what is saved.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct State {
    /// There were connections.
    connected: bool,
    /// The host's port for the next connection: a guest does not let go of the ports of those that
    /// it has lost at once.
    #[serde(default)]
    next_port: u32,
}

/// What the guest has to hear about connections that are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    None,
    /// It has to be told.
    Due,
    /// It was told when it had offered so many buffers for events, and offers one more when it has
    /// ended its connections. Those that came to it before would be ended with them.
    Told {
        offered: u16,
    },
}

/// A vsock device.
#[derive(Debug)]
pub struct Vsock {
    mux: Mux,
    payload: Vec<u8>,
    news: News,
}

impl Vsock {
    /// One without connections.
    ///
    /// # Errors
    /// If the host has no descriptor left.
    pub fn new(config: Config) -> io::Result<Vsock> {
        Ok(Vsock { mux: Mux::new(config)?, payload: vec![0; PAYLOAD_MAX + 1], news: News::None })
    }

    /// For who wants to connect and to listen in this process.
    pub fn host(&self) -> Host {
        self.mux.host()
    }

    /// What has happened.
    pub fn counters(&self) -> Counters {
        self.mux.counters()
    }

    /// Whether nobody is connected.
    pub fn is_idle(&self) -> bool {
        self.mux.is_idle()
    }

    /// Carries packets both ways, until neither side has one or takes one.
    fn carry(&mut self, queues: &mut Queues) -> Result<(), QueueError> {
        self.tell(queues)?;
        let knows = self.news == News::None;
        loop {
            let took = self.transmit(queues)?;
            let gave = knows && self.receive(queues)?;
            if !took && !gave {
                return Ok(());
            }
        }
    }

    /// Takes what the guest sends; gives whether it sent anything.
    fn transmit(&mut self, queues: &mut Queues) -> Result<bool, QueueError> {
        let Some(queue) = queues.get(TRANSMIT) else { return Ok(false) };
        let mut any = false;
        while !self.mux.is_full() {
            let Some(mut chain) = queue.pop()? else { break };
            any = true;
            let Some(header) = chain.reader.array::<HEADER_BYTES>() else {
                return Err(queue.break_with(QueueError::Missing("a packet's header")));
            };
            let header = Header::parse(&header);
            let bytes = usize::try_from(header.bytes).unwrap_or(usize::MAX);
            if bytes > chain.reader.left() {
                return Err(queue.break_with(QueueError::Missing("a packet's bytes")));
            }
            let bytes = bytes.min(self.payload.len());
            let read = chain.reader.read(&mut self.payload[..bytes]);
            queue.push(chain.head, 0);
            self.mux.take(&header, &self.payload[..read]);
        }
        Ok(any)
    }

    /// Gives the guest what there is for it; gives whether there was anything.
    fn receive(&mut self, queues: &mut Queues) -> Result<bool, QueueError> {
        let Some(queue) = queues.get(RECEIVE) else { return Ok(false) };
        let mut any = false;
        while self.mux.has_next() {
            let Some(mut chain) = queue.pop()? else { break };
            let Some(room) = chain.writer.left().checked_sub(HEADER_BYTES) else {
                return Err(queue.break_with(QueueError::Missing("room for a packet's header")));
            };
            let Some(header) = self.mux.next(&mut self.payload[..room.min(PAYLOAD_MAX)]) else {
                queue.put_back(chain);
                break;
            };
            any = true;
            chain.writer.write(&header.encode());
            chain.writer.write(&self.payload[..header.bytes as usize]);
            queue.push(chain.head, chain.writer.written());
        }
        Ok(any)
    }

    /// Tells a restored guest that its connections are gone, as soon as it can be told, and looks
    /// whether it has seen to that.
    fn tell(&mut self, queues: &mut Queues) -> Result<(), QueueError> {
        let Some(queue) = queues.get(EVENT).filter(|_| self.news != News::None) else {
            return Ok(());
        };
        if self.news == News::Due {
            let Some(mut chain) = queue.pop()? else { return Ok(()) };
            if chain.writer.write(&TRANSPORT_RESET.to_le_bytes()) < 4 {
                return Err(queue.break_with(QueueError::Missing("room for an event")));
            }
            self.news = News::Told { offered: queue.offered()? };
            queue.push(chain.head, chain.writer.written());
        }
        if let News::Told { offered } = self.news
            && queue.offers_more_than(offered)?
        {
            self.news = News::None;
        }
        Ok(())
    }
}

impl Device for Vsock {
    fn kind(&self) -> Kind {
        Kind::Vsock
    }

    /// None: without any it is streams that are spoken.
    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &SIZES
    }

    fn read_config(&self, offset: u64, to: &mut [u8]) {
        device::read_bytes(&self.mux.cid().to_le_bytes(), offset, to);
    }

    fn write_config(&mut self, _offset: u64, _from: &[u8]) {}

    fn activate(&mut self, _features: u64) {
        // Streams may have been waiting for the driver.
        self.host().ring();
    }

    fn process(&mut self, _queue: u16, queues: &mut Queues) -> Result<(), QueueError> {
        self.carry(queues)
    }

    fn sources(&self) -> Vec<Source<'_>> {
        vec![Source { token: SOCKETS, fd: self.mux.as_fd(), wake: Wake::Level }]
    }

    fn ready(&mut self, _token: u32, queues: &mut Queues) -> Result<(), QueueError> {
        self.mux.serve();
        self.carry(queues)
    }

    fn reset(&mut self) {
        self.mux.forget();
        self.news = News::None;
    }

    /// Sockets cannot be saved, so the connections end with a restore. A guest that had none does
    /// not hear of it: it would end those that it has by then.
    fn save(&self) -> Value {
        let connected = self.news != News::None || !self.mux.is_idle();
        device::save(VERSION, &State { connected, next_port: self.mux.next_port() })
    }

    fn restore(&mut self, saved: Value) -> Result<(), RestoreError> {
        let state: State = device::restore("vsock", VERSION, saved)?;
        self.mux.forget();
        self.mux.go_on_from(state.next_port);
        self.news = if state.connected { News::Due } else { News::None };
        self.host().ring();
        Ok(())
    }
}

#[cfg(test)]
mod tests;

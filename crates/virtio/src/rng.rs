//! The entropy device: random bytes of the host for the guest.
//!
//! Source: virtio 1.2, 5.4.

use rustix::rand::{GetRandomFlags, getrandom};
use serde_json::Value;

use crate::{
    Device, QueueError,
    device::{self, Kind, Queues, RestoreError, Source},
};

/// Most bytes that answer one request; a driver asks again.
const BYTES_MAX: usize = 4096;

/// The version of what is saved: nothing.
const VERSION: u32 = 1;

/// An entropy device.
#[derive(Debug, Default)]
pub struct Rng;

impl Device for Rng {
    fn kind(&self) -> Kind {
        Kind::Entropy
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &[64]
    }

    fn read_config(&self, _offset: u64, _to: &mut [u8]) {}

    fn write_config(&mut self, _offset: u64, _from: &[u8]) {}

    fn activate(&mut self, _features: u64) {}

    fn process(&mut self, queue: u16, queues: &mut Queues) -> Result<(), QueueError> {
        let Some(ring) = queues.get(queue) else { return Ok(()) };
        while let Some(mut chain) = ring.pop()? {
            let mut bytes = [0; BYTES_MAX];
            let wanted = chain.writer.left().min(BYTES_MAX);
            // Once the host's pool is filled this neither fails nor waits; a host that has none
            // gives nothing, and the driver sees that.
            let came = getrandom(&mut bytes[..wanted], GetRandomFlags::empty()).unwrap_or(0);
            chain.writer.write(&bytes[..came]);
            ring.push(chain.head, chain.writer.written());
        }
        Ok(())
    }

    fn sources(&self) -> Vec<Source<'_>> {
        Vec::new()
    }

    fn ready(&mut self, _token: u32, _queues: &mut Queues) -> Result<(), QueueError> {
        Ok(())
    }

    fn reset(&mut self) {}

    fn save(&self) -> Value {
        device::save(VERSION, &())
    }

    fn restore(&mut self, saved: Value) -> Result<(), RestoreError> {
        device::restore("entropy device", VERSION, saved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Buffer, Rig};

    #[test]
    fn bytes_are_random_and_never_too_many() {
        let mut rig = Rig::new(Rng, 0);
        let mut ask = |bytes| rig.request(0, &[Buffer::Write(bytes)]).unwrap();
        let (first, second) = (ask(64), ask(64));
        assert_eq!((first.written, second.written), (64, 64));
        assert_ne!(first.bytes, second.bytes);
        assert_eq!((ask(0).written, ask(100_000).written), (0, 4096));
        let nothing = rig.request(0, &[Buffer::Read(b"what?")]).unwrap();
        assert_eq!(nothing.written, 0);
    }

    #[test]
    fn it_is_saved_and_restored() {
        let rig = Rig::new(Rng, 0);
        let other = Rig::bare(Rng);
        other.mmio.restore(rig.mmio.save().unwrap()).unwrap();
        assert_eq!(other.get(0x70), 15);
    }
}

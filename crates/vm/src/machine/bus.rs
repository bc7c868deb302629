//! Which virtio device answers at an address.

use std::sync::Arc;

use virtio::{Device, Mmio};

use crate::layout;

/// The devices, each in its page.
#[derive(Debug)]
pub(super) struct Bus(Vec<Arc<Mmio<dyn Device>>>);

/// Where the n-th device is.
pub(super) fn address(n: usize) -> u64 {
    layout::VIRTIO + n as u64 * layout::VIRTIO_BYTES
}

/// The device whose page all of an access lies in, and where in the page.
fn find(address: u64, bytes: usize) -> Option<(usize, u64)> {
    let from = address.checked_sub(layout::VIRTIO)?;
    let offset = from % layout::VIRTIO_BYTES;
    let fits = bytes as u64 <= layout::VIRTIO_BYTES - offset;
    let device = usize::try_from(from / layout::VIRTIO_BYTES).ok()?;
    fits.then_some((device, offset))
}

impl Bus {
    pub(super) fn new(devices: Vec<Arc<Mmio<dyn Device>>>) -> Bus {
        Bus(devices)
    }

    pub(super) fn devices(&self) -> &[Arc<Mmio<dyn Device>>] {
        &self.0
    }

    fn at(&self, address: u64, bytes: usize) -> Option<(usize, &Mmio<dyn Device>, u64)> {
        let (index, offset) = find(address, bytes)?;
        Some((index, self.0.get(index)?, offset))
    }

    /// The guest reads; where nobody is, all ones.
    pub(super) fn read(&self, address: u64, data: &mut [u8]) {
        match self.at(address, data.len()) {
            Some((_, device, offset)) => device.read(offset, data),
            None => data.fill(0xff),
        }
    }

    /// The guest writes; gives the device and the queue that it has rung for, if no doorbell
    /// caught it before.
    pub(super) fn write(&self, address: u64, data: &[u8]) -> Option<(usize, u16)> {
        let (index, device, offset) = self.at(address, data.len())?;
        match device.write(offset, data) {
            Ok(queue) => Some((index, queue?)),
            Err(error) => {
                tracing::warn!(device = ?device.kind(), %error, "the guest broke a device");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_access_that_is_found_lies_within_its_page(
            address in prop_oneof![any::<u64>(), layout::VIRTIO - 16..layout::VIRTIO + 0x3000],
            bytes in prop::sample::select(vec![1usize, 2, 4, 8]),
        ) {
            if let Some((device, offset)) = find(address, bytes) {
                prop_assert_eq!(super::address(device) + offset, address);
                prop_assert!(offset + bytes as u64 <= layout::VIRTIO_BYTES);
            }
        }
    }

    #[test]
    fn an_access_belongs_to_one_page() {
        assert_eq!(find(layout::VIRTIO, 4), Some((0, 0)));
        assert_eq!(find(layout::VIRTIO + 0x1ffc, 4), Some((1, 0xffc)));
        assert_eq!(find(layout::VIRTIO + 0x1ffd, 4), None);
        assert_eq!(find(layout::VIRTIO - 1, 1), None);
        assert_eq!(find(u64::MAX, 8), None);
    }

    #[test]
    fn nobody_is_there() {
        let bus = Bus::new(Vec::new());
        let mut data = [0; 4];
        bus.read(layout::VIRTIO, &mut data);
        assert_eq!(data, [0xff; 4]);
        assert_eq!(bus.write(layout::VIRTIO + 0x50, &data), None);
    }
}

//! A block of bytes with fields at their places.

/// Bytes of a block, in memory.
pub(crate) const BLOCK_BYTES: usize = 4096;

/// A piece of the disk under construction.
#[derive(Clone, Debug)]
pub(crate) struct Bytes(Vec<u8>);

impl Bytes {
    pub(crate) fn zeros(size: usize) -> Bytes {
        Bytes(vec![0; size])
    }

    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn u16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    /// Sets the bits of a range, from the lowest of the first byte on.
    pub(crate) fn bits(&mut self, range: std::ops::Range<u64>) {
        for bit in range {
            self.0[usize::try_from(bit / 8).expect("a bitmap fits memory")] |= 1 << (bit % 8);
        }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

/// A number that the disk has 32 bits for; the limit on a disk's size sees to that.
pub(crate) fn narrow(value: u64) -> u32 {
    u32::try_from(value).expect("block and inode numbers fit 32 bits")
}

/// The lower 16 bits, where the upper ones have a place of their own.
pub(crate) fn low(value: u64) -> u16 {
    u16::try_from(value & 0xffff).expect("masked")
}

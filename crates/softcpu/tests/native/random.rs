//! Random cases that find something: values at the edges more often than chance would have them.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "bits are taken apart"
)]

/// A generator of Marsaglia's xorshift family: the same seed gives the same cases.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// From a seed.
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        (self.bits() >> 16) % end
    }

    /// One of `n`.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of these.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// An integer: any, small, or at an edge.
    pub(crate) fn integer(&mut self) -> u64 {
        let edge = 1u64 << self.below(64);
        match self.below(5) {
            0 => self.bits(),
            1 => self.below(16),
            2 => edge,
            3 => edge.wrapping_sub(self.below(3)),
            _ => (edge | self.below(4)).wrapping_neg(),
        }
    }

    /// The bits of a single: any, or zero, denormal, one, huge, infinite, NaN quiet or signalling.
    pub(crate) fn single(&mut self) -> u32 {
        let sign = (self.bits() as u32) & 0x8000_0000;
        let significand = self.fraction(23) as u32;
        let exponent = self.exponent(127, 0xff);
        sign | exponent << 23 | significand
    }

    /// The bits of a double.
    pub(crate) fn double(&mut self) -> u64 {
        let sign = self.bits() & 1 << 63;
        let significand = self.fraction(52);
        sign | u64::from(self.exponent(1023, 0x7ff)) << 52 | significand
    }

    /// The bytes of an extended real, unsupported ones among them.
    pub(crate) fn extended(&mut self) -> [u8; 10] {
        let sign = (self.bits() as u16) & 0x8000;
        let exponent = self.exponent(16383, 0x7fff) as u16;
        let mut significand = self.fraction(63);
        if exponent != 0 || self.one_in(8) {
            significand |= 1 << 63;
        }
        if self.one_in(32) {
            significand ^= 1 << 63;
        }
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&significand.to_le_bytes());
        bytes[8..].copy_from_slice(&(sign | exponent).to_le_bytes());
        bytes
    }

    fn fraction(&mut self, bits: u32) -> u64 {
        let mask = (1 << bits) - 1;
        let edge = 1 << self.below(bits.into());
        match self.below(6) {
            0 => 0,
            1 => mask,
            2 => edge,
            3 => mask & !edge,
            4 => 1 << (bits - 1) | self.below(4),
            _ => self.bits() & mask,
        }
    }

    fn exponent(&mut self, bias: u32, max: u32) -> u32 {
        match self.below(8) {
            0 => 0,
            1 => max,
            2 => self.below(3) as u32,
            3 => max - self.below(3) as u32,
            4 | 5 => bias - 2 + self.below(66) as u32,
            6 => bias - 32 + self.below(64) as u32,
            _ => self.below((max + 1).into()) as u32,
        }
    }

    /// 16 bytes that mean something as singles, doubles or integers.
    pub(crate) fn vector(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        match self.below(4) {
            0 => bytes.as_chunks_mut::<4>().0.fill_with(|| self.single().to_le_bytes()),
            1 => bytes.as_chunks_mut::<8>().0.fill_with(|| self.double().to_le_bytes()),
            2 => bytes.as_chunks_mut::<8>().0.fill_with(|| self.integer().to_le_bytes()),
            _ => {
                let lane = self.pick(&[1, 2, 4, 8]);
                for chunk in bytes.chunks_mut(lane) {
                    chunk.copy_from_slice(&self.integer().to_le_bytes()[..lane]);
                }
            }
        }
        bytes
    }
}

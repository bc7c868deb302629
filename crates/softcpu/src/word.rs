//! The four widths of integers.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "cutting and extending is what a width is about"
)]

use hv::memory::Scalar;

/// An operand's width. Values are carried as 64 bits whose upper part is zero.
pub(crate) trait Word: Scalar {
    /// How many bits.
    const BITS: u32;
    /// How many bytes.
    const BYTES: u64;
    /// All bits of the width.
    const MASK: u64;

    /// With zeros above.
    fn wide(self) -> u64;

    /// The lower part.
    fn cut(wide: u64) -> Self;

    /// The lower part with its sign above.
    fn signed(wide: u64) -> u64;
}

macro_rules! word {
    ($unsigned:ty, $signed:ty) => {
        impl Word for $unsigned {
            const BITS: u32 = <$unsigned>::BITS;
            const BYTES: u64 = (<$unsigned>::BITS / 8) as u64;
            const MASK: u64 = <$unsigned>::MAX as u64;

            #[inline(always)]
            fn wide(self) -> u64 {
                self as u64
            }

            #[inline(always)]
            fn cut(wide: u64) -> $unsigned {
                wide as $unsigned
            }

            #[inline(always)]
            fn signed(wide: u64) -> u64 {
                wide as $signed as i64 as u64
            }
        }
    };
}

word!(u8, i8);
word!(u16, i16);
word!(u32, i32);
word!(u64, i64);

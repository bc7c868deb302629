//! Vectors as arrays of lanes, the lowest first.

use std::array;

use super::Args;

macro_rules! lanes {
    ($lane:ty, $count:literal, $split:ident, $join:ident, $zip:ident) => {
        /// The lanes of a vector.
        #[inline]
        pub(in crate::fpu) fn $split(vector: u128) -> [$lane; $count] {
            let bytes = vector.to_le_bytes();
            let lanes = bytes.as_chunks().0;
            array::from_fn(|n| <$lane>::from_le_bytes(lanes[n]))
        }

        /// The vector of these lanes.
        #[inline]
        pub(in crate::fpu) fn $join(lanes: [$lane; $count]) -> u128 {
            let mut bytes = [0; 16];
            for (chunk, lane) in bytes.as_chunks_mut().0.iter_mut().zip(lanes) {
                *chunk = lane.to_le_bytes();
            }
            u128::from_le_bytes(bytes)
        }

        /// Each lane of the destination with that of the source.
        #[inline]
        pub(in crate::fpu) fn $zip(args: Args, f: impl Fn($lane, $lane) -> $lane) -> u128 {
            let (a, b) = ($split(args.a), $split(args.b));
            $join(array::from_fn(|n| f(a[n], b[n])))
        }
    };
}

lanes!(u8, 16, split8, join8, zip8);
lanes!(u16, 8, split16, join16, zip16);
lanes!(u32, 4, split32, join32, zip32);
lanes!(u64, 2, split64, join64, zip64);

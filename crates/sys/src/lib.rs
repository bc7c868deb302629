//! Skeleton.

pub mod loopdev;

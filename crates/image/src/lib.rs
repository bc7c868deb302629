//! Skeleton.

pub mod layer;

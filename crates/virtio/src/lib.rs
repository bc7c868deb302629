//! virtio devices.

pub mod fs;
pub mod vsock;

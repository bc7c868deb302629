//! virtio 1.2: split queues, the MMIO transport, and the devices behind it.
//!
//! ```text
//! vm (event loop, buses) ──▶ mmio::Mmio ──▶ device::Device: blk, rng, console, balloon, …
//!                                │              │
//!                         signal (a line)    queue::Queue over hv::GuestMemory
//! ```
//!
//! A device is a plain value with no thread of its own. Everything that a guest writes, rings,
//! descriptors, requests and configuration, is hostile: what cannot be is answered with the
//! protocol's own error, or breaks the device until its driver resets it, and nothing else.
//!
//! Knows no processor, no boot and no address map.

pub mod balloon;
pub mod blk;
pub mod console;
pub mod device;
#[doc(hidden)]
pub mod fuzzing;
pub mod mmio;
pub mod queue;
pub mod rate;
pub mod rng;
mod signal;
#[doc(hidden)]
pub mod testing;
mod timer;

pub use device::Device;
pub use mmio::Mmio;
pub use queue::{Queue, QueueError};
pub use signal::Line;

//! Holds sandboxes for a daemon that may die.
//!
//! ```text
//! daemon ──ShimDriver──▶ fork server ──fork──▶ shim process: driver, one sandbox, its streams
//!    └────────────────────────────────────────▶  (its own socket, until the sandbox is destroyed)
//! ```
//!
//! * [`ShimDriver`] is a [`workload::Driver`] whose sandboxes live in processes of their own.
//! * [`ForkServer`] is the small single-threaded process that these are forked from.
//! * A [`Post`] is a shim where only streams lead to, such as a machine of its own; [`Remote`] is how it
//!   is called.
//! * A shim process serves the protocol of [`protocol`] over a driver that the program injects.
//!
//! Knows the contract (`workload`) and no concrete driver.

mod client;
mod directory;
mod fork_server;
pub mod protocol;
mod server;

pub use client::{Remote, ShimConfig, ShimDriver, StartForkServer};
pub use directory::DirectoryError;
pub use fork_server::{ForkServer, ForkServerError, MakeDriver};
pub use server::{Arrival, DoChore, Post};

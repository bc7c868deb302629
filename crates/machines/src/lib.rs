//! Machines that are kept by name: what they are made of, the process that one of them is, and
//! snapshots.
//!
//! ```text
//! command ──▶ Machines: records, disks, locks ◀── Start: a process that takes the lock over
//!     │                                                │
//!     └──── Running: requests over a socket ──────▶ process::serve: snapshots, usernet
//!                    the console over another ────▶ console    │ orders, with descriptors
//!                                                              ▼
//!                                                  hold: vm, virtio, without any rights
//! ```
//!
//! A machine is a directory. Whoever runs or changes it holds the lock in it, so no daemon is
//! asked, and what a `kill -9` leaves at any moment is a machine that does not run.
//!
//! Knows no engine, no containers and no images; where kernels come from and what carries out
//! instructions is said by whoever starts the process.

#![cfg(target_arch = "x86_64")]

mod assembly;
mod command_line;
mod console;
mod control;
mod copy;
pub mod disk;
mod draft;
mod guest;
mod inside;
pub mod lifetime;
mod name;
pub mod net;
mod order;
pub mod process;
mod record;
mod running;
pub mod seed;
mod snapshot;
mod spec;
mod store;

pub use assembly::MakeHypervisor;
pub use console::BACKLOG_BYTES;
pub use control::Usage;
pub use draft::{Draft, DraftError, KernelWish, NetworkWish, SeedWish};
pub use guest::{FindKernel, MakeProcess, Surroundings};
pub use inside::hold;
pub use lifetime::{Ended, How, Lock, State};
pub use name::{Name, NameError};
pub use record::RecordError;
pub use running::{RunError, Running, Stopped};
pub use snapshot::{Manifest, RestoreError, SaveError, Snapshot};
pub use spec::{CPUS_MAX, Kernel, MEMORY_MIN, MEMORY_STEP, Spec, SpecError};
pub use store::{Entry, Kept, Machines, StoreError};

//! Machines: from a kernel and a list of devices to something that runs, and from that to a file
//! and back.
//!
//! Knows no image, no network and nothing of what the guest runs.

#![cfg(target_arch = "x86_64")]

pub mod acpi;
pub mod boot;
#[doc(hidden)]
pub mod fuzzing;
pub mod layout;
pub mod legacy;
mod machine;
pub mod snapshot;

pub use machine::{
    Announce, BuildError, Builder, Cargo, Console, End, Machine, PauseError, SaveError,
};

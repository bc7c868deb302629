//! Control groups, version 1, hybrid and version 2: limits, counters, freezing, killing,
//! out-of-memory events.
//!
//! [`Hierarchy`] is what the host has; [`Cgroup`] is one group, by one name in every hierarchy
//! that it needs. Which hierarchies those are is decided in `placement.rs`, what is written
//! where in `plan/`, what device rules mean in `devices.rs`; these are pure.
//!
//! This crate knows processes by number and limits as [`workload::Limits`]. It must not know
//! what a container is, and starts no process.

mod cgroup;
mod controller;
mod device_filter;
mod devices;
mod error;
mod files;
mod freezer;
mod hierarchy;
mod join;
mod making;
mod name;
mod oom;
mod placement;
mod plan;
mod processes;
mod removal;
mod usage;
mod view;
mod wait;

#[cfg(test)]
mod tests;

pub use cgroup::Cgroup;
pub use error::CgroupError;
pub use hierarchy::{Hierarchy, LEAF, Layout};
pub use join::Join;
pub use name::GroupName;
pub use oom::OomWatch;
pub use view::{MountView, ViewEntry};

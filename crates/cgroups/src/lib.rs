//! Control groups, version 1, hybrid and version 2: limits, counters, freezing, killing,
//! out-of-memory events.
//!
//! [`Hierarchy`] is what the host has; [`Cgroup`] is one group, by one name in every hierarchy
//! that it needs. Which hierarchies those are is decided in `placement.rs`; what is written
//! where in `plan_v1.rs` and `plan_v2.rs`; both are pure.
//!
//! This crate knows processes by number and limits as [`workload::Limits`]. It must not know
//! what a container is, and starts no process.

mod cgroup;
mod error;
mod hierarchy;
mod name;

pub use cgroup::{Cgroup, Join, MountView, OomWatch, ViewEntry};
pub use error::CgroupError;
pub use hierarchy::{Hierarchy, Layout};
pub use name::GroupName;

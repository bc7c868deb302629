//! The container driver: namespaces, mounts, privileges and processes of one Linux host.
//!
//! A start is three steps, each in its own files:
//!
//! ```text
//!  spec ──plan──▶ [descriptors to prepare], [operations]      plan/    pure
//!       ──prepare──▶ detached mounts, namespaces, streams     prepare/ parent
//!       ──launch──▶ clone3 ─┬─ operations … execve            init/    child, allocates nothing
//!                           └─ follows by a socket            launch   parent
//! ```
//!
//! It knows no image, no network set-up and no daemon: it is handed directories, namespaces and
//! descriptors. The calling process must have a single thread when it starts a process.
//!
//! Needs Linux 5.12 (mount_setattr(2)); layers under a user namespace need 6.13.

mod beneath;
mod common;
mod descriptor;
mod driver;
mod files;
mod ground;
mod host;
mod idmap;
mod init;
mod launch;
mod network;
#[cfg(feature = "oci")]
pub mod oci;
mod op;
mod plan;
mod prepare;
mod process;
mod program;
mod report;
mod sandbox;
mod sysctl;
mod terminal;
mod tree;
mod users;

pub use cgroups::LEAF as DAEMON_GROUP;
pub use driver::{LinuxDriver, Prepared};
pub use host::{findings, has_control_groups};
pub use program::Protected;

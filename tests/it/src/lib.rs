//! Drives the built program as a user would: its command line, a terminal, the network, kill -9.
//!
//! Every test has an instance of its own (data root, run root, network namespace), so tests run
//! in parallel and beside a daemon in daily use. Knows the program's outside only; but for the
//! shims' protocol, by which the conformance suite is run behind it.

mod certificates;
mod debian;
mod docker;
mod host;
mod instance;
mod kernels;
mod pty;
mod registry;
pub mod served;
mod shims;
#[cfg(target_arch = "x86_64")]
mod tracer;
mod user;

pub use certificates::certificates;
pub use debian::debian;
pub use host::{cgroups, processes, wait_until};
pub use instance::{Instance, Ran};
pub use kernels::{instance_with_kernel, kernels};
pub use pty::Pty;
pub use registry::{Registry, Relay, Trouble};
pub use shims::Shims;
#[cfg(target_arch = "x86_64")]
pub use tracer::{Fault, Traced, with_fault};
pub use user::{Grants, ROUTER, User};

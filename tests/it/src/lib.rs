//! Drives the built program as a user would: its command line, a terminal, the network, kill -9.
//!
//! Every test has an instance of its own (data root, run root, network namespace), so tests run
//! in parallel and beside a daemon in daily use. Knows the program's outside only.

mod host;
mod instance;
mod pty;
mod user;

pub use host::{cgroups, processes, wait_until};
pub use instance::{Instance, Ran};
pub use pty::Pty;
pub use user::{Grants, ROUTER, User};

//! The vm driver: a sandbox in a machine of its own.
//!
//! ```text
//! engine ──shim──▶ VmDriver ──orders──▶ vmm: a process with machine and devices
//!                     │                        ║ vsock
//!                     └──shim's protocol───────╫──▶ agent (crate guest) ──▶ container driver
//!                        streams ──────────────╨──▶
//! ```
//!
//! Layers go in as read-only disks, changes are on a disk of their own, and what the host shares
//! comes through virtio-fs; the agent starts the same processes as a container has. Their output
//! is kept here, on the host, as for every other driver. A machine is not booted each time: it is
//! taken up from where one of its kind was ready (`warm`).
//!
//! Knows no image and no daemon, and of a network only the namespace it is handed; what carries out
//! instructions it is given.

#![cfg(target_arch = "x86_64")]

mod accel;
mod changes;
mod console;
mod control;
mod driver;
mod furniture;
pub mod initramfs;
mod link;
mod machine;
mod names;
mod process;
mod pump;
mod sandbox;
mod share;
mod translate;
pub mod vmm;
mod warm;

pub use driver::{FindKernel, Kernel, StartVmm, VmConfig, VmDriver, Walls};

/// Where the agent takes calls, and where, on the host, it says that it does.
const CALL_PORT: u32 = 1024;
const READY_PORT: u32 = 1024;

/// Where the agent takes streams, each with its number in front.
const STREAM_PORT: u32 = 1025;

/// Where the agent asks for names: in datagrams, each with its length in front, and in a stream.
const NAMES_PORT: u32 = 1053;
const NAMES_STREAM_PORT: u32 = 53;

//! The contract between the engine and whatever isolates a workload.
//!
//! Down goes one complete value: a [`SandboxSpec`] with its [`Materials`], then a
//! [`ProcessSpec`] with its [`Streams`]. Up comes one future, [`Process::wait`]. Whoever
//! implements [`Driver`], [`Sandbox`] and [`Process`] passes the conformance suite in
//! `tests/testkit`, so that every verb means the same behind every wall.
//!
//! The specs derive serde because the shim protocol and the engine's records carry them whole;
//! a field added here is `#[serde(default)]`, so that a shim that outlived an upgrade still
//! understands.
//!
//! This crate knows no driver, no wire format, no client's vocabulary, and does no I/O.

mod container;
mod driver;
mod error;
mod files;
mod limits;
mod log;
mod process;
pub mod profile;
mod sandbox;
mod security;
mod usage;

pub use container::{
    Bind, ContainerSpec, DeviceKind, DeviceNode, Filesystem, IdMap, Mount, MountFlags, MountSource,
    Propagation, PropagationKind, RootFs, Tmpfs, UserMap,
};
pub use driver::{
    Capabilities, Driver, Finding, Forkable, Pausable, Pending, Process, Sandbox, SandboxHandle,
    Trace,
};
pub use error::DriverError;
pub use files::{FileFault, FileStat, Files, Owner, Unpack};
pub use limits::{
    BlockRate, CpuLimits, DeviceRule, Limits, MemoryLimits, MemorySwap, NANO_CPUS_PER_CPU,
};
pub use log::{LogDriver, LogSpec, SyslogFormat, SyslogSpec, SyslogTarget};
pub use process::{
    Attachment, Exit, ExitStatus, MachineEnd, ProcessRoot, ProcessSpec, Rlimit, Signal, Streams,
    TerminalSize, UserSpec,
};
pub use sandbox::{
    Accel, Isolation, IsolationError, MachineSpec, Materials, Namespace, Network, SandboxSpec,
    TimeOffsets,
};
pub use security::{
    CapabilitySets, Seccomp, SeccompAction, SeccompArg, SeccompCompare, SeccompPolicy,
    SeccompProgram, SeccompRule,
};
pub use usage::{BlockUsage, CpuUsage, InterfaceUsage, MemoryUsage, Usage};

//! System call filters: Docker's and the OCI's profiles as data, compiled to classic BPF.
//!
//! A [`Profile`] is resolved for one host and one set of capabilities to a
//! [`workload::SeccompPolicy`], and that is compiled to a list of [`Instruction`]s, which
//! `sys::seccomp::load` takes.
//!
//! Pure: this crate makes no system call and reads no file.

mod arch;
mod assemble;
mod bpf;
mod compile;
mod condition;
mod decide;
mod flags;
mod profile;
mod tables;

pub use arch::Arch;
pub use assemble::{AssembleError, assemble};
pub use bpf::Instruction;
pub use compile::{CompileError, compile};
pub use flags::{FilterFlags, FlagError};
pub use profile::{Host, KernelVersion, Profile, ProfileError};

#[cfg(test)]
mod tests;

//! The cut between a machine and whatever carries out its processors' instructions.
//!
//! ```text
//! vm (devices, boot) ──▶ Hypervisor ─▶ Vm ─▶ Vcpu ──run──▶ Exit ──▶ vm
//!                             │
//!                    GuestMemory  CpuState        kvm: the host's processor
//!                                                 softcpu (another crate): our own
//! ```
//!
//! What stands here is true of both: memory that the guest and its devices share, the state of a
//! processor in neutral words, so that a snapshot moves between hosts and between backends, and
//! processor models, so that a guest sees the same processor everywhere.
//!
//! Knows no device, no boot protocol, and nothing of what the guest runs.

#![cfg(target_arch = "x86_64")]

mod backend;
pub mod kvm;
pub mod memory;
pub mod model;
pub mod probe;
pub mod state;
pub mod suite;

pub use backend::{
    Accel, Clock, Doorbell, Exit, HvError, Hypervisor, Kick, Place, Shape, Vcpu, Vm,
};
pub use memory::GuestMemory;
pub use model::Model;
pub use state::{ChipState, CpuState};

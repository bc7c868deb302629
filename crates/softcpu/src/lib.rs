//! An x86-64 processor in software, behind the traits of `hv`.
//!
//! ```text
//! guest memory ─▶ decode ─▶ blocks of operations ─▶ run ──▶ Exit
//!                             ▲ cache        │  ▲
//!                             └── watch ◀────┘  └── mail: chips, kicks, written pages
//! ```
//!
//! Instructions are decoded once into blocks of operations, each a function and its operands; the
//! loop in `run` carries out block after block and looks up only between them. Addresses go through
//! a software TLB. Between blocks a processor takes interrupts and messages of others; an
//! instruction that reaches a device is carried out on its own and ends the run.
//!
//! Absent by decision, with an exception in their place: hardware task switches and task gates,
//! call gates, virtual 8086 mode. No system of 64 bits can use the first and the last (long mode
//! has neither: AMD APM volume 2, 1.3), and the 32-bit kernels that this processor is
//! to run do not: they switch tasks themselves, and use a task gate for the double fault alone,
//! which is a triple fault here. Call gates are left out because nothing uses them.
//!
//! Breakpoints in debug registers are kept and do not strike; an unaligned access is never an
//! exception of its own.
//!
//! Knows no device and no descriptor of the host.

#![cfg(target_arch = "x86_64")]

mod access;
mod alu;
mod backend;
mod cache;
pub mod chips;
mod control;
mod cpu;
mod decode;
mod deliver;
mod device;
mod exclusion;
mod far;
mod fault;
mod flags;
pub mod fpu;
mod lines;
mod machine;
mod mmu;
mod msr;
mod op;
mod run;
mod saved_code;
mod segment;
mod state;
mod tlb;
mod word;

pub use backend::{Soft, SoftVcpu};

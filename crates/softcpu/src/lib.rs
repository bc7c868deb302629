//! An x86-64 processor in software, behind the traits of `hv`.
//!
//! Knows no device and no descriptor of the host.

#![cfg(target_arch = "x86_64")]

pub mod chips;
pub mod fpu;

//! Linux system calls that rustix lacks.

pub mod bpf;
pub mod seccomp;

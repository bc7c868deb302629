//! Linux system calls that rustix lacks.

pub mod bpf;
pub mod seccomp;
pub mod netlink;
pub mod netns;

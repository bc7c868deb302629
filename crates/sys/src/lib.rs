//! Linux system calls that rustix lacks.

pub mod bpf;
pub mod fork;
pub mod loopdev;
pub mod netlink;
pub mod netns;
pub mod seccomp;

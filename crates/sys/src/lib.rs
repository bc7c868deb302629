//! Linux system calls that rustix lacks.

pub mod netlink;
pub mod netns;

//! Linux system calls that rustix lacks, safe forms of those it calls unsafe, and those that have to
//! be made again where the kernel could not decide.
//!
//! Everything marked "child-safe" neither allocates nor takes a lock, so it may be called
//! between clone(2) and execve(2). This crate knows no policy: it says what the kernel says.

pub mod beneath;
pub mod bpf;
pub mod capability;
pub mod clone;
pub mod exec;
pub mod fork;
pub mod freeze;
pub mod keyring;
pub mod loopdev;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod netns;
pub mod process;
pub mod random;
pub mod seccomp;
pub mod signal;
pub mod tap;
pub mod userns;
pub mod vsock;
pub mod writeback;

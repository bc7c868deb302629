//! Linux system calls that rustix lacks.

pub mod fork;

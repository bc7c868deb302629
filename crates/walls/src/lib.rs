//! What a process gives up before it does something for who is not trusted: a machine's for its
//! guest, a server of files for whoever asks.
//!
//! ```text
//! rights: steps, in an order in which each can be taken ──▶ none of the host's but descriptors
//!    ├─ ground   an empty, read-only root
//!    └─ calls    the system calls that are left
//! ```
//!
//! Knows no machine and no device: whoever gives up has opened before what it needs.

#[cfg(target_arch = "x86_64")]
pub mod calls;
pub mod ground;
#[cfg(target_arch = "x86_64")]
pub mod rights;

//! Directories of the host in the guest: virtio-fs, and the server that it is the way to.
//!
//! ```text
//! guest's kernel ══ queues ══ device ── requests ──▶ server ──▶ the directory
//!   (FUSE)                            ◀── answers ──    │
//!                                                     watch: what others change in it
//! ```
//!
//! Source: virtio 1.2, 5.11; Linux, `include/uapi/linux/fuse.h`.

mod device;
#[doc(hidden)]
pub mod fuzzing;
mod handles;
mod inodes;
mod serve;
mod server;
mod watch;
mod wire;

pub use device::{Fs, TagError};
pub use inodes::Limits;
pub use serve::{Remote, Serve, run};
pub use server::{Export, ExportError, IO_BYTES_MAX, REQUEST_BYTES_MAX, Server, State, VALID};
pub use watch::{Change, Event, REPLAY, WATCHES_MAX};

#[cfg(test)]
mod tests;

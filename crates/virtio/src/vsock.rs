//! A vsock: streams between programs of the host and programs of the guest, without a network.
//!
//! ```text
//! guest ══ queues ══ device ── mux ──┬─ connection   credit and state of one stream, pure
//!                                    ├─ stream       the host's end of it, a socket
//!                                    └─ host         who connects and listens in this process
//! ```
//!
//! A program of the host reaches a port of the guest through one unix socket: it writes
//! `CONNECT <port>\n` and reads `OK <port of its own>\n` when somebody in the guest has taken the
//! call; if nobody does, the socket is closed. A guest that connects to port N of the host reaches
//! the unix socket whose path is that of the first one with `_N` behind it. Both are as Firecracker
//! and Cloud Hypervisor have them. The program that owns the device needs neither: see [`Host`].
//!
//! Streams alone (no `SOCK_SEQPACKET`), and bytes alone: descriptors do not travel.
//!
//! Source: virtio 1.2, 5.10; Linux, `include/uapi/linux/virtio_vsock.h`.

mod connection;
mod device;
#[doc(hidden)]
pub mod fuzzing;
mod host;
mod mux;
mod packet;
mod stream;

pub use device::Vsock;
pub use host::{Host, Listener};
pub use mux::{CONNECTIONS_MAX, Config, Counters, Mux};
pub use packet::{GUEST_CID_MIN, HEADER_BYTES, HOST_CID, Header, Op};

#[cfg(test)]
mod tests;

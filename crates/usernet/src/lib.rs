//! A network for whoever may not have one: carries the Ethernet frames of one interface to ordinary
//! sockets of the process that runs it, so that neither privileges nor a program of somebody else's
//! are needed to reach the world.
//!
//! ```text
//!  guest ══ frames ══ link ── frame ──┬─ tcp        a connection of the host for each of the guest's
//!  (a tap device,     (a descriptor)  ├─ datagram   a socket for each pair that talks: UDP, DNS, echo
//!   a VM's card)                      └─ out        answers of the stack itself: ARP, ICMP, resets
//! ```
//!
//! The guest sees a network of its own, as users of slirp know it: 10.0.2.0/24 with a gateway, which
//! is this stack, and a resolver, which is the host's. Where a packet may go is decided in `plan`,
//! and nowhere else: the host's loopback is not among it unless that is asked for.
//!
//! The guest's address can be leased to it by DHCP, and ports of the host's can lead to the guest's.
//!
//! IPv4 alone. One thread, one `epoll`; everything waits there. Whatever the guest sends that cannot
//! be carried is discarded and counted by its reason, see [`Discard`].

mod count;
mod datagram;
mod dhcp;
mod flow;
mod frame;
pub mod fuzzing;
mod link;
mod out;
mod plan;
mod resolver;
mod stack;
mod tcp;
mod timers;

pub use count::{Counters, Discard};
pub use link::{Framing, Link};
pub use plan::{Addresses, AddressesError};
pub use stack::{Config, PUBLISHED_MAX, Stack, StackError};

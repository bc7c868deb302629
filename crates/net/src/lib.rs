//! Networks on one host: bridges, address leases, published ports, address translation, and the
//! files that tell a container about them.
//!
//! Everything is done in-process over netlink; there is no child process. The interface is
//! synchronous; its users call it from threads that may block.
//!
//! ```text
//! port lease subnet interface files   pure: what was asked for, what is taken, what it is called
//! link nft table                      pure: what to say to the kernel
//! host endpoint spare publish quiet forwarding reserve conntrack uplink  says it
//! watch whole                        hears what others did to it, and mends it
//! macvlan                            a network on a link of the host, without a bridge
//! wide                               a network with more endpoints than a bridge has ports
//! machine                            interfaces of a namespace that become those of a machine
//! names                              where an endpoint's questions for names come in
//! ```
//!
//! Knows no containers, no images and no drivers: an endpoint is an id, an address and the
//! namespace it ends in.

mod check;
mod conntrack;
mod endpoint;
mod error;
pub mod files;
mod forwarding;
mod host;
mod interface;
mod lease;
mod link;
pub mod machine;
mod macvlan;
mod names;
mod network;
mod nft;
mod passage;
mod policy;
mod port;
mod publish;
mod quiet;
mod reserve;
mod spare;
mod subnet;
mod subnet6;
mod table;
mod uplink;
mod watch;
mod whole;
mod why;
mod wide;

pub use endpoint::{Attachment, Endpoint};
pub use error::NetworkError;
pub use host::{Host, private_namespace};
pub use interface::{InterfaceName, InterfaceNameError, Mac, MacError};
pub use lease::{LeaseError, Leases};
pub use macvlan::{Macvlan, MacvlanMode, MacvlanModeError, vlan_of};
pub use names::{NAME_SERVER, NameSockets, name_sockets, try_names};
pub use network::{GatewayMode, Network};
pub use passage::{Barrier, Passage};
pub use policy::{ChainPolicy, Judgement};
pub use port::{Forward, PortError, PortRange, Protocol, PublishedPort, parse_published};
pub use reserve::{Outside, Reservation, ReserveError};
pub use subnet::{Ipv4Net, SubnetError};
pub use subnet6::Ipv6Net;
pub use uplink::{Uplink, raise_uplink};
pub use watch::{Heard, Watch, Watching};
pub use whole::Fault;
pub use why::Admission;

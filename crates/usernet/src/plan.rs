//! Who has which address, and where a packet may go. Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

/// The addresses of the guest's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    network: Ipv4Addr,
    prefix: u8,
    gateway: Ipv4Addr,
    resolver: Ipv4Addr,
}

/// Why addresses make no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{gateway} and {resolver} are not two hosts of {network}/{prefix}")]
pub struct AddressesError {
    network: Ipv4Addr,
    prefix: u8,
    gateway: Ipv4Addr,
    resolver: Ipv4Addr,
}

/// What is at an address, seen from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Whatever the host reaches under this address.
    Host(SocketAddr),
    /// The host's resolver.
    Resolver,
    /// This stack itself, which answers echo requests and serves no port.
    Stack,
    /// Nothing, and the guest is told so.
    Nowhere,
    /// Nobody answers what is sent to many.
    Silence,
}

/// The port of DNS (RFC 1035, 4.2).
const DNS_PORT: u16 = 53;
/// Longest prefix that leaves room for a gateway, a resolver and a guest.
const PREFIX_MAX: u8 = 29;

impl Default for Addresses {
    /// Those of slirp: 10.0.2.0/24, gateway 10.0.2.2, resolver 10.0.2.3.
    fn default() -> Addresses {
        Addresses {
            network: Ipv4Addr::new(10, 0, 2, 0),
            prefix: 24,
            gateway: Ipv4Addr::new(10, 0, 2, 2),
            resolver: Ipv4Addr::new(10, 0, 2, 3),
        }
    }
}

impl Addresses {
    /// The network that an address is in, with two of its hosts.
    ///
    /// # Errors
    /// If the gateway and the resolver are not two different hosts of it.
    pub fn new(
        address: Ipv4Addr,
        prefix: u8,
        gateway: Ipv4Addr,
        resolver: Ipv4Addr,
    ) -> Result<Addresses, AddressesError> {
        let network = Ipv4Addr::from_bits(address.to_bits() & mask(prefix));
        let addresses = Addresses { network, prefix, gateway, resolver };
        let hosts = [gateway, resolver].iter().all(|host| addresses.is_host(*host));
        if (1..=PREFIX_MAX).contains(&prefix) && hosts && gateway != resolver {
            return Ok(addresses);
        }
        Err(AddressesError { network, prefix, gateway, resolver })
    }

    /// Whoever leads out of the guest's network.
    pub fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }

    /// Whoever resolves names.
    pub fn resolver(&self) -> Ipv4Addr {
        self.resolver
    }

    /// How many bits all of its addresses share.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether a guest may have an address.
    pub(crate) fn is_guest(&self, address: Ipv4Addr) -> bool {
        self.is_host(address) && !self.is_ours(address)
    }

    /// Whether this stack has an address.
    pub(crate) fn is_ours(&self, address: Ipv4Addr) -> bool {
        address == self.gateway || address == self.resolver
    }

    fn contains(&self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.prefix) == self.network.to_bits()
    }

    fn is_host(&self, address: Ipv4Addr) -> bool {
        let last = self.network.to_bits() | !mask(self.prefix);
        self.contains(address) && address != self.network && address.to_bits() != last
    }

    /// Where what is sent to an address goes. `loopback`: the gateway stands for the host's own.
    pub(crate) fn way(&self, to: SocketAddrV4, loopback: bool) -> Way {
        let ip = *to.ip();
        if ip == self.gateway && loopback {
            return Way::Host((Ipv4Addr::LOCALHOST, to.port()).into());
        }
        if ip == self.resolver && to.port() == DNS_PORT {
            return Way::Resolver;
        }
        if self.is_ours(ip) {
            return Way::Stack;
        }
        let many = ip.is_multicast() || ip.is_broadcast() || ip.octets()[0] >= 240;
        if many || (self.contains(ip) && !self.is_host(ip)) {
            return Way::Silence;
        }
        // Linux takes 0.0.0.0 for the loopback when one connects to it.
        if ip.is_loopback() || ip.octets()[0] == 0 || self.contains(ip) {
            return Way::Nowhere;
        }
        Way::Host(SocketAddr::new(IpAddr::V4(ip), to.port()))
    }
}

/// `prefix` ones, then zeros.
fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(ip: [u8; 4], port: u16, loopback: bool) -> Way {
        Addresses::default().way(SocketAddrV4::new(ip.into(), port), loopback)
    }

    #[test]
    fn the_hosts_loopback_is_reached_only_where_it_is_asked_for() {
        for ip in [[127, 0, 0, 1], [127, 255, 0, 9], [0, 0, 0, 0], [0, 1, 2, 3]] {
            assert_eq!(way(ip, 80, false), Way::Nowhere, "{ip:?}");
            assert_eq!(way(ip, 80, true), Way::Nowhere, "{ip:?}");
        }
        assert_eq!(way([10, 0, 2, 2], 80, false), Way::Stack);
        assert_eq!(way([10, 0, 2, 2], 80, true), Way::Host(([127, 0, 0, 1], 80).into()));
    }

    #[test]
    fn the_resolver_serves_names_alone() {
        assert_eq!(way([10, 0, 2, 3], 53, false), Way::Resolver);
        assert_eq!(way([10, 0, 2, 3], 80, true), Way::Stack);
    }

    #[test]
    fn the_world_is_reached_and_what_goes_to_many_is_not() {
        assert_eq!(way([192, 0, 2, 1], 443, false), Way::Host(([192, 0, 2, 1], 443).into()));
        for ip in [[224, 0, 0, 1], [255, 255, 255, 255], [250, 0, 0, 1], [10, 0, 2, 255]] {
            assert_eq!(way(ip, 80, false), Way::Silence, "{ip:?}");
        }
        assert_eq!(way([10, 0, 2, 77], 80, false), Way::Nowhere);
    }

    #[test]
    fn a_network_has_room_for_gateway_resolver_and_guest() {
        let new = |prefix, gateway: [u8; 4], resolver: [u8; 4]| {
            Addresses::new([192, 0, 2, 9].into(), prefix, gateway.into(), resolver.into())
        };
        let made = new(28, [192, 0, 2, 1], [192, 0, 2, 2]).unwrap();
        assert!(made.is_guest([192, 0, 2, 14].into()));
        for ip in [[192, 0, 2, 0], [192, 0, 2, 15], [192, 0, 2, 1], [192, 0, 2, 16]] {
            assert!(!made.is_guest(ip.into()), "{ip:?}");
        }
        assert!(new(28, [192, 0, 2, 1], [192, 0, 2, 1]).is_err());
        assert!(new(28, [192, 0, 2, 0], [192, 0, 2, 1]).is_err());
        assert!(new(28, [192, 0, 2, 1], [192, 0, 3, 1]).is_err());
        assert!(new(30, [192, 0, 2, 9], [192, 0, 2, 10]).is_err());
        assert!(new(0, [192, 0, 2, 9], [192, 0, 2, 10]).is_err());
    }
}

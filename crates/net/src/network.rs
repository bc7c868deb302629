//! A network: a bridge, or what stands for one, and the subnet on it.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::{InterfaceName, Ipv4Net, Ipv6Net, Macvlan};

/// A bridge on the host, and the addresses of those plugged into it; or a link of the host on which
/// containers have links of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The bridge's name. Of a network on a link, the name of the one that is made for it where it
    /// has none.
    pub bridge: InterfaceName,
    /// The addresses.
    pub subnet: Ipv4Net,
    /// The address among them through which everything else is reached: the host's own, but for a
    /// network on a link, which leads past the host.
    pub gateway: Ipv4Addr,
    /// The IPv6 addresses beside them; none for IPv4 alone.
    #[serde(default)]
    pub ipv6: Option<Ipv6Net>,
    /// The host's own IPv6 address, where it is not as far from the beginning as its IPv4 one.
    #[serde(default)]
    pub gateway6: Option<Ipv6Addr>,
    /// Largest packet in bytes; none for the kernel's choice, which is 1500.
    pub mtu: Option<u32>,
    /// Nothing leads out of it or into it.
    #[serde(default)]
    pub internal: bool,
    /// Those plugged into it reach the host and the world, and not each other.
    #[serde(default)]
    pub apart: bool,
    /// What leaves it keeps its addresses.
    #[serde(default)]
    pub untranslated: bool,
    /// How others reach its IPv4 addresses.
    #[serde(default)]
    pub mode: GatewayMode,
    /// How they reach its IPv6 addresses.
    #[serde(default)]
    pub mode6: GatewayMode,
    /// The link that it lies on, in place of a bridge.
    #[serde(default)]
    pub macvlan: Option<Macvlan>,
}

/// How addresses of one family are reached from beyond their network: Docker's gateway modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMode {
    /// By ports of the host, and what leaves the host has its address.
    #[default]
    Nat,
    /// The same; and whoever has a route to the containers is not kept from any of their ports.
    NatUnprotected,
    /// By routes of others: containers have their own addresses everywhere, and those of their ports
    /// are open that are published.
    Routed,
    /// Not even by the host, which has no address on the bridge. For internal networks alone.
    Isolated,
}

const MODES: [(&str, GatewayMode); 4] = [
    ("nat", GatewayMode::Nat),
    ("nat-unprotected", GatewayMode::NatUnprotected),
    ("routed", GatewayMode::Routed),
    ("isolated", GatewayMode::Isolated),
];

impl GatewayMode {
    /// The one of this name.
    pub fn of(name: &str) -> Option<GatewayMode> {
        MODES.iter().find(|(known, _)| *known == name).map(|(_, mode)| *mode)
    }

    /// Whether what leaves the host has its address.
    pub(crate) fn translates(self) -> bool {
        matches!(self, GatewayMode::Nat | GatewayMode::NatUnprotected)
    }
}

/// Longest prefix of a subnet in which a gateway and a container have room.
const PREFIX_MAX: u8 = 30;

impl Network {
    /// A network whose gateway has the first address of the subnet.
    pub fn new(bridge: InterfaceName, subnet: Ipv4Net) -> Network {
        let gateway = Ipv4Addr::from_bits(subnet.address().to_bits().saturating_add(1));
        Network {
            bridge,
            subnet,
            gateway,
            ipv6: None,
            gateway6: None,
            mtu: None,
            internal: false,
            apart: false,
            untranslated: false,
            mode: GatewayMode::Nat,
            mode6: GatewayMode::Nat,
            macvlan: None,
        }
    }

    /// The host's own IPv6 address.
    pub fn own6(&self) -> Option<Ipv6Addr> {
        self.ipv6?;
        self.gateway6.or_else(|| self.ipv6_of(self.gateway))
    }

    /// The IPv6 address of whoever has this IPv4 address: as far from the beginning of its subnet.
    /// One lease is a lease of both.
    pub fn ipv6_of(&self, address: Ipv4Addr) -> Option<Ipv6Addr> {
        let offset = address.to_bits().wrapping_sub(self.subnet.address().to_bits());
        self.ipv6.map(|net| net.nth(offset))
    }

    /// The host's own addresses on its bridge.
    pub(crate) fn of_host(&self) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
        let has = |mode| mode != GatewayMode::Isolated;
        let four = has(self.mode).then_some(self.gateway);
        (four, self.own6().filter(|_| has(self.mode6)))
    }

    /// The ways out of it; none out of an internal one.
    pub(crate) fn gateways(&self) -> Vec<std::net::IpAddr> {
        let six = self.own6().map(std::net::IpAddr::V6);
        let all = [Some(self.gateway.into()), six].into_iter().flatten();
        all.filter(|_| !self.internal).collect()
    }

    /// What makes it impossible, if anything does.
    pub fn fault(&self) -> Option<&'static str> {
        let Network { subnet, gateway, .. } = self;
        if subnet.prefix() > PREFIX_MAX {
            Some("its subnet is smaller than /30")
        } else if !subnet.contains(*gateway)
            || [subnet.address(), subnet.broadcast()].contains(gateway)
        {
            Some("its gateway is not a host's address in its subnet")
        } else if self.gateway6.is_none()
            && self.ipv6.is_some_and(|net| 128 - net.prefix() < 32 - subnet.prefix())
        {
            Some("its IPv6 subnet has fewer addresses than its IPv4 one")
        } else if let (Some(net), Some(own)) = (self.ipv6, self.own6())
            && (!net.contains(own) || own == net.address())
        {
            Some("its IPv6 gateway is not a host's address in its subnet")
        } else {
            None
        }
    }
}

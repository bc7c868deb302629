//! A network: a bridge and the subnet on it.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::{InterfaceName, Ipv4Net};

/// A bridge on the host, and the addresses of those plugged into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The bridge's name.
    pub bridge: InterfaceName,
    /// The addresses.
    pub subnet: Ipv4Net,
    /// The host's own address among them, through which everything else is reached.
    pub gateway: Ipv4Addr,
    /// Largest packet in bytes; none for the kernel's choice, which is 1500.
    pub mtu: Option<u32>,
}

/// Longest prefix of a subnet in which a gateway and a container have room.
const PREFIX_MAX: u8 = 30;

impl Network {
    /// A network whose gateway has the first address of the subnet.
    pub fn new(bridge: InterfaceName, subnet: Ipv4Net) -> Network {
        let gateway = Ipv4Addr::from_bits(subnet.address().to_bits().saturating_add(1));
        Network { bridge, subnet, gateway, mtu: None }
    }

    /// What makes it impossible, if anything does.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let Network { subnet, gateway, .. } = self;
        if subnet.prefix() > PREFIX_MAX {
            Some("its subnet is smaller than /30")
        } else if !subnet.contains(*gateway)
            || [subnet.address(), subnet.broadcast()].contains(gateway)
        {
            Some("its gateway is not a host's address in its subnet")
        } else {
            None
        }
    }
}

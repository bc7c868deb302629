//! The guest's address, for a guest that asks for one.

use std::net::{Ipv4Addr, SocketAddrV4};

use smoltcp::wire::EthernetAddress;

use super::Stack;
use crate::{
    dhcp::{self, CLIENT, Lease, SERVER},
    frame::{Body, Packet},
};

impl Stack {
    /// Answers a guest who asks by DHCP with this address.
    pub fn lease(&mut self, address: Ipv4Addr) {
        self.lease = Some(address);
    }

    /// Answers a packet if it asks for an address, and says whether it does.
    pub(super) fn ask_lease(&mut self, packet: &Packet<'_>) -> bool {
        let (Some(address), Body::Udp(payload)) = (self.lease, &packet.body) else { return false };
        if (packet.source.port(), packet.destination.port()) != (CLIENT, SERVER) {
            return false;
        }
        let own = self.config.addresses;
        // His own server, or whoever there is.
        let to = *packet.destination.ip();
        if to != own.gateway() && !to.is_broadcast() {
            return false;
        }
        let (gateway, resolver) = (own.gateway(), own.resolver());
        let lease =
            Lease { address, prefix: own.prefix(), gateway, resolver, mtu: self.config.mtu };
        if let Some(reply) = dhcp::answer(payload, &lease) {
            let mac = if reply.to.is_broadcast() { EthernetAddress::BROADCAST } else { packet.mac };
            let from = SocketAddrV4::new(gateway, SERVER);
            self.out.udp(mac, from, SocketAddrV4::new(reply.to, CLIENT), &reply.message);
        }
        true
    }
}

//! The rtnetlink messages in use: links, their addresses, their routes.
//!
//! Writes requests into a [`Batch`] and reads replies; sends nothing itself. Numbers are those of
//! `linux/rtnetlink.h`, `linux/if_link.h`, `linux/if_addr.h` and `linux/ip.h`.

mod upper;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, BorrowedFd},
};

use sys::netlink::{Attributes, Batch, CREATE, DUMP, EXCLUSIVE, REPLACE, attributes};

use crate::{InterfaceName, Ipv4Net, Network, interface::Mac};

pub(crate) use upper::{Upper, add_macvlan, add_silent_pair, add_vlan};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IFF_UP: u32 = 1;
const IFF_NOARP: u32 = 0x80;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_GROUP: u16 = 27;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_LEARNING: u16 = 8;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET_CONF: u16 = 1;
const IPV4_DEVCONF_RP_FILTER: u16 = 8;
const IPV4_DEVCONF_ROUTE_LOCALNET: u16 = 26;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_F_NODAD: u8 = 2;
const RT_SCOPE_HOST: u8 = 254;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;

/// The index of `lo`, in every namespace.
pub(crate) const LOOPBACK: u32 = 1;

/// Which address families of a host a link is set up for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Families {
    /// Whether the kernel has IPv6, so that it must be told to leave a link alone.
    pub(crate) ipv6: bool,
}

/// Makes a bridge. Its own hardware address keeps it from taking on those of its ports.
///
/// It keeps no lists of who listens to which group: without a querier, which a bridge of
/// containers has not, the kernel floods all groups anyway (`br_handle_frame_finish`), and would
/// still keep timers for every port.
pub(crate) fn add_bridge(batch: &mut Batch, name: &InterfaceName, mac: Mac) {
    batch.message(RTM_NEWLINK, CREATE | EXCLUSIVE, &link_header(0, 0), |a| {
        a.put_text(IFLA_IFNAME, name.as_str());
        a.put(IFLA_ADDRESS, &mac.0);
        a.nest(IFLA_LINKINFO, |a| {
            a.put_text(IFLA_INFO_KIND, "bridge");
            a.nest(IFLA_INFO_DATA, |a| a.put(IFLA_BR_MCAST_SNOOPING, &[0]));
        });
    });
}

/// Brings a bridge up.
///
/// `route_localnet` lets what the host sends to 127.0.0.1 leave through this link after it was
/// forwarded to a container; what arrives for 127.0.0.0/8 from outside is dropped by our table.
/// A network without IPv6 has no link-local address either, which would be a second way to the host.
pub(crate) fn bring_bridge_up(batch: &mut Batch, index: u32, mtu: Option<u32>, families: Families) {
    batch.message(RTM_NEWLINK, 0, &link_header(index, IFF_UP), |a| {
        put_mtu(a, mtu);
        a.nest(IFLA_AF_SPEC, |a| {
            a.nest(u16::from(AF_INET), |a| {
                a.nest(IFLA_INET_CONF, |a| {
                    a.put(IPV4_DEVCONF_ROUTE_LOCALNET, &1_u32.to_ne_bytes());
                });
            });
            no_ipv6_addresses(a, families);
        });
    });
}

/// Brings a link up that leads out, for IPv4 alone.
pub(crate) fn bring_uplink_up(batch: &mut Batch, index: u32, mtu: u32, families: Families) {
    // Addresses first: see `add_gate`.
    batch.message(RTM_NEWLINK, 0, &link_header(index, 0), |a| {
        put_mtu(a, Some(mtu));
        a.nest(IFLA_AF_SPEC, |a| no_ipv6_addresses(a, families));
    });
    bring_up(batch, index);
}

/// A cable between a bridge and the inside of a namespace.
pub(crate) struct Cable<'a> {
    /// The end on the host.
    pub(crate) host: &'a InterfaceName,
    /// The index of the bridge it is plugged into.
    pub(crate) bridge: u32,
    /// The end inside.
    pub(crate) inside: &'a InterfaceName,
    /// Where inside is.
    pub(crate) namespace: BorrowedFd<'a>,
    /// Largest packet in bytes; none for the kernel's choice.
    pub(crate) mtu: Option<u32>,
}

/// Lays a cable: one message makes both ends where they belong and plugs in the host's. Both are
/// down.
pub(crate) fn add_cable(batch: &mut Batch, cable: &Cable<'_>) {
    let ends = [cable.host.as_str(), cable.inside.as_str()];
    add_pair(batch, ends, cable.mtu, |a, inside| match inside {
        false => a.put(IFLA_MASTER, &cable.bridge.to_ne_bytes()),
        true => a.put(IFLA_NET_NS_FD, &cable.namespace.as_raw_fd().to_ne_bytes()),
    });
}

/// Makes two links, each of which takes what the other sends; `fill` says more of each, the second
/// where its flag is set.
fn add_pair(
    batch: &mut Batch,
    [one, other]: [&str; 2],
    mtu: Option<u32>,
    fill: impl Fn(&mut Attributes<'_>, bool),
) {
    batch.message(RTM_NEWLINK, CREATE | EXCLUSIVE, &link_header(0, 0), |a| {
        a.put_text(IFLA_IFNAME, one);
        fill(a, false);
        put_mtu(a, mtu);
        a.nest(IFLA_LINKINFO, |a| {
            a.put_text(IFLA_INFO_KIND, "veth");
            a.nest(IFLA_INFO_DATA, |a| {
                a.nest_after(VETH_INFO_PEER, &link_header(0, 0), |a| {
                    a.put_text(IFLA_IFNAME, other);
                    fill(a, true);
                    put_mtu(a, mtu);
                });
            });
        });
    });
}

/// Plugs a cable into a bridge that came after it.
pub(crate) fn plug_in(
    batch: &mut Batch,
    name: &InterfaceName,
    bridge: u32,
    apart: bool,
    families: Families,
) {
    batch.message(RTM_NEWLINK, 0, &link_header(0, 0), |a| {
        a.put_text(IFLA_IFNAME, name.as_str());
        a.put(IFLA_MASTER, &bridge.to_ne_bytes());
    });
    bring_cable_up(batch, name, apart, families);
}

/// Brings the host's end of a cable up.
///
/// Hairpin mode lets a frame leave by the port it came from, which a container's connection to
/// its own published port does where `br_netfilter` translates addresses within the bridge.
///
/// An isolated port sends to none that is isolated too (since Linux 4.18).
pub(crate) fn bring_cable_up(
    batch: &mut Batch,
    host: &InterfaceName,
    apart: bool,
    families: Families,
) {
    batch.message(RTM_NEWLINK, 0, &link_header(0, IFF_UP), |a| {
        a.put_text(IFLA_IFNAME, host.as_str());
        a.nest(IFLA_LINKINFO, |a| {
            a.put_text(IFLA_INFO_SLAVE_KIND, "bridge");
            a.nest(IFLA_INFO_SLAVE_DATA, |a| {
                a.put(IFLA_BRPORT_MODE, &[1]);
                if apart {
                    a.put(IFLA_BRPORT_ISOLATED, &[1]);
                }
            });
        });
        if families.ipv6 {
            a.nest(IFLA_AF_SPEC, |a| no_ipv6_addresses(a, families));
        }
    });
}

/// Brings a bridge up that has no addresses. The host answers no questions for its own ones there:
/// it would for all that it has, on any link.
pub(crate) fn bring_switch_up(batch: &mut Batch, index: u32, mtu: Option<u32>, families: Families) {
    // Addresses first: see `add_gate`.
    batch.message(RTM_NEWLINK, 0, &link_header(index, 0), |a| {
        put_mtu(a, mtu);
        a.nest(IFLA_AF_SPEC, |a| no_ipv6_addresses(a, families));
    });
    batch.message(RTM_NEWLINK, 0, &link_header(index, IFF_UP | IFF_NOARP), |_| ());
}

/// Makes the two ends of a trunk between bridges.
pub(crate) fn add_trunk(
    batch: &mut Batch,
    near: &InterfaceName,
    far: &InterfaceName,
    mtu: Option<u32>,
) {
    add_pair(batch, [near.as_str(), far.as_str()], mtu, |_, _| ());
}

/// Plugs an end of a trunk into a bridge. It has no hairpin mode: what comes out of a trunk was
/// sent to everybody who should have it on the other side.
pub(crate) fn plug_trunk_in(
    batch: &mut Batch,
    end: &InterfaceName,
    bridge: u32,
    apart: bool,
    families: Families,
) {
    batch.message(RTM_NEWLINK, 0, &link_header(0, 0), |a| {
        a.put_text(IFLA_IFNAME, end.as_str());
        a.put(IFLA_MASTER, &bridge.to_ne_bytes());
        a.nest(IFLA_AF_SPEC, |a| no_ipv6_addresses(a, families));
    });
    batch.message(RTM_NEWLINK, 0, &link_header(0, IFF_UP), |a| {
        a.put_text(IFLA_IFNAME, end.as_str());
        if apart {
            a.nest(IFLA_LINKINFO, |a| {
                a.put_text(IFLA_INFO_SLAVE_KIND, "bridge");
                a.nest(IFLA_INFO_SLAVE_DATA, |a| a.put(IFLA_BRPORT_ISOLATED, &[1]));
            });
        }
    });
}

/// Plugs one of two ends of a wire into a switch, which does not note who is behind it: with
/// hairpin mode on, the far bridge sends back what everybody should have, and the switch would look
/// for whoever sent it on the wrong side.
pub(crate) fn plug_wire_in(
    batch: &mut Batch,
    end: &InterfaceName,
    switch: u32,
    families: Families,
) {
    plug_trunk_in(batch, end, switch, false, families);
    batch.message(RTM_NEWLINK, 0, &link_header(0, 0), |a| {
        a.put_text(IFLA_IFNAME, end.as_str());
        a.nest(IFLA_LINKINFO, |a| {
            a.put_text(IFLA_INFO_SLAVE_KIND, "bridge");
            a.nest(IFLA_INFO_SLAVE_DATA, |a| a.put(IFLA_BRPORT_LEARNING, &[0]));
        });
    });
}

/// Gives a link that is down another name.
pub(crate) fn rename(batch: &mut Batch, index: u32, name: &InterfaceName) {
    batch.message(RTM_NEWLINK, 0, &link_header(index, 0), |a| {
        a.put_text(IFLA_IFNAME, name.as_str());
    });
}

/// Gives a link a hardware address and brings it up.
pub(crate) fn bring_up_as(batch: &mut Batch, index: u32, mac: Mac) {
    batch.message(RTM_NEWLINK, 0, &link_header(index, IFF_UP), |a| a.put(IFLA_ADDRESS, &mac.0));
}

/// Says how large a link's packets may be, in bytes.
pub(crate) fn set_mtu(batch: &mut Batch, name: &InterfaceName, mtu: u32) {
    batch.message(RTM_NEWLINK, 0, &link_header(0, 0), |a| {
        a.put_text(IFLA_IFNAME, name.as_str());
        put_mtu(a, Some(mtu));
    });
}

/// Takes a link down, which ends its routes.
pub(crate) fn take_down(batch: &mut Batch, name: &InterfaceName) {
    let mut header = link_header(0, IFF_UP);
    // The flags; behind them is which of them are meant.
    header[8..12].fill(0);
    batch.message(RTM_NEWLINK, 0, &header, |a| a.put_text(IFLA_IFNAME, name.as_str()));
}

/// Brings a link up, by its name.
pub(crate) fn bring_up_named(batch: &mut Batch, name: &InterfaceName) {
    batch.message(RTM_NEWLINK, 0, &link_header(0, IFF_UP), |a| {
        a.put_text(IFLA_IFNAME, name.as_str());
    });
}

/// Brings a link up that needs nothing else.
pub(crate) fn bring_up(batch: &mut Batch, index: u32) {
    batch.message(RTM_NEWLINK, 0, &link_header(index, IFF_UP), |_| ());
}

/// Puts a link into a group.
pub(crate) fn put_into_group(batch: &mut Batch, name: &InterfaceName, group: u32) {
    batch.message(RTM_NEWLINK, 0, &link_header(0, 0), |a| {
        a.put_text(IFLA_IFNAME, name.as_str());
        a.put(IFLA_GROUP, &group.to_ne_bytes());
    });
}

/// Removes all links of a group.
pub(crate) fn remove_group(batch: &mut Batch, group: u32) {
    batch.message(RTM_DELLINK, 0, &link_header(0, 0), |a| a.put(IFLA_GROUP, &group.to_ne_bytes()));
}

/// Removes a link; of a cable, both ends.
pub(crate) fn remove(batch: &mut Batch, name: &str) {
    batch.message(RTM_DELLINK, 0, &link_header(0, 0), |a| a.put_text(IFLA_IFNAME, name));
}

/// Gives a link an address and the prefix of its network, or leaves it the one it has.
///
/// Addresses here are given out by us, so that IPv6 need not ask first whether one is taken.
pub(crate) fn add_address(batch: &mut Batch, index: u32, address: IpAddr, prefix: u8) {
    let nodad = if address.is_ipv6() { IFA_F_NODAD } else { 0 };
    let header = address_header(address, index, prefix, nodad, 0);
    batch.message(RTM_NEWADDR, CREATE | REPLACE, &header, |a| {
        put_ip(a, IFA_LOCAL, address);
        put_ip(a, IFA_ADDRESS, address);
        if let IpAddr::V4(address) = address
            && let Some(net) = Ipv4Net::containing(address, prefix)
        {
            a.put(IFA_BROADCAST, &net.broadcast().octets());
        }
    });
}

/// Gives a link the addresses that somebody of this IPv4 address has in a network.
/// `six` is the IPv6 one, where that does not go with it.
pub(crate) fn add_addresses(
    batch: &mut Batch,
    index: u32,
    network: &Network,
    address: Ipv4Addr,
    six: Option<Ipv6Addr>,
) {
    add_address(batch, index, address.into(), network.subnet.prefix());
    if let (Some(net), Some(address)) = (network.ipv6, six.or_else(|| network.ipv6_of(address))) {
        add_address(batch, index, address.into(), net.prefix());
    }
}

/// Takes an address from a link.
pub(crate) fn remove_address(batch: &mut Batch, index: u32, address: IpAddr, prefix: u8) {
    batch.message(RTM_DELADDR, 0, &address_header(address, index, prefix, 0, 0), |a| {
        put_ip(a, IFA_LOCAL, address);
    });
}

/// Sends everything that has no better way through a gateway.
pub(crate) fn add_default_route(batch: &mut Batch, index: u32, gateway: IpAddr) {
    batch.message(RTM_NEWROUTE, CREATE | EXCLUSIVE, &route_header(gateway, 0), |a| {
        put_ip(a, RTA_GATEWAY, gateway);
        a.put(RTA_OIF, &index.to_ne_bytes());
    });
}

/// Removes the first of the ways by which everything is sent that has no better one.
pub(crate) fn remove_default_route(batch: &mut Batch, any: IpAddr) {
    batch.message(RTM_DELROUTE, 0, &route_header(any, 0), |_| ());
}

/// Makes the two links of the gate, which take whatever comes.
///
/// They ask for no neighbours, so both have the same hardware address. What comes out has sources
/// whose way back is another link: the loose reverse path filter lets that pass where the host's
/// general one is strict (the greater of the two counts). No packet is too long.
pub(crate) fn add_gate(batch: &mut Batch, into: &str, out_of: &str, mac: Mac, families: Families) {
    const MTU_MAX: u32 = 65535;
    const LOOSE: u32 = 2;
    add_pair(batch, [into, out_of], Some(MTU_MAX), |a, _| a.put(IFLA_ADDRESS, &mac.0));
    for name in [out_of, into] {
        batch.message(RTM_NEWLINK, 0, &link_header(0, 0), |a| {
            a.put_text(IFLA_IFNAME, name);
            a.nest(IFLA_AF_SPEC, |a| {
                a.nest(u16::from(AF_INET), |a| {
                    a.nest(IFLA_INET_CONF, |a| {
                        a.put(IPV4_DEVCONF_RP_FILTER, &LOOSE.to_ne_bytes());
                    });
                });
                no_ipv6_addresses(a, families);
            });
        });
    }
    // Only then: the kernel brings a link up before it reads how addresses are made.
    for name in [out_of, into] {
        batch.message(RTM_NEWLINK, 0, &link_header(0, IFF_UP | IFF_NOARP), |a| {
            a.put_text(IFLA_IFNAME, name);
        });
    }
}

/// Gives the end of the gate an address that leads nowhere: the reverse path filter refuses all
/// that arrives by a link without one (`fib_validate_source` in `fib_frontend.c`).
pub(crate) fn add_gate_address(batch: &mut Batch, index: u32, address: Ipv4Addr) {
    let header = address_header(address.into(), index, 32, 0, RT_SCOPE_HOST);
    batch.message(RTM_NEWADDR, CREATE | REPLACE, &header, |a| {
        a.put(IFA_LOCAL, &address.octets());
        a.put(IFA_ADDRESS, &address.octets());
    });
}

/// Leads to one address by a link.
pub(crate) fn add_host_route(batch: &mut Batch, index: u32, address: IpAddr) {
    let prefix = if address.is_ipv6() { 128 } else { 32 };
    batch.message(RTM_NEWROUTE, CREATE | REPLACE, &route_header(address, prefix), |a| {
        put_ip(a, RTA_DST, address);
        a.put(RTA_OIF, &index.to_ne_bytes());
    });
}

/// Writes a note on a link, which ends with it.
pub(crate) fn set_note(batch: &mut Batch, index: u32, note: &str) {
    batch.message(RTM_NEWLINK, 0, &link_header(index, 0), |a| a.put_text(IFLA_IFALIAS, note));
}

/// Asks for one link.
pub(crate) fn get(batch: &mut Batch, name: &InterfaceName) {
    batch.message(RTM_GETLINK, 0, &link_header(0, 0), |a| a.put_text(IFLA_IFNAME, name.as_str()));
}

/// Asks for all links.
pub(crate) fn get_all(batch: &mut Batch) {
    batch.message(RTM_GETLINK, DUMP, &link_header(0, 0), |_| ());
}

/// Asks for all addresses of both families.
pub(crate) fn get_addresses(batch: &mut Batch) {
    batch.message(RTM_GETADDR, DUMP, &[0; 8], |_| ());
}

/// Asks for all IPv4 routes.
pub(crate) fn get_routes(batch: &mut Batch) {
    let header = [AF_INET, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    batch.message(RTM_GETROUTE, DUMP, &header, |_| ());
}

/// Asks for all routes of all families.
pub(crate) fn get_all_routes(batch: &mut Batch) {
    batch.message(RTM_GETROUTE, DUMP, &[0; 12], |_| ());
}

/// What is needed to take a link's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mac: Mac,
    pub(crate) mtu: u32,
    /// Whether it is the end of a cable.
    pub(crate) is_cable: bool,
}

impl Reach {
    /// Reads the body of an `RTM_NEWLINK`.
    pub(crate) fn read(body: &[u8]) -> Option<Reach> {
        let find = |wanted| attributes(body.get(16..)?).find(|(kind, _)| *kind == wanted);
        let value = |wanted| find(wanted).map(|(_, value)| value);
        let is_cable = value(IFLA_LINKINFO).is_some_and(|info| {
            attributes(info).any(|(kind, value)| kind == IFLA_INFO_KIND && text(value) == "veth")
        });
        Some(Reach {
            index: u32_at(body, 4)?,
            name: text(value(IFLA_IFNAME)?),
            mac: Mac(*value(IFLA_ADDRESS)?.first_chunk()?),
            mtu: u32_at(value(IFLA_MTU)?, 0)?,
            is_cable,
        })
    }
}

/// Reads the body of an `RTM_NEWROUTE`: by which link everything goes that has no better way, and
/// by whom; none for any other route.
pub(crate) fn read_gateway(body: &[u8]) -> Option<(u32, IpAddr)> {
    let prefix = *body.get(1)?;
    let find = |wanted| attributes(body.get(12..)?).find(|(kind, _)| *kind == wanted);
    let (_, gateway) = find(RTA_GATEWAY).filter(|_| prefix == 0)?;
    let gateway = match gateway.len() {
        16 => IpAddr::from(*gateway.first_chunk::<16>()?),
        _ => address(gateway)?.into(),
    };
    Some((u32_at(find(RTA_OIF)?.1, 0)?, gateway))
}

/// What a reply says about a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// The index of the bridge that it is a port of.
    pub(crate) master: Option<u32>,
    pub(crate) is_bridge: bool,
    pub(crate) is_up: bool,
    /// What [`set_note`] wrote on it.
    pub(crate) note: Option<String>,
}

impl Link {
    /// Reads the body of an `RTM_NEWLINK`.
    pub(crate) fn read(body: &[u8]) -> Option<Link> {
        let index = u32_at(body, 4)?;
        let is_up = u32_at(body, 8)? & IFF_UP != 0;
        let mut link =
            Link { index, name: String::new(), master: None, is_bridge: false, is_up, note: None };
        for (kind, value) in attributes(body.get(16..)?) {
            match kind {
                IFLA_IFNAME => link.name = text(value),
                IFLA_IFALIAS => link.note = Some(text(value)),
                IFLA_MASTER => link.master = u32_at(value, 0),
                IFLA_LINKINFO => {
                    link.is_bridge = attributes(value)
                        .any(|(kind, value)| kind == IFLA_INFO_KIND && text(value) == "bridge");
                }
                _ => {}
            }
        }
        Some(link)
    }
}

/// Reads the body of an `RTM_NEWADDR`: the link's index, the address, its prefix length.
pub(crate) fn read_address(body: &[u8]) -> Option<(u32, IpAddr, u8)> {
    let [family, prefix, _, _] = *body.first_chunk()?;
    let find = |wanted| attributes(body.get(8..)?).find(|(kind, _)| *kind == wanted).map(|a| a.1);
    let address = match family {
        AF_INET => address(find(IFA_LOCAL)?)?.into(),
        AF_INET6 => {
            IpAddr::from(*find(IFA_LOCAL).or_else(|| find(IFA_ADDRESS))?.first_chunk::<16>()?)
        }
        _ => return None,
    };
    Some((u32_at(body, 4)?, address, prefix))
}

/// Reads the body of an `RTM_NEWROUTE`: where it leads, and the index of the link it leaves by.
pub(crate) fn read_route(body: &[u8]) -> Option<(Ipv4Net, Option<u32>)> {
    let [family, prefix] = *body.first_chunk()?;
    let (mut to, mut link) = (Ipv4Addr::UNSPECIFIED, None);
    for (kind, value) in attributes(body.get(12..)?) {
        match kind {
            RTA_DST => to = address(value)?,
            RTA_OIF => link = u32_at(value, 0),
            _ => {}
        }
    }
    (family == AF_INET).then_some((Ipv4Net::containing(to, prefix)?, link))
}

fn no_ipv6_addresses(a: &mut Attributes<'_>, families: Families) {
    if families.ipv6 {
        a.nest(u16::from(AF_INET6), |a| {
            a.put(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]);
        });
    }
}

fn put_mtu(a: &mut Attributes<'_>, mtu: Option<u32>) {
    if let Some(mtu) = mtu {
        a.put(IFLA_MTU, &mtu.to_ne_bytes());
    }
}

/// `struct ifinfomsg`: any family, the link's index (0: by name), flags to set.
fn link_header(index: u32, up: u32) -> [u8; 16] {
    let mut header = [0; 16];
    for (field, value) in header.chunks_exact_mut(4).skip(1).zip([index, up, up]) {
        field.copy_from_slice(&value.to_ne_bytes());
    }
    header
}

/// `struct ifaddrmsg`.
fn address_header(of: IpAddr, index: u32, prefix: u8, flags: u8, scope: u8) -> [u8; 8] {
    let [a, b, c, d] = index.to_ne_bytes();
    [family(of), prefix, flags, scope, a, b, c, d]
}

/// `struct rtmsg` of a route in the main table.
fn route_header(to: IpAddr, prefix: u8) -> [u8; 12] {
    [family(to), prefix, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST, 0, 0, 0, 0]
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv6() { AF_INET6 } else { AF_INET }
}

fn put_ip(a: &mut Attributes<'_>, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(address) => a.put(kind, &address.octets()),
        IpAddr::V6(address) => a.put(kind, &address.octets()),
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}

fn address(value: &[u8]) -> Option<Ipv4Addr> {
    value.first_chunk::<4>().copied().map(Ipv4Addr::from)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

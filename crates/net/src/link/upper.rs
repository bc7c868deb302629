//! Links that lie on top of others: macvlans, which are containers' own, and 802.1Q links.
//!
//! Numbers are those of `linux/if_link.h`.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::{
    Attributes, Batch, CREATE, EXCLUSIVE, Families, IFF_NOARP, IFF_UP, IFLA_ADDRESS, IFLA_AF_SPEC,
    IFLA_IFALIAS, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_NET_NS_FD,
    InterfaceName, Mac, RTM_NEWLINK, add_pair, link_header, no_ipv6_addresses, put_mtu,
};

const IFLA_LINK: u16 = 5;
const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_VLAN_ID: u16 = 1;

/// A link of a container on top of one of the host.
pub(crate) struct Upper<'a> {
    /// Its name, where it is.
    pub(crate) name: &'a InterfaceName,
    /// The index of the host's.
    pub(crate) parent: u32,
    /// `MACVLAN_MODE_…`.
    pub(crate) mode: u32,
    /// Its hardware address.
    pub(crate) mac: Mac,
    /// Where it is.
    pub(crate) namespace: BorrowedFd<'a>,
    /// Largest packet in bytes; none for the parent's.
    pub(crate) mtu: Option<u32>,
}

/// Makes a macvlan where it belongs. It is down.
pub(crate) fn add_macvlan(batch: &mut Batch, link: &Upper<'_>) {
    batch.message(RTM_NEWLINK, CREATE | EXCLUSIVE, &link_header(0, 0), |a| {
        a.put_text(IFLA_IFNAME, link.name.as_str());
        a.put(IFLA_LINK, &link.parent.to_ne_bytes());
        a.put(IFLA_ADDRESS, &link.mac.0);
        a.put(IFLA_NET_NS_FD, &link.namespace.as_raw_fd().to_ne_bytes());
        put_mtu(a, link.mtu);
        a.nest(IFLA_LINKINFO, |a| {
            a.put_text(IFLA_INFO_KIND, "macvlan");
            a.nest(IFLA_INFO_DATA, |a| a.put(IFLA_MACVLAN_MODE, &link.mode.to_ne_bytes()));
        });
    });
}

/// Makes an 802.1Q link with a note on it and brings it up. The host has no addresses there.
pub(crate) fn add_vlan(
    batch: &mut Batch,
    name: &InterfaceName,
    parent: u32,
    id: u16,
    note: &str,
    families: Families,
) {
    batch.message(RTM_NEWLINK, CREATE | EXCLUSIVE, &link_header(0, 0), |a| {
        a.put_text(IFLA_IFNAME, name.as_str());
        a.put(IFLA_LINK, &parent.to_ne_bytes());
        a.nest(IFLA_LINKINFO, |a| {
            a.put_text(IFLA_INFO_KIND, "vlan");
            a.nest(IFLA_INFO_DATA, |a| a.put(IFLA_VLAN_ID, &id.to_ne_bytes()));
        });
    });
    set(batch, name, 0, |a| {
        a.put_text(IFLA_IFALIAS, note);
        a.nest(IFLA_AF_SPEC, |a| no_ipv6_addresses(a, families));
    });
    // Addresses first: see `add_gate`.
    set(batch, name, IFF_UP, |_| ());
}

/// Makes two links, each of which takes what the other sends, that nobody speaks on: the host
/// answers no questions for its addresses there.
pub(crate) fn add_silent_pair(
    batch: &mut Batch,
    near: &InterfaceName,
    far: &InterfaceName,
    mtu: Option<u32>,
    families: Families,
) {
    add_pair(batch, [near.as_str(), far.as_str()], mtu, |_, _| ());
    for name in [near, far] {
        set(batch, name, 0, |a| a.nest(IFLA_AF_SPEC, |a| no_ipv6_addresses(a, families)));
        set(batch, name, IFF_UP | IFF_NOARP, |_| ());
    }
}

fn set(batch: &mut Batch, name: &InterfaceName, up: u32, fill: impl Fn(&mut Attributes<'_>)) {
    batch.message(RTM_NEWLINK, 0, &link_header(0, up), |a| {
        a.put_text(IFLA_IFNAME, name.as_str());
        fill(a);
    });
}

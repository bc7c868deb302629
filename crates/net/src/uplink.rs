//! The link by which a network namespace reaches the world, where somebody else has made it.

use std::net::Ipv4Addr;

use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice::name_to_index, socket_with};
use sys::netlink::{Batch, Family, NetlinkError, Socket};

use crate::link::{self, Families};

/// What the link is to be.
#[derive(Clone, Copy, Debug)]
pub struct Uplink<'a> {
    /// Its name.
    pub name: &'a str,
    /// Our address there.
    pub address: Ipv4Addr,
    /// The length of the prefix of its network.
    pub prefix: u8,
    /// Who leads everywhere.
    pub gateway: Ipv4Addr,
    /// Largest packet in bytes.
    pub mtu: u32,
}

/// Sets up a link of the calling thread's network namespace and leads everything out by it. It
/// gets no IPv6 address.
///
/// # Errors
/// `ENODEV` if it is not there, `EPERM` without `CAP_NET_ADMIN` over the namespace, `EEXIST` if
/// everything is led elsewhere already.
pub fn raise_uplink(uplink: &Uplink<'_>) -> Result<(), NetlinkError> {
    let any = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let index = name_to_index(any, uplink.name)?;
    let families = Families { ipv6: std::path::Path::new("/proc/sys/net/ipv6").exists() };
    let mut batch = Batch::default();
    link::bring_uplink_up(&mut batch, index, uplink.mtu, families);
    link::add_address(&mut batch, index, uplink.address.into(), uplink.prefix);
    link::add_default_route(&mut batch, index, uplink.gateway.into());
    Socket::open(Family::Route)?.execute(batch)
}

//! Endpoints: their cables laid and taken away, their namespaces set up inside.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use rustix::io::Errno;
use sys::{
    netlink::{Batch, Family, NetlinkError, Socket},
    netns,
};

use crate::{
    Host, InterfaceName, Mac, Network, NetworkError,
    error::wrong,
    host::{IPV6_OFF, find, gone},
    link::{self, Cable},
    spare::Plug,
};

/// What is to be plugged into a network.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint<'a> {
    /// Names it, uniquely on this host. The same one has the same cable after a restart.
    pub id: &'a str,
    /// Its address, leased from the network's subnet.
    pub address: Ipv4Addr,
    /// Its IPv6 address, where that does not go with the other one.
    pub address6: Option<Ipv6Addr>,
    /// Its hardware address, where that does not go with its address.
    pub mac: Option<Mac>,
    /// The interface inside, `eth0` and so on.
    pub interface: u32,
    /// Whether everything else goes by this network.
    pub leads_out: bool,
    /// Where it ends; a namespace of its own where there is none yet.
    pub namespace: Option<BorrowedFd<'a>>,
}

impl Endpoint<'_> {
    /// The first one in a namespace of its own.
    pub fn new(id: &str, address: Ipv4Addr) -> Endpoint<'_> {
        Endpoint {
            id,
            address,
            address6: None,
            mac: None,
            interface: 0,
            leads_out: true,
            namespace: None,
        }
    }

    pub(crate) fn inside(&self) -> InterfaceName {
        inside(self.interface)
    }
}

/// An endpoint that is plugged in.
#[derive(Debug)]
pub struct Attachment {
    /// The namespace it ends in. When the last copy of this and the last process in it are gone,
    /// so is the endpoint.
    pub namespace: OwnedFd,
    /// The interface inside.
    pub interface: InterfaceName,
    /// Its hardware address.
    pub mac: Mac,
}

/// The name of an interface inside an endpoint's namespace, as in Docker.
pub(crate) fn inside(number: u32) -> InterfaceName {
    format!("eth{number}").parse().expect("eth and a number make an interface's name")
}

/// The group of cables that are about to be removed: "wyth", which nobody else will think of.
const LEAVING: u32 = 0x7779_7468;

/// Whether new interfaces take addresses and routes that somebody on the link advertises, and
/// whether they ask first if their link-local address is taken. Source: ip-sysctl.rst.
const IPV6_TRUSTING: [&str; 2] =
    ["/proc/sys/net/ipv6/conf/default/accept_ra", "/proc/sys/net/ipv6/conf/default/accept_dad"];

impl Host {
    /// Makes a namespace for an endpoint and plugs it into a network: `lo` up, `eth0` with its
    /// address, everything else through the gateway.
    ///
    /// An endpoint of the same id that is still plugged in is unplugged first: after a kill or a
    /// quick restart it may be that of a namespace which is about to end.
    ///
    /// # Errors
    /// [`NetworkError::NotABridge`] if the network has not been made, [`NetworkError::NoParent`],
    /// [`NetworkError::Parent`], or what the kernel refused.
    /// Nothing is left of an endpoint that could not be plugged in.
    pub fn attach(
        &self,
        network: &Network,
        endpoint: &Endpoint<'_>,
    ) -> Result<Attachment, NetworkError> {
        if let Some(macvlan) = &network.macvlan {
            return self.attach_above(network, macvlan, endpoint);
        }
        let cable = InterfaceName::of_endpoint(endpoint.id);
        let spare = match (endpoint.namespace, endpoint.interface) {
            (None, 0) => self.take_spare(network, &cable),
            (Some(_), _) | (None, _) => None,
        };
        let mut plug = match (spare, endpoint.namespace) {
            (Some(plug), _) => plug,
            (None, Some(namespace)) => self.plug_into(network, &cable, endpoint, namespace)?,
            (None, None) => self.plug(network, &cable, &endpoint.inside())?,
        };
        let mac = endpoint.mac.unwrap_or_else(|| Mac::of_address(endpoint.address));
        // From here the cable goes when the namespace does: with `plug`, on an error.
        self.bring_up(&cable, network)
            .and_then(|()| set_up_inside(&mut plug.inside, network, endpoint, mac))
            .and_then(|()| self.settle(network, &cable))
            .map_err(wrong("set up endpoint", endpoint.id))
            .inspect_err(|_| {
                if endpoint.namespace.is_some() {
                    self.unplug(&cable).ok();
                }
            })?;
        let interface = endpoint.inside();
        Ok(Attachment { namespace: plug.namespace, interface, mac })
    }

    fn plug_into(
        &self,
        network: &Network,
        cable: &InterfaceName,
        endpoint: &Endpoint<'_>,
        namespace: BorrowedFd<'_>,
    ) -> Result<Plug, NetworkError> {
        let inside = self.enter(network, namespace)?;
        let own = namespace.try_clone_to_owned().map_err(NetworkError::Namespace)?;
        self.lay(network, cable, &endpoint.inside(), namespace)?;
        Ok(Plug { namespace: own, inside })
    }

    /// A socket in a namespace that is there, which may have been made for a network of IPv4 alone.
    pub(crate) fn enter(
        &self,
        network: &Network,
        namespace: BorrowedFd<'_>,
    ) -> Result<Socket, NetworkError> {
        let opened = netns::run(namespace, || {
            if network.ipv6.is_some() && self.families.ipv6 {
                fs::write(IPV6_OFF, "0")?;
                fs::write("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "0").ok();
                IPV6_TRUSTING.iter().try_for_each(|path| fs::write(path, "0"))?;
            }
            Ok(Socket::open(Family::Route)?)
        });
        opened.map_err(NetworkError::Namespace)
    }

    /// Sends everything that has no better way by this network's gateway, in a namespace that has
    /// an endpoint there, the interface of this number.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn lead_out(
        &self,
        namespace: BorrowedFd<'_>,
        network: &Network,
        number: u32,
    ) -> Result<(), NetworkError> {
        let name = inside(number);
        let opened = netns::run(namespace, || Ok(Socket::open(Family::Route)?));
        let mut socket = opened.map_err(NetworkError::Namespace)?;
        let mut set = || {
            let mut batch = Batch::default();
            let Some(link) = find(&mut socket, &name)? else { return Ok(()) };
            // Of several, the kernel takes the one that came first, so the others go.
            for any in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
                let mut batch = Batch::default();
                link::remove_default_route(&mut batch, any);
                match socket.execute(batch) {
                    Err(error) if error.errno == Errno::SRCH => {}
                    Err(error) if any.is_ipv6() && error.errno == Errno::NETUNREACH => {}
                    Err(error) if any.is_ipv6() && error.errno == Errno::AFNOSUPPORT => {}
                    other => other?,
                }
            }
            for gateway in network.gateways() {
                link::add_default_route(&mut batch, link.index, gateway);
            }
            socket.execute(batch)
        };
        set().map_err(wrong("lead out by", name.as_str()))
    }

    /// Waits until the cable carries packets.
    ///
    /// That a link has a carrier is noted at once and acted on by a kernel thread some time later
    /// (`net/core/link_watch.c`); until then the host's end, and a bridge whose first port it is,
    /// drop what they should send, and the endpoint's first connection is a second late. To ask
    /// for a link makes the kernel act at once (`rtnl_getlink`, since Linux 6.8).
    fn settle(&self, network: &Network, cable: &InterfaceName) -> Result<(), NetlinkError> {
        let mut batch = Batch::default();
        link::get(&mut batch, cable);
        link::get(&mut batch, &network.bridge);
        self.links().execute(batch)
    }

    /// A namespace for what will be plugged into it, and a socket inside: with IPv6 off, or
    /// believing nobody.
    pub(crate) fn new_namespace(&self, ipv6: bool) -> Result<(OwnedFd, Socket), NetworkError> {
        let prepare = || {
            if ipv6 {
                IPV6_TRUSTING.iter().try_for_each(|path| fs::write(path, "0"))?;
            } else if self.families.ipv6 {
                fs::write(IPV6_OFF, "1")?;
            }
            Ok(Socket::open(Family::Route)?)
        };
        netns::create(prepare).map_err(NetworkError::Namespace)
    }

    /// Makes a namespace and lays a cable from a network into it.
    pub(crate) fn plug(
        &self,
        network: &Network,
        cable: &InterfaceName,
        name: &InterfaceName,
    ) -> Result<Plug, NetworkError> {
        let (namespace, inside) = self.new_namespace(network.ipv6.is_some())?;
        self.lay(network, cable, name, namespace.as_fd())?;
        Ok(Plug { namespace, inside })
    }

    /// Lays a cable from a network into a namespace.
    fn lay(
        &self,
        network: &Network,
        cable: &InterfaceName,
        inside: &InterfaceName,
        namespace: BorrowedFd<'_>,
    ) -> Result<(), NetworkError> {
        self.on_a_port(network, cable, |bridge| {
            let ends = Cable { host: cable, bridge, inside, namespace, mtu: network.mtu };
            let lay = || {
                let mut batch = Batch::default();
                link::add_cable(&mut batch, &ends);
                self.links().execute(batch)
            };
            self.instead(cable, lay)
        })
    }

    /// Does what makes a cable of this name, and once more if there is one, without it.
    pub(crate) fn instead(
        &self,
        cable: &InterfaceName,
        make: impl Fn() -> Result<(), NetlinkError>,
    ) -> Result<(), NetlinkError> {
        match make() {
            Err(error) if error.errno == Errno::EXIST => self.unplug(cable).and_then(|()| make()),
            other => other,
        }
    }

    fn bring_up(&self, cable: &InterfaceName, network: &Network) -> Result<(), NetlinkError> {
        let mut batch = Batch::default();
        link::bring_cable_up(&mut batch, cable, network.apart, self.families);
        self.links().execute(batch)
    }

    pub(crate) fn unplug(&self, name: &InterfaceName) -> Result<(), NetlinkError> {
        let mut batch = Batch::default();
        link::remove(&mut batch, name.as_str());
        gone(self.links().execute(batch))
    }

    /// Unplugs an endpoint. Nothing happens if it is not plugged in.
    ///
    /// The same happens by itself, a moment later, when its namespace ends.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn detach(&self, endpoint_id: &str) -> Result<(), NetworkError> {
        self.unplug(&InterfaceName::of_endpoint(endpoint_id))
            .map_err(wrong("unplug endpoint", endpoint_id))
    }

    /// The same for many at once, in about the time of one, while others are plugged in.
    ///
    /// What takes the time is that all processors have to be seen to have let go of a link, which
    /// is done once for a group of links.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn detach_all(&self, endpoint_ids: &[&str]) -> Result<(), NetworkError> {
        let mut socket = self.removals();
        let mut left = false;
        for id in endpoint_ids {
            let name = InterfaceName::of_endpoint(id);
            let mut batch = Batch::default();
            link::put_into_group(&mut batch, &name, LEAVING);
            match socket.execute(batch) {
                Ok(()) => left = true,
                // Its namespace has ended and has taken it along.
                Err(error) if error.errno == Errno::NODEV => {}
                Err(error) => return Err(wrong("unplug endpoint", id)(error)),
            }
        }
        if left {
            let mut batch = Batch::default();
            link::remove_group(&mut batch, LEAVING);
            gone(socket.execute(batch)).map_err(wrong("unplug endpoints", ""))?;
        }
        Ok(())
    }
}

pub(crate) fn set_up_inside(
    socket: &mut Socket,
    network: &Network,
    endpoint: &Endpoint<'_>,
    mac: Mac,
) -> Result<(), NetlinkError> {
    let index = find(socket, &endpoint.inside())?.ok_or(Errno::NODEV)?.index;
    let mut batch = Batch::default();
    link::bring_up(&mut batch, link::LOOPBACK);
    link::bring_up_as(&mut batch, index, mac);
    link::add_addresses(&mut batch, index, network, endpoint.address, endpoint.address6);
    if endpoint.leads_out {
        for gateway in network.gateways() {
            link::add_default_route(&mut batch, index, gateway);
        }
    }
    socket.execute(batch)
}

//! The host's network stack: carries out what the pure modules say.

use std::{
    collections::BTreeSet,
    fs, io,
    net::Ipv4Addr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::io::Errno;
use sys::{
    netlink::{Batch, Family, NetlinkError, Socket},
    netns,
};

use crate::{
    Forward, InterfaceName, Ipv4Net, Mac, Network, Outside, Protocol, PublishedPort, Reservation,
    ReserveError,
    conntrack::{self, Flow},
    error::{NetworkError, wrong},
    link::{self, Cable, Families, Link},
    nft::Transaction,
    reserve, subnet,
    table::{self, Entry},
};

/// A host's network stack, or that of a namespace that plays the host.
///
/// Safe to share: what takes long (making namespaces) is done side by side, and each conversation
/// with the kernel has the socket to itself.
#[derive(Debug)]
pub struct Host {
    /// The namespace that plays the host; none where the calling threads are in it.
    namespace: Option<OwnedFd>,
    links: Mutex<Socket>,
    table: Mutex<Table>,
    families: Families,
    /// Whoever has the ports, where they are not this stack's.
    outside: Option<Arc<dyn Outside>>,
}

/// Our nftables table, and the socket for it.
#[derive(Debug)]
pub(crate) struct Table {
    name: String,
    socket: Socket,
    /// What it says; none if another process wrote it last.
    says: Option<BTreeSet<Entry>>,
}

/// What is to be plugged into a network.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint<'a> {
    /// Names it, uniquely on this host. The same one has the same cable after a restart.
    pub id: &'a str,
    /// Its address, leased from the network's subnet.
    pub address: Ipv4Addr,
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
    /// The other end of its cable, on the host.
    pub host_interface: InterfaceName,
}

/// The name of the interface inside every endpoint's namespace, as in Docker.
const INSIDE: &str = "eth0";

/// Whether the host forwards packets. Source: ip-sysctl.rst, `ip_forward`.
const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
/// There where the kernel has IPv6: whether new interfaces leave it alone.
const IPV6_OFF: &str = "/proc/sys/net/ipv6/conf/default/disable_ipv6";

impl Host {
    /// Opens the calling thread's network stack, or that of a namespace that plays the host.
    ///
    /// # Errors
    /// If the namespace cannot be entered or netlink sockets cannot be had.
    pub fn open(namespace: Option<BorrowedFd<'_>>) -> Result<Host, NetworkError> {
        Host::open_with_table(namespace, table::TABLE)
    }

    /// The same with another name for our nftables table, so that several who manage networks of
    /// their own (daemons with other data roots) live side by side.
    ///
    /// # Errors
    /// As [`Host::open`].
    pub fn open_with_table(
        namespace: Option<BorrowedFd<'_>>,
        table_name: &str,
    ) -> Result<Host, NetworkError> {
        let namespace = namespace
            .map(|namespace| namespace.try_clone_to_owned())
            .transpose()
            .map_err(NetworkError::Open)?;
        let open = || {
            let links = Socket::open(Family::Route)?;
            let table = Socket::open(Family::Netfilter)?;
            Ok((links, table, Families { ipv6: Path::new(IPV6_OFF).exists() }))
        };
        let (links, table, families) =
            run_in(namespace.as_ref(), open).map_err(NetworkError::Open)?;
        let table = Mutex::new(Table { name: table_name.to_owned(), socket: table, says: None });
        Ok(Host { namespace, links: Mutex::new(links), table, families, outside: None })
    }

    /// The same for a stack that has another around it, where published ports are reached.
    #[must_use]
    pub fn with_outside(self, outside: Option<Arc<dyn Outside>>) -> Host {
        Host { outside, ..self }
    }

    /// A subnet for a new network, clear of every network that the host has a route to.
    ///
    /// Routes of the bridge itself do not count, so that the answer stays the same when it is
    /// there already.
    ///
    /// # Errors
    /// [`NetworkError::NoSubnet`] if none is free.
    pub fn choose_subnet(&self, bridge: &InterfaceName) -> Result<Ipv4Net, NetworkError> {
        let own = self.link(bridge)?.map(|link| link.index);
        let mut batch = Batch::default();
        link::get_routes(&mut batch);
        let routes = self.collect(batch, link::read_route).map_err(wrong("list routes of", ""))?;
        let others = routes.into_iter().filter(|(_, link)| own.is_none() || *link != own);
        let taken: Vec<_> = others.map(|(net, _)| net).collect();
        subnet::choose(&taken).ok_or(NetworkError::NoSubnet)
    }

    /// Makes a network's bridge, or makes the one that is there as it should be, and lets the
    /// host forward packets. Its rules are written by [`Host::publish`].
    ///
    /// # Errors
    /// [`NetworkError::Unusable`], [`NetworkError::NotABridge`], or what the kernel refused.
    pub fn ensure_network(&self, network: &Network) -> Result<(), NetworkError> {
        if let Some(fault) = network.fault() {
            return Err(NetworkError::Unusable { bridge: network.bridge.clone(), fault });
        }
        let bridge = self.ensure_bridge(network)?;
        let mut batch = Batch::default();
        link::get_addresses(&mut batch);
        let failed = || wrong("set up bridge", network.bridge.as_str());
        let addresses = self.collect(batch, link::read_address).map_err(failed())?;

        let mut batch = Batch::default();
        let wanted = (bridge, network.gateway, network.subnet.prefix());
        for (index, address, prefix) in addresses {
            if index == bridge && (index, address, prefix) != wanted {
                link::remove_address(&mut batch, index, address, prefix);
            }
        }
        link::add_address(&mut batch, bridge, network.gateway, network.subnet);
        link::bring_bridge_up(&mut batch, bridge, network.mtu, self.families);
        self.links().execute(batch).map_err(failed())?;
        self.run(allow_forwarding).map_err(NetworkError::Forwarding)
    }

    fn ensure_bridge(&self, network: &Network) -> Result<u32, NetworkError> {
        let name = &network.bridge;
        if self.link(name)?.is_none() {
            let mut batch = Batch::default();
            link::add_bridge(&mut batch, name, Mac::of_address(network.gateway));
            self.links().execute(batch).map_err(wrong("make bridge", name.as_str()))?;
        }
        self.bridge(name)
    }

    /// Makes a namespace for an endpoint and plugs it into a network: `lo` up, `eth0` with its
    /// address, everything else through the gateway.
    ///
    /// An endpoint of the same id that is still plugged in is unplugged first: after a kill or a
    /// quick restart it may be that of a namespace which is about to end.
    ///
    /// # Errors
    /// [`NetworkError::NotABridge`] if the network has not been made, or what the kernel refused.
    /// Nothing is left of an endpoint that could not be plugged in.
    pub fn attach(
        &self,
        network: &Network,
        endpoint: &Endpoint<'_>,
    ) -> Result<Attachment, NetworkError> {
        let (namespace, mut inside) = self.new_namespace()?;
        let attachment = Attachment {
            namespace,
            interface: INSIDE.parse().expect("eth0 is an interface's name"),
            mac: Mac::of_address(endpoint.address),
            host_interface: InterfaceName::of_endpoint(endpoint.id),
        };
        self.plug(network, &attachment)?;
        // From here the cable goes when the namespace does: with `attachment`, on an error.
        set_up_inside(&mut inside, network, endpoint.address)
            .and_then(|()| self.settle(network, &attachment))
            .map_err(wrong("set up endpoint", endpoint.id))?;
        Ok(attachment)
    }

    /// Waits until the cable carries packets.
    ///
    /// That a link has a carrier is noted at once and acted on by a kernel thread some time later
    /// (`net/core/link_watch.c`); until then the host's end, and a bridge whose first port it is,
    /// drop what they should send, and the endpoint's first connection is a second late. To ask
    /// for a link makes the kernel act at once (`rtnl_getlink`, since Linux 6.8).
    fn settle(&self, network: &Network, attachment: &Attachment) -> Result<(), NetlinkError> {
        let mut batch = Batch::default();
        link::get(&mut batch, &attachment.host_interface);
        link::get(&mut batch, &network.bridge);
        self.links().execute(batch)
    }

    /// A namespace with IPv6 off for what will be plugged into it, and a socket inside.
    fn new_namespace(&self) -> Result<(OwnedFd, Socket), NetworkError> {
        let prepare = || {
            if self.families.ipv6 {
                fs::write(IPV6_OFF, "1")?;
            }
            Ok(Socket::open(Family::Route)?)
        };
        netns::create(prepare).map_err(NetworkError::Namespace)
    }

    fn plug(&self, network: &Network, attachment: &Attachment) -> Result<(), NetworkError> {
        let name = &attachment.host_interface;
        let cable = Cable {
            host: name,
            bridge: self.bridge(&network.bridge)?,
            inside: &attachment.interface,
            mac: attachment.mac,
            namespace: attachment.namespace.as_fd(),
            mtu: network.mtu,
        };
        let lay = || {
            let mut batch = Batch::default();
            link::add_cable(&mut batch, &cable, self.families);
            self.links().execute(batch)
        };
        match lay() {
            Err(error) if error.errno == Errno::EXIST => self.unplug(name).and_then(|()| lay()),
            other => other,
        }
        .map_err(wrong("lay cable", name.as_str()))
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

    /// Removes a network's bridge and unplugs what is in it. Nothing happens if there is none.
    /// Its rules go with the next [`Host::publish`] that does not name it.
    ///
    /// # Errors
    /// [`NetworkError::NotABridge`] if another kind of link has that name, or what the kernel
    /// refused.
    pub fn remove_network(&self, network: &Network) -> Result<(), NetworkError> {
        let name = &network.bridge;
        if self.link(name)?.is_none() {
            return Ok(());
        }
        let bridge = self.bridge(name)?;
        let failed = || wrong("remove bridge", name.as_str());
        let mut batch = Batch::default();
        link::get_all(&mut batch);
        let links = self.collect(batch, Link::read).map_err(failed())?;
        let mut batch = Batch::default();
        links
            .iter()
            .filter(|link| link.master == Some(bridge))
            .filter(|link| InterfaceName::is_of_endpoint(&link.name))
            .for_each(|link| link::remove(&mut batch, &link.name));
        link::remove(&mut batch, name.as_str());
        // A namespace may end meanwhile and take its cable; rtnetlink goes on after that.
        gone(self.links().execute(batch)).map_err(failed())
    }

    /// Holds host ports, all of them or none.
    ///
    /// # Errors
    /// The first that cannot be had.
    pub fn reserve(&self, asked: &[PublishedPort]) -> Result<Vec<Reservation>, ReserveError> {
        self.run(|| {
            Ok(asked.iter().map(|port| reserve::reserve(port, self.outside.as_ref())).collect())
        })
        .map_err(ReserveError::Enter)?
    }

    /// Makes our nftables table say exactly this, in one transaction: these networks may talk to
    /// the world, and these ports lead to containers.
    ///
    /// The first call writes the whole table, whatever an earlier process left in it; later ones
    /// send what changed. Every call takes the whole wanted state, so that recovery is the same
    /// call. A table that someone else removed is written anew.
    ///
    /// # Errors
    /// [`NetworkError::Table`] with what the kernel refused; the table is as it was then.
    pub fn publish(&self, networks: &[&Network], forwards: &[Forward]) -> Result<(), NetworkError> {
        let want = table::wanted(networks, forwards);
        let mut table = self.table();
        let said = table.write(&want).map_err(NetworkError::Table)?;
        if let Err(error) = self.forget_flows(&mut table.socket, &said, &want) {
            tracing::warn!(%error, "UDP flows that were open before may miss a published port");
        }
        drop(table);
        match &self.outside {
            Some(outside) => outside.lead(forwards).map_err(NetworkError::Outside),
            None => Ok(()),
        }
    }

    /// Forgets UDP flows that would go elsewhere if they began now.
    fn forget_flows(
        &self,
        socket: &mut Socket,
        have: &BTreeSet<Entry>,
        want: &BTreeSet<Entry>,
    ) -> Result<(), NetlinkError> {
        let published = udp_ports(want.difference(have));
        let withdrawn = udp_ports(have.difference(want));
        if published.is_empty() && withdrawn.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::default();
        link::get_addresses(&mut batch);
        let local: Vec<_> =
            self.collect(batch, link::read_address)?.into_iter().map(|(_, ip, _)| ip).collect();
        let mut stale = Batch::default();
        let mut batch = Batch::default();
        conntrack::get_all(&mut batch);
        socket.query(batch, |_, body| {
            if let Some(flow) = Flow::read(body)
                && flow.is_stale(&published, &withdrawn, &local)
            {
                conntrack::delete(&mut stale, &flow);
            }
        })?;
        gone(socket.execute(stale))
    }

    /// Removes our table and these networks: the host is as it was, but that it forwards packets.
    ///
    /// # Errors
    /// The first failure; the others are tried all the same.
    pub fn remove_everything(&self, networks: &[&Network]) -> Result<(), NetworkError> {
        let removed = self.table().remove().map_err(NetworkError::Table);
        let mut results = vec![removed];
        results.extend(networks.iter().map(|network| self.remove_network(network)));
        results.into_iter().collect()
    }

    /// The index of a link that must be a bridge.
    fn bridge(&self, name: &InterfaceName) -> Result<u32, NetworkError> {
        match self.link(name)? {
            Some(link) if link.is_bridge => Ok(link.index),
            _ => Err(NetworkError::NotABridge(name.clone())),
        }
    }

    pub(crate) fn link(&self, name: &InterfaceName) -> Result<Option<Link>, NetworkError> {
        find(&mut self.links(), name).map_err(wrong("look up", name.as_str()))
    }

    pub(crate) fn collect<T>(
        &self,
        batch: Batch,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        let mut found = Vec::new();
        self.links().query(batch, |_, body| found.extend(read(body)))?;
        Ok(found)
    }

    /// Runs something where the host's sockets and sysctls are.
    fn run<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        run_in(self.namespace.as_ref(), work)
    }

    /// A conversation that panicked leaves at most replies that the next one passes over.
    fn links(&self) -> MutexGuard<'_, Socket> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Carries out a transaction on a table that is not this one.
    pub(crate) fn converse(&mut self, transaction: Transaction<'_>) -> Result<(), NetlinkError> {
        self.socket.execute(transaction.finish())
    }

    fn remove(&mut self) -> Result<(), NetlinkError> {
        self.says = None;
        self.socket.execute(table::remove(&self.name).finish())
    }

    /// Makes the table say this, and returns what it said, as far as known.
    fn write(&mut self, want: &BTreeSet<Entry>) -> Result<BTreeSet<Entry>, NetlinkError> {
        let said = self.says.take();
        let amended =
            said.as_ref().is_some_and(|said| match table::amend(&self.name, said, want) {
                None => true,
                // Where this fails, somebody else has changed the table or removed it.
                Some(transaction) => self.socket.execute(transaction.finish()).is_ok(),
            });
        if !amended {
            self.socket.execute(table::rewrite(&self.name, want).finish())?;
        }
        self.says = Some(want.clone());
        Ok(said.unwrap_or_default())
    }
}

/// Makes a namespace in which only `lo` is up, for what shall reach nothing.
///
/// # Errors
/// If the namespace cannot be made.
pub fn private_namespace() -> Result<OwnedFd, NetworkError> {
    let (namespace, mut socket) =
        netns::create(|| Ok(Socket::open(Family::Route)?)).map_err(NetworkError::Namespace)?;
    let mut batch = Batch::default();
    link::bring_up(&mut batch, link::LOOPBACK);
    socket.execute(batch).map_err(wrong("bring up", "lo"))?;
    Ok(namespace)
}

fn set_up_inside(
    socket: &mut Socket,
    network: &Network,
    address: Ipv4Addr,
) -> Result<(), NetlinkError> {
    let name = INSIDE.parse().expect("eth0 is an interface's name");
    let index = find(socket, &name)?.ok_or(Errno::NODEV)?.index;
    let mut batch = Batch::default();
    link::bring_up(&mut batch, link::LOOPBACK);
    link::bring_up(&mut batch, index);
    link::add_address(&mut batch, index, address, network.subnet);
    link::add_default_route(&mut batch, index, network.gateway);
    socket.execute(batch)
}

fn find(socket: &mut Socket, name: &InterfaceName) -> Result<Option<Link>, NetlinkError> {
    let mut batch = Batch::default();
    link::get(&mut batch, name);
    let mut found = None;
    match socket.query(batch, |_, body| found = Link::read(body)) {
        Err(error) if error.errno == Errno::NODEV => Ok(None),
        result => result.map(|()| found),
    }
}

/// Forwards packets between interfaces, which containers need to reach the world.
fn allow_forwarding() -> io::Result<()> {
    if fs::read_to_string(IP_FORWARD)?.trim() == "1" {
        return Ok(());
    }
    fs::write(IP_FORWARD, "1")
}

fn udp_ports<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<Forward> {
    let udp = |entry: &Entry| match entry {
        Entry::Port(forward) if forward.protocol == Protocol::Udp => Some(*forward),
        Entry::Port(_) | Entry::Bridge(_) | Entry::Subnet(_) => None,
    };
    entries.filter_map(udp).collect()
}

/// To remove what is not there is to have removed it.
fn gone(result: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match result {
        Err(error) if matches!(error.errno, Errno::NODEV | Errno::NOENT) => Ok(()),
        other => other,
    }
}

fn run_in<T: Send>(
    namespace: Option<&OwnedFd>,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    match namespace {
        Some(namespace) => netns::run(namespace.as_fd(), work),
        None => work(),
    }
}

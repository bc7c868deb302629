//! The host's network stack: carries out what the pure modules say.

use std::{
    io,
    net::{IpAddr, Ipv6Addr},
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
    GatewayMode, InterfaceName, Ipv4Net, Mac, Network, Outside, PublishedPort, Reservation,
    ReserveError,
    error::{NetworkError, wrong},
    forwarding::{self, Changed},
    link::{self, Families, Link},
    nft,
    publish::Table,
    reserve::{self, Carriers, Routed},
    spare::Spare,
    subnet, table, wide,
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
    /// A socket for removals, which take long: nobody else waits for it.
    removals: Mutex<Socket>,
    table: Mutex<Table>,
    spare: Mutex<Option<Spare>>,
    /// One at a time makes further bridges.
    branching: Mutex<()>,
    pub(crate) families: Families,
    /// Whether its interfaces may have IPv6 addresses.
    ipv6: bool,
    /// Whoever has the ports, where they are not this stack's.
    pub(crate) outside: Option<Arc<dyn Outside>>,
    /// Whoever carries the ports of `::1`, where they are.
    pub(crate) loopback: Option<Arc<dyn Outside>>,
}

/// There where the kernel has IPv6: whether new interfaces leave it alone.
pub(crate) const IPV6_OFF: &str = "/proc/sys/net/ipv6/conf/default/disable_ipv6";

/// The link-local address of a bridge with IPv6, as in Docker: a router that has none cannot ask
/// for the neighbours it forwards to (`ndisc_send_ns` in `ndisc.c`).
const ROUTER: (IpAddr, u8) = (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)), 64);

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
            let sockets = (Socket::open(Family::Route)?, Socket::open(Family::Route)?);
            let table = Socket::open(Family::Netfilter)?;
            let families = Families { ipv6: Path::new(IPV6_OFF).exists() };
            Ok((sockets, table, families, forwarding::has_ipv6()))
        };
        let ((links, removals), table, families, ipv6) =
            run_in(namespace.as_ref(), open).map_err(NetworkError::Open)?;
        let table = Mutex::new(Table {
            name: table_name.to_owned(),
            socket: table,
            says: None,
            doubted: false,
        });
        let (links, removals) = (Mutex::new(links), Mutex::new(removals));
        let spare = Mutex::default();
        Ok(Host {
            namespace,
            links,
            removals,
            table,
            spare,
            branching: Mutex::default(),
            families,
            ipv6,
            outside: None,
            loopback: None,
        })
    }

    /// The same for a stack that has another around it, where published ports are reached.
    #[must_use]
    pub fn with_outside(self, outside: Option<Arc<dyn Outside>>) -> Host {
        Host { outside, ..self }
    }

    /// The same with somebody who carries what arrives at ports of `::1`, which no kernel leads to
    /// another interface.
    #[must_use]
    pub fn with_loopback(self, loopback: Option<Arc<dyn Outside>>) -> Host {
        Host { loopback, ..self }
    }

    /// A subnet for a new network, clear of every network that the host has a route to and of
    /// these others.
    ///
    /// Routes of the bridge itself do not count, so that the answer stays the same when it is
    /// there already.
    ///
    /// # Errors
    /// [`NetworkError::NoSubnet`] if none is free.
    pub fn choose_subnet(
        &self,
        bridge: &InterfaceName,
        others: &[Ipv4Net],
    ) -> Result<Ipv4Net, NetworkError> {
        let own = self.link(bridge)?.map(|link| link.index);
        let mut batch = Batch::default();
        link::get_routes(&mut batch);
        let routes = self.collect(batch, link::read_route).map_err(wrong("list routes of", ""))?;
        let routed = routes.into_iter().filter(|(_, link)| own.is_none() || *link != own);
        let taken: Vec<_> = routed.map(|(net, _)| net).chain(others.iter().copied()).collect();
        subnet::choose(&taken).ok_or(NetworkError::NoSubnet)
    }

    /// Makes a network's bridge, or makes the one that is there as it should be, and lets the
    /// host forward packets; or the link that it lies on. Its rules are written by [`Host::publish`].
    ///
    /// # Errors
    /// [`NetworkError::Unusable`], [`NetworkError::NotABridge`], [`NetworkError::NoParent`], or what
    /// the kernel refused.
    pub fn ensure_network(&self, network: &Network) -> Result<(), NetworkError> {
        if let Some(fault) = network.fault() {
            return Err(NetworkError::Unusable { bridge: network.bridge.clone(), fault });
        }
        if let Some(macvlan) = &network.macvlan {
            return self.ensure_parent(network, macvlan).map(|_| ());
        }
        let bridge = self.ensure_bridge(network)?;
        let mut batch = Batch::default();
        link::get_addresses(&mut batch);
        let failed = || wrong("set up bridge", network.bridge.as_str());
        let addresses = self.collect(batch, link::read_address).map_err(failed())?;

        let mut batch = Batch::default();
        let (four, six) = network.of_host();
        let six = six.zip(network.ipv6);
        let wanted = [
            four.map(|address| (IpAddr::V4(address), network.subnet.prefix())),
            six.map(|(address, net)| (IpAddr::V6(address), net.prefix())),
            six.map(|_| ROUTER),
        ];
        for (index, address, prefix) in addresses {
            if index == bridge && !wanted.contains(&Some((address, prefix))) {
                link::remove_address(&mut batch, index, address, prefix);
            }
        }
        for (address, prefix) in wanted.into_iter().flatten() {
            link::add_address(&mut batch, bridge, address, prefix);
        }
        link::bring_bridge_up(&mut batch, bridge, network.mtu, self.families);
        self.links().execute(batch).map_err(failed())?;
        if network.ipv6.is_some() {
            self.keep_quiet();
        }
        self.allow_forwarding(bridge, network)
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

    /// Has another network's bridge bear what was noted on this one's, before this one goes.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn pass_note(&self, from: &Network, to: &Network) -> Result<(), NetworkError> {
        let noted = |of: &Network| {
            let note = self.link(&of.bridge)?.and_then(|link| link.note);
            Ok::<_, NetworkError>(Changed::read(&note.unwrap_or_default()))
        };
        let (old, own) = (noted(from)?, noted(to)?);
        let all = Changed {
            ipv4: old.ipv4 || own.ipv4,
            ipv6: old.ipv6 || own.ipv6,
            advertised: [own.advertised.clone(), old.advertised].concat(),
        };
        let Some(note) = all.note().filter(|_| all != own) else { return Ok(()) };
        let heir = self.bridge(&to.bridge)?;
        let mut batch = Batch::default();
        link::set_note(&mut batch, heir, &note);
        self.links().execute(batch).map_err(wrong("note on", to.bridge.as_str()))
    }

    /// Removes a network's bridge and unplugs what is in it. Nothing happens if there is none.
    /// Its rules go with the next [`Host::publish`] that does not name it.
    ///
    /// # Errors
    /// [`NetworkError::NotABridge`] if another kind of link has that name, or what the kernel
    /// refused.
    pub fn remove_network(&self, network: &Network) -> Result<(), NetworkError> {
        if let Some(macvlan) = &network.macvlan {
            return self.remove_parent(network, macvlan);
        }
        let name = &network.bridge;
        drop(self.spare().take());
        if self.link(name)?.is_none() {
            return Ok(());
        }
        // Another kind of link may have that name.
        self.bridge(name)?;
        let failed = || wrong("remove bridge", name.as_str());
        let links = self.all_links()?;
        let bridges = wide::bridges(&links, network);
        let mut batch = Batch::default();
        links
            .values()
            .filter(|link| link.master.is_some_and(|master| bridges.contains(&master)))
            .filter(|link| InterfaceName::is_of_endpoint(&link.name))
            .for_each(|link| link::remove(&mut batch, &link.name));
        wide::remove_branches(&mut batch, &links, network);
        link::remove(&mut batch, name.as_str());
        // A namespace may end meanwhile and take its cable; rtnetlink goes on after that.
        gone(self.links().execute(batch)).map_err(failed())
    }

    /// Holds host ports, all of them or none, for a container with or without an IPv6 address.
    ///
    /// # Errors
    /// The first that cannot be had.
    pub fn reserve(
        &self,
        asked: &[PublishedPort],
        ipv6: bool,
    ) -> Result<Vec<Reservation>, ReserveError> {
        self.reserve_as(asked, ipv6, Routed::default())
    }

    fn reserve_as(
        &self,
        asked: &[PublishedPort],
        ipv6: bool,
        routed: Routed,
    ) -> Result<Vec<Reservation>, ReserveError> {
        let (outside, loopback) = (self.outside.as_ref(), self.loopback.as_ref());
        let carriers = Carriers { outside, loopback };
        let all =
            || asked.iter().map(|one| reserve::reserve(one, ipv6, carriers, routed)).collect();
        let held: Result<Vec<Vec<_>>, _> = self.run(|| Ok(all())).map_err(ReserveError::Enter)?;
        Ok(held?.into_iter().flatten().collect())
    }

    /// The same for a container on a network: where its addresses are reached by routes, no port of
    /// the host's is held.
    ///
    /// # Errors
    /// The first that cannot be had.
    pub fn reserve_on(
        &self,
        network: &Network,
        asked: &[PublishedPort],
    ) -> Result<Vec<Reservation>, ReserveError> {
        let is = |mode| mode == GatewayMode::Routed;
        let routed = Routed { four: is(network.mode), six: is(network.mode6) };
        self.reserve_as(asked, network.ipv6.is_some(), routed)
    }

    /// Whether its interfaces may have IPv6 addresses. A network with IPv6 on a host without
    /// cannot be made.
    pub fn has_ipv6(&self) -> bool {
        self.ipv6
    }

    /// The address families that the kernel has.
    pub(crate) fn known_families(&self) -> Vec<nft::Family> {
        let six = self.families.ipv6.then_some(nft::Family::V6);
        [nft::Family::V4].into_iter().chain(six).collect()
    }

    /// Lets the host forward packets, and notes on the bridge what that changed.
    fn allow_forwarding(&self, bridge: u32, network: &Network) -> Result<(), NetworkError> {
        let ipv6 = network.ipv6.is_some();
        let changed = self.run(|| forwarding::turn_on(ipv6)).map_err(NetworkError::Forwarding)?;
        let noted = self.link(&network.bridge)?.and_then(|link| link.note);
        let earlier = Changed::read(&noted.unwrap_or_default());
        let all = Changed {
            ipv4: changed.ipv4 || earlier.ipv4,
            ipv6: changed.ipv6 || earlier.ipv6,
            advertised: [earlier.advertised.clone(), changed.advertised].concat(),
        };
        let Some(note) = all.note().filter(|_| all != earlier) else { return Ok(()) };
        let mut batch = Batch::default();
        link::set_note(&mut batch, bridge, &note);
        self.links().execute(batch).map_err(wrong("note on", network.bridge.as_str()))
    }

    /// What was noted on these networks' bridges; nothing if there are other bridges.
    pub(crate) fn forwarding_to_put_back(
        &self,
        networks: &[&Network],
    ) -> Result<Changed, NetworkError> {
        let mut batch = Batch::default();
        link::get_all(&mut batch);
        let links = self.collect(batch, Link::read).map_err(wrong("list links of", "the host"))?;
        let ours = |link: &Link| networks.iter().any(|n| n.bridge.as_str() == link.name);
        let bridges = links.into_iter().filter(|link| link.is_bridge);
        let bridges = bridges.filter(|link| !InterfaceName::is_of_branch(&link.name));
        let (own, others): (Vec<_>, Vec<_>) = bridges.partition(ours);
        let note = own.into_iter().find_map(|link| link.note).filter(|_| others.is_empty());
        Ok(Changed::read(&note.unwrap_or_default()))
    }

    pub(crate) fn put_forwarding_back(&self, changed: &Changed) -> Result<(), NetworkError> {
        if *changed == Changed::default() {
            return Ok(());
        }
        self.run(|| forwarding::put_back(changed)).map_err(NetworkError::Forwarding)
    }

    /// The index of a link that must be a bridge.
    pub(crate) fn bridge(&self, name: &InterfaceName) -> Result<u32, NetworkError> {
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
    pub(crate) fn run<T: Send>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        run_in(self.namespace.as_ref(), work)
    }

    /// A conversation that panicked leaves at most replies that the next one passes over.
    pub(crate) fn links(&self) -> MutexGuard<'_, Socket> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn removals(&self) -> MutexGuard<'_, Socket> {
        self.removals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn spare(&self) -> MutexGuard<'_, Option<Spare>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn branching(&self) -> MutexGuard<'_, ()> {
        self.branching.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
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

pub(crate) fn find(
    socket: &mut Socket,
    name: &InterfaceName,
) -> Result<Option<Link>, NetlinkError> {
    let mut batch = Batch::default();
    link::get(&mut batch, name);
    let mut found = None;
    match socket.query(batch, |_, body| found = Link::read(body)) {
        Err(error) if error.errno == Errno::NODEV => Ok(None),
        result => result.map(|()| found),
    }
}

/// To remove what is not there is to have removed it.
pub(crate) fn gone(result: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
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

//! Networks: the default bridge, made when the first container needs it and gone when there is
//! none, and those that users make.

mod admin;
mod book;
mod claim;
mod design;
mod findings;
mod keeper;
mod leaving;
mod macvlan;
mod naming;
mod options;
mod passage;
mod places;
mod pools;
mod request;
mod state;

use std::{
    collections::BTreeMap,
    fmt::Debug,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use base::ContainerId;
use net::{
    Admission, Host, InterfaceName, Ipv4Net, Ipv6Net, Leases, Network, NetworkError, PortRange,
    PublishedPort, Reservation,
};
use tracing::{debug, warn};
use workload::Finding;

use crate::{
    EngineError, Ipv6, NetworkView, PortBinding, PortRequest, Protocol, config::BRIDGE,
    error::chain,
};

pub use request::{
    EndpointRequest, EndpointView, NetworkCreate, NetworkInfo, NetworkUser, Pool, PoolRequest,
};

use book::Book;
use claim::Claim;
use leaving::Leaving;
use naming::Naming;
use state::{Plugged, State, endpoint_id};

/// A container's places, made.
#[derive(Debug)]
pub(crate) struct Attached {
    /// Its network namespace.
    pub(crate) namespace: OwnedFd,
    /// What is shown of it.
    pub(crate) view: NetworkView,
}

/// The places that a container wants.
#[derive(Clone, Debug, Default)]
pub(crate) struct Joining {
    /// Its name.
    pub(crate) name: String,
    /// Its host name, if it has one of its own.
    pub(crate) hostname: Option<String>,
    /// The network whose interface comes first.
    pub(crate) first: Option<String>,
    /// What it wants of each network, by the networks' names.
    pub(crate) endpoints: BTreeMap<String, EndpointRequest>,
    /// Ports to publish.
    pub(crate) ports: Vec<PortRequest>,
    /// Who resolves what nobody on its networks is called.
    pub(crate) resolving: Resolving,
}

/// How a container has names resolved.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resolving {
    /// The servers it asked for; the host's own where there are none.
    pub(crate) servers: Vec<IpAddr>,
    /// Whether it says itself how many dots make a name whole.
    pub(crate) dots: bool,
}

/// A container that was plugged in when the last daemon ended.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) id: ContainerId,
    pub(crate) name: String,
    pub(crate) view: NetworkView,
}

/// Where containers are plugged in. Every method may block.
pub(crate) trait Networks: Debug + Send + Sync {
    /// Plugs a container in and publishes its ports.
    ///
    /// # Errors
    /// Nothing is left of it then.
    fn attach(&self, id: &ContainerId, joining: &Joining) -> Result<Attached, EngineError>;

    /// Plugs a container that runs into one more network.
    ///
    /// # Errors
    /// Then all is as it was.
    fn connect(
        &self,
        id: &ContainerId,
        joining: &Joining,
        namespace: BorrowedFd<'_>,
    ) -> Result<NetworkView, EngineError>;

    /// Takes a container that runs out of one network, by its name.
    ///
    /// # Errors
    /// It can be tried again.
    fn disconnect(
        &self,
        id: &ContainerId,
        network: &str,
        namespace: BorrowedFd<'_>,
    ) -> Result<NetworkView, EngineError>;

    /// Resolves names again for a container that was found running.
    ///
    /// # Errors
    /// Then it has addresses alone.
    fn resume(
        &self,
        id: &ContainerId,
        resolving: &Resolving,
        namespace: BorrowedFd<'_>,
    ) -> Result<(), EngineError>;

    /// A container has another name.
    fn rename(&self, id: &ContainerId, name: &str);

    /// Makes a network.
    ///
    /// # Errors
    /// Then there is none.
    fn create(&self, create: NetworkCreate) -> Result<NetworkInfo, EngineError>;

    /// All of them, by name.
    fn list(&self) -> Vec<NetworkInfo>;

    /// The one of this name, id, or unique beginning of an id.
    ///
    /// # Errors
    /// [`EngineError::Networking`] if there is none.
    fn find(&self, who: &str) -> Result<NetworkInfo, EngineError>;

    /// Removes a network that nobody is plugged into.
    ///
    /// # Errors
    /// [`EngineError::Networking`].
    fn remove(&self, who: &str) -> Result<NetworkInfo, EngineError>;

    /// Who resolves names for containers, if not those whom the host's own configuration names.
    fn resolver(&self) -> Option<IpAddr>;

    /// Makes the next one's place ready, after one has been plugged in. A failure costs time only.
    fn prepare(&self);

    /// Takes it out again. Nothing happens if it is not plugged in.
    ///
    /// # Errors
    /// It can be tried again.
    fn detach(&self, id: &ContainerId) -> Result<(), EngineError>;

    /// Knows these as plugged in, as the records have it, and none else. Called once, first.
    ///
    /// # Errors
    /// [`EngineError::Network`].
    fn adopt(&self, plugged: &[Known]) -> Result<(), EngineError>;

    /// Cables and bridges that are nobody's.
    ///
    /// # Errors
    /// [`EngineError::Network`].
    fn strays(&self) -> Result<Vec<InterfaceName>, EngineError>;

    /// Removes one of them.
    ///
    /// # Errors
    /// [`EngineError::Network`].
    fn remove_stray(&self, cable: &InterfaceName) -> Result<(), EngineError>;

    /// Whether containers can be plugged in on this host, and whether what they are plugged into
    /// is whole; with `repair` it is made whole first.
    fn findings(&self, repair: bool) -> Vec<Finding>;

    /// What the host's own rules say of a published port that leads to `inside`.
    ///
    /// # Errors
    /// [`EngineError::Network`].
    fn admission(
        &self,
        protocol: Protocol,
        port: u16,
        inside: u16,
    ) -> Result<Admission, EngineError>;

    /// What in the host's own rules keeps containers' packets from arriving, for whoever makes one.
    fn warnings(&self, publishes: bool) -> Vec<String>;

    /// Leaves the host as it was, if nothing is plugged in.
    ///
    /// # Errors
    /// [`EngineError::Network`].
    fn remove_unused(&self) -> Result<(), EngineError>;
}

/// The host's own network stack.
#[derive(Debug)]
pub(crate) struct HostNetworks {
    bridge: InterfaceName,
    /// The default network's id.
    default: String,
    ipv6: Ipv6,
    book: Book,
    /// The namespace that plays the host; the daemon's own where there is none.
    namespace: Option<OwnedFd>,
    /// Whoever has the ports, where that network is not the host's own.
    outside: Option<Arc<dyn net::Outside>>,
    /// Whoever carries ports of `::1`.
    loopback: Option<Arc<dyn net::Outside>>,
    opened: OnceLock<Opened>,
    state: Arc<Mutex<State>>,
    /// Those whose cables have not been seen to be gone.
    leaving: Leaving,
    naming: Naming,
}

/// The host's network stack, and that it is ours alone.
#[derive(Debug)]
struct Opened {
    host: Arc<Host>,
    /// Without one where the network is this daemon's alone.
    _claim: Option<Claim>,
}

impl HostNetworks {
    pub(crate) fn new(
        bridge: InterfaceName,
        ipv6: Ipv6,
        namespace: Option<OwnedFd>,
        outside: Option<Arc<dyn net::Outside>>,
    ) -> HostNetworks {
        let (opened, state, leaving) = (OnceLock::new(), Arc::default(), Leaving::default());
        let default = admin::builtin_id("bridge", &bridge);
        let (loopback, book) = (None, Book::default());
        let naming = Naming::default();
        HostNetworks {
            bridge,
            default,
            ipv6,
            book,
            namespace,
            outside,
            loopback,
            opened,
            state,
            leaving,
            naming,
        }
    }

    pub(crate) fn with_loopback(mut self, loopback: Option<Arc<dyn net::Outside>>) -> HostNetworks {
        self.loopback = loopback;
        self
    }

    /// The same with users' networks, kept in this directory.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(crate) fn with_data(mut self, data: &Path) -> std::io::Result<HostNetworks> {
        self.book = Book::new(Some(data));
        self.lock().made = self.book.read()?;
        Ok(self)
    }

    fn host(&self) -> Result<&Arc<Host>, EngineError> {
        if let Some(opened) = self.opened.get() {
            return Ok(&opened.host);
        }
        let _one_at_a_time = self.lock();
        self.open()
    }

    /// The same for who has the state already.
    fn open(&self) -> Result<&Arc<Host>, EngineError> {
        if let Some(opened) = self.opened.get() {
            return Ok(&opened.host);
        }
        let namespace = self.namespace.as_ref().map(AsFd::as_fd);
        // The usual bridge has the usual table; every other a table of its own.
        let host = match self.bridge.as_str() {
            BRIDGE => Host::open(namespace)?,
            other => Host::open_with_table(namespace, other)?,
        };
        let host =
            Arc::new(host.with_outside(self.outside.clone()).with_loopback(self.loopback.clone()));
        let claim = match self.outside {
            Some(_) => None,
            None => {
                let claim = Claim::take(&self.bridge, namespace).map_err(NetworkError::Open)?;
                let claimed = || EngineError::NetworkClaimed(self.bridge.clone());
                Some(claim.ok_or_else(claimed)?)
            }
        };
        let opened = Opened { _claim: claim, host };
        Ok(&self.opened.get_or_init(|| opened).host)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The default network as it would be made.
    fn default_network(&self, host: &Host, state: &State) -> Result<Network, EngineError> {
        let subnet = host.choose_subnet(&self.bridge, &state.subnets(&self.default))?;
        Ok(Network {
            ipv6: self.ipv6.subnet(&self.bridge).filter(|_| host.has_ipv6()),
            ..Network::new(self.bridge.clone(), subnet)
        })
    }

    /// Makes a network's bridge, if it has none.
    fn raise(&self, host: &Arc<Host>, state: &mut State, id: &str) -> Result<(), EngineError> {
        if state.up.contains_key(id) {
            return Ok(());
        }
        let (network, reserved) = match state.made.get(id) {
            Some(made) => {
                let four = made.auxiliary.values().filter_map(|address| match address {
                    IpAddr::V4(four) => Some(*four),
                    IpAddr::V6(_) => None,
                });
                (made.network.clone(), four.collect())
            }
            None => (self.default_network(host, state)?, Vec::new()),
        };
        state.left.insert(id.to_owned(), network.clone());
        host.ensure_network(&network)?;
        let leases = Leases::restore(network.subnet, network.gateway, reserved)?;
        if network.macvlan.is_none() {
            // Among the others, so that the tables speak of all.
            let mut all = state.bridged();
            all.push(&network);
            host.publish(&all, &state.forwards())?;
        }
        state.set_up(id, network, leases);
        self.watch_over(host, state, id);
        Ok(())
    }

    fn watch_over(&self, host: &Arc<Host>, state: &mut State, id: &str) {
        // A link that is gone took those on it along: nothing that could be mended.
        if let Some(up) = state.up.get_mut(id).filter(|up| up.is_bridged()) {
            up.watching = keeper::keep(host, &self.state, &self.default, id, up);
        }
    }

    /// The default network of a container that is plugged into it.
    fn network_of(&self, view: &NetworkView) -> Option<Network> {
        let all = view.endpoints(&self.default);
        let place = all.iter().find(|place| place.network_id == self.default)?;
        let subnet = Ipv4Net::containing(place.address, place.prefix)?;
        let ipv6 = place.address6.and_then(|address| Ipv6Net::containing(address, place.prefix6));
        let network = Network::new(self.bridge.clone(), subnet);
        Some(Network { gateway: place.gateway.unwrap_or(network.gateway), ipv6, ..network })
    }
}

impl Networks for HostNetworks {
    fn attach(&self, id: &ContainerId, joining: &Joining) -> Result<Attached, EngineError> {
        places::attach(self, id, joining).inspect_err(|_| {
            if let Err(error) = self.detach(id) {
                warn!(container = %id, %error, "an endpoint that was not plugged in is still there");
            }
        })
    }

    fn connect(
        &self,
        id: &ContainerId,
        joining: &Joining,
        namespace: BorrowedFd<'_>,
    ) -> Result<NetworkView, EngineError> {
        places::connect(self, id, joining, namespace)
    }

    fn disconnect(
        &self,
        id: &ContainerId,
        network: &str,
        namespace: BorrowedFd<'_>,
    ) -> Result<NetworkView, EngineError> {
        places::disconnect(self, id, network, namespace)
    }

    fn resume(
        &self,
        id: &ContainerId,
        resolving: &Resolving,
        namespace: BorrowedFd<'_>,
    ) -> Result<(), EngineError> {
        self.naming.open(self, id, resolving, namespace)
    }

    fn rename(&self, id: &ContainerId, name: &str) {
        let mut state = self.lock();
        if let Some(plugged) = state.plugged.get_mut(id) {
            name.clone_into(&mut plugged.name);
        }
        self.naming.enter(&state, id, &self.default);
    }

    fn create(&self, create: NetworkCreate) -> Result<NetworkInfo, EngineError> {
        admin::create(self, create)
    }

    fn list(&self) -> Vec<NetworkInfo> {
        admin::list(self)
    }

    fn find(&self, who: &str) -> Result<NetworkInfo, EngineError> {
        admin::find(self, who)
    }

    fn remove(&self, who: &str) -> Result<NetworkInfo, EngineError> {
        admin::remove(self, who)
    }

    fn resolver(&self) -> Option<IpAddr> {
        self.outside.as_ref()?.resolver()
    }

    fn prepare(&self) {
        let network = self.lock().up.get(&self.default).map(|up| up.network.clone());
        if let (Some(network), Some(Opened { host, .. })) = (network, self.opened.get())
            && let Err(error) = host.prepare(&network)
        {
            debug!(error = chain(&error), "the next start on the network takes longer");
        }
    }

    fn detach(&self, id: &ContainerId) -> Result<(), EngineError> {
        // Who never plugged anything in has no business with the host.
        let Some(Opened { host, .. }) = self.opened.get() else { return Ok(()) };
        places::detach(self, host, id)
    }

    fn adopt(&self, plugged: &[Known]) -> Result<(), EngineError> {
        let host = match self.host() {
            // Another daemon has this host's network, and we have nothing there.
            Err(EngineError::NetworkClaimed(_)) if plugged.is_empty() => return Ok(()),
            other => other?,
        };
        places::adopt(self, host, plugged)?;
        // What the last daemon did not come to take away.
        for link in self.strays()? {
            self.remove_stray(&link)?;
        }
        Ok(())
    }

    fn strays(&self) -> Result<Vec<InterfaceName>, EngineError> {
        let host = self.host()?;
        let all = self.lock().all();
        let mut cables = host.cables(&self.bridge)?;
        for network in all.iter().filter(|network| network.bridge != self.bridge) {
            cables.extend(host.cables(&network.bridge)?);
        }
        let bridges = host.links_like(&admin::bridge_prefix(&self.bridge))?;
        // Whoever is plugged in has been noted before it is there, and so has every bridge.
        let state = self.lock();
        let known = |bridge: &InterfaceName| state.all().iter().any(|n| n.bridge == *bridge);
        let ours = |cable: &InterfaceName| {
            let names = |id: &String| InterfaceName::of_endpoint(id) == *cable;
            let mut places = state.plugged.iter().flat_map(|(id, plugged)| {
                plugged.places.keys().map(|network| endpoint_id(id, network, &self.default))
            });
            places.any(|id| names(&id)) || self.leaving.has(names)
        };
        let bridges = bridges.into_iter().filter(|bridge| !known(bridge));
        Ok(cables.into_iter().filter(|cable| !ours(cable)).chain(bridges).collect())
    }

    fn admission(
        &self,
        protocol: Protocol,
        port: u16,
        inside: u16,
    ) -> Result<Admission, EngineError> {
        Ok(self.host()?.admission(to_net(protocol), port, inside, &self.bridge)?)
    }

    fn remove_stray(&self, cable: &InterfaceName) -> Result<(), EngineError> {
        Ok(self.host()?.remove_cable(cable)?)
    }

    fn findings(&self, repair: bool) -> Vec<Finding> {
        findings::all(self, repair)
    }

    fn warnings(&self, publishes: bool) -> Vec<String> {
        passage::warnings(self, publishes)
    }

    fn remove_unused(&self) -> Result<(), EngineError> {
        let mut state = self.lock();
        if state.plugged.values().any(|plugged| !plugged.places.is_empty()) {
            return Ok(());
        }
        for (id, up) in std::mem::take(&mut state.up) {
            self.leaving.forget(&id);
            state.left.insert(id, up.network);
        }
        if let Some(opened) = self.opened.get().filter(|_| !state.left.is_empty()) {
            let left: Vec<&Network> = state.left.values().collect();
            opened.host.remove_everything(&left)?;
            state.left.clear();
        }
        Ok(())
    }
}

impl Drop for HostNetworks {
    /// What is not this daemon's any more is not watched over, and containers keep the ports that
    /// others carry for them.
    fn drop(&mut self) {
        let mut state = self.lock();
        let all = state.plugged.values_mut();
        all.flat_map(|plugged| plugged.ports.drain(..)).for_each(Reservation::leave);
        state.up.values_mut().for_each(|up| up.watching = None);
    }
}

/// Writes the whole wanted state.
fn publish(host: &Host, state: &State) -> Result<(), EngineError> {
    let bridged = state.bridged();
    if !bridged.is_empty() {
        host.publish(&bridged, &state.forwards())?;
    }
    Ok(())
}

fn published(port: &PortRequest) -> PublishedPort {
    PublishedPort {
        host_ip: port.host_ip,
        host_ports: port
            .host_port
            .and_then(|first| PortRange::new(first, port.host_port_end.unwrap_or(first))),
        container_port: port.container_port,
        protocol: to_net(port.protocol),
    }
}

fn bound(port: &PortBinding) -> PublishedPort {
    PublishedPort {
        host_ip: Some(port.host_ip),
        host_ports: PortRange::new(port.host_port, port.host_port),
        container_port: port.container_port,
        protocol: to_net(port.protocol),
    }
}

fn binding(reservation: &Reservation) -> PortBinding {
    PortBinding {
        host_ip: reservation.host().ip(),
        host_port: reservation.host().port(),
        container_port: reservation.container_port(),
        protocol: match reservation.protocol() {
            net::Protocol::Tcp => Protocol::Tcp,
            net::Protocol::Udp => Protocol::Udp,
        },
    }
}

fn to_net(protocol: Protocol) -> net::Protocol {
    match protocol {
        Protocol::Tcp => net::Protocol::Tcp,
        Protocol::Udp => net::Protocol::Udp,
    }
}

impl From<NetworkError> for EngineError {
    fn from(error: NetworkError) -> EngineError {
        EngineError::Network(Arc::new(error))
    }
}

impl From<net::ReserveError> for EngineError {
    fn from(error: net::ReserveError) -> EngineError {
        EngineError::Port(Arc::new(error))
    }
}

#[cfg(test)]
mod tests;

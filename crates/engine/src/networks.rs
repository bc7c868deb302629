//! The default bridge: made when the first container needs it, gone when there is none.

mod claim;
mod findings;
mod keeper;
mod leaving;
mod passage;

use std::{
    collections::BTreeMap,
    fmt::Debug,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use base::ContainerId;
use net::{
    Admission, Endpoint, Forward, Host, InterfaceName, Ipv4Net, Ipv6Net, Leases, Network,
    NetworkError, Passage, PortRange, PublishedPort, Reservation, Watching,
};
use tracing::{debug, warn};
use workload::Finding;

use crate::{
    EngineError, Ipv6, NetworkView, PortBinding, PortRequest, Protocol, config::BRIDGE,
    error::chain,
};

use claim::Claim;
use leaving::{Leaving, Seat};

/// A container's place on the default bridge.
#[derive(Debug)]
pub(crate) struct Attached {
    /// Its network namespace.
    pub(crate) namespace: OwnedFd,
    /// What is shown of it.
    pub(crate) view: NetworkView,
}

/// Where containers are plugged in. Every method may block.
pub(crate) trait Networks: Debug + Send + Sync {
    /// Plugs a container in and publishes its ports.
    ///
    /// # Errors
    /// Nothing is left of it then.
    fn attach(&self, id: &ContainerId, ports: &[PortRequest]) -> Result<Attached, EngineError>;

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
    fn adopt(&self, plugged: &[(ContainerId, NetworkView)]) -> Result<(), EngineError>;

    /// Cables that are plugged in and nobody's.
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
    ipv6: Ipv6,
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
}

/// The host's network stack, and that it is ours alone.
#[derive(Debug)]
struct Opened {
    host: Arc<Host>,
    /// Without one where the network is this daemon's alone.
    _claim: Option<Claim>,
}

#[derive(Debug, Default)]
struct State {
    up: Option<Up>,
    /// How often others have changed the host's rules since the network is watched.
    changes: u64,
    /// How many bridges there have been.
    bridges: u64,
    /// One that is not up, of which something may be on the host.
    left: Option<Network>,
    plugged: BTreeMap<ContainerId, Plugged>,
}

impl State {
    fn set_up(&mut self, network: Network, leases: Leases) {
        self.bridges += 1;
        self.up = Some(Up { number: self.bridges, network, leases, watching: None, passage: None });
    }
}

/// The bridge, while there is one.
#[derive(Debug)]
struct Up {
    /// Which of this daemon's bridges it is.
    number: u64,
    network: Network,
    leases: Leases,
    /// Somebody keeps it whole.
    watching: Option<Watching>,
    /// What the host's own rules were last seen to let through, until others change them.
    passage: Option<Passage>,
}

#[derive(Debug)]
struct Plugged {
    address: Ipv4Addr,
    ports: Vec<Reservation>,
}

impl HostNetworks {
    pub(crate) fn new(
        bridge: InterfaceName,
        ipv6: Ipv6,
        namespace: Option<OwnedFd>,
        outside: Option<Arc<dyn net::Outside>>,
    ) -> HostNetworks {
        let (opened, state, leaving) = (OnceLock::new(), Arc::default(), Leaving::default());
        let loopback = None;
        HostNetworks { bridge, ipv6, namespace, outside, loopback, opened, state, leaving }
    }

    pub(crate) fn with_loopback(mut self, loopback: Option<Arc<dyn net::Outside>>) -> HostNetworks {
        self.loopback = loopback;
        self
    }

    fn host(&self) -> Result<&Arc<Host>, EngineError> {
        if let Some(opened) = self.opened.get() {
            return Ok(&opened.host);
        }
        let _one_at_a_time = self.lock();
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

    /// An address on the bridge, which is there then.
    fn lease(&self, id: &ContainerId) -> Result<(Network, Ipv4Addr), EngineError> {
        let host = self.host()?;
        let mut state = self.lock();
        if state.up.is_none() {
            let network = Network {
                ipv6: self.ipv6.subnet(&self.bridge).filter(|_| host.has_ipv6()),
                ..Network::new(self.bridge.clone(), host.choose_subnet(&self.bridge)?)
            };
            state.left = Some(network.clone());
            host.ensure_network(&network)?;
            host.publish(&[&network], &[])?;
            let leases = Leases::new(network.subnet, network.gateway);
            state.left = None;
            state.set_up(network, leases);
            self.watch_over(host, &mut state);
        }
        let up = state.up.as_mut().expect("it was put there above");
        let (address, network) = (up.leases.allocate()?, up.network.clone());
        state.plugged.insert(id.clone(), Plugged { address, ports: Vec::new() });
        Ok((network, address))
    }

    fn plug(
        &self,
        id: &ContainerId,
        network: &Network,
        address: Ipv4Addr,
        ports: &[PortRequest],
    ) -> Result<Attached, EngineError> {
        let host = self.host()?;
        let asked: Vec<_> = ports.iter().map(published).collect();
        let reservations = host.reserve(&asked, network.ipv6.is_some())?;
        let endpoint = Endpoint { id: id.as_str(), address };
        let attachment = match host.attach(network, &endpoint) {
            // Somebody removed our bridge; it is made anew.
            Err(NetworkError::NotABridge(_)) => {
                keeper::mend(host, &self.lock())?;
                host.attach(network, &endpoint)?
            }
            other => other?,
        };
        let view = NetworkView {
            address: Some(address),
            prefix: network.subnet.prefix(),
            gateway: Some(network.gateway),
            address6: network.ipv6_of(address),
            prefix6: network.ipv6.map_or(0, Ipv6Net::prefix),
            gateway6: network.ipv6_of(network.gateway),
            mac: Some(attachment.mac.to_string()),
            ports: reservations.iter().map(binding).collect(),
        };
        if !reservations.is_empty() {
            let mut state = self.lock();
            if let Some(plugged) = state.plugged.get_mut(id) {
                plugged.ports = reservations;
            }
            publish(host, &state)?;
        }
        Ok(Attached { namespace: attachment.namespace, view })
    }
}

impl Networks for HostNetworks {
    fn attach(&self, id: &ContainerId, ports: &[PortRequest]) -> Result<Attached, EngineError> {
        let had = self.leaving.come_back(id);
        let (network, address) = self.lease(id)?;
        if let (Some(had), Some(up)) = (had, &mut self.lock().up) {
            up.leases.free(had.address);
        }
        self.plug(id, &network, address, ports).inspect_err(|_| {
            if let Err(error) = self.detach(id) {
                warn!(container = %id, %error, "an endpoint that was not plugged in is still there");
            }
        })
    }

    fn resolver(&self) -> Option<IpAddr> {
        self.outside.as_ref()?.resolver()
    }

    fn prepare(&self) {
        let network = self.lock().up.as_ref().map(|up| up.network.clone());
        if let (Some(network), Some(Opened { host, .. })) = (network, self.opened.get())
            && let Err(error) = host.prepare(&network)
        {
            debug!(error = chain(&error), "the next start on the network takes longer");
        }
    }

    fn detach(&self, id: &ContainerId) -> Result<(), EngineError> {
        // Who never plugged anything in has no business with the host.
        let Some(Opened { host, .. }) = self.opened.get() else { return Ok(()) };
        let mut state = self.lock();
        let Some(plugged) = state.plugged.get_mut(id) else { return Ok(()) };
        // First nothing leads there any more, then the address can be another's.
        let ports = std::mem::take(&mut plugged.ports);
        if !ports.is_empty()
            && let Err(failure) = publish(host, &state)
        {
            // They lead there still, and whoever tries again has to see to them.
            if let Some(plugged) = state.plugged.get_mut(id) {
                plugged.ports = ports;
            }
            return Err(failure);
        }
        let Some(Plugged { address, .. }) = state.plugged.remove(id) else { return Ok(()) };
        let seat = Seat { address, bridge: state.bridges };
        drop(state);
        let state = Arc::clone(&self.state);
        self.leaving.add(id.clone(), seat, host, move |seat| {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut state.up {
                Some(up) if up.number == seat.bridge => up.leases.free(seat.address),
                // That bridge is gone; its leases went with it.
                Some(_) | None => {}
            }
        });
        Ok(())
    }

    fn adopt(&self, plugged: &[(ContainerId, NetworkView)]) -> Result<(), EngineError> {
        let host = match self.host() {
            // Another daemon has this host's network, and we have nothing there.
            Err(EngineError::NetworkClaimed(_)) if plugged.is_empty() => return Ok(()),
            other => other?,
        };
        let Some(network) = plugged.iter().find_map(|(_, view)| self.network_of(view)) else {
            // What an earlier daemon left goes; only the bridge's name matters for that.
            let network = Network::new(self.bridge.clone(), host.choose_subnet(&self.bridge)?);
            return Ok(host.remove_everything(&[&network])?);
        };
        let mut state = self.lock();
        host.ensure_network(&network)?;
        let addresses = plugged.iter().filter_map(|(_, view)| view.address);
        let leases = Leases::restore(network.subnet, network.gateway, addresses)?;
        for (id, view) in plugged {
            let Some(address) = view.address else { continue };
            let asked: Vec<_> = view.ports.iter().map(bound).collect();
            let ports = host.reserve(&asked, network.ipv6.is_some()).unwrap_or_else(|error| {
                warn!(container = %id, %error, "published ports are taken by somebody else");
                Vec::new()
            });
            state.plugged.insert(id.clone(), Plugged { address, ports });
        }
        state.set_up(network, leases);
        self.watch_over(host, &mut state);
        publish(host, &state)?;
        drop(state);
        // What the last daemon did not come to take away.
        for cable in self.strays()? {
            self.remove_stray(&cable)?;
        }
        Ok(())
    }

    fn strays(&self) -> Result<Vec<InterfaceName>, EngineError> {
        let cables = self.host()?.cables(&self.bridge)?;
        // Whoever is plugged in has been noted before it is there.
        let state = self.lock();
        let ours = |cable: &InterfaceName| {
            let names = |id: &ContainerId| InterfaceName::of_endpoint(id.as_str()) == *cable;
            state.plugged.keys().any(names) || self.leaving.has(names)
        };
        Ok(cables.into_iter().filter(|cable| !ours(cable)).collect())
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
        if !state.plugged.is_empty() {
            return Ok(());
        }
        if let Some(up) = state.up.take() {
            self.leaving.forget();
            state.left = Some(up.network);
        }
        if let (Some(network), Some(opened)) = (&state.left, self.opened.get()) {
            opened.host.remove_everything(&[network])?;
            state.left = None;
        }
        Ok(())
    }
}

impl HostNetworks {
    fn watch_over(&self, host: &Arc<Host>, state: &mut State) {
        if let Some(up) = &mut state.up {
            up.watching = keeper::keep(host, &self.state, up);
        }
    }

    fn network_of(&self, view: &NetworkView) -> Option<Network> {
        let subnet = Ipv4Net::containing(view.address?, view.prefix)?;
        let gateway = view.gateway?;
        let ipv6 = view.address6.and_then(|address| Ipv6Net::containing(address, view.prefix6));
        Some(Network { gateway, ipv6, ..Network::new(self.bridge.clone(), subnet) })
    }
}

impl Drop for HostNetworks {
    /// What is not this daemon's any more is not watched over, and containers keep the ports that
    /// others carry for them.
    fn drop(&mut self) {
        let mut state = self.lock();
        let all = state.plugged.values_mut();
        all.flat_map(|plugged| plugged.ports.drain(..)).for_each(Reservation::leave);
        state.up.iter_mut().for_each(|up| up.watching = None);
    }
}

/// Writes the whole wanted state.
fn publish(host: &Host, state: &State) -> Result<(), EngineError> {
    let Some(up) = &state.up else { return Ok(()) };
    host.publish(&[&up.network], &forwards(state))?;
    Ok(())
}

/// The ways from published ports to containers.
fn forwards(state: &State) -> Vec<Forward> {
    let of = |plugged: &Plugged| {
        let (address, ports) = (plugged.address, plugged.ports.iter());
        let address6 = state.up.as_ref().and_then(|up| up.network.ipv6_of(address));
        ports.filter_map(|port| port.forward(address, address6)).collect::<Vec<_>>()
    };
    state.plugged.values().flat_map(of).collect()
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

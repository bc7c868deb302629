//! Containers' places on networks: leased, plugged in, published, and given back.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::{Arc, PoisonError},
};

use base::{ContainerId, ErrorKind};
use net::{Endpoint, Host, Leases, Mac, Network, NetworkError, PublishedPort};
use tracing::warn;

use super::{
    Attached, EndpointRequest, HostNetworks, Joining, Known, admin, binding, bound,
    design::refused,
    keeper,
    leaving::Seat,
    publish, published,
    state::{Place, Plugged, State, Up, endpoint_id},
};
use crate::{EngineError, NetworkView};

/// One network that is to be joined.
struct Wanted<'a> {
    id: String,
    name: String,
    request: &'a EndpointRequest,
}

/// The networks in the order of their interfaces.
fn wanted<'a>(
    networks: &HostNetworks,
    state: &State,
    joining: &'a Joining,
) -> Result<Vec<Wanted<'a>>, EngineError> {
    let found = joining.endpoints.iter().map(|(who, request)| {
        let (id, name) = admin::id_of(networks, state, who)?;
        Ok(Wanted { id, name, request })
    });
    let mut all = found.collect::<Result<Vec<_>, EngineError>>()?;
    all.sort_by_key(|wanted| Some(&wanted.name) != joining.first.as_ref());
    Ok(all)
}

pub(super) fn attach(
    networks: &HostNetworks,
    id: &ContainerId,
    joining: &Joining,
) -> Result<Attached, EngineError> {
    let host = networks.host()?;
    let all = wanted(networks, &networks.lock(), joining)?;
    let plugged = Plugged { name: joining.name.clone(), ..Plugged::default() };
    networks.lock().plugged.insert(id.clone(), plugged);
    for wanted in &all {
        lease(networks, host, id, joining, wanted)?;
    }
    let reservations = reserve(networks, host, id, joining)?;
    let mut namespace = None;
    for wanted in &all {
        let into = plug(networks, host, id, &wanted.id, namespace.as_ref(), None)?;
        namespace.get_or_insert(into);
    }
    let namespace = match namespace {
        Some(namespace) => namespace,
        None => net::private_namespace()?,
    };
    let mut state = networks.lock();
    if !reservations.is_empty() {
        if let Some(plugged) = state.plugged.get_mut(id) {
            plugged.ports = reservations;
        }
        publish(host, &state)?;
    }
    networks.naming.enter(&state, id, &networks.default);
    let view = view(&state, id);
    drop(state);
    if view.has_names() {
        networks.naming.open(networks, id, &joining.resolving, namespace.as_fd())?;
    }
    Ok(Attached { namespace, view })
}

/// Notes a place on one network, which is up then.
fn lease(
    networks: &HostNetworks,
    host: &Arc<Host>,
    id: &ContainerId,
    joining: &Joining,
    wanted: &Wanted<'_>,
) -> Result<(), EngineError> {
    let Wanted { id: network, name, request } = wanted;
    let had = networks.leaving.come_back(&endpoint_id(id, network, &networks.default));
    let same = had.as_ref().is_some_and(|had| Some(had.address) == request.ipv4);
    if let (Some(asked), false) = (request.ipv4, same) {
        networks.leaving.wait_for(network, asked);
    }
    let mut state = networks.lock();
    networks.raise(host, &mut state, network)?;
    let part = state.made.get(network).and_then(|made| made.range);
    let up =
        state.up.get_mut(network).ok_or(EngineError::Failed { doing: "making its network" })?;
    let current = had.filter(|had| had.bridge == up.number);
    // Another one gets the address it had, unless it asks for this very one.
    let before = current.as_ref().filter(|_| request.ipv4.is_some() || request.ipv6.is_some());
    if let Some(had) = before {
        up.free(had.address, had.address6);
    }
    let (address, address6) = up.lease(request, part)?;
    if let (Some(had), None) = (&current, before) {
        up.free(had.address, had.address6);
    }
    let mac = request.mac.as_deref().map(str::parse).transpose();
    let mac =
        mac.map_err(|error: net::MacError| refused(ErrorKind::InvalidInput, error.to_string()))?;
    let mut names = request.aliases.clone();
    names.push(id.short().to_owned());
    names.extend(joining.hostname.clone());
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    let plugged = state.plugged.entry(id.clone()).or_default();
    joining.name.clone_into(&mut plugged.name);
    let interface = plugged.free_interface();
    let place = Place {
        network: name.clone(),
        address,
        address6,
        mac: mac.unwrap_or_else(|| Mac::of_address(address)),
        interface,
        names,
        priority: request.priority,
    };
    plugged.places.insert(network.clone(), place);
    Ok(())
}

/// Holds the host's ports for it, where some network leads out.
fn reserve(
    networks: &HostNetworks,
    host: &Host,
    id: &ContainerId,
    joining: &Joining,
) -> Result<Vec<net::Reservation>, EngineError> {
    if joining.ports.is_empty() {
        return Ok(Vec::new());
    }
    let (network, at) = {
        let state = networks.lock();
        let out = state.plugged.get(id).and_then(|plugged| plugged.way_out(&state));
        // Whoever is on the wire himself has all his ports there, as in Docker.
        let bridged = |out: &&str| state.up.get(*out).is_some_and(Up::is_bridged);
        let Some(out) = out.filter(bridged) else { return Ok(Vec::new()) };
        let Some(up) = state.up.get(out) else { return Ok(Vec::new()) };
        (up.network.clone(), state.made.get(out).and_then(|made| made.host_ip))
    };
    let asked: Vec<PublishedPort> = joining
        .ports
        .iter()
        .map(published)
        .map(|port| PublishedPort { host_ip: port.host_ip.or(at), ..port })
        .collect();
    Ok(host.reserve_on(&network, &asked)?)
}

/// Lays the cable to a place that is noted. `live`: the namespace of a container that runs.
fn plug(
    networks: &HostNetworks,
    host: &Host,
    id: &ContainerId,
    network: &str,
    first: Option<&OwnedFd>,
    live: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, EngineError> {
    let (design, place, leads_out) = {
        let state = networks.lock();
        let plugged = state.plugged.get(id);
        let place = plugged.and_then(|plugged| plugged.places.get(network)).cloned();
        let design = state.up.get(network).map(|up| up.network.clone());
        let out = plugged.and_then(|plugged| plugged.way_out(&state)) == Some(network);
        match (design, place) {
            (Some(design), Some(place)) => (design, place, out),
            _ => return Err(EngineError::Failed { doing: "plugging it in" }),
        }
    };
    let endpoint = endpoint_id(id, network, &networks.default);
    let endpoint = Endpoint {
        address6: place.address6,
        mac: Some(place.mac),
        interface: place.interface,
        leads_out: leads_out && live.is_none(),
        namespace: live.or(first.map(|first| first.as_fd())),
        ..Endpoint::new(&endpoint, place.address)
    };
    let attachment = match host.attach(&design, &endpoint) {
        // Somebody removed our bridge; it is made anew.
        Err(NetworkError::NotABridge(_)) => {
            keeper::mend(host, &networks.lock(), network, &networks.default)?;
            host.attach(&design, &endpoint)?
        }
        other => other?,
    };
    Ok(attachment.namespace)
}

/// A container's places as they are shown.
fn view(state: &State, id: &ContainerId) -> NetworkView {
    let ports = state.plugged.get(id).map(|plugged| plugged.ports.iter().map(binding).collect());
    NetworkView::of(state.views(id), ports.unwrap_or_default())
}

pub(super) fn connect(
    networks: &HostNetworks,
    id: &ContainerId,
    joining: &Joining,
    namespace: BorrowedFd<'_>,
) -> Result<NetworkView, EngineError> {
    let host = networks.host()?;
    let all = wanted(networks, &networks.lock(), joining)?;
    for wanted in &all {
        let before = {
            let state = networks.lock();
            let plugged = state.plugged.get(id);
            if plugged.is_some_and(|plugged| plugged.places.contains_key(&wanted.id)) {
                let text = format!(
                    "endpoint with name {} already exists in network {}",
                    joining.name, wanted.name
                );
                return Err(refused(ErrorKind::PermissionDenied, text));
            }
            plugged.and_then(|plugged| plugged.way_out(&state)).map(str::to_owned)
        };
        lease(networks, host, id, joining, wanted)?;
        let plugged = plug(networks, host, id, &wanted.id, None, Some(namespace));
        let led = plugged.and_then(|_| lead_out(networks, host, id, before.as_deref(), namespace));
        let named = led.and_then(|()| match wanted.id == networks.default {
            true => Ok(()),
            false => networks.naming.open(networks, id, &joining.resolving, namespace),
        });
        if let Err(failure) = named {
            unplug(networks, host, id, &wanted.id, namespace)?;
            return Err(failure);
        }
    }
    Ok(entered(networks, id))
}

/// A container's places as they are shown, its names entered.
fn entered(networks: &HostNetworks, id: &ContainerId) -> NetworkView {
    let state = networks.lock();
    networks.naming.enter(&state, id, &networks.default);
    view(&state, id)
}

/// Sends everything by the network that leads out, if that is another one than before, and has
/// published ports lead there.
fn lead_out(
    networks: &HostNetworks,
    host: &Host,
    id: &ContainerId,
    before: Option<&str>,
    namespace: BorrowedFd<'_>,
) -> Result<(), EngineError> {
    let state = networks.lock();
    let Some(plugged) = state.plugged.get(id) else { return Ok(()) };
    let out = plugged.way_out(&state);
    if out == before {
        return Ok(());
    }
    let by = out.and_then(|out| Some((state.up.get(out)?, plugged.places.get(out)?)));
    if let Some((up, place)) = by {
        host.lead_out(namespace, &up.network, place.interface)?;
    }
    publish(host, &state)
}

pub(super) fn disconnect(
    networks: &HostNetworks,
    id: &ContainerId,
    network: &str,
    namespace: BorrowedFd<'_>,
) -> Result<NetworkView, EngineError> {
    let host = networks.host()?;
    let (network, before) = {
        let state = networks.lock();
        let (network, _) = admin::id_of(networks, &state, network)?;
        let out = state.plugged.get(id).and_then(|plugged| plugged.way_out(&state));
        (network, out.map(str::to_owned))
    };
    unplug(networks, host, id, &network, namespace)?;
    lead_out(networks, host, id, before.as_deref(), namespace)?;
    Ok(entered(networks, id))
}

/// Takes a container out of one network at once.
fn unplug(
    networks: &HostNetworks,
    host: &Host,
    id: &ContainerId,
    network: &str,
    namespace: BorrowedFd<'_>,
) -> Result<(), EngineError> {
    let above = {
        let state = networks.lock();
        let above = state.up.get(network).is_some_and(|up| !up.is_bridged());
        let place = state.plugged.get(id).and_then(|plugged| plugged.places.get(network));
        place.filter(|_| above).map(|place| place.interface)
    };
    match above {
        Some(interface) => host.pull_out(namespace, interface)?,
        None => host.detach(&endpoint_id(id, network, &networks.default))?,
    }
    let mut state = networks.lock();
    let plugged = state.plugged.get_mut(id);
    let Some(place) = plugged.and_then(|plugged| plugged.places.remove(network)) else {
        return Ok(());
    };
    if let Some(up) = state.up.get_mut(network) {
        up.free(place.address, place.address6);
    }
    Ok(())
}

pub(super) fn detach(
    networks: &HostNetworks,
    host: &Arc<Host>,
    id: &ContainerId,
) -> Result<(), EngineError> {
    networks.naming.close(id);
    let mut state = networks.lock();
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
    let Some(Plugged { places, .. }) = state.plugged.remove(id) else { return Ok(()) };
    let number = |network: &String| state.up.get(network).map_or(0, |up| up.number);
    let seats: Vec<_> = places
        .into_iter()
        .map(|(network, place)| {
            let (address, address6, bridge) = (place.address, place.address6, number(&network));
            let endpoint = endpoint_id(id, &network, &networks.default);
            (endpoint, Seat { address, address6, network, bridge })
        })
        .collect();
    drop(state);
    for (endpoint, seat) in seats {
        let state = Arc::clone(&networks.state);
        networks.leaving.add(endpoint, seat, host, move |seat| {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            match state.up.get_mut(&seat.network) {
                Some(up) if up.number == seat.bridge => up.free(seat.address, seat.address6),
                // That bridge is gone; its leases went with it.
                Some(_) | None => {}
            }
        });
    }
    Ok(())
}

/// Brings what the records say together with what is on the host.
pub(super) fn adopt(
    networks: &HostNetworks,
    host: &Arc<Host>,
    known: &[Known],
) -> Result<(), EngineError> {
    let mut state = networks.lock();
    for known in known {
        let id = known.id.clone();
        let places = known.view.endpoints(&networks.default).into_iter();
        let place = |shown: crate::EndpointView| {
            let mac = shown.mac.parse().unwrap_or_else(|_| Mac::of_address(shown.address));
            // What follows from the IPv4 address is found below.
            let place = Place {
                network: shown.network,
                address: shown.address,
                address6: shown.address6,
                mac,
                interface: shown.interface,
                names: shown.names,
                priority: shown.priority,
            };
            (shown.network_id, place)
        };
        let places: BTreeMap<_, _> = places.map(place).collect();
        let name = known.name.clone();
        state.plugged.insert(id, Plugged { name, places, ports: Vec::new() });
    }
    let default = known.iter().find_map(|known| networks.network_of(&known.view));
    let used = |state: &State, id: &str| {
        state.plugged.values().any(|plugged| plugged.places.contains_key(id))
    };
    let mut all: Vec<(String, Network)> = Vec::new();
    all.extend(default.map(|network| (networks.default.clone(), network)));
    let made = state.made.values().filter(|made| used(&state, &made.id));
    all.extend(made.map(|made| (made.id.clone(), made.network.clone())));
    if all.is_empty() {
        // What an earlier daemon left goes; only the bridges' names matter for that.
        let mut left = state.all();
        let subnet = host.choose_subnet(&networks.bridge, &[])?;
        left.push(Network::new(networks.bridge.clone(), subnet));
        return Ok(host.remove_everything(&left.iter().collect::<Vec<_>>())?);
    }
    let mut result = Ok(());
    for (id, network) in all {
        // One that fails does not keep the others from being taken over.
        if let Err(failure) = adopt_network(networks, host, &mut state, &id, network) {
            warn!(network = id, error = crate::error::chain(&failure), "it is not whole");
            result = Err(failure);
        }
    }
    for known in known {
        let out = state.plugged.get(&known.id).and_then(|plugged| plugged.way_out(&state));
        let out = out.and_then(|out| state.up.get(out)).map(|up| &up.network);
        let asked: Vec<_> = known.view.ports.iter().map(bound).collect();
        let held = match out {
            Some(out) => host.reserve_on(out, &asked),
            None => host.reserve(&asked, false),
        };
        let ports = held.unwrap_or_else(|error| {
            warn!(container = %known.id, %error, "published ports are taken by somebody else");
            Vec::new()
        });
        if let Some(plugged) = state.plugged.get_mut(&known.id) {
            plugged.ports = ports;
        }
    }
    for known in known {
        networks.naming.enter(&state, &known.id, &networks.default);
    }
    publish(host, &state)?;
    result
}

fn adopt_network(
    networks: &HostNetworks,
    host: &Arc<Host>,
    state: &mut State,
    id: &str,
    network: Network,
) -> Result<(), EngineError> {
    // Without it nobody comes in, and those who are in keep what they have.
    let ensured = host.ensure_network(&network);
    let mut taken6 = std::collections::BTreeSet::new();
    let mut addresses = Vec::new();
    let apart = state.made.get(id).is_some_and(|made| made.range6.is_some());
    for place in state.plugged.values_mut().filter_map(|plugged| plugged.places.get_mut(id)) {
        let goes = |six: &Ipv6Addr| !apart && network.ipv6_of(place.address) == Some(*six);
        place.address6 = place.address6.filter(|six| !goes(six));
        taken6.extend(place.address6);
        addresses.push(place.address);
    }
    let auxiliary = state.made.get(id).map(|made| made.auxiliary.values().copied());
    addresses.extend(auxiliary.into_iter().flatten().filter_map(|address| match address {
        IpAddr::V4(four) => Some(four),
        IpAddr::V6(_) => None,
    }));
    let leases = Leases::restore(network.subnet, network.gateway, addresses)?;
    state.set_up(id, network, leases);
    if let Some(up) = state.up.get_mut(id) {
        up.taken6.extend(taken6);
    }
    networks.watch_over(host, state, id);
    Ok(ensured?)
}

//! What is known of networks and of who is plugged into them, while a daemon runs.
//!
//! Pure but for what a reservation holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
};

use base::{ContainerId, ErrorKind};
use net::{Forward, Ipv4Net, Leases, Mac, Network, Passage, Reservation, Watching};

use super::{
    design::{Made, refused},
    request::{EndpointRequest, EndpointView},
};
use crate::EngineError;

#[derive(Debug, Default)]
pub(super) struct State {
    /// Networks that users made, by id.
    pub(super) made: BTreeMap<String, Made>,
    /// Networks that are up, by id.
    pub(super) up: BTreeMap<String, Up>,
    /// Those that are not, of which something may be on the host, by id.
    pub(super) left: BTreeMap<String, Network>,
    pub(super) plugged: BTreeMap<ContainerId, Plugged>,
    /// How often others have changed the host's rules since networks are watched.
    pub(super) changes: u64,
    /// How many bridges there have been.
    pub(super) bridges: u64,
}

/// A network, while it has a bridge.
#[derive(Debug)]
pub(super) struct Up {
    /// Which of this daemon's bridges it is.
    pub(super) number: u64,
    pub(super) network: Network,
    pub(super) leases: Leases,
    /// IPv6 addresses that were asked for.
    pub(super) taken6: BTreeSet<Ipv6Addr>,
    /// Somebody keeps it whole.
    pub(super) watching: Option<Watching>,
    /// What the host's own rules were last seen to let through, until others change them.
    pub(super) passage: Option<Passage>,
}

/// A container that is plugged in.
#[derive(Debug, Default)]
pub(super) struct Plugged {
    /// Its own name.
    pub(super) name: String,
    /// Its places, by the networks' ids.
    pub(super) places: BTreeMap<String, Place>,
    pub(super) ports: Vec<Reservation>,
}

/// A container's place on one network.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The network's name.
    pub(super) network: String,
    pub(super) address: Ipv4Addr,
    /// An IPv6 address that was asked for.
    pub(super) address6: Option<Ipv6Addr>,
    pub(super) mac: Mac,
    /// Number of the interface inside.
    pub(super) interface: u32,
    pub(super) names: Vec<String>,
    pub(super) priority: i32,
}

impl State {
    /// A network has a bridge.
    pub(super) fn set_up(&mut self, id: &str, network: Network, leases: Leases) {
        self.bridges += 1;
        let taken6 = network.gateway6.into_iter().collect();
        let (number, watching, passage) = (self.bridges, None, None);
        let up = Up { number, network, leases, taken6, watching, passage };
        self.up.insert(id.to_owned(), up);
        self.left.remove(id);
    }

    /// Those with a bridge that are up: the others are no business of the host's rules.
    pub(super) fn bridged(&self) -> Vec<&Network> {
        let all = self.up.values().map(|up| &up.network);
        all.filter(|network| network.macvlan.is_none()).collect()
    }

    /// Whether another network lies on the same link.
    pub(super) fn shares_parent(&self, network: &Network) -> bool {
        let parent = |of: &Network| of.macvlan.as_ref().and_then(|macvlan| macvlan.parent.clone());
        let others = self.made.values().map(|made| &made.network);
        let mut others = others.filter(|other| other.bridge != network.bridge);
        parent(network).is_some_and(|own| others.any(|other| parent(other).as_ref() == Some(&own)))
    }

    /// Those that may have something on the host.
    pub(super) fn all(&self) -> Vec<Network> {
        let made = self.made.values().map(|made| &made.network);
        let all = made.chain(self.left.values()).chain(self.up.values().map(|up| &up.network));
        let by_bridge: BTreeMap<_, _> = all.map(|network| (&network.bridge, network)).collect();
        by_bridge.into_values().cloned().collect()
    }

    /// Subnets that are somebody's, but for the network of this id.
    pub(super) fn subnets(&self, but: &str) -> Vec<Ipv4Net> {
        let made = self.made.iter().map(|(id, made)| (id, made.network.subnet));
        let up = self.up.iter().map(|(id, up)| (id, up.network.subnet));
        made.chain(up).filter(|(id, _)| *id != but).map(|(_, subnet)| subnet).collect()
    }

    /// Cables of a network, each with the id of its endpoint.
    pub(super) fn endpoints(&self, network: &str, default: &str) -> Vec<String> {
        let there = |(id, plugged): (&ContainerId, &Plugged)| {
            plugged.places.contains_key(network).then(|| endpoint_id(id, network, default))
        };
        self.plugged.iter().filter_map(there).collect()
    }

    /// The ways from published ports to containers.
    pub(super) fn forwards(&self) -> Vec<Forward> {
        let of = |plugged: &Plugged| {
            let place = plugged.way_out(self).and_then(|id| plugged.places.get(id).zip(Some(id)));
            let bridged = |id: &str| self.up.get(id).is_some_and(Up::is_bridged);
            let Some((place, id)) = place.filter(|(_, id)| bridged(id)) else { return Vec::new() };
            let six = self.up.get(id).and_then(|up| place.six(&up.network));
            let ports = plugged.ports.iter();
            ports.filter_map(|port| port.forward(place.address, six)).collect()
        };
        self.plugged.values().flat_map(of).collect()
    }

    /// How a container's places are shown: the one that leads out first, the others by name.
    pub(super) fn views(&self, id: &ContainerId) -> Vec<EndpointView> {
        let Some(plugged) = self.plugged.get(id) else { return Vec::new() };
        let out = plugged.way_out(self);
        let view = |(network, place): (&String, &Place)| {
            let up = self.up.get(network)?;
            Some(place.view(network, &up.network, Some(network.as_str()) == out))
        };
        let mut views: Vec<_> = plugged.places.iter().filter_map(view).collect();
        views.sort_by(|a, b| (!a.leads_out, &a.network).cmp(&(!b.leads_out, &b.network)));
        views
    }
}

impl Up {
    /// Whether the host forwards for it.
    pub(super) fn is_bridged(&self) -> bool {
        self.network.macvlan.is_none()
    }

    /// A lease as it was asked for. `part`: where to look for one that was not.
    pub(super) fn lease(
        &mut self,
        request: &EndpointRequest,
        part: Option<Ipv4Net>,
    ) -> Result<Ipv4Addr, EngineError> {
        let Up { network, leases, taken6, .. } = self;
        if let Some(six) = request.ipv6 {
            let net = network.ipv6.filter(|net| net.contains(six) && net.address() != six);
            if net.is_none() {
                let text = format!("no configured subnet contains IP address {six}");
                return Err(refused(ErrorKind::InvalidInput, text));
            }
            if taken6.contains(&six)
                || leases.taken().any(|four| network.ipv6_of(four) == Some(six))
            {
                return Err(refused(ErrorKind::Conflict, "Address already in use"));
            }
        }
        let address = match request.ipv4 {
            Some(address) => {
                leases.take(address).map_err(|error| match error {
                    net::LeaseError::Taken(_) => {
                        refused(ErrorKind::Conflict, "Address already in use")
                    }
                    net::LeaseError::Unusable { .. } | net::LeaseError::Exhausted(_) => {
                        let text = format!("no configured subnet contains IP address {address}");
                        refused(ErrorKind::InvalidInput, text)
                    }
                })?;
                address
            }
            None => leases.allocate_in(part.unwrap_or(network.subnet), |address| {
                network.ipv6_of(address).is_none_or(|six| !taken6.contains(&six))
            })?,
        };
        taken6.extend(request.ipv6);
        Ok(address)
    }

    /// Gives back what a place had.
    pub(super) fn free(&mut self, address: Ipv4Addr, six: Option<Ipv6Addr>) {
        self.leases.free(address);
        if let Some(six) = six {
            self.taken6.remove(&six);
        }
    }
}

impl Plugged {
    /// The network that leads out: where the priority is greatest, then by name; never an internal
    /// one.
    ///
    /// Source: docs.docker.com, "Connecting to multiple networks".
    pub(super) fn way_out(&self, state: &State) -> Option<&str> {
        let leads = |id: &str| state.up.get(id).is_some_and(|up| !up.network.internal);
        let all = self.places.iter().filter(|(id, _)| leads(id));
        let best = all.min_by_key(|(_, place)| (-i64::from(place.priority), &place.network));
        best.map(|(id, _)| id.as_str())
    }

    /// The lowest number that no interface has.
    pub(super) fn free_interface(&self) -> u32 {
        let taken: BTreeSet<_> = self.places.values().map(|place| place.interface).collect();
        (0..).find(|number| !taken.contains(number)).unwrap_or(u32::MAX)
    }
}

impl Place {
    pub(super) fn six(&self, network: &Network) -> Option<Ipv6Addr> {
        self.address6.or_else(|| network.ipv6_of(self.address))
    }

    fn view(&self, id: &str, network: &Network, leads_out: bool) -> EndpointView {
        EndpointView {
            network: self.network.clone(),
            network_id: id.to_owned(),
            interface: self.interface,
            address: self.address,
            prefix: network.subnet.prefix(),
            gateway: Some(network.gateway).filter(|_| !network.internal),
            address6: self.six(network),
            prefix6: network.ipv6.map_or(0, net::Ipv6Net::prefix),
            gateway6: network.own6().filter(|_| !network.internal),
            mac: self.mac.to_string(),
            names: self.names.clone(),
            leads_out,
            priority: self.priority,
        }
    }
}

/// What names a container's cable into a network. On the default network it is the container's
/// own id.
pub(super) fn endpoint_id(container: &ContainerId, network: &str, default: &str) -> String {
    match network == default {
        true => container.to_string(),
        false => format!("{container}.{network}"),
    }
}

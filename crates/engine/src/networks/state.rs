//! What is known of networks and of who is plugged into them, while a daemon runs.
//!
//! Pure but for what a reservation holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use base::{ContainerId, ErrorKind};
use net::{Forward, Ipv4Net, Ipv6Net, Leases, Mac, Network, Passage, Reservation, Watching};

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
    /// IPv6 addresses that are somebody's and do not go with an IPv4 one.
    pub(super) taken6: BTreeSet<Ipv6Addr>,
    /// Where all are such: the part of the subnet that they are of.
    pub(super) range6: Option<Ipv6Net>,
    /// How far from its beginning the next search for one begins.
    pub(super) next6: u128,
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
    /// An IPv6 address that does not go with the other one.
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
        let made = self.made.get(id);
        let auxiliary = made.into_iter().flat_map(|made| made.auxiliary.values().copied());
        let six = auxiliary.filter_map(|address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(six) => Some(six),
        });
        let taken6 = network.own6().into_iter().chain(six).collect();
        let range6 = made.and_then(|made| made.range6);
        let (number, watching, passage) = (self.bridges, None, None);
        let up = Up { number, network, leases, taken6, range6, next6: 0, watching, passage };
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

    /// A lease as it was asked for: the IPv4 address, and the IPv6 one if it does not go with that.
    /// `part`: where to look for an IPv4 address that was not asked for.
    pub(super) fn lease(
        &mut self,
        request: &EndpointRequest,
        part: Option<Ipv4Net>,
    ) -> Result<(Ipv4Addr, Option<Ipv6Addr>), EngineError> {
        let six = match request.ipv6 {
            Some(six) => self.check6(six).map(|()| Some(six))?,
            None => self.range6.map(|range| self.free6(range)).transpose()?,
        };
        let Up { network, leases, taken6, range6, .. } = self;
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
                range6.is_some()
                    || network.ipv6_of(address).is_none_or(|six| !taken6.contains(&six))
            })?,
        };
        taken6.extend(six);
        Ok((address, six))
    }

    /// Whether an IPv6 address that is asked for can be had.
    fn check6(&self, six: Ipv6Addr) -> Result<(), EngineError> {
        let Up { network, leases, taken6, range6, .. } = self;
        if !network.ipv6.is_some_and(|net| net.contains(six) && net.address() != six) {
            let text = format!("no configured subnet contains IP address {six}");
            return Err(refused(ErrorKind::InvalidInput, text));
        }
        let mut theirs = leases.taken().filter(|_| range6.is_none());
        match taken6.contains(&six) || theirs.any(|four| network.ipv6_of(four) == Some(six)) {
            true => Err(refused(ErrorKind::Conflict, "Address already in use")),
            false => Ok(()),
        }
    }

    /// The next free IPv6 address of a part of the subnet; as with IPv4 ones, one just given back
    /// comes up again only after the others.
    fn free6(&mut self, range: Ipv6Net) -> Result<Ipv6Addr, EngineError> {
        // A subnet as large as all addresses has one that is none of its own.
        let size = 1_u128.checked_shl(u32::from(128 - range.prefix())).unwrap_or(u128::MAX);
        let none = || refused(ErrorKind::Exhausted, format!("all addresses of {range} are in use"));
        let net = self.network.ipv6.map(Ipv6Net::address);
        // Each is taken, or is the one that names the subnet, or will do.
        let tries = (self.taken6.len() as u128).saturating_add(2).min(size);
        let mut all = (0..tries).map(|step| {
            let offset = self.next6.wrapping_add(step) % size;
            (offset, Ipv6Addr::from_bits(range.address().to_bits() | offset))
        });
        let free = all.find(|(_, six)| Some(*six) != net && !self.taken6.contains(six));
        let (offset, six) = free.ok_or_else(none)?;
        self.next6 = offset.wrapping_add(1);
        Ok(six)
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

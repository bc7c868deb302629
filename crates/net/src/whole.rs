//! Whether everything of a network is there, and making it so again: others may flush the rules,
//! remove the bridge, or turn forwarding off.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use sys::netlink::Batch;

use crate::{
    Forward, Host, InterfaceName, Network, NetworkError,
    error::wrong,
    forwarding,
    host::gone,
    link::{self, Link},
    nft::Family,
    policy::{Elements, RawChain, RawRule, get_chains, get_elements, get_rules},
    publish::{Table, gate_names},
    table::{Shape, shapes},
    wide,
};

/// What is missing of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The bridge is not there.
    Bridge(InterfaceName),
    /// The link that it lies on is not there.
    Parent(InterfaceName),
    /// That link is down, so that nothing passes.
    ParentDown(InterfaceName),
    /// It is there and down.
    Down(InterfaceName),
    /// It lacks the host's own address.
    Address(InterfaceName, IpAddr),
    /// A container's cable is plugged in nowhere.
    Loose(InterfaceName),
    /// The table of a family is not there or lacks something: "ip" or "ip6", and its name.
    Table(&'static str, String),
    /// The links that lead packets to published ports are not there.
    Gate(InterfaceName),
    /// The host does not forward.
    Forwarding,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Bridge(name) => write!(f, "bridge {name} is gone"),
            Fault::Parent(name) => write!(f, "parent interface {name} is gone"),
            Fault::ParentDown(name) => write!(f, "parent interface {name} is down"),
            Fault::Down(name) => write!(f, "bridge {name} is down"),
            Fault::Address(name, address) => write!(f, "bridge {name} has lost {address}"),
            Fault::Loose(name) => write!(f, "cable {name} is not plugged in"),
            Fault::Table(family, name) => write!(f, "table {family} {name} is not whole"),
            Fault::Gate(name) => write!(f, "link {name} is gone"),
            Fault::Forwarding => write!(f, "forwarding is off (net.ipv4.ip_forward)"),
        }
    }
}

impl Host {
    /// What is missing of this network and of what [`Host::publish`] last said; these endpoints
    /// should be plugged in.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn faults(
        &self,
        network: &Network,
        endpoint_ids: &[&str],
    ) -> Result<Vec<Fault>, NetworkError> {
        if let Some(macvlan) = &network.macvlan {
            return self.parent_faults(network, macvlan);
        }
        let mut faults = self.link_faults(network, endpoint_ids)?;
        let ipv6 = network.ipv6.is_some();
        if !self.run(|| forwarding::is_on(ipv6)).map_err(NetworkError::Forwarding)? {
            faults.push(Fault::Forwarding);
        }
        let mut table = self.table();
        let Some(says) = table.says.clone() else { return Ok(faults) };
        let [into, _] = gate_names(table.name());
        for shape in shapes(&says) {
            let family = shape.family;
            if table.shape(&shape).map_err(NetworkError::Table)? != shape {
                let family = if family == Family::V4 { "ip" } else { "ip6" };
                faults.push(Fault::Table(family, table.name().to_owned()));
            }
        }
        drop(table);
        if says.gate.is_some() && self.link(&into)?.is_none() {
            faults.push(Fault::Gate(into));
        }
        Ok(faults)
    }

    fn link_faults(
        &self,
        network: &Network,
        endpoint_ids: &[&str],
    ) -> Result<Vec<Fault>, NetworkError> {
        let name = &network.bridge;
        let links = self.all_links()?;
        let Some(bridge) = links.get(name.as_str()) else {
            return Ok(vec![Fault::Bridge(name.clone())]);
        };
        let mut batch = Batch::default();
        link::get_addresses(&mut batch);
        let failed = wrong("list addresses of", name.as_str());
        let addresses = self.collect(batch, link::read_address).map_err(failed)?;
        let has =
            |wanted: &IpAddr| addresses.iter().any(|(i, a, _)| (*i, a) == (bridge.index, wanted));
        let (four, six) = network.of_host();
        let own = [four.map(IpAddr::from), six.map(IpAddr::from)].into_iter().flatten();
        let mut faults = Vec::new();
        if !bridge.is_up {
            faults.push(Fault::Down(name.clone()));
        }
        faults.extend(own.filter(|a| !has(a)).map(|a| Fault::Address(name.clone(), a)));
        // A cable that is not there has gone with its namespace, which is on its way out.
        let cables = endpoint_ids.iter().map(|id| InterfaceName::of_endpoint(id));
        let bridges = wide::bridges(&links, network);
        let loose = |cable: &InterfaceName| {
            links.get(cable.as_str()).is_some_and(|link| !is_port_of(&bridges, link))
        };
        let trunks = wide::loose_trunks(&links, network);
        faults.extend(cables.filter(loose).chain(trunks).map(Fault::Loose));
        Ok(faults)
    }

    /// Makes this network whole, whatever others did to it: the bridge, the cables of these
    /// endpoints, forwarding, and our tables, which speak of all networks then.
    ///
    /// # Errors
    /// The first thing that the kernel refused.
    pub fn restore(
        &self,
        network: &Network,
        endpoint_ids: &[&str],
        all: &[&Network],
        forwards: &[Forward],
    ) -> Result<(), NetworkError> {
        // One that fails does not keep the others from being done.
        let bridged = self.ensure_network(network);
        if network.macvlan.is_some() {
            return bridged;
        }
        let plugged = self.plug_in_loose(network, endpoint_ids);
        self.table().doubted = true;
        let published = self.publish(all, forwards);
        bridged.and(plugged).and(published)
    }

    fn plug_in_loose(&self, network: &Network, endpoint_ids: &[&str]) -> Result<(), NetworkError> {
        let links = self.all_links()?;
        self.join_branches(network, &links)?;
        let bridges = wide::bridges(&links, network);
        for id in endpoint_ids {
            let cable = InterfaceName::of_endpoint(id);
            if links.get(cable.as_str()).is_none_or(|link| is_port_of(&bridges, link)) {
                continue;
            }
            self.on_a_port(network, &cable, |bridge| {
                let mut batch = Batch::default();
                link::plug_in(&mut batch, &cable, bridge, network.apart, self.families);
                // Its namespace may end meanwhile and take it along.
                gone(self.links().execute(batch))
            })?;
        }
        Ok(())
    }

    pub(crate) fn all_links(&self) -> Result<BTreeMap<String, Link>, NetworkError> {
        let mut batch = Batch::default();
        link::get_all(&mut batch);
        let links = self.collect(batch, Link::read).map_err(wrong("list links of", "the host"))?;
        Ok(links.into_iter().map(|link| (link.name.clone(), link)).collect())
    }
}

fn is_port_of(bridges: &BTreeSet<u32>, link: &Link) -> bool {
    link.master.is_some_and(|master| bridges.contains(&master))
}

impl Table {
    /// What the kernel has of our table of a family, as far as this one is known.
    fn shape(&mut self, like: &Shape) -> Result<Shape, sys::netlink::NetlinkError> {
        let (family, name) = (like.family, self.name.clone());
        let ours = |of: u8, table: &str| of == family.number() && table == name;
        let mut chains = BTreeMap::new();
        let mut batch = Batch::default();
        get_chains(&mut batch);
        self.query(batch, |body| {
            let found = RawChain::read(body).filter(|chain| ours(chain.family, &chain.table));
            chains.extend(found.map(|chain| (chain.name, 0)));
        })?;
        let mut batch = Batch::default();
        get_rules(&mut batch);
        self.query(batch, |body| {
            let found = RawRule::read(body).filter(|rule| ours(rule.family, &rule.table));
            if let Some(count) = found.and_then(|rule| chains.get_mut(&rule.chain)) {
                *count += 1;
            }
        })?;
        let mut sets = BTreeMap::new();
        for set in like.sets.keys() {
            let mut batch = Batch::default();
            get_elements(&mut batch, family.number(), &name, set);
            let mut elements = Elements::default();
            self.query(batch, |body| elements.read(body))?;
            let keys: BTreeSet<_> = elements.0.into_iter().map(|(key, _)| key).collect();
            sets.insert(set.clone(), keys);
        }
        Ok(Shape { family, chains, sets })
    }
}

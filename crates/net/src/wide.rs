//! A network with more endpoints than one bridge has ports.
//!
//! A bridge has 1,023 of them (`BR_MAX_PORTS` in net/bridge/br_private.h). When all are taken the
//! network branches: a further bridge, a switch without addresses, hangs on the first by a trunk.
//! The first one gives it one of its cables, to have a port for the trunk.
//!
//! ```text
//! cables ══ bridge ══╤══ trunk ══ branch ══ cables
//!           gateway  └══ trunk ══ branch ══ cables
//! ```
//!
//! It is one link all the same: frames pass two trunks at most, and a star has no loops. Where
//! endpoints are kept apart, trunks are too, so that each reaches the gateway alone.

use std::collections::{BTreeMap, BTreeSet};

use rustix::io::Errno;
use sys::netlink::{Batch, NetlinkError};

use crate::{
    Host, InterfaceName, Network, NetworkError,
    error::wrong,
    host::gone,
    link::{self, Link},
};

/// Most branches of one network: more endpoints than a /16 has addresses.
pub(crate) const BRANCHES_MAX: u32 = 64;

/// Names of a branch and of its trunk's ends: at the first bridge, and at the branch.
struct Branch {
    bridge: InterfaceName,
    near: InterfaceName,
    far: InterfaceName,
}

impl Branch {
    fn of(network: &Network, number: u32) -> Branch {
        let of = |what: &str| format!("{what} {number} of {}", network.bridge);
        Branch {
            bridge: InterfaceName::of_branch(&of("branch")),
            near: InterfaceName::of_endpoint(&of("trunk")),
            far: InterfaceName::of_branch(&of("trunk")),
        }
    }

    fn all(network: &Network) -> impl Iterator<Item = Branch> {
        (1..=BRANCHES_MAX).map(|number| Branch::of(network, number))
    }
}

/// The bridges of a network that are there: the first one, and its branches.
pub(crate) fn bridges(links: &BTreeMap<String, Link>, network: &Network) -> BTreeSet<u32> {
    let branches = Branch::all(network).map(|branch| branch.bridge);
    let names = [network.bridge.clone()].into_iter().chain(branches);
    let there = names.filter_map(|name| links.get(name.as_str()));
    there.filter(|link| link.is_bridge).map(|link| link.index).collect()
}

/// Trunks of a network that should be plugged into its first bridge and are not.
pub(crate) fn loose_trunks(
    links: &BTreeMap<String, Link>,
    network: &Network,
) -> Vec<InterfaceName> {
    let first = links.get(network.bridge.as_str()).map(|link| link.index);
    let there = Branch::all(network).filter(|branch| links.contains_key(branch.bridge.as_str()));
    let loose = there.filter(|branch| {
        let near = links.get(branch.near.as_str());
        near.is_none_or(|near| near.master != first || !near.is_up)
    });
    loose.map(|branch| branch.near).collect()
}

/// Has the branches of a network removed, and their trunks.
pub(crate) fn remove_branches(
    batch: &mut Batch,
    links: &BTreeMap<String, Link>,
    network: &Network,
) {
    for branch in Branch::all(network) {
        for name in [branch.near, branch.bridge] {
            if links.contains_key(name.as_str()) {
                link::remove(batch, name.as_str());
            }
        }
    }
}

impl Host {
    /// Does what takes a port of a network's first bridge; where that has none, of a branch.
    ///
    /// # Errors
    /// [`NetworkError::Full`], or what the kernel refused.
    pub(crate) fn on_a_port(
        &self,
        network: &Network,
        cable: &InterfaceName,
        take: impl Fn(u32) -> Result<(), NetlinkError>,
    ) -> Result<(), NetworkError> {
        let failed = wrong("plug in", cable.as_str());
        match take(self.bridge(&network.bridge)?) {
            Err(error) if error.errno == Errno::XFULL => {}
            other => return other.map_err(failed),
        }
        let _one = self.branching();
        for branch in Branch::all(network) {
            let bridge = match self.link(&branch.bridge)? {
                Some(link) => link.index,
                None => self.branch_out(network, &branch)?,
            };
            match take(bridge) {
                Err(error) if error.errno == Errno::XFULL => {}
                other => return other.map_err(failed),
            }
        }
        Err(NetworkError::Full(network.bridge.clone()))
    }

    /// Whether a link is plugged into a branch of this network.
    pub(crate) fn is_on_a_branch(&self, network: &Network, link: &Link) -> bool {
        let Some(master) = link.master else { return false };
        let branches = Branch::all(network).map_while(|branch| self.link(&branch.bridge).ok()?);
        branches.into_iter().any(|branch| branch.index == master)
    }

    /// Makes a branch. The first bridge is full.
    fn branch_out(&self, network: &Network, branch: &Branch) -> Result<u32, NetworkError> {
        let first = self.bridge(&network.bridge)?;
        let links = self.all_links()?;
        let trunks: BTreeSet<_> = Branch::all(network).map(|branch| branch.near).collect();
        let mut cables = links.values().filter(|link| link.master == Some(first));
        let gift = cables.find_map(|link| {
            let name = link.name.parse().ok().filter(|name| !trunks.contains(name))?;
            InterfaceName::is_of_endpoint(&link.name).then_some(name)
        });
        // Others have plugged in so much that none of the ports is ours to give.
        let Some(gift) = gift else { return Err(NetworkError::Full(network.bridge.clone())) };
        let made = self.make_branch(network, branch).and_then(|index| {
            self.move_to(network, &gift, index)?;
            self.join(network, branch, first, index).map(|()| index)
        });
        made.map_err(|error| {
            // Half a branch would swallow what is plugged into it.
            for name in [&branch.near, &branch.bridge] {
                self.unplug(name).ok();
            }
            self.move_to(network, &gift, first).ok();
            wrong("branch", network.bridge.as_str())(error)
        })
    }

    fn make_branch(&self, network: &Network, branch: &Branch) -> Result<u32, NetlinkError> {
        let mut batch = Batch::default();
        link::add_bridge(&mut batch, &branch.bridge, branch.bridge.mac());
        self.links().execute(batch)?;
        let mut batch = Batch::default();
        link::get(&mut batch, &branch.bridge);
        let found = self.collect(batch, Link::read)?.first().map(|link| link.index);
        let index = found.ok_or(Errno::NODEV)?;
        let mut batch = Batch::default();
        link::bring_switch_up(&mut batch, index, network.mtu, self.families);
        self.links().execute(batch)?;
        Ok(index)
    }

    fn move_to(
        &self,
        network: &Network,
        cable: &InterfaceName,
        bridge: u32,
    ) -> Result<(), NetlinkError> {
        let mut batch = Batch::default();
        link::plug_in(&mut batch, cable, bridge, network.apart, self.families);
        // Its namespace may end meanwhile and take it along.
        gone(self.links().execute(batch))
    }

    /// Lays the trunk between the first bridge and a branch.
    fn join(
        &self,
        network: &Network,
        branch: &Branch,
        first: u32,
        index: u32,
    ) -> Result<(), NetlinkError> {
        self.unplug(&branch.near)?;
        let mut batch = Batch::default();
        link::add_trunk(&mut batch, &branch.near, &branch.far, network.mtu);
        link::plug_trunk_in(&mut batch, &branch.far, index, false, self.families);
        link::plug_trunk_in(&mut batch, &branch.near, first, network.apart, self.families);
        self.links().execute(batch)
    }

    /// Lays the trunks anew that are not where they should be.
    pub(crate) fn join_branches(
        &self,
        network: &Network,
        links: &BTreeMap<String, Link>,
    ) -> Result<(), NetworkError> {
        let _one = self.branching();
        let loose = loose_trunks(links, network);
        let first = self.bridge(&network.bridge)?;
        for branch in Branch::all(network).filter(|branch| loose.contains(&branch.near)) {
            let Some(index) = self.link(&branch.bridge)?.map(|link| link.index) else { continue };
            let joined = self.join(network, &branch, first, index);
            joined.map_err(wrong("plug in", branch.near.as_str()))?;
        }
        Ok(())
    }
}

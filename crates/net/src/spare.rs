//! The next endpoint's namespace and cable, made before anybody asks.
//!
//! To make a namespace and to plug a cable into a bridge is most of what an endpoint costs, and
//! the kernel takes the longer for both the more there are. Nothing in it depends on whose it will
//! be: name, addresses and life come when it is taken.

use std::os::fd::OwnedFd;

use sys::netlink::{Batch, Socket};

use crate::{Host, InterfaceName, Network, NetworkError, link};

/// A namespace with a cable to a bridge. Both ends are down.
///
/// Dropped, both are gone: nobody else is in the namespace.
#[derive(Debug)]
pub(crate) struct Plug {
    pub(crate) namespace: OwnedFd,
    /// A socket inside.
    pub(crate) inside: Socket,
}

/// One that is nobody's yet.
#[derive(Debug)]
pub(crate) struct Spare {
    /// Plugged into the bridge of this network, as it was then.
    network: Network,
    plug: Plug,
}

impl Spare {
    /// The name of its cable, which no endpoint has: ids have no spaces.
    fn cable(network: &Network) -> InterfaceName {
        InterfaceName::of_endpoint(&format!("spare of {}", network.bridge))
    }
}

impl Host {
    /// Makes the next [`Host::attach`] to this network a quick one. Nothing happens if that has
    /// been done already. There is one spare at most, for the network that asked last.
    ///
    /// # Errors
    /// As [`Host::attach`]; nothing is lost by it.
    pub fn prepare(&self, network: &Network) -> Result<(), NetworkError> {
        let mut spare = self.spare();
        if spare.as_ref().is_none_or(|spare| spare.network != *network) {
            // The old one goes first: it may have the name.
            *spare = None;
            let plug = self.plug(network, &Spare::cable(network), &crate::endpoint::inside(0))?;
            *spare = Some(Spare { network: network.clone(), plug });
        }
        Ok(())
    }

    /// The spare, its cable under another name, if there is one for this network.
    pub(crate) fn take_spare(&self, network: &Network, cable: &InterfaceName) -> Option<Plug> {
        let spare = self.spare().take().filter(|spare| spare.network == *network)?;
        let bridge = self.bridge(&network.bridge).ok()?;
        let link = self.link(&Spare::cable(network)).ok()??;
        // The bridge may have been removed and made again by somebody else.
        if link.master != Some(bridge) && !self.is_on_a_branch(network, &link) {
            return None;
        }
        let rename = || {
            let mut batch = Batch::default();
            link::rename(&mut batch, link.index, cable);
            self.links().execute(batch)
        };
        self.instead(cable, rename).ok().map(|()| spare.plug)
    }

    /// Whether this is the cable of the spare.
    pub(crate) fn is_spare(&self, cable: &str) -> bool {
        let spare = self.spare();
        spare.as_ref().is_some_and(|spare| Spare::cable(&spare.network).as_str() == cable)
    }
}

//! A network on a link of the host: each container has a link of its own on top of that one, with
//! a hardware address of its own, and is a neighbour of whoever is on the wire.
//!
//! ```text
//! container eth0 ─┐
//! container eth0 ─┴─ parent (eth0, eth0.50, …) ── the wire
//! ```
//!
//! Nothing of it passes through the host's own stack: it has no address there, no rule, no route.
//! What the kernel makes of the modes is `drivers/net/macvlan.c`.
//!
//! A parent is what its user names. One that is called like an 802.1Q link (`eth0.50`) and is not
//! there is made, and bears a note, by which it is known when it is to go. A network that names none
//! lies on one end of a cable whose other end leads nowhere. Docker makes a dummy link for that,
//! which not every kernel has; a bridge will not do, as one without ports has no carrier and those
//! above it take over that it has none. Both ends have one as soon as both are up.

use std::{
    fmt,
    os::fd::{AsFd as _, BorrowedFd},
    str::FromStr,
    thread,
    time::{Duration, Instant},
};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sys::{
    netlink::{Batch, NetlinkError, Socket},
    netns,
};

use crate::{
    Attachment, Endpoint, Fault, Host, InterfaceName, Mac, Network, NetworkError,
    endpoint::{inside, set_up_inside},
    error::wrong,
    host::{find, gone},
    link::{self, Upper},
};

/// What a network lies on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Macvlan {
    /// The host's link; none for one of its own, which leads nowhere.
    pub parent: Option<InterfaceName>,
    /// Who hears whom.
    pub mode: MacvlanMode,
}

/// Who of those on one parent hears whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MacvlanMode {
    /// All each other.
    #[default]
    Bridge,
    /// Each other by way of a switch outside that sends frames back where they came from.
    Vepa,
    /// None the other, not even that way.
    Private,
    /// There is one alone, to whom the parent belongs.
    Passthru,
}

const MODES: [(&str, MacvlanMode, u32); 4] = [
    ("private", MacvlanMode::Private, 1),
    ("vepa", MacvlanMode::Vepa, 2),
    ("bridge", MacvlanMode::Bridge, 4),
    ("passthru", MacvlanMode::Passthru, 8),
];

impl MacvlanMode {
    /// `MACVLAN_MODE_…` of `linux/if_link.h`.
    fn number(self) -> u32 {
        MODES.iter().find(|(_, mode, _)| *mode == self).map_or(0, |(_, _, number)| *number)
    }
}

/// Why a text is none. The text is Docker's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "requested macvlan mode '{0}' is not valid, 'bridge' mode is the macvlan driver default \
     (the others are vepa, private and passthru)"
)]
pub struct MacvlanModeError(String);

impl FromStr for MacvlanMode {
    type Err = MacvlanModeError;
    fn from_str(text: &str) -> Result<MacvlanMode, MacvlanModeError> {
        let found = MODES.iter().find(|(name, ..)| *name == text);
        let none = || MacvlanModeError(text.chars().take(64).collect());
        found.map(|(_, mode, _)| *mode).ok_or_else(none)
    }
}

impl fmt::Display for MacvlanMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MODES.iter().find(|(_, mode, _)| mode == self).map_or("", |(name, ..)| name))
    }
}

/// Largest number of an 802.1Q network: 0 and 4095 mean something else.
const VLAN_MAX: u16 = 4094;

/// What a name like `eth0.50` says: the link below, and the number.
pub fn vlan_of(name: &InterfaceName) -> Option<(InterfaceName, u16)> {
    let (below, id) = name.as_str().rsplit_once('.')?;
    // Written as one would write it, so that a name has one meaning.
    let id = id.parse().ok().filter(|id: &u16| (1..=VLAN_MAX).contains(id))?;
    let whole = format!("{below}.{id}") == name.as_str();
    Some((below.parse().ok().filter(|_| whole)?, id))
}

impl Macvlan {
    /// The link that containers' links are on.
    pub(crate) fn parent_of(&self, network: &Network) -> InterfaceName {
        self.parent.clone().unwrap_or_else(|| network.bridge.clone())
    }
}

/// The end of a network's own cable that nobody is on.
fn far(network: &Network) -> InterfaceName {
    InterfaceName::of_branch(&format!("far end of {}", network.bridge))
}

/// The note on a link that was made for networks.
const NOTE: &str = "made for networks of containers";

/// How long one waits for somebody who had the same hardware address, or a parent for itself: a
/// namespace that ended is taken down by a kernel thread, some time later.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// Does it again for a while where somebody who is on his way out may be in the way.
fn patiently<T>(
    in_the_way: impl Fn(Errno) -> bool,
    mut work: impl FnMut() -> Result<T, NetlinkError>,
) -> Result<T, NetlinkError> {
    let by = Instant::now() + PATIENCE;
    loop {
        match work() {
            Err(error) if in_the_way(error.errno) && Instant::now() < by => thread::sleep(PAUSE),
            other => return other,
        }
    }
}

impl Host {
    /// The index of a network's parent, which is made if it is one of ours.
    pub(crate) fn ensure_parent(
        &self,
        network: &Network,
        macvlan: &Macvlan,
    ) -> Result<u32, NetworkError> {
        let name = macvlan.parent_of(network);
        if let Some(link) = self.link(&name)? {
            return Ok(link.index);
        }
        let mut batch = Batch::default();
        match (&macvlan.parent, vlan_of(&name)) {
            (None, _) => {
                let far = far(network);
                self.unplug(&far).map_err(wrong("remove", far.as_str()))?;
                link::add_silent_pair(&mut batch, &name, &far, network.mtu, self.families);
            }
            (Some(_), Some((below, id))) => {
                let below = self.link(&below)?.ok_or(NetworkError::NoParent(below))?;
                link::add_vlan(&mut batch, &name, below.index, id, NOTE, self.families);
            }
            (Some(_), None) => return Err(NetworkError::NoParent(name)),
        }
        let made = self.links().execute(batch);
        made.map_err(|error| match error.errno {
            Errno::OPNOTSUPP if macvlan.parent.is_some() => NetworkError::Parent {
                parent: name.clone(),
                why: "it is not there, and this kernel has no 802.1Q links (8021q)",
            },
            Errno::NETDOWN => {
                self.unplug(&name).ok();
                NetworkError::Parent { parent: name.clone(), why: "the link below it is down" }
            }
            _ => wrong("make the parent interface", name.as_str())(error),
        })?;
        let failed = NetworkError::NoParent(name.clone());
        self.link(&name)?.map(|link| link.index).ok_or(failed)
    }

    /// Removes a network's parent if it is one of ours, and with it all that is on it.
    pub(crate) fn remove_parent(
        &self,
        network: &Network,
        macvlan: &Macvlan,
    ) -> Result<(), NetworkError> {
        let name = macvlan.parent_of(network);
        let link = self.link(&name)?;
        let ours = |note: Option<&str>| macvlan.parent.is_none() || note == Some(NOTE);
        match link.filter(|link| ours(link.note.as_deref())) {
            Some(_) => self.unplug(&name).map_err(wrong("remove parent interface", name.as_str())),
            None => Ok(()),
        }
    }

    /// What is missing of a network on a link.
    pub(crate) fn parent_faults(
        &self,
        network: &Network,
        macvlan: &Macvlan,
    ) -> Result<Vec<Fault>, NetworkError> {
        let name = macvlan.parent_of(network);
        Ok(match self.link(&name)? {
            None => vec![Fault::Parent(name)],
            Some(link) if !link.is_up => vec![Fault::ParentDown(name)],
            Some(_) => Vec::new(),
        })
    }

    /// Makes an endpoint's link on top of a network's parent. Nothing of it is on the host.
    pub(crate) fn attach_above(
        &self,
        network: &Network,
        macvlan: &Macvlan,
        endpoint: &Endpoint<'_>,
    ) -> Result<Attachment, NetworkError> {
        let parent = self.ensure_parent(network, macvlan)?;
        let (namespace, mut socket) = match endpoint.namespace {
            Some(namespace) => {
                let socket = self.enter(network, namespace)?;
                (namespace.try_clone_to_owned().map_err(NetworkError::Namespace)?, socket)
            }
            None => self.new_namespace(network.ipv6.is_some())?,
        };
        let mac = endpoint.mac.unwrap_or_else(|| Mac::of_address(endpoint.address));
        let interface = endpoint.inside();
        let above = Upper {
            name: &interface,
            parent,
            mode: macvlan.mode.number(),
            mac,
            namespace: namespace.as_fd(),
            mtu: network.mtu,
        };
        let refused = |why| {
            let parent = macvlan.parent_of(network);
            move |error: NetlinkError| match why {
                Some(why) => NetworkError::Parent { parent, why },
                None => wrong("set up endpoint", endpoint.id)(error),
            }
        };
        let lay = || {
            let mut batch = Batch::default();
            link::add_macvlan(&mut batch, &above);
            self.links().execute(batch)
        };
        let alone = macvlan.mode == MacvlanMode::Passthru;
        patiently(|errno| alone && errno == Errno::INVAL, lay)
            .map_err(|error| refused(refusal(macvlan.mode, error.errno))(error))?;
        let set_up = patiently(is_anothers, || set_up_inside(&mut socket, network, endpoint, mac));
        // As with cables: to ask for a link makes the kernel act on its carrier at once.
        let settled = set_up.and_then(|()| {
            find(&mut self.links(), &macvlan.parent_of(network))?;
            find(&mut socket, &interface)
        });
        settled
            .map_err(|error| refused(is_anothers(error.errno).then_some(SAME))(error))
            .inspect_err(|_| {
                remove_inside(&mut socket, &interface).ok();
            })?;
        Ok(Attachment { namespace, interface, mac })
    }

    /// Takes an endpoint's link away, the one of this number in its namespace.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn pull_out(&self, namespace: BorrowedFd<'_>, number: u32) -> Result<(), NetworkError> {
        let name = inside(number);
        let opened = netns::run(namespace, || Ok(Socket::open(sys::netlink::Family::Route)?));
        let mut socket = opened.map_err(NetworkError::Namespace)?;
        remove_inside(&mut socket, &name).map_err(wrong("unplug", name.as_str()))
    }
}

/// Why a link does not come up.
const SAME: &str = "somebody on it has the same hardware address";

/// What `macvlan_open` says to that; which of the two depends on the kernel's version.
fn is_anothers(errno: Errno) -> bool {
    matches!(errno, Errno::BUSY | Errno::ADDRINUSE)
}

/// Why the kernel lets nobody on a parent, where that is what it means.
///
/// Source: `macvlan_common_newlink` and `netdev_rx_handler_register`.
fn refusal(mode: MacvlanMode, errno: Errno) -> Option<&'static str> {
    match (errno, mode) {
        (Errno::BUSY, _) => Some("it is a port of a bridge or of a bond"),
        (Errno::INVAL, MacvlanMode::Passthru) => {
            Some("somebody is on it, and in the mode passthru it is one container's alone")
        }
        (Errno::INVAL, _) => {
            Some("it belongs to somebody in the mode passthru, or is no link that others can be on")
        }
        _ => None,
    }
}

fn remove_inside(socket: &mut Socket, name: &InterfaceName) -> Result<(), NetlinkError> {
    let mut batch = Batch::default();
    link::remove(&mut batch, name.as_str());
    gone(socket.execute(batch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_which_802_1q_link_it_is() {
        let of = |name: &str| {
            let found = vlan_of(&name.parse().unwrap());
            found.map(|(below, id)| (below.to_string(), id))
        };
        assert_eq!(of("eth0.50"), Some(("eth0".to_owned(), 50)));
        assert_eq!(of("eth0.50.7"), Some(("eth0.50".to_owned(), 7)));
        for none in ["eth0", "eth0.", "eth0.0", "eth0.4095", "eth0.x", "eth0.050"] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn modes_read_as_they_are_written() {
        for (name, mode, number) in MODES {
            assert_eq!((name.parse(), mode.to_string().as_str()), (Ok(mode), name));
            assert_eq!(mode.number(), number);
        }
        let text = "source".parse::<MacvlanMode>().unwrap_err().to_string();
        assert!(text.contains("'source' is not valid"), "{text}");
    }
}

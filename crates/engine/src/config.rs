//! How one engine is set up.

use std::{collections::BTreeMap, fmt, fs, path::PathBuf, sync::Arc};

/// The default bridge's name.
pub(crate) const BRIDGE: &str = "wythe0";

/// What an engine is opened with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where everything that outlives a reboot is kept; made (0700) where it is missing.
    pub data: PathBuf,
    /// Where everything else is kept: sockets, locks; made (0700) where it is missing.
    pub run: PathBuf,
    /// Version of this build, for [`crate::Info`].
    pub version: String,
    /// Name of the default bridge.
    pub bridge: net::InterfaceName,
    /// Which IPv6 addresses it has.
    pub ipv6: Ipv6,
    /// Images that this build brings along, by name (`demo`). One that is asked for and not in
    /// the store is loaded into it.
    pub embedded: BTreeMap<String, Embedded>,
    /// What an ordinary user's engine has around it; none for root's.
    pub user: Option<OrdinaryUser>,
    /// Whoever carries what arrives at ports of `::1`.
    pub loopback: Option<Arc<dyn net::Outside>>,
}

/// The surroundings of an engine that an ordinary user runs, in namespaces of its own.
#[derive(Clone, Debug)]
pub struct OrdinaryUser {
    /// Whoever has the host's ports.
    pub ports: Arc<dyn net::Outside>,
    /// What the host does not grant.
    pub lacks: Lacks,
}

/// Says in sentences what an ordinary user's host does not grant, and what would grant it.
#[derive(Clone)]
pub struct Lacks(Arc<dyn Fn() -> Vec<String> + Send + Sync>);

impl Lacks {
    /// Sentences that this function finds; it may be called at any time.
    pub fn new(find: impl Fn() -> Vec<String> + Send + Sync + 'static) -> Lacks {
        Lacks(Arc::new(find))
    }

    /// The sentences.
    pub fn sentences(&self) -> Vec<String> {
        (self.0)()
    }
}

impl fmt::Debug for Lacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lacks")
    }
}

/// The IPv6 addresses of the default bridge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ipv6 {
    /// A unique local subnet that is always the same on this host, where the host has IPv6.
    #[default]
    Auto,
    /// None.
    Off,
    /// These, where the host has IPv6.
    Subnet(net::Ipv6Net),
}

impl std::str::FromStr for Ipv6 {
    type Err = net::SubnetError;
    fn from_str(text: &str) -> Result<Ipv6, net::SubnetError> {
        match text {
            "auto" => Ok(Ipv6::Auto),
            "off" => Ok(Ipv6::Off),
            subnet => subnet.parse().map(Ipv6::Subnet),
        }
    }
}

impl Ipv6 {
    /// The subnet for a bridge.
    pub(crate) fn subnet(self, bridge: &net::InterfaceName) -> Option<net::Ipv6Net> {
        /// Source: machine-id(5); without one, the host's name has to do.
        const IDENTITIES: [&str; 2] = ["/etc/machine-id", "/proc/sys/kernel/hostname"];
        match self {
            Ipv6::Off => None,
            Ipv6::Subnet(net) => Some(net),
            Ipv6::Auto => {
                let read = |path| fs::read_to_string(path).ok().filter(|id| !id.trim().is_empty());
                let id = IDENTITIES.into_iter().find_map(read).unwrap_or_default();
                Some(net::Ipv6Net::unique_local(format!("{}/{bridge}", id.trim()).as_bytes()))
            }
        }
    }
}

impl Config {
    /// An engine with these directories and nothing brought along.
    pub fn new(data: PathBuf, run: PathBuf, version: String) -> Config {
        let bridge = BRIDGE.parse().expect("it is the name of an interface");
        Config {
            data,
            run,
            version,
            bridge,
            ipv6: Ipv6::Auto,
            embedded: BTreeMap::new(),
            user: None,
            loopback: None,
        }
    }
}

/// Makes an OCI layout archive, when it is first needed.
#[derive(Clone)]
pub struct Embedded(Arc<dyn Fn() -> Vec<u8> + Send + Sync>);

impl Embedded {
    /// An archive that this function makes.
    pub fn new(make: impl Fn() -> Vec<u8> + Send + Sync + 'static) -> Embedded {
        Embedded(Arc::new(make))
    }

    /// The archive.
    pub fn archive(&self) -> Vec<u8> {
        (self.0)()
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Embedded")
    }
}

//! What can be asked of networks, and what is shown of them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use base::{ContainerId, clock::Timestamp};
use serde::{Deserialize, Serialize};

/// A network to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkCreate {
    /// Its name.
    pub name: String,
    /// Its driver; `bridge` where there is none.
    pub driver: Option<String>,
    /// Nothing leads out of it or into it.
    pub internal: bool,
    /// Shown, and of no consequence without a swarm.
    pub attachable: bool,
    /// With IPv6 addresses.
    pub ipv6: bool,
    /// Addresses; chosen where there are none.
    pub pools: Vec<PoolRequest>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}

/// Addresses of a network, as they were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolRequest {
    /// In CIDR notation.
    pub subnet: Option<String>,
    /// Part of it from which containers have theirs, in CIDR notation.
    pub range: Option<String>,
    /// The host's own.
    pub gateway: Option<String>,
    /// Addresses that no container gets, by name.
    pub auxiliary: BTreeMap<String, String>,
}

/// A container's place on one network, as it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointRequest {
    /// Further names by which others on the network find it.
    pub aliases: Vec<String>,
    /// Its IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Its hardware address.
    pub mac: Option<String>,
    /// Of all its networks, the one where this is greatest leads out.
    pub priority: i32,
}

/// A container's place on one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointView {
    /// The network's name.
    pub network: String,
    /// The network's id.
    pub network_id: String,
    /// Number of the interface inside, `eth0` and so on.
    pub interface: u32,
    /// Its address.
    pub address: Ipv4Addr,
    /// Length of the network's prefix.
    pub prefix: u8,
    /// The way out; none of an internal network.
    pub gateway: Option<Ipv4Addr>,
    /// IPv6 address.
    #[serde(default)]
    pub address6: Option<Ipv6Addr>,
    /// Length of the network's IPv6 prefix.
    #[serde(default)]
    pub prefix6: u8,
    /// The way out for IPv6.
    #[serde(default)]
    pub gateway6: Option<Ipv6Addr>,
    /// Hardware address.
    pub mac: String,
    /// Names by which others on the network find it, its own name aside.
    #[serde(default)]
    pub names: Vec<String>,
    /// Whether this is the network that leads out.
    #[serde(default)]
    pub leads_out: bool,
    /// Of all its networks, the one where this is greatest leads out.
    #[serde(default)]
    pub priority: i32,
}

impl EndpointView {
    /// Docker's id for it: unique, and the same for as long as the two are connected.
    pub fn id(&self, container: &ContainerId) -> String {
        let half = |text: &str| text.chars().take(32).collect::<String>();
        half(&self.network_id) + &half(container.as_str())
    }
}

/// A network as it is at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInfo {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made; none of those that are there always.
    pub created: Option<Timestamp>,
    /// Its driver: `bridge`, `host`, `null`.
    pub driver: String,
    /// Nothing leads out of it or into it.
    pub internal: bool,
    /// Shown, and of no consequence without a swarm.
    pub attachable: bool,
    /// With IPv6 addresses.
    pub ipv6: bool,
    /// Its addresses.
    pub pools: Vec<Pool>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Whether it is there always.
    pub builtin: bool,
    /// Who is plugged in.
    pub containers: Vec<NetworkUser>,
    /// Containers that have it, whether they run or not.
    #[serde(default)]
    pub users: Vec<ContainerId>,
}

/// Addresses of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// In CIDR notation.
    pub subnet: String,
    /// Part of it from which containers have theirs, in CIDR notation.
    pub range: Option<String>,
    /// The way out, mostly the host's own; none where the host has no address.
    pub gateway: Option<IpAddr>,
    /// Addresses that no container gets, by name.
    pub auxiliary: BTreeMap<String, IpAddr>,
}

/// Somebody who is plugged into a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkUser {
    /// Which container.
    pub container: ContainerId,
    /// Its name.
    pub name: String,
    /// Its place.
    pub endpoint: EndpointView,
}

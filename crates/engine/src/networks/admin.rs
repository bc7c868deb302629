//! Networks that users make, list and remove.

use std::{collections::BTreeMap, sync::Arc};

use base::ErrorKind;
use net::{Host, InterfaceName, Network};

use super::{
    HostNetworks, NetworkCreate, NetworkInfo, NetworkUser, Pool,
    design::{Around, BUILTIN, check_name, design, pool6, refused},
    state::State,
};
use crate::EngineError;

/// Most networks that users can make: each takes a bridge, two sockets and a thread.
const NETWORKS_MAX: usize = 1000;

/// FNV-1a.
fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    bytes.fold(OFFSET, |hash, b| (hash ^ u64::from(b)).wrapping_mul(PRIME))
}

/// The id of a network that is there always: the same over restarts.
pub(super) fn builtin_id(name: &str, bridge: &InterfaceName) -> String {
    let part = |number: u8| hash(format!("{name}/{bridge}/{number}").bytes());
    (0..4).map(|number| format!("{:016x}", part(number))).collect()
}

/// What names of bridges begin with that this daemon makes for users, so that they are told from
/// those of other daemons.
pub(super) fn bridge_prefix(default: &InterfaceName) -> String {
    format!("wyb{:04x}", hash(default.as_str().bytes()) >> 48)
}

/// The id and the name of the network of this name, id, or unique beginning of an id.
pub(super) fn id_of(
    networks: &HostNetworks,
    state: &State,
    who: &str,
) -> Result<(String, String), EngineError> {
    let builtin = |name: &str| (builtin_id(name, &networks.bridge), name.to_owned());
    let mut all: Vec<(String, String)> = BUILTIN.into_iter().map(builtin).collect();
    all.extend(state.made.values().map(|made| (made.id.clone(), made.name.clone())));
    let who = if who == "default" { "bridge" } else { who };
    if let Some(found) = all.iter().find(|(_, name)| name == who) {
        return Ok(found.clone());
    }
    let mut begun = all.into_iter().filter(|(id, _)| !who.is_empty() && id.starts_with(who));
    match (begun.next(), begun.next()) {
        (Some(found), None) => Ok(found),
        (Some(_), Some(_)) => {
            let text = format!("network {who} is ambiguous (2 matches found based on ID prefix)");
            Err(refused(ErrorKind::InvalidInput, text))
        }
        (None, _) => Err(refused(ErrorKind::NotFound, format!("network {who} not found"))),
    }
}

pub(super) fn create(
    networks: &HostNetworks,
    create: NetworkCreate,
) -> Result<NetworkInfo, EngineError> {
    check_name(&create.name)?;
    let host = networks.host()?;
    let mut state = networks.lock();
    if state.made.values().any(|made| made.name == create.name) {
        let text = format!("network with name {} already exists", create.name);
        return Err(refused(ErrorKind::Conflict, text));
    }
    if state.made.len() >= NETWORKS_MAX {
        return Err(EngineError::TooMany { what: "networks", most: NETWORKS_MAX });
    }
    let random: [u8; 32] = crate::engine::random()?;
    let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let short = id.get(..8).unwrap_or_default();
    let bridge: InterfaceName = format!("{}{short}", bridge_prefix(&networks.bridge))
        .parse()
        .map_err(|_| EngineError::Failed { doing: "naming a bridge" })?;
    let taken = state.subnets(&id);
    let mut taken6: Vec<_> = state.all().iter().filter_map(|network| network.ipv6).collect();
    taken6.extend(networks.ipv6.subnet(&networks.bridge));
    let choose = || {
        // Of the others, some may have no bridge at this moment.
        Ok(host.choose_subnet(&bridge, &taken)?)
    };
    let ipv6 = host.has_ipv6();
    let macvlans = state.made.values().filter_map(|made| {
        let macvlan = made.network.macvlan.clone()?;
        Some((made.name.clone(), macvlan))
    });
    let macvlans: Vec<_> = macvlans.collect();
    let around =
        Around { taken: &taken, taken6: &taken6, choose: &choose, ipv6, macvlans: &macvlans };
    let made = design(create, id.clone(), bridge.clone(), &around)?;
    let name = &made.network.bridge;
    if state.all().iter().any(|other| other.bridge == *name) || *name == networks.bridge {
        let text = format!(
            "cannot create network {id} ({name}): conflicts with another network: networks have same bridge name"
        );
        return Err(refused(ErrorKind::PermissionDenied, text));
    }
    let info = made.info();
    // The record comes before the bridge, so that a bridge without one is nobody's.
    state.made.insert(id.clone(), made);
    let up = written(networks, &state.made).and_then(|()| networks.raise(host, &mut state, &id));
    if let Err(failure) = up {
        if let Some(network) = state.left.remove(&id).filter(|made| !state.shares_parent(made)) {
            host.remove_network(&network).ok();
        }
        state.made.remove(&id);
        written(networks, &state.made)?;
        return Err(failure);
    }
    Ok(info)
}

fn written(
    networks: &HostNetworks,
    made: &BTreeMap<String, super::design::Made>,
) -> Result<(), EngineError> {
    networks.book.write(made).map_err(|source| EngineError::Files {
        step: "write",
        path: "networks.json".into(),
        source: Arc::new(source),
    })
}

pub(super) fn list(networks: &HostNetworks) -> Vec<NetworkInfo> {
    let host = networks.host().ok();
    let state = networks.lock();
    let mut all = vec![default_info(networks, host, &state)];
    all.extend(["host", "none"].map(|name| NetworkInfo {
        driver: if name == "none" { "null" } else { "host" }.to_owned(),
        ..empty(networks, name)
    }));
    all.extend(state.made.values().map(super::design::Made::info));
    for info in &mut all {
        info.containers = users(&state, &info.id);
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn empty(networks: &HostNetworks, name: &str) -> NetworkInfo {
    NetworkInfo {
        id: builtin_id(name, &networks.bridge),
        name: name.to_owned(),
        created: None,
        driver: name.to_owned(),
        internal: false,
        attachable: false,
        ipv6: false,
        pools: Vec::new(),
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
        builtin: true,
        containers: Vec::new(),
        users: Vec::new(),
    }
}

/// The default network; as it would be, while it is not there.
fn default_info(networks: &HostNetworks, host: Option<&Arc<Host>>, state: &State) -> NetworkInfo {
    let would = |host: &Arc<Host>| networks.default_network(host, state).ok();
    let up = state.up.get(&networks.default).map(|up| up.network.clone());
    let mut info = empty(networks, "bridge");
    if let Some(network) = up.or_else(|| host.and_then(would)) {
        let (subnet, gateway) = (network.subnet.to_string(), Some(network.gateway.into()));
        let four = Pool { subnet, range: None, gateway, auxiliary: BTreeMap::new() };
        info.ipv6 = network.ipv6.is_some();
        info.pools = [Some(four), pool6(&network)].into_iter().flatten().collect();
    }
    let options = [
        ("com.docker.network.bridge.default_bridge", "true"),
        ("com.docker.network.bridge.enable_icc", "true"),
        ("com.docker.network.bridge.enable_ip_masquerade", "true"),
        ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0"),
        ("com.docker.network.bridge.name", networks.bridge.as_str()),
        ("com.docker.network.driver.mtu", "1500"),
    ];
    info.options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    info
}

fn users(state: &State, id: &str) -> Vec<NetworkUser> {
    let user = |(container, plugged): (&base::ContainerId, &super::Plugged)| {
        let endpoint = state.views(container).into_iter().find(|view| view.network_id == id)?;
        Some(NetworkUser { container: container.clone(), name: plugged.name.clone(), endpoint })
    };
    state.plugged.iter().filter_map(user).collect()
}

pub(super) fn find(networks: &HostNetworks, who: &str) -> Result<NetworkInfo, EngineError> {
    let (id, _) = id_of(networks, &networks.lock(), who)?;
    let found = list(networks).into_iter().find(|info| info.id == id);
    found.ok_or_else(|| refused(ErrorKind::NotFound, format!("network {who} not found")))
}

pub(super) fn remove(networks: &HostNetworks, who: &str) -> Result<NetworkInfo, EngineError> {
    let host = networks.host()?;
    let mut state = networks.lock();
    let (id, name) = id_of(networks, &state, who)?;
    let Some(made) = state.made.get(&id).cloned() else {
        let text = format!("{name} is a pre-defined network and cannot be removed");
        return Err(refused(ErrorKind::PermissionDenied, text));
    };
    let users = users(&state, &id);
    if !users.is_empty() {
        let who: Vec<_> = users
            .iter()
            .map(|user| format!("name:{:?} id:{:?}", user.name, user.container.short()))
            .collect();
        let text = format!(
            "error while removing network: network {name} id {id} has active endpoints ({})",
            who.join(", ")
        );
        return Err(refused(ErrorKind::PermissionDenied, text));
    }
    networks.leaving.forget(&id);
    let network = match state.up.remove(&id) {
        Some(up) => up.network,
        None => made.network.clone(),
    };
    state.left.insert(id.clone(), network.clone());
    take_away(host, &state, &network)?;
    state.left.remove(&id);
    state.made.remove(&id);
    if let Err(failure) = written(networks, &state.made) {
        state.made.insert(id, made);
        return Err(failure);
    }
    Ok(made.info())
}

/// Removes what there is on the host of a network that is not up any more.
fn take_away(host: &Host, state: &State, network: &Network) -> Result<(), EngineError> {
    if network.macvlan.is_some() {
        // What it lies on may have been made for it and carry others.
        return match state.shares_parent(network) {
            true => Ok(()),
            false => Ok(host.remove_network(network)?),
        };
    }
    match state.bridged().first() {
        Some(other) => {
            host.pass_note(network, other)?;
            host.remove_network(network)?;
            super::publish(host, state)
        }
        // With the last of all bridges goes what was made for all of them.
        None => Ok(host.remove_everything(&[network])?),
    }
}

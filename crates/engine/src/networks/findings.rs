//! What `doctor` says of networks.

use workload::Finding;

use super::{HostNetworks, design::Made, keeper, state::State};
use crate::{EngineError, error::chain};

/// Everything there is to say; with `repair`, what is not whole is made whole first.
pub(super) fn all(networks: &HostNetworks, repair: bool) -> Vec<Finding> {
    let mut all = vec![rules(networks)];
    all.extend(whole(networks, repair));
    all.extend(ipv6(networks));
    all.extend(super::passage::finding(networks));
    all.push(names());
    all
}

/// Whether names are resolved in containers, and whether port 53 stays theirs.
fn names() -> Finding {
    let subject = "names".to_owned();
    let mend = Some("run as root on a kernel with nf_tables".to_owned());
    match net::try_names() {
        Ok(true) => {
            let detail = "containers on networks ask the daemon at 127.0.0.11".to_owned();
            Finding { subject, works: true, detail, mend: None }
        }
        Ok(false) => {
            let detail = "the kernel takes no rules in containers: port 53 is not their own there";
            Finding { subject, works: false, detail: detail.to_owned(), mend }
        }
        Err(failure) => Finding { subject, works: false, detail: chain(&failure), mend },
    }
}

/// Whether the kernel takes our rules.
fn rules(networks: &HostNetworks) -> Finding {
    let tried = networks.host().and_then(|host| Ok(host.try_rules()?));
    let subject = "network".to_owned();
    match tried {
        Ok(()) => {
            let detail = format!("nftables takes our rules; the bridge is {}", networks.bridge);
            Finding { subject, works: true, detail, mend: None }
        }
        Err(failure) => {
            let mend = "run as root on a kernel with nf_tables and nft_nat".to_owned();
            Finding { subject, works: false, detail: chain(&failure), mend: Some(mend) }
        }
    }
}

const SUBJECT: &str = "default network";

/// Whether everything of the networks is there that are up.
fn whole(networks: &HostNetworks, repair: bool) -> Vec<Finding> {
    let Some(opened) = networks.opened.get() else { return Vec::new() };
    let state = networks.lock();
    let of = |id: &String| {
        let subject = match state.made.get(id) {
            Some(made) => format!("network {}", made.name),
            None => SUBJECT.to_owned(),
        };
        let found = whole_one(networks, &opened.host, &state, id, repair);
        found.map_or_else(|failure| broken(&subject, &failure), |found| found(&subject))
    };
    let bridged = state.up.iter().filter(|(_, up)| up.is_bridged()).map(|(id, _)| of(id));
    let above =
        state.made.values().filter_map(|made| above(networks, &opened.host, &state, made, repair));
    bridged.chain(above).collect()
}

/// Whether the link is there that a network lies on, before anybody comes as well; none of one that
/// lies on no link.
fn above(
    networks: &HostNetworks,
    host: &net::Host,
    state: &State,
    made: &Made,
    repair: bool,
) -> Option<Finding> {
    let macvlan = made.network.macvlan.as_ref()?;
    let subject = format!("network {}", made.name);
    let users = state.endpoints(&made.id, &networks.default).len();
    let own = macvlan.parent.as_ref().is_none_or(|parent| net::vlan_of(parent).is_some());
    if own && !state.up.contains_key(&made.id) {
        let detail = "its parent interface comes with the first container".to_owned();
        return Some(Finding { subject, works: true, detail, mend: None });
    }
    let faults = || -> Result<Vec<String>, EngineError> {
        Ok(host.faults(&made.network, &[])?.iter().map(ToString::to_string).collect())
    };
    let found = || -> Result<Finding, EngineError> {
        let mut found = faults()?;
        let mut mended = String::new();
        if repair && !found.is_empty() && own {
            host.ensure_network(&made.network)?;
            mended = format!("; mended: {}; restart its containers", found.join(", "));
            found = faults()?;
        }
        let subject = subject.clone();
        if found.is_empty() {
            let detail = format!("its parent interface is there for {users} containers{mended}");
            return Ok(Finding { subject, works: true, detail, mend: None });
        }
        let detail = format!("{}: {users} containers are cut off", found.join(", "));
        let mend = match own {
            true => "wythe doctor --repair, then restart its containers",
            false => "bring the interface back (ip link), then restart the network's containers",
        };
        Ok(Finding { subject, works: false, detail, mend: Some(mend.to_owned()) })
    };
    Some(found().unwrap_or_else(|failure| broken(&subject, &failure)))
}

/// The same of one of them, as a finding about a subject.
fn whole_one(
    networks: &HostNetworks,
    host: &net::Host,
    state: &State,
    id: &str,
    repair: bool,
) -> Result<impl FnOnce(&str) -> Finding + use<>, EngineError> {
    let ids = state.endpoints(id, &networks.default);
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let faults = || -> Result<Vec<String>, EngineError> {
        let Some(up) = state.up.get(id) else { return Ok(Vec::new()) };
        Ok(host.faults(&up.network, &ids)?.iter().map(ToString::to_string).collect())
    };
    let mut found = faults()?;
    let mut mended = String::new();
    if repair && !found.is_empty() {
        keeper::mend(host, state, id, &networks.default)?;
        mended = format!("; mended: {}", found.join(", "));
        found = faults()?;
    }
    let cables = ids.len();
    Ok(move |subject: &str| {
        let subject = subject.to_owned();
        if found.is_empty() {
            let detail = format!("the bridge, {cables} cables and the rules are whole{mended}");
            return Finding { subject, works: true, detail, mend: None };
        }
        let mend = Some("wythe doctor --repair".to_owned());
        Finding { subject, works: false, detail: found.join(", "), mend }
    })
}

fn broken(subject: &str, failure: &EngineError) -> Finding {
    let (subject, mend) = (subject.to_owned(), Some("wythe doctor --repair".to_owned()));
    Finding { subject, works: false, detail: chain(failure), mend }
}

/// Whether containers have IPv6 addresses. That a host has it off is nothing wrong.
fn ipv6(networks: &HostNetworks) -> Option<Finding> {
    let host = networks.host().ok()?;
    let subject = "IPv6".to_owned();
    let detail = match (networks.ipv6.subnet(&networks.bridge), host.has_ipv6()) {
        (None, _) => "off for containers, by --ipv6-subnet".to_owned(),
        (Some(_), false) => "off on this host (ipv6.disable=1 or \
            net.ipv6.conf.all.disable_ipv6=1); containers have IPv4 alone"
            .to_owned(),
        (Some(subnet), true) => {
            let detail = format!("containers have addresses of {subnet}");
            return Some(Finding { subject, works: true, detail, mend: None });
        }
    };
    Some(Finding { subject, works: false, detail, mend: None })
}

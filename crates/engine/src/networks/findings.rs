//! What `doctor` says of the default network.

use workload::Finding;

use super::{HostNetworks, keeper};
use crate::{EngineError, error::chain};

/// Everything there is to say; with `repair`, what is not whole is made whole first.
pub(super) fn all(networks: &HostNetworks, repair: bool) -> Vec<Finding> {
    let mut all = vec![rules(networks)];
    if let Some(found) = whole(networks, repair).unwrap_or_else(|failure| Some(broken(&failure))) {
        all.push(found);
    }
    all.extend(ipv6(networks));
    all.extend(super::passage::finding(networks));
    all
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

/// Whether everything of the network is there, if it is up.
fn whole(networks: &HostNetworks, repair: bool) -> Result<Option<Finding>, EngineError> {
    let Some(opened) = networks.opened.get() else { return Ok(None) };
    let state = networks.lock();
    let Some(up) = &state.up else { return Ok(None) };
    let ids: Vec<&str> = state.plugged.keys().map(|id| id.as_str()).collect();
    let faults = || -> Result<Vec<String>, EngineError> {
        let faults = opened.host.faults(&up.network, &ids)?;
        Ok(faults.iter().map(ToString::to_string).collect())
    };
    let mut found = faults()?;
    let mut mended = String::new();
    if repair && !found.is_empty() {
        keeper::mend(&opened.host, &state)?;
        mended = format!("; mended: {}", found.join(", "));
        found = faults()?;
    }
    let subject = SUBJECT.to_owned();
    Ok(Some(match found.as_slice() {
        [] => {
            let detail =
                format!("the bridge, {} cables and the rules are whole{mended}", ids.len());
            Finding { subject, works: true, detail, mend: None }
        }
        faults => {
            let mend = Some("wythe doctor --repair".to_owned());
            Finding { subject, works: false, detail: faults.join(", "), mend }
        }
    }))
}

fn broken(failure: &EngineError) -> Finding {
    let (subject, mend) = (SUBJECT.to_owned(), Some("wythe doctor --repair".to_owned()));
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

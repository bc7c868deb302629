//! Whether the host's own rules let containers' packets through, and what is said where they do not.

use net::{Barrier, Passage};
use tracing::{debug, warn};
use workload::Finding;

use super::HostNetworks;
use crate::{EngineError, error::chain};

/// What is to be told to whoever makes a container.
pub(super) fn warnings(networks: &HostNetworks, publishes: bool) -> Vec<String> {
    match known(networks) {
        Ok(passage) => warning(&passage, publishes).into_iter().collect(),
        Err(failure) => {
            debug!(error = chain(&failure), "the host's own rules cannot be read");
            Vec::new()
        }
    }
}

/// What was last seen; looked at again after others have changed rules.
fn known(networks: &HostNetworks) -> Result<Passage, EngineError> {
    let host = networks.host()?;
    let before = {
        let state = networks.lock();
        if let Some(passage) = state.up.get(&networks.default).and_then(|up| up.passage.clone()) {
            return Ok(passage);
        }
        state.changes
    };
    let passage = host.passage(&networks.bridge, has_ipv6(networks))?;
    if let Some(text) = warning(&passage, true) {
        warn!("{text}");
    }
    let mut state = networks.lock();
    let same = state.changes == before;
    // Without somebody who hears of changes it may be wrong at any time.
    if let Some(up) = state.up.get_mut(&networks.default).filter(|up| same && up.watching.is_some())
    {
        up.passage = Some(passage.clone());
    }
    Ok(passage)
}

fn has_ipv6(networks: &HostNetworks) -> bool {
    let host = networks.host().is_ok_and(|host| host.has_ipv6());
    host && networks.ipv6.subnet(&networks.bridge).is_some()
}

fn warning(passage: &Passage, publishes: bool) -> Option<String> {
    let (what, by) = match (passage.out.as_slice(), passage.published.as_slice()) {
        ([], []) => return None,
        ([], _) if !publishes => return None,
        ([], by) => ("published ports do not answer other hosts", by),
        (by, _) => ("containers do not reach other hosts", by),
    };
    Some(format!(
        "{what}: their packets are dropped by {} of this host; wythe doctor says what lets them pass",
        list(by.iter())
    ))
}

fn list<'a>(barriers: impl Iterator<Item = &'a Barrier>) -> String {
    barriers.map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What `doctor` says of it.
pub(super) fn finding(networks: &HostNetworks) -> Option<Finding> {
    let host = networks.host().ok()?;
    let passage = host.passage(&networks.bridge, has_ipv6(networks)).ok()?;
    Some(told(&passage))
}

fn told(passage: &Passage) -> Finding {
    let subject = "forwarding policy".to_owned();
    let mend: Vec<&str> =
        passage.barriers().flat_map(|barrier| &barrier.mend).map(String::as_str).collect();
    if !mend.is_empty() {
        let detail = format!("packets of containers are dropped by {}", list(passage.barriers()));
        return Finding { subject, works: false, detail, mend: Some(mend.join(" && ")) };
    }
    let detail = match passage.unread.as_slice() {
        [] => "no rules of this host drop all packets of containers".to_owned(),
        tables => format!(
            "no rules that can be read drop all packets of containers; iptables-legacy -S FORWARD \
             shows those of iptables-legacy, which cannot ({})",
            tables.join(", ")
        ),
    };
    Finding { subject, works: true, detail, mend: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_says_what_does_not_work_and_by_whom() {
        let barrier = || Barrier {
            family: "ip".to_owned(),
            table: "filter".to_owned(),
            chain: "FORWARD".to_owned(),
            mend: vec!["iptables -I FORWARD -o wythe0 -j ACCEPT".to_owned()],
        };
        let free = Passage { bridge: "wythe0".to_owned(), ..Passage::default() };
        assert_eq!(warning(&free, true), None);
        assert!(told(&free).works);
        let closed = Passage { published: vec![barrier()], ..free.clone() };
        assert_eq!(warning(&closed, false), None, "it publishes nothing");
        let text = warning(&closed, true).unwrap();
        assert!(text.starts_with("published ports do not answer other hosts"), "{text}");
        let shut = Passage { out: vec![barrier()], ..closed };
        let text = warning(&shut, false).unwrap();
        assert!(
            text.contains("chain FORWARD of table ip filter") && !text.contains('\n'),
            "{text}"
        );
        let told = told(&shut);
        assert_eq!(told.mend.as_deref(), Some("iptables -I FORWARD -o wythe0 -j ACCEPT"));
    }
}

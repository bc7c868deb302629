//! Whether the host's own forward policy lets containers' packets through, and what would make it.
//!
//! A packet must pass every table. On a host that drops what it does not know (Docker's `FORWARD`
//! chain, ufw, a hand-written default-drop), ours alone does not help.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};
use sys::netlink::Batch;

use crate::{
    ChainPolicy, Host, InterfaceName, NetworkError,
    error::wrong,
    link::{self, Link},
    policy::{Asked, Hook, Rules, State, family_name},
    publish::gate_of,
};

/// Chains of the host that let nothing of containers through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// The bridge.
    pub bridge: String,
    /// What drops packets from containers to elsewhere, or the answers.
    pub out: Vec<Barrier>,
    /// What drops packets from elsewhere to published ports.
    pub published: Vec<Barrier>,
    /// Tables of iptables-legacy, which cannot be read here and may drop, too.
    pub unread: Vec<String>,
}

/// A chain that lets nobody pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Barrier {
    /// `ip`, `ip6` or `inet`.
    pub family: String,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// Commands of whoever made it that let containers through, one a line.
    pub mend: Vec<String>,
}

impl fmt::Display for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chain {} of table {} {}", self.chain, self.family, self.table)
    }
}

impl Passage {
    /// Everything that drops, once each.
    pub fn barriers(&self) -> impl Iterator<Item = &Barrier> {
        let more = self.published.iter().filter(|one| !self.out.contains(one));
        self.out.iter().chain(more)
    }
}

/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
const FAMILIES: [u8; 2] = [2, 10];

impl Host {
    /// What of the host's own rules drops packets of containers on a bridge. Only what is certain
    /// is said: a chain that lets some pass is its administrator's choice.
    ///
    /// # Errors
    /// If the kernel does not tell of its rules.
    pub fn passage(&self, bridge: &InterfaceName, ipv6: bool) -> Result<Passage, NetworkError> {
        let rules = self.rules().map_err(NetworkError::Table)?;
        let gate = gate_of(self.table().name());
        let families = FAMILIES.iter().copied().filter(|family| ipv6 || *family == FAMILIES[0]);
        let way_out = self.way_out()?;
        let mut passage = Passage { bridge: bridge.to_string(), ..Passage::default() };
        for family in families {
            let mut look = |into: fn(&mut Passage) -> &mut Vec<Barrier>, asked: Asked<'_>| {
                for barrier in barriers(&rules, bridge, asked) {
                    let list = into(&mut passage);
                    if !list.contains(&barrier) {
                        list.push(barrier);
                    }
                }
            };
            let packet = Asked {
                protocol: TCP,
                port: None,
                arrives_by: None,
                leaves_by: None,
                family: Some(family),
                state: State::New,
            };
            let name = Some(bridge.as_str());
            let leaves_by = way_out.as_deref();
            let outward = Asked { arrives_by: name, leaves_by, ..packet };
            look(|passage| &mut passage.out, outward);
            let answer = Asked { leaves_by: name, state: State::Established, ..packet };
            look(|passage| &mut passage.out, answer);
            let arrives_by = Some(gate.out_of.as_str());
            let state = State::Published;
            let first = Asked { arrives_by, leaves_by: name, state, ..packet };
            look(|passage| &mut passage.published, first);
        }
        passage.unread = self.legacy()?;
        Ok(passage)
    }

    /// The link by which packets to the world leave, if there is one way.
    fn way_out(&self) -> Result<Option<String>, NetworkError> {
        let failed = || wrong("list routes of", "the host");
        let mut batch = Batch::default();
        link::get_routes(&mut batch);
        let routes = self.collect(batch, link::read_route).map_err(failed())?;
        let default = routes.into_iter().filter(|(to, _)| to.prefix() == 0);
        let ways: BTreeSet<u32> = default.filter_map(|(_, link)| link).collect();
        let mut batch = Batch::default();
        link::get_all(&mut batch);
        let links = self.collect(batch, Link::read).map_err(failed())?;
        let mut names = links.into_iter().filter(|link| ways.contains(&link.index));
        let name = names.next().map(|link| link.name);
        Ok(name.filter(|_| names.next().is_none()))
    }
}

const TCP: u8 = 6;

pub(crate) fn barriers(rules: &Rules, bridge: &InterfaceName, asked: Asked<'_>) -> Vec<Barrier> {
    let chains = rules.judge(Hook::Forward, asked);
    let dropping = chains.into_iter().filter(ChainPolicy::lets_nobody);
    dropping
        .map(|ChainPolicy { family, table, chain, .. }| {
            let has = |name: &str| {
                rules.chains.iter().any(|other| {
                    let with = (other.table.as_str(), family_name(other.family));
                    with == (table.as_str(), family.as_str()) && other.name == name
                })
            };
            let mend = mend(&family, &table, &chain, bridge, has);
            Barrier { family, table, chain, mend }
        })
        .collect()
}

/// What lets containers through, in the words of the tool that made the chain.
fn mend(
    family: &str,
    table: &str,
    chain: &str,
    bridge: &InterfaceName,
    has: impl Fn(&str) -> bool,
) -> Vec<String> {
    let both = |line: &dyn Fn(&str) -> String| vec![line("i"), line("o")];
    if table == "firewalld" {
        return vec![
            format!("firewall-cmd --permanent --zone=trusted --add-interface={bridge}"),
            "firewall-cmd --reload".to_owned(),
        ];
    }
    if has("ufw-user-forward") || has("ufw6-user-forward") {
        let direction = |way: &str| if way == "i" { "in" } else { "out" };
        return both(&|way| format!("ufw route allow {} on {bridge}", direction(way)));
    }
    if table == "filter" && chain == "FORWARD" {
        let tool = if family == "ip6" { "ip6tables" } else { "iptables" };
        // Docker writes its own rules before those of FORWARD at every start, never into this one.
        let chain = if has("DOCKER-USER") { "DOCKER-USER" } else { chain };
        return both(&|way| format!("{tool} -I {chain} -{way} {bridge} -j ACCEPT"));
    }
    both(&|way| format!("nft insert rule {family} {table} {chain} {way}ifname \"{bridge}\" accept"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tool_that_made_a_chain_is_the_one_that_mends_it() {
        let bridge: InterfaceName = "wythe0".parse().unwrap();
        let of = |family, table, chain, others: &[&str]| {
            mend(family, table, chain, &bridge, |name| others.contains(&name)).join("; ")
        };
        assert_eq!(
            of("inet", "fw", "forward", &[]),
            "nft insert rule inet fw forward iifname \"wythe0\" accept; \
             nft insert rule inet fw forward oifname \"wythe0\" accept"
        );
        assert_eq!(
            of("ip6", "filter", "FORWARD", &[]),
            "ip6tables -I FORWARD -i wythe0 -j ACCEPT; ip6tables -I FORWARD -o wythe0 -j ACCEPT"
        );
        assert!(of("ip", "filter", "FORWARD", &["DOCKER-USER"]).contains("-I DOCKER-USER -i"));
        let ufw = of("ip", "filter", "FORWARD", &["ufw-user-forward"]);
        assert_eq!(ufw, "ufw route allow in on wythe0; ufw route allow out on wythe0");
        assert!(of("inet", "firewalld", "filter_FORWARD", &[]).contains("--zone=trusted"));
    }
}

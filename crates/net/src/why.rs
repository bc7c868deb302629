//! Who can reach a published port, and through which rule.

use std::{collections::BTreeSet, fs};

use serde::{Deserialize, Serialize};
use sys::netlink::Batch;

use crate::{
    Barrier, Host, InterfaceName, NetworkError, Protocol,
    passage::barriers,
    policy::{
        Asked, ChainPolicy, Elements, Hook, RawChain, RawRule, Rules, State, get_chains,
        get_elements, get_rules,
    },
    publish::gate_of,
};

/// Tables of iptables' own kind, which netlink does not tell of. Source: iptables-legacy(8).
const LEGACY: [(&str, &str); 2] =
    [("ip", "/proc/net/ip_tables_names"), ("ip6", "/proc/net/ip6_tables_names")];

/// What the host's own rules say of a published port. Ours are not among them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// What every chain at `input` does with a new connection to the host's port; all of them
    /// must let it pass.
    pub input: Vec<ChainPolicy>,
    /// What every chain at `forward` does with it on its way to the container's port.
    pub forward: Vec<ChainPolicy>,
    /// Those at `forward` that let nobody pass, and what would make them.
    #[serde(default)]
    pub barriers: Vec<Barrier>,
    /// Tables of iptables-legacy, which have a say too and cannot be read here.
    pub unread: Vec<String>,
}

impl Host {
    /// What the host's own rules say of new connections to a port that leads to `inside` by a
    /// bridge.
    ///
    /// # Errors
    /// If the kernel does not tell of its rules.
    pub fn admission(
        &self,
        protocol: Protocol,
        port: u16,
        inside: u16,
        bridge: &InterfaceName,
    ) -> Result<Admission, NetworkError> {
        let rules = self.rules().map_err(NetworkError::Table)?;
        let protocol = match protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        };
        let gate = gate_of(self.table().name());
        let arriving = Asked {
            protocol,
            port: Some(port),
            arrives_by: None,
            leaves_by: None,
            family: None,
            state: State::New,
        };
        let forwarded = Asked {
            port: Some(inside),
            arrives_by: Some(gate.out_of.as_str()),
            leaves_by: Some(bridge.as_str()),
            state: State::Published,
            ..arriving
        };
        Ok(Admission {
            input: rules.judge(Hook::Input, arriving),
            forward: rules.judge(Hook::Forward, forwarded),
            barriers: barriers(&rules, bridge, forwarded),
            unread: self.legacy()?,
        })
    }

    /// Tables of iptables-legacy that are in force.
    pub(crate) fn legacy(&self) -> Result<Vec<String>, NetworkError> {
        self.run(|| Ok(legacy())).map_err(NetworkError::Open)
    }

    /// All chains and rules but ours, and the sets they look into.
    pub(crate) fn rules(&self) -> Result<Rules, sys::netlink::NetlinkError> {
        let mut table = self.table();
        let ours = table.name().to_owned();
        let mut rules = Rules::default();
        let mut batch = Batch::default();
        get_chains(&mut batch);
        table.query(batch, |body| rules.chains.extend(RawChain::read(body)))?;
        let mut batch = Batch::default();
        get_rules(&mut batch);
        table.query(batch, |body| rules.rules.extend(RawRule::read(body)))?;
        rules.chains.retain(|chain| chain.table != ours);
        rules.rules.retain(|rule| rule.table != ours);
        let sets: BTreeSet<_> = rules.rules.iter().flat_map(RawRule::sets).collect();
        for (family, of, set) in sets {
            let mut batch = Batch::default();
            get_elements(&mut batch, family, &of, &set);
            let mut elements = Elements::default();
            table.query(batch, |body| elements.read(body))?;
            rules.sets.insert((family, of, set), elements);
        }
        Ok(rules)
    }
}

fn legacy() -> Vec<String> {
    let named = |(family, path): (&str, &str)| {
        let names = fs::read_to_string(path).unwrap_or_default();
        names.lines().map(|name| format!("{family} {name}")).collect::<Vec<_>>()
    };
    LEGACY.into_iter().flat_map(named).collect()
}

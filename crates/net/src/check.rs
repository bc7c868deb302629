//! Looking without changing, for `doctor`.

use crate::{
    Host, InterfaceName, NetworkError,
    error::wrong,
    link::{self, Link},
    publish::gate_of,
    table::{self, Contents},
};
use std::collections::BTreeSet;
use sys::netlink::Batch;

impl Host {
    /// The cables of endpoints that are plugged into this bridge; none if there is no bridge.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn cables(&self, bridge: &InterfaceName) -> Result<Vec<InterfaceName>, NetworkError> {
        let Some(bridge_link) = self.link(bridge)? else { return Ok(Vec::new()) };
        let mut batch = Batch::default();
        link::get_all(&mut batch);
        let failed = wrong("list ports of", bridge.as_str());
        let links = self.collect(batch, Link::read).map_err(failed)?;
        let plugged = links.into_iter().filter(|link| link.master == Some(bridge_link.index));
        Ok(plugged
            .filter(|link| InterfaceName::is_of_endpoint(&link.name) && !self.is_spare(&link.name))
            .filter_map(|link| link.name.parse().ok())
            .collect())
    }

    /// The links whose names begin like this and have eight digits more: bridges of networks, and
    /// what was made for a network to lie on.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn links_like(&self, prefix: &str) -> Result<Vec<InterfaceName>, NetworkError> {
        const DIGITS: usize = 8;
        let mut batch = Batch::default();
        link::get_all(&mut batch);
        let links = self.collect(batch, Link::read).map_err(wrong("list links of", "the host"))?;
        let ours = |name: &str| {
            let rest = name.strip_prefix(prefix).map(str::as_bytes).unwrap_or_default();
            rest.len() == DIGITS && rest.iter().all(u8::is_ascii_hexdigit)
        };
        let ours = links.into_iter().filter(|link| ours(&link.name));
        Ok(ours.filter_map(|link| link.name.parse().ok()).collect())
    }

    /// Removes a cable. Nothing happens if it is not there.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn remove_cable(&self, cable: &InterfaceName) -> Result<(), NetworkError> {
        self.unplug(cable).map_err(wrong("remove", cable.as_str()))
    }

    /// Writes our rules into a table of another name and removes it: whether the kernel takes
    /// them.
    ///
    /// # Errors
    /// [`NetworkError::Table`].
    pub fn try_rules(&self) -> Result<(), NetworkError> {
        let mut ours = self.table();
        let name = format!("{}-probe", ours.name());
        let known = self.known_families();
        let all = Contents { entries: BTreeSet::new(), gate: Some(gate_of(&name)) };
        let written = ours.converse(table::rewrite(&name, &known, &all));
        let removed = ours.converse(table::remove(&name, &known));
        written.and(removed).map_err(NetworkError::Table)
    }
}

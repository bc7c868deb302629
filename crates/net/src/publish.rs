//! Published ports on a host: our tables, the gate, and the flows that must follow.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use sys::netlink::{Batch, NetlinkError, Socket};

use crate::{
    Forward, Host, InterfaceName, Mac, Network, NetworkError, Protocol,
    conntrack::{self, Flow},
    error::wrong,
    host::gone,
    link,
    nft::{Family, Transaction},
    reserve::is_carried,
    table::{self, Contents, Entry, Gate},
};

/// Our nftables tables, and the socket for them.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) socket: Socket,
    /// What they say; none if another process wrote them last.
    pub(crate) says: Option<Contents>,
    /// Somebody else has been at them: they are to be written anew, whatever they said.
    pub(crate) doubted: bool,
}

/// Most ports whose flows are asked for one by one.
const PORTS_ONE_BY_ONE_MAX: usize = 16;

impl Host {
    /// Makes our nftables tables say exactly this, in one transaction: these networks may talk to
    /// the world, and these ports lead to containers.
    ///
    /// The first call writes the whole tables, whatever an earlier process left in them; later
    /// ones send what changed. Every call takes the whole wanted state, so that recovery is the
    /// same call. A table that someone else removed is written anew.
    ///
    /// # Errors
    /// [`NetworkError::Table`] with what the kernel refused; the tables are as they were then.
    pub fn publish(&self, networks: &[&Network], forwards: &[Forward]) -> Result<(), NetworkError> {
        let (direct, forwards): (Vec<_>, Vec<_>) =
            forwards.iter().copied().partition(Forward::is_direct);
        let is_carried = |forward: &&Forward| is_carried(forward.host.ip());
        let carried: Vec<_> = forwards.iter().filter(is_carried).copied().collect();
        let led: Vec<_> = forwards.iter().filter(|f| !is_carried(f)).copied().collect();
        let mut table = self.table();
        let gate = match (led.as_slice(), table.says.as_ref().and_then(|says| says.gate.as_ref())) {
            ([], gate) => gate.cloned(),
            (_, gate) => Some(self.ensure_gate(&table.name, gate)?),
        };
        let open = [led, direct].concat();
        let want = Contents { entries: table::wanted(networks, &open), gate };
        let known = self.known_families();
        let said = table.write(&known, &want).map_err(NetworkError::Table)?;
        if let Err(error) = self.forget_flows(&mut table.socket, &said, &want.entries) {
            tracing::warn!(%error, "UDP flows that were open before may miss a published port");
        }
        drop(table);
        match (&self.outside, &self.loopback) {
            (Some(outside), _) => outside.lead(&forwards).map_err(NetworkError::Outside),
            (None, Some(loopback)) => loopback.lead(&carried).map_err(NetworkError::Outside),
            (None, None) => Ok(()),
        }
    }

    /// The gate: made if it is not there.
    fn ensure_gate(&self, table: &str, have: Option<&Gate>) -> Result<Gate, NetworkError> {
        let names = gate_names(table);
        let [into, out_of] = &names;
        let (own, to4, to6) = gate_addresses(table);
        let index = |name: &InterfaceName| Ok(self.link(name)?.map(|link| link.index));
        let gate = gate_of(table);
        if have == Some(&gate) && index(into)?.is_some() {
            return Ok(gate);
        }
        let failed = || wrong("make the gate", into.as_str());
        let mut batch = Batch::default();
        // What an earlier process left may be half made.
        link::remove(&mut batch, into.as_str());
        gone(self.links().execute(batch)).map_err(failed())?;
        let mut batch = Batch::default();
        let mac = Mac::of_address(own);
        link::add_gate(&mut batch, into.as_str(), out_of.as_str(), mac, self.families);
        self.links().execute(batch).map_err(failed())?;
        let (Some(way_in), Some(way_out)) = (index(into)?, index(out_of)?) else {
            return Err(failed()(NetlinkError::from(rustix::io::Errno::NODEV)));
        };
        let mut batch = Batch::default();
        link::add_gate_address(&mut batch, way_out, own);
        link::add_host_route(&mut batch, way_in, to4.into());
        if self.has_ipv6() {
            link::add_host_route(&mut batch, way_in, to6.into());
        }
        self.links().execute(batch).map_err(failed())?;
        Ok(gate)
    }

    /// Forgets UDP flows that would go elsewhere if they began now.
    fn forget_flows(
        &self,
        socket: &mut Socket,
        have: &BTreeSet<Entry>,
        want: &BTreeSet<Entry>,
    ) -> Result<(), NetlinkError> {
        let published = udp_ports(want.difference(have));
        let withdrawn = udp_ports(have.difference(want));
        if published.is_empty() && withdrawn.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::default();
        link::get_addresses(&mut batch);
        let local: Vec<IpAddr> =
            self.collect(batch, link::read_address)?.into_iter().map(|(_, ip, _)| ip).collect();
        let mut stale = Batch::default();
        for ask in dumps(published.iter().chain(&withdrawn)) {
            socket.query(ask, |_, body| {
                if let Some(flow) = Flow::read(body)
                    && flow.is_stale(&published, &withdrawn, &local)
                {
                    conntrack::delete(&mut stale, &flow);
                }
            })?;
        }
        if stale.is_empty() { Ok(()) } else { gone(socket.execute(stale)) }
    }

    /// Removes our tables and these networks: the host is as it was.
    ///
    /// Packets are forwarded on if it was not we who turned that on, or if there are bridges
    /// beside ours, which may rely on it.
    ///
    /// # Errors
    /// The first failure; the others are tried all the same.
    pub fn remove_everything(&self, networks: &[&Network]) -> Result<(), NetworkError> {
        let changed = self.forwarding_to_put_back(networks);
        let (removed, name) = {
            let mut table = self.table();
            (table.remove(&self.known_families()), table.name.clone())
        };
        let mut results = vec![removed.map_err(NetworkError::Table)];
        let [into, _] = gate_names(&name);
        let mut batch = Batch::default();
        link::remove(&mut batch, into.as_str());
        let ungated = gone(self.links().execute(batch));
        results.push(ungated.map_err(wrong("remove the gate", into.as_str())));
        results.push(self.no_longer_quiet().map_err(NetworkError::Table));
        results.extend(networks.iter().map(|network| self.remove_network(network)));
        results.push(changed.and_then(|changed| self.put_forwarding_back(&changed)));
        results.into_iter().collect()
    }
}

impl Table {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Asks for what is not ours; what is gone meanwhile says nothing.
    pub(crate) fn query(
        &mut self,
        batch: Batch,
        mut read: impl FnMut(&[u8]),
    ) -> Result<(), NetlinkError> {
        gone(self.socket.query(batch, |_, body| read(body)))
    }

    /// Carries out a transaction on tables that are not these.
    pub(crate) fn converse(&mut self, transaction: Transaction<'_>) -> Result<(), NetlinkError> {
        self.socket.execute(transaction.finish())
    }

    fn remove(&mut self, known: &[Family]) -> Result<(), NetlinkError> {
        self.says = None;
        self.socket.execute(table::remove(&self.name, known).finish())
    }

    /// Makes the tables say this, and returns what they knew, as far as known.
    fn write(
        &mut self,
        known: &[Family],
        want: &Contents,
    ) -> Result<BTreeSet<Entry>, NetlinkError> {
        let said = self.says.take();
        let amended = !self.doubted
            && said.as_ref().is_some_and(|said| {
                // Where this fails, somebody else has changed the tables or removed them.
                said == want
                    || table::amend(&self.name, said, want).is_some_and(|transaction| {
                        self.socket.execute(transaction.finish()).is_ok()
                    })
            });
        if !amended {
            self.socket.execute(table::rewrite(&self.name, known, want).finish())?;
        }
        self.says = Some(want.clone());
        self.doubted = false;
        Ok(said.map(|said| said.entries).unwrap_or_default())
    }
}

/// The dumps that show all flows which may lead to these, in as few as is sensible.
fn dumps<'a>(forwards: impl Iterator<Item = &'a Forward>) -> Vec<Batch> {
    let family = |forward: &Forward| match forward.host.is_ipv4() {
        true => Family::V4,
        false => Family::V6,
    };
    let ports: BTreeSet<_> = forwards.map(|f| (family(f), f.host.port())).collect();
    let families: BTreeSet<_> = ports.iter().map(|(family, _)| *family).collect();
    let batch = |fill: &dyn Fn(&mut Batch)| {
        let mut batch = Batch::default();
        fill(&mut batch);
        batch
    };
    if ports.len() > PORTS_ONE_BY_ONE_MAX {
        return families.iter().map(|f| batch(&|b| conntrack::get_all(b, *f))).collect();
    }
    ports.iter().map(|(f, port)| batch(&|b| conntrack::get_udp(b, *f, *port))).collect()
}

fn udp_ports<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<Forward> {
    let udp = |entry: &Entry| match entry {
        Entry::Port(forward) if forward.protocol == Protocol::Udp => Some(*forward),
        Entry::Port(_)
        | Entry::Bridge(_)
        | Entry::Within(_)
        | Entry::Internal(_)
        | Entry::Subnet(_)
        | Entry::Subnet6(_)
        | Entry::Masked(_)
        | Entry::Masked6(_)
        | Entry::Unguarded(_)
        | Entry::Unguarded6(_)
        | Entry::Routed(_)
        | Entry::Routed6(_)
        | Entry::Direct(..) => None,
    };
    entries.filter_map(udp).collect()
}

/// The gate that goes with a table.
pub(crate) fn gate_of(table: &str) -> Gate {
    let [_, out_of] = gate_names(table);
    let (_, to4, to6) = gate_addresses(table);
    Gate { into: (to4, to6), out_of }
}

/// The names of the gate's links: what is sent into the one comes out of the other.
pub(crate) fn gate_names(table: &str) -> [InterfaceName; 2] {
    /// Longest part of the table's name that leaves room for what follows.
    const STEM_MAX: usize = 11;
    let stem: String = table.chars().take(STEM_MAX).collect();
    ["out", "in"].map(|end| {
        format!("{stem}-{end}").parse().expect("tables are named like interfaces, and this fits")
    })
}

/// Addresses around the gate, by the table's name, so that gates of several daemons have
/// different ones: that of its end, in 127.0.0.0/8, and those that lead into it, one link-local
/// and one of the prefix that leads nowhere (RFC 3927, RFC 6666).
fn gate_addresses(table: &str) -> (Ipv4Addr, Ipv4Addr, Ipv6Addr) {
    let hash = table.bytes().fold(0x811c_u16, |h, b| (h ^ u16::from(b)).wrapping_mul(0x0193));
    let [a, b] = hash.to_be_bytes();
    // Keeps clear of 169.254.169.254, where clouds have their metadata, and of both ends.
    let to4 = Ipv4Addr::new(169, 254, 1 + (a & 0x7f), b);
    let to6 = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0x7779, hash);
    (Ipv4Addr::new(127, 119, a, b), to4, to6)
}

//! Forgetting flows that were tracked before a port was published, or while it was.
//!
//! A connection is translated by what the table said when its first packet came. A UDP sender
//! that never pauses (syslog, metrics) keeps its flow alive for ever: it would not notice that
//! its port leads to a container from now on, or to another one.
//!
//! Pure but for the two functions that write messages; numbers are those of
//! `linux/netfilter/nfnetlink_conntrack.h`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use sys::netlink::{Batch, DUMP, attributes};

use crate::{Forward, Protocol, nft::Family};

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_GET: u16 = NFNL_SUBSYS_CTNETLINK << 8 | 1;
const IPCTNL_MSG_CT_DELETE: u16 = NFNL_SUBSYS_CTNETLINK << 8 | 2;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
/// What of a tuple a dump is filtered by: protocol and destination port
/// (`nf_internals.h`, `CTA_FILTER_F_`).
const PROTOCOL_AND_PORT: u32 = 1 << 3 | 1 << 5;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
/// What marks an attribute that holds attributes. ctnetlink insists on it.
const NESTED: u16 = 0x8000;

/// A tracked flow: where it was sent, and who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    family: Family,
    protocol: u8,
    sent_to: SocketAddr,
    answered_by: SocketAddr,
    /// What names it to the kernel: its original tuple, and its id.
    tuple: Vec<u8>,
    id: Vec<u8>,
}

/// Asks for the tracked UDP flows of a family that were sent to a port.
///
/// The kernel picks them out (`CTA_FILTER`, Linux 5.8); an older one passes over what it does not
/// know and gives all there are.
pub(crate) fn get_udp(batch: &mut Batch, family: Family, port: u16) {
    batch.message(IPCTNL_MSG_CT_GET, DUMP, &[family.number(), 0, 0, 0], |a| {
        a.nest(CTA_TUPLE_ORIG | NESTED, |a| {
            a.nest(CTA_TUPLE_PROTO | NESTED, |a| {
                a.put(CTA_PROTO_NUM, &[Protocol::Udp.number()]);
                a.put(CTA_PROTO_DST_PORT, &port.to_be_bytes());
            });
        });
        a.nest(CTA_FILTER | NESTED, |a| {
            a.put(CTA_FILTER_ORIG_FLAGS, &PROTOCOL_AND_PORT.to_ne_bytes());
        });
    });
}

/// Asks for all tracked flows of a family.
pub(crate) fn get_all(batch: &mut Batch, family: Family) {
    batch.message(IPCTNL_MSG_CT_GET, DUMP, &[family.number(), 0, 0, 0], |_| ());
}

/// Forgets a flow.
pub(crate) fn delete(batch: &mut Batch, flow: &Flow) {
    batch.message(IPCTNL_MSG_CT_DELETE, 0, &[flow.family.number(), 0, 0, 0], |a| {
        a.put(CTA_TUPLE_ORIG | NESTED, &flow.tuple);
        a.put(CTA_ID, &flow.id);
    });
}

impl Flow {
    /// Reads what follows the header of a reply to [`get_udp`] or [`get_all`].
    pub(crate) fn read(body: &[u8]) -> Option<Flow> {
        let (mut tuple, mut reply, mut id) = (None, None, None);
        for (kind, value) in attributes(body.get(4..)?) {
            match kind {
                CTA_TUPLE_ORIG => tuple = Some(value),
                CTA_TUPLE_REPLY => reply = Some(value),
                CTA_ID => id = Some(value),
                _ => {}
            }
        }
        let (protocol, _, sent_to) = read_tuple(tuple?)?;
        let (_, answered_by, _) = read_tuple(reply?)?;
        let family = if sent_to.is_ipv4() { Family::V4 } else { Family::V6 };
        let (tuple, id) = (tuple?.into(), id?.into());
        Some(Flow { family, protocol, sent_to, answered_by, tuple, id })
    }

    /// Whether this flow would go elsewhere if it began now that this port is published.
    fn misses(&self, forward: &Forward, local: &[IpAddr]) -> bool {
        let here = match forward.host.ip() {
            ip if ip.is_unspecified() => local.contains(&self.sent_to.ip()),
            ip => ip == self.sent_to.ip(),
        };
        here && self.sent_to.port() == forward.host.port() && self.answered_by != forward.container
    }

    /// Whether this flow leads to a container by a port that is no longer published.
    fn lingers(&self, forward: &Forward) -> bool {
        self.sent_to.port() == forward.host.port() && self.answered_by == forward.container
    }

    /// Whether the flow has to be forgotten after these ports were published and those no longer.
    pub(crate) fn is_stale(
        &self,
        published: &[Forward],
        withdrawn: &[Forward],
        local: &[IpAddr],
    ) -> bool {
        self.protocol == Protocol::Udp.number()
            && (published.iter().any(|forward| self.misses(forward, local))
                || withdrawn.iter().any(|forward| self.lingers(forward)))
    }
}

/// Protocol, source and destination.
fn read_tuple(tuple: &[u8]) -> Option<(u8, SocketAddr, SocketAddr)> {
    let part = |bytes, wanted| attributes(bytes).find(|(kind, _)| *kind == wanted).map(|a| a.1);
    let (ip, transport) = (part(tuple, CTA_TUPLE_IP)?, part(tuple, CTA_TUPLE_PROTO)?);
    let address = |v4, v6| {
        let v4 = part(ip, v4).and_then(|a| a.first_chunk::<4>()).map(|a| Ipv4Addr::from(*a).into());
        let v6 =
            || part(ip, v6).and_then(|a| a.first_chunk::<16>()).map(|a| Ipv6Addr::from(*a).into());
        v4.or_else(v6)
    };
    let end = |v4, v6, port| {
        let port = part(transport, port)?.first_chunk().copied().map(u16::from_be_bytes)?;
        Some(SocketAddr::new(address(v4, v6)?, port))
    };
    let protocol = *part(transport, CTA_PROTO_NUM)?.first()?;
    let source = end(CTA_IP_V4_SRC, CTA_IP_V6_SRC, CTA_PROTO_SRC_PORT)?;
    Some((protocol, source, end(CTA_IP_V4_DST, CTA_IP_V6_DST, CTA_PROTO_DST_PORT)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(sent_to: &str, answered_by: &str) -> Flow {
        Flow {
            family: Family::V4,
            protocol: 17,
            sent_to: sent_to.parse().unwrap(),
            answered_by: answered_by.parse().unwrap(),
            tuple: Vec::new(),
            id: Vec::new(),
        }
    }

    fn forward(host: &str) -> Forward {
        Forward {
            host: host.parse().unwrap(),
            protocol: Protocol::Udp,
            container: "172.27.0.2:53".parse().unwrap(),
        }
    }

    #[test]
    fn flows_that_a_new_port_would_catch_are_stale_and_others_are_left_alone() {
        let local = [Ipv4Addr::new(10, 0, 0, 1).into()];
        let stale = |flow: Flow, host| flow.is_stale(&[forward(host)], &[], &local);
        let missed = || flow("10.0.0.1:53", "10.0.0.1:53");
        assert!(stale(missed(), "0.0.0.0:53"));
        assert!(stale(missed(), "10.0.0.1:53"));
        assert!(!stale(missed(), "10.0.0.2:53"));
        assert!(!stale(missed(), "0.0.0.0:54"));
        // What the host itself asks a server elsewhere.
        assert!(!stale(flow("8.8.8.8:53", "8.8.8.8:53"), "0.0.0.0:53"));
        // What leads to the container already.
        assert!(!stale(flow("10.0.0.1:53", "172.27.0.2:53"), "0.0.0.0:53"));
    }

    #[test]
    fn flows_to_a_container_whose_port_is_withdrawn_are_stale() {
        let stale = |flow: Flow| flow.is_stale(&[], &[forward("0.0.0.0:53")], &[]);
        assert!(stale(flow("10.0.0.1:53", "172.27.0.2:53")));
        assert!(!stale(flow("10.0.0.1:53", "172.27.0.3:53")));
        assert!(!stale(flow("10.0.0.1:54", "172.27.0.2:53")));
    }
}

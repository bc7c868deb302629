//! Forgetting flows that were tracked before a port was published, or while it was.
//!
//! A connection is translated by what the table said when its first packet came. A UDP sender
//! that never pauses (syslog, metrics) keeps its flow alive for ever: it would not notice that
//! its port leads to a container from now on, or to another one.
//!
//! Pure but for the two functions that write messages; numbers are those of
//! `linux/netfilter/nfnetlink_conntrack.h`.

use std::net::{Ipv4Addr, SocketAddrV4};

use sys::netlink::{Batch, DUMP, attributes};

use crate::{Forward, Protocol};

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_GET: u16 = NFNL_SUBSYS_CTNETLINK << 8 | 1;
const IPCTNL_MSG_CT_DELETE: u16 = NFNL_SUBSYS_CTNETLINK << 8 | 2;
const AF_INET: u8 = 2;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
/// What marks an attribute that holds attributes. ctnetlink insists on it.
const NESTED: u16 = 0x8000;

/// A tracked flow: where it was sent, and who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    protocol: u8,
    sent_to: SocketAddrV4,
    answered_by: SocketAddrV4,
    /// What names it to the kernel: its original tuple, and its id.
    tuple: Vec<u8>,
    id: Vec<u8>,
}

/// Asks for all tracked IPv4 flows.
pub(crate) fn get_all(batch: &mut Batch) {
    batch.message(IPCTNL_MSG_CT_GET, DUMP, &[AF_INET, 0, 0, 0], |_| ());
}

/// Forgets a flow.
pub(crate) fn delete(batch: &mut Batch, flow: &Flow) {
    batch.message(IPCTNL_MSG_CT_DELETE, 0, &[AF_INET, 0, 0, 0], |a| {
        a.put(CTA_TUPLE_ORIG | NESTED, &flow.tuple);
        a.put(CTA_ID, &flow.id);
    });
}

impl Flow {
    /// Reads what follows the header of a reply to [`get_all`].
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
        Some(Flow { protocol, sent_to, answered_by, tuple: tuple?.into(), id: id?.into() })
    }

    /// Whether this flow would go elsewhere if it began now that this port is published.
    fn misses(&self, forward: &Forward, local: &[Ipv4Addr]) -> bool {
        let here = match forward.host.ip() {
            ip if ip.is_unspecified() => local.contains(self.sent_to.ip()),
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
        local: &[Ipv4Addr],
    ) -> bool {
        self.protocol == Protocol::Udp.number()
            && (published.iter().any(|forward| self.misses(forward, local))
                || withdrawn.iter().any(|forward| self.lingers(forward)))
    }
}

/// Protocol, source and destination.
fn read_tuple(tuple: &[u8]) -> Option<(u8, SocketAddrV4, SocketAddrV4)> {
    let part = |bytes, wanted| attributes(bytes).find(|(kind, _)| *kind == wanted).map(|a| a.1);
    let (ip, transport) = (part(tuple, CTA_TUPLE_IP)?, part(tuple, CTA_TUPLE_PROTO)?);
    let end = |address, port| {
        let address = part(ip, address)?.first_chunk::<4>().copied()?;
        let port = part(transport, port)?.first_chunk().copied().map(u16::from_be_bytes)?;
        Some(SocketAddrV4::new(address.into(), port))
    };
    let protocol = *part(transport, CTA_PROTO_NUM)?.first()?;
    let source = end(CTA_IP_V4_SRC, CTA_PROTO_SRC_PORT)?;
    Some((protocol, source, end(CTA_IP_V4_DST, CTA_PROTO_DST_PORT)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(sent_to: &str, answered_by: &str) -> Flow {
        Flow {
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
        let local = [Ipv4Addr::new(10, 0, 0, 1)];
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

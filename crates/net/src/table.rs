//! What our nftables table says, and how to get from what it says to what it should.
//!
//! Pure. The rules never change; what changes are the elements of the sets they look into, so
//! that publishing a port costs one message and a packet is matched in constant time however many
//! ports are published.
//!
//! ```text
//! raw                 drop what comes from outside for, or as if from, 127.0.0.0/8
//! prerouting, output  (nat) a local address and a published port lead to a container
//! postrouting         (nat) masquerade what leaves the containers' subnets, what containers send
//!                     to each other through published ports, what the host sends from 127.0.0.1
//! forward             to a container: established, published, from its own network; else drop
//! ```
//!
//! `output` makes a published port reachable from the host itself. With 127.0.0.1 that needs
//! `route_localnet` on the bridges, which would let containers speak to the host's loopback
//! services; and a port published on 127.0.0.1 only must not be had by sending that address over
//! the wire. `raw` keeps both from happening (CVE-2020-8558 is the story of its absence).
//!
//! A chain of another table may still drop what `forward` accepts: in nftables every table has
//! its say. On a host whose own forward policy is "drop", its administrator must let the bridges
//! through.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddrV4},
};

use crate::{
    Forward, InterfaceName, Ipv4Net, Network,
    nft::{Chain, DataType, Hook, Register, Set, SetElement, Step, Transaction},
};

/// The name of our table, of family `ip`.
pub(crate) const TABLE: &str = "wythe";

/// Names of the bridges.
const BRIDGES: Set =
    Set { name: "bridges", key: DataType::INTERFACE, value: None, interval: false };
/// Each bridge's name twice: what arrives by a bridge and leaves by the same.
const WITHIN: Set = Set {
    name: "within",
    key: DataType::INTERFACE.then(DataType::INTERFACE),
    value: None,
    interval: false,
};
/// The containers' addresses.
const SUBNETS: Set = Set { name: "subnets", key: DataType::ADDRESS, value: None, interval: true };
/// Ports published on all of the host's addresses, and where they lead.
const PORTS: Set = Set {
    name: "ports",
    key: DataType::PROTOCOL.then(DataType::PORT),
    value: Some(DataType::ADDRESS.then(DataType::PORT)),
    interval: false,
};
/// Ports published on one address of the host, and where they lead.
const PORTS_AT: Set = Set {
    name: "ports-at",
    key: DataType::ADDRESS.then(DataType::PROTOCOL).then(DataType::PORT),
    value: Some(DataType::ADDRESS.then(DataType::PORT)),
    interval: false,
};
const SETS: [&Set; 5] = [&BRIDGES, &WITHIN, &SUBNETS, &PORTS, &PORTS_AT];

/// Hooks and priorities as nft(8) names them: raw is -300, dstnat -100, filter 0, srcnat 100.
const RAW: Chain = chain("raw", "filter", 0, -300);
const PREROUTING: Chain = chain("prerouting", "nat", 0, -100);
const OUTPUT: Chain = chain("output", "nat", 3, -100);
const POSTROUTING: Chain = chain("postrouting", "nat", 4, 100);
const FORWARD: Chain = chain("forward", "filter", 2, 0);

const fn chain(name: &'static str, kind: &'static str, number: u32, priority: i32) -> Chain {
    Chain { name, hook: Hook { kind, number, priority } }
}

/// One thing that the table knows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Entry {
    Bridge(InterfaceName),
    Subnet(Ipv4Net),
    Port(Forward),
}

/// Everything that the table should know.
pub(crate) fn wanted(networks: &[&Network], forwards: &[Forward]) -> BTreeSet<Entry> {
    let bridges = networks.iter().map(|network| Entry::Bridge(network.bridge.clone()));
    let subnets = networks.iter().map(|network| Entry::Subnet(network.subnet));
    let ports = forwards.iter().copied().map(Entry::Port);
    bridges.chain(subnets).chain(ports).collect()
}

/// The transaction that makes the table and all its entries, whatever was there before.
pub(crate) fn rewrite(want: &BTreeSet<Entry>) -> Transaction {
    let mut transaction = Transaction::new(TABLE);
    // To add first lets the deletion succeed where there is no table.
    transaction.add_table();
    transaction.delete_table();
    transaction.add_table();
    SETS.iter().for_each(|set| transaction.add_set(set));
    for (chain, rules) in rules() {
        transaction.add_chain(&chain);
        rules.iter().for_each(|rule| transaction.add_rule(chain.name, rule));
    }
    for (set, elements) in by_set(want.iter()) {
        transaction.add_elements(set.name, &elements);
    }
    transaction
}

/// The transaction from what the table knows to what it should; none if that is the same.
pub(crate) fn amend(have: &BTreeSet<Entry>, want: &BTreeSet<Entry>) -> Option<Transaction> {
    if have == want {
        return None;
    }
    let mut transaction = Transaction::new(TABLE);
    for (set, elements) in by_set(have.difference(want)) {
        transaction.delete_elements(set.name, &elements);
    }
    for (set, elements) in by_set(want.difference(have)) {
        transaction.add_elements(set.name, &elements);
    }
    Some(transaction)
}

/// The transaction that leaves no table.
pub(crate) fn remove() -> Transaction {
    let mut transaction = Transaction::new(TABLE);
    transaction.add_table();
    transaction.delete_table();
    transaction
}

/// The elements that some entries are, set by set.
fn by_set<'a>(
    entries: impl Iterator<Item = &'a Entry>,
) -> impl Iterator<Item = (&'static Set, Vec<SetElement>)> {
    let mut lists = SETS.map(|set| (set, Vec::new()));
    for (set, element) in entries.flat_map(elements) {
        if let Some((_, list)) = lists.iter_mut().find(|(of, _)| of.name == set.name) {
            list.push(element);
        }
    }
    lists.into_iter().filter(|(_, list)| !list.is_empty())
}

fn elements(entry: &Entry) -> Vec<(&'static Set, SetElement)> {
    let plain = |key: Vec<u8>| SetElement { key, value: Vec::new(), ends_interval: false };
    match entry {
        Entry::Bridge(name) => {
            let name = name.padded();
            vec![(&BRIDGES, plain(name.into())), (&WITHIN, plain([name, name].concat()))]
        }
        Entry::Subnet(net) => {
            let after = Ipv4Addr::from_bits(net.broadcast().to_bits().wrapping_add(1));
            let end = SetElement { ends_interval: true, ..plain(after.octets().into()) };
            vec![(&SUBNETS, plain(net.address().octets().into())), (&SUBNETS, end)]
        }
        Entry::Port(Forward { host, protocol, container }) => {
            let key = [[protocol.number(), 0, 0, 0], port(*host)].concat();
            let value = [container.ip().octets(), port(*container)].concat();
            let (set, key) = match host.ip().octets() {
                [0, 0, 0, 0] => (&PORTS, key),
                address => (&PORTS_AT, [&address[..], &key].concat()),
            };
            vec![(set, SetElement { key, value, ends_interval: false })]
        }
    }
}

/// A port as it lies in a register.
fn port(address: SocketAddrV4) -> [u8; 4] {
    let [high, low] = address.port().to_be_bytes();
    [high, low, 0, 0]
}

fn rules() -> Vec<(Chain, Vec<Vec<Step>>)> {
    vec![
        (RAW, loopback_guard()),
        (PREROUTING, published()),
        (OUTPUT, published()),
        (POSTROUTING, masquerading()),
        (FORWARD, forwarding()),
    ]
}

/// Four registers, then four more: enough for two interfaces' names.
const A: Register = Register(0);
const B: Register = Register(1);
const C: Register = Register(2);
const E: Register = Register(4);

/// `iifname != "lo" ip saddr|daddr 127.0.0.0/8 drop`
fn loopback_guard() -> Vec<Vec<Step>> {
    let lo = [&b"lo"[..], &[0; 14]].concat();
    let guard = |offset| {
        rule(&[
            &[Step::Meta { key: META_IIFNAME, to: A }],
            &[Step::NotEqual { register: A, value: lo.clone() }],
            &within_loopback_net(offset),
            &[Step::Drop],
        ])
    };
    vec![guard(IP_SOURCE), guard(IP_DESTINATION)]
}

/// `dnat to ip daddr . meta l4proto . th dport map @ports-at` and
/// `fib daddr type local dnat to meta l4proto . th dport map @ports`
fn published() -> Vec<Vec<Step>> {
    const RTN_LOCAL: u32 = 2;
    let to_container = |set: &Set| {
        [
            Step::Map { register: A, set: set.name, to: A },
            Step::DestinationNat { address: A, port: B },
        ]
    };
    vec![
        rule(&[
            &[ip(IP_DESTINATION, 4, A), Step::Meta { key: META_L4PROTO, to: B }],
            &[destination_port(C)],
            &to_container(&PORTS_AT),
        ]),
        rule(&[
            &[Step::DestinationType { to: A }],
            &[Step::Equal { register: A, value: RTN_LOCAL.to_ne_bytes().into() }],
            &[Step::Meta { key: META_L4PROTO, to: A }, destination_port(B)],
            &to_container(&PORTS),
        ]),
    ]
}

/// `ip saddr 127.0.0.0/8 oifname @bridges masquerade`,
/// `ip saddr @subnets ct status dnat oifname @bridges masquerade` and
/// `ip saddr @subnets oifname != @bridges masquerade`
fn masquerading() -> Vec<Vec<Step>> {
    let from_container = [ip(IP_SOURCE, 4, A), Step::In { register: A, set: SUBNETS.name }];
    let outward =
        [Step::Meta { key: META_OIFNAME, to: A }, Step::NotIn { register: A, set: BRIDGES.name }];
    let masquerade = [Step::Masquerade];
    vec![
        rule(&[&within_loopback_net(IP_SOURCE), &to_bridge(), &masquerade]),
        rule(&[&from_container, &translated(), &to_bridge(), &masquerade]),
        rule(&[&from_container, &outward, &masquerade]),
    ]
}

/// `oifname @bridges ct state established,related accept`,
/// `oifname @bridges ct status dnat accept`,
/// `iifname . oifname @within accept` and
/// `oifname @bridges drop`
fn forwarding() -> Vec<Vec<Step>> {
    /// `NF_CT_STATE_BIT` of established and of related.
    const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
    let known = has_bits(CT_STATE, ESTABLISHED_OR_RELATED);
    let same_bridge = [
        Step::Meta { key: META_IIFNAME, to: A },
        Step::Meta { key: META_OIFNAME, to: E },
        Step::In { register: A, set: WITHIN.name },
    ];
    vec![
        rule(&[&to_bridge(), &known, &[Step::Accept]]),
        rule(&[&to_bridge(), &translated(), &[Step::Accept]]),
        rule(&[&same_bridge, &[Step::Accept]]),
        rule(&[&to_bridge(), &[Step::Drop]]),
    ]
}

/// Keys of `meta` and `ct`, from `enum nft_meta_keys` and `enum nft_ct_keys`.
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_L4PROTO: u32 = 16;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;

/// Where addresses lie in an IPv4 header (RFC 791).
const IP_SOURCE: u32 = 12;
const IP_DESTINATION: u32 = 16;

fn rule(parts: &[&[Step]]) -> Vec<Step> {
    parts.concat()
}

fn ip(offset: u32, length: u32, to: Register) -> Step {
    const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
    Step::Payload { base: NFT_PAYLOAD_NETWORK_HEADER, offset, length, to }
}

/// The port in a TCP or UDP header lies in its second two bytes (RFC 9293, RFC 768).
fn destination_port(to: Register) -> Step {
    const NFT_PAYLOAD_TRANSPORT_HEADER: u32 = 2;
    Step::Payload { base: NFT_PAYLOAD_TRANSPORT_HEADER, offset: 2, length: 2, to }
}

/// The first byte of an address is the whole prefix of 127.0.0.0/8.
fn within_loopback_net(offset: u32) -> [Step; 2] {
    [ip(offset, 1, A), Step::Equal { register: A, value: vec![127] }]
}

fn to_bridge() -> [Step; 2] {
    [Step::Meta { key: META_OIFNAME, to: A }, Step::In { register: A, set: BRIDGES.name }]
}

/// `ct status dnat`: the connection came to a published port.
fn translated() -> [Step; 3] {
    const IPS_DST_NAT: u32 = 1 << 5;
    has_bits(CT_STATUS, IPS_DST_NAT)
}

fn has_bits(key: u32, bits: u32) -> [Step; 3] {
    [
        Step::Connection { key, to: A },
        Step::Mask { register: A, mask: bits.to_ne_bytes().into() },
        Step::NotEqual { register: A, value: vec![0; 4] },
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn forward(host: &str, container: &str) -> Forward {
        Forward {
            host: host.parse().unwrap(),
            protocol: crate::Protocol::Udp,
            container: container.parse().unwrap(),
        }
    }

    #[test]
    fn a_port_on_all_addresses_and_one_on_a_single_address_lie_in_two_maps() {
        let all = elements(&Entry::Port(forward("0.0.0.0:53", "10.0.0.2:5353")));
        let (set, element) = &all[0];
        assert_eq!((set.name, &element.key[..]), ("ports", &[17, 0, 0, 0, 0, 53, 0, 0][..]));
        assert_eq!(element.value, [10, 0, 0, 2, 0x14, 0xe9, 0, 0]);
        let one = elements(&Entry::Port(forward("127.0.0.1:53", "10.0.0.2:5353")));
        assert_eq!(one[0].0.name, "ports-at");
        assert_eq!(one[0].1.key, [127, 0, 0, 1, 17, 0, 0, 0, 0, 53, 0, 0]);
    }

    #[test]
    fn keys_and_values_have_the_lengths_their_sets_declare() {
        let entries = [
            Entry::Bridge("wythe0".parse().unwrap()),
            Entry::Subnet("10.0.0.0/8".parse().unwrap()),
            Entry::Port(forward("0.0.0.0:53", "10.0.0.2:53")),
            Entry::Port(forward("127.0.0.1:53", "10.0.0.2:53")),
        ];
        let all: Vec<_> = entries.iter().flat_map(elements).collect();
        assert_eq!(all.len(), 6);
        for (set, element) in all {
            let value = set.value.map_or(0, |value| value.length);
            assert_eq!(element.key.len(), set.key.length.try_into().unwrap(), "{}", set.name);
            assert_eq!(element.value.len(), value.try_into().unwrap(), "{}", set.name);
        }
    }

    #[test]
    fn nothing_is_sent_when_nothing_changes() {
        let have = [Entry::Port(forward("0.0.0.0:53", "10.0.0.2:53"))].into();
        assert!(amend(&have, &have).is_none());
    }

    proptest! {
        #[test]
        fn amending_touches_only_what_differs(
            have in prop::collection::btree_set(1u16..50, 0..20),
            want in prop::collection::btree_set(1u16..50, 0..20),
        ) {
            let entries = |ports: &BTreeSet<u16>| ports.iter()
                .map(|port| Entry::Port(forward(&format!("0.0.0.0:{port}"), "10.0.0.2:1")))
                .collect::<BTreeSet<_>>();
            let sent = amend(&entries(&have), &entries(&want)).map_or(0, |t| t.finish().len());
            let gone = have.difference(&want).next().is_some();
            let come = want.difference(&have).next().is_some();
            let frames = if gone || come { 2 } else { 0 };
            prop_assert_eq!(sent, frames + usize::from(gone) + usize::from(come));
        }
    }
}

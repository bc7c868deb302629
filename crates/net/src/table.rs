//! What our nftables tables say, and how to get from what they say to what they should.
//!
//! Pure. There is one table for IPv4 and, on networks that have it, one for IPv6, with the same
//! chains. The rules change only with the gate; what changes otherwise are the elements of the
//! sets they look into, so that publishing a port costs one message and a packet is matched in
//! constant time however many ports are published.
//!
//! ```text
//! raw          what passes a network's branch is no connection yet; (ip) drop what comes from
//!              outside for, or as if from, 127.0.0.0/8
//! input        after all others: a new connection to a published port goes through the gate
//! prerouting   (nat) what comes out of the gate leads to a container
//! output       (nat) what the host itself sends to a published port leads to a container
//! postrouting  (nat) masquerade what leaves the containers' subnets, what containers send
//!              to each other through published ports, what the host sends from 127.0.0.1
//! forward      to a container: from its own network, established, published; else drop. Nothing
//!              passes between an internal network and what is outside. To one on a network that
//!              others have routes to: what was published of its own address, and ICMP; or, of one
//!              that is not protected, all that comes from beyond the host
//! ```
//!
//! The gate is how the host's own input policy decides about published ports. Translation happens
//! before `input`, so that a packet which is translated when it arrives never meets the rules of
//! `input`, the host administrator's among them. Here the first packet of a connection arrives
//! untranslated, is judged by every chain the host has at `input`, and only then meets ours, which
//! is the last: it sends the packet back in by the gate, a pair of linked interfaces, where it is
//! translated. All later packets belong to a translated connection and take the direct way.
//!
//! `output` makes a published port reachable from the host itself. With 127.0.0.1 that needs
//! `route_localnet` on the bridges, which would let containers speak to the host's loopback
//! services; and a port published on 127.0.0.1 only must not be had by sending that address over
//! the wire. `raw` keeps both from happening (CVE-2020-8558 is the story of its absence). IPv6 has
//! no `route_localnet`: what is sent to `::1` stays on the host.
//!
//! A chain of another table may still drop what `forward` accepts: in nftables every table has
//! its say. On a host whose own forward policy is "drop", its administrator must let the bridges
//! through.

mod shape;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::{collections::BTreeSet, net::Ipv4Addr};

use crate::{
    Forward, GatewayMode, InterfaceName, Ipv4Net, Ipv6Net, Network, Protocol,
    interface::BRANCH_PREFIX,
    nft::{Chain, DataType, Family, Hook, Register, Set, SetElement, Step, Transaction},
};

pub(crate) use shape::{Shape, shapes};

/// The name of our tables where nobody says otherwise.
pub(crate) const TABLE: &str = "wythe";

/// Names of the bridges.
const BRIDGES: &str = "bridges";
/// Bridges out of which and into which nothing leads.
const INTERNAL: &str = "internal";
/// Each bridge's name twice: what arrives by a bridge and leaves by the same.
const WITHIN: &str = "within";
/// The containers' addresses.
const SUBNETS: &str = "subnets";
/// Those of them that others do not get to see.
const MASKED: &str = "masked";
/// Ports published on all of the host's addresses.
const OPEN: &str = "open";
/// Ports published on one address of the host.
const OPEN_AT: &str = "open-at";
/// The same, and where they lead.
const PORTS: &str = "ports";
/// The same, and where they lead.
const PORTS_AT: &str = "ports-at";
/// Bridges that others beyond the host may send to as they like.
const UNGUARDED: &str = "unguarded";
/// Bridges that others have routes to.
const ROUTED: &str = "routed";
/// Ports published on containers' own addresses.
const DIRECT: &str = "direct";

impl Family {
    /// An address of this family.
    const fn address(self) -> DataType {
        match self {
            Family::V4 => DataType::IPV4,
            Family::V6 => DataType::IPV6,
        }
    }

    /// Where the source lies in a header (RFC 791, RFC 8200).
    const fn source(self) -> u32 {
        match self {
            Family::V4 => 12,
            Family::V6 => 8,
        }
    }

    /// Where the destination does.
    const fn destination(self) -> u32 {
        self.source() + self.address().length
    }

    /// The sets of its table.
    fn sets(self) -> [Set; 12] {
        let interface = DataType::INTERFACE;
        let all = DataType::PROTOCOL.then(DataType::PORT);
        let one = self.address().then(DataType::PROTOCOL).then(DataType::PORT);
        let to = Some(self.address().then(DataType::PORT));
        let set = |name, key, value, interval| Set { name, key, value, interval };
        [
            set(BRIDGES, interface, None, false),
            set(WITHIN, interface.then(interface), None, false),
            set(INTERNAL, interface, None, false),
            set(SUBNETS, self.address(), None, true),
            set(MASKED, self.address(), None, true),
            set(OPEN, all, None, false),
            set(OPEN_AT, one, None, false),
            set(PORTS, all, to, false),
            set(PORTS_AT, one, to, false),
            set(UNGUARDED, interface, None, false),
            set(ROUTED, interface, None, false),
            set(DIRECT, one, None, false),
        ]
    }

    const fn of(address: &SocketAddr) -> Family {
        match address {
            SocketAddr::V4(_) => Family::V4,
            SocketAddr::V6(_) => Family::V6,
        }
    }
}

/// Hooks and priorities as nft(8) names them: raw is -300, dstnat -100, filter 0, srcnat 100.
const RAW: Chain = chain("raw", "filter", 0, -300);
const PREROUTING: Chain = chain("prerouting", "nat", 0, -100);
/// After every chain of the host's. Only the kernel's own confirmation of connections comes later,
/// at `INT_MAX`, or one less for IPv6 (`nf_conntrack_proto.c`): a confirmed connection could not
/// come back as a new one.
const INPUT: Chain = chain("input", "filter", 1, i32::MAX - 100);
const OUTPUT: Chain = chain("output", "nat", 3, -100);
const POSTROUTING: Chain = chain("postrouting", "nat", 4, 100);
const FORWARD: Chain = chain("forward", "filter", 2, 0);

const fn chain(name: &'static str, kind: &'static str, number: u32, priority: i32) -> Chain {
    Chain { name, hook: Hook { kind, number, priority } }
}

/// The gate: what is sent into one link comes out of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gate {
    /// The addresses that lead into it. A rule that named the link could not be loaded where the
    /// link is not, and with it whatever else an administrator has saved of the ruleset.
    pub(crate) into: (Ipv4Addr, Ipv6Addr),
    /// The name of the link it comes out of.
    pub(crate) out_of: InterfaceName,
}

/// Everything that the tables say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// What they know.
    pub(crate) entries: BTreeSet<Entry>,
    /// There if ports are published.
    pub(crate) gate: Option<Gate>,
}

impl Contents {
    /// The families that have a table.
    fn families(&self) -> impl Iterator<Item = Family> {
        let six = self.entries.iter().any(|entry| matches!(entry, Entry::Subnet6(_)));
        [Family::V4].into_iter().chain(six.then_some(Family::V6))
    }
}

/// One thing that the tables know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Entry {
    Bridge(InterfaceName),
    /// Within which packets may go.
    Within(InterfaceName),
    Internal(InterfaceName),
    Subnet(Ipv4Net),
    Subnet6(Ipv6Net),
    Masked(Ipv4Net),
    Masked6(Ipv6Net),
    Port(Forward),
    /// Of IPv4; the next is of IPv6, and so on.
    Unguarded(InterfaceName),
    Unguarded6(InterfaceName),
    Routed(InterfaceName),
    Routed6(InterfaceName),
    /// A container's own address and port.
    Direct(SocketAddr, Protocol),
}

/// Everything that the tables should know.
pub(crate) fn wanted(networks: &[&Network], forwards: &[Forward]) -> BTreeSet<Entry> {
    let of = |network: &&Network| {
        let name = || network.bridge.clone();
        let masked =
            |mode: GatewayMode| !network.untranslated && !network.internal && mode.translates();
        let (four, six) = (network.mode, network.mode6);
        let is = |mode: GatewayMode, wanted| mode == wanted && !network.internal;
        [
            Some(Entry::Bridge(name())),
            (!network.apart).then(|| Entry::Within(name())),
            network.internal.then(|| Entry::Internal(name())),
            Some(Entry::Subnet(network.subnet)),
            network.ipv6.map(Entry::Subnet6),
            masked(four).then_some(Entry::Masked(network.subnet)),
            network.ipv6.filter(|_| masked(six)).map(Entry::Masked6),
            is(four, GatewayMode::NatUnprotected).then(|| Entry::Unguarded(name())),
            is(six, GatewayMode::NatUnprotected).then(|| Entry::Unguarded6(name())),
            is(four, GatewayMode::Routed).then(|| Entry::Routed(name())),
            is(six, GatewayMode::Routed).then(|| Entry::Routed6(name())),
        ]
    };
    let ports = forwards.iter().map(|forward| match forward.is_direct() {
        true => Entry::Direct(forward.container, forward.protocol),
        false => Entry::Port(*forward),
    });
    // Who lies on a link has no part in what the host forwards.
    let bridged = networks.iter().filter(|network| network.macvlan.is_none());
    bridged.flat_map(of).flatten().chain(ports).collect()
}

/// The transaction that makes the tables and all their entries, whatever was there before.
pub(crate) fn rewrite<'t>(table: &'t str, known: &[Family], want: &Contents) -> Transaction<'t> {
    let mut transaction = remove(table, known);
    for family in want.families() {
        transaction.of(family);
        transaction.add_table();
        family.sets().iter().for_each(|set| transaction.add_set(set));
        for (chain, rules) in rules(family, want.gate.as_ref()) {
            transaction.add_chain(&chain);
            rules.iter().for_each(|rule| transaction.add_rule(chain.name, rule));
        }
        for (set, elements) in by_set(family, want.entries.iter()) {
            transaction.add_elements(set, &elements);
        }
    }
    transaction
}

/// The transaction from what the tables say to what they should; none if the rules differ too.
pub(crate) fn amend<'t>(
    table: &'t str,
    have: &Contents,
    want: &Contents,
) -> Option<Transaction<'t>> {
    if have.gate != want.gate || !have.families().eq(want.families()) {
        return None;
    }
    let mut transaction = Transaction::new(table);
    for family in want.families() {
        transaction.of(family);
        for (set, elements) in by_set(family, have.entries.difference(&want.entries)) {
            transaction.delete_elements(set, &elements);
        }
        for (set, elements) in by_set(family, want.entries.difference(&have.entries)) {
            transaction.add_elements(set, &elements);
        }
    }
    Some(transaction)
}

/// The transaction that leaves no table of the families that the kernel has.
pub(crate) fn remove<'t>(table: &'t str, known: &[Family]) -> Transaction<'t> {
    let mut transaction = Transaction::new(table);
    for family in known {
        transaction.of(*family);
        // To add first lets the deletion succeed where there is no table.
        transaction.add_table();
        transaction.delete_table();
    }
    transaction
}

/// The elements that some entries are in the table of a family, set by set.
fn by_set<'a>(
    family: Family,
    entries: impl Iterator<Item = &'a Entry>,
) -> impl Iterator<Item = (&'static str, Vec<SetElement>)> {
    let mut lists = family.sets().map(|set| (set.name, Vec::new()));
    for (set, element) in entries.flat_map(|entry| elements(family, entry)) {
        if let Some((_, list)) = lists.iter_mut().find(|(of, _)| *of == set) {
            list.push(element);
        }
    }
    lists.into_iter().filter(|(_, list)| !list.is_empty())
}

fn elements(family: Family, entry: &Entry) -> Vec<(&'static str, SetElement)> {
    let plain = |key: Vec<u8>| SetElement { key, value: Vec::new(), ends_interval: false };
    let range = |set, first: &[u8], end: &[u8]| {
        let end = SetElement { ends_interval: true, ..plain(end.into()) };
        vec![(set, plain(first.into())), (set, end)]
    };
    let set = match entry {
        Entry::Masked(_) | Entry::Masked6(_) => MASKED,
        Entry::Bridge(_)
        | Entry::Within(_)
        | Entry::Internal(_)
        | Entry::Subnet(_)
        | Entry::Subnet6(_)
        | Entry::Unguarded(_)
        | Entry::Unguarded6(_)
        | Entry::Routed(_)
        | Entry::Routed6(_)
        | Entry::Direct(..)
        | Entry::Port(_) => SUBNETS,
    };
    let interface = |set, of: Family, name: &InterfaceName| match of == family {
        true => vec![(set, plain(name.padded().into()))],
        false => Vec::new(),
    };
    match entry {
        Entry::Bridge(name) => vec![(BRIDGES, plain(name.padded().into()))],
        Entry::Within(name) => vec![(WITHIN, plain([name.padded(), name.padded()].concat()))],
        Entry::Internal(name) => vec![(INTERNAL, plain(name.padded().into()))],
        Entry::Subnet(net) | Entry::Masked(net) if family == Family::V4 => {
            let end = Ipv4Addr::from_bits(net.broadcast().to_bits().wrapping_add(1));
            range(set, &net.address().octets(), &end.octets())
        }
        Entry::Subnet6(net) | Entry::Masked6(net) if family == Family::V6 => {
            range(set, &net.address().octets(), &net.end().octets())
        }
        Entry::Port(Forward { host, protocol, container }) if family == Family::of(host) => {
            let at = [[protocol.number(), 0, 0, 0], port(host)].concat();
            let (set, map, key) = match host.ip().is_unspecified() {
                true => (OPEN, PORTS, at),
                false => (OPEN_AT, PORTS_AT, [bytes(host.ip()), at].concat()),
            };
            let value = [bytes(container.ip()), port(container).into()].concat();
            let led = SetElement { key: key.clone(), value, ends_interval: false };
            vec![(map, led), (set, plain(key))]
        }
        Entry::Unguarded(name) => interface(UNGUARDED, Family::V4, name),
        Entry::Unguarded6(name) => interface(UNGUARDED, Family::V6, name),
        Entry::Routed(name) => interface(ROUTED, Family::V4, name),
        Entry::Routed6(name) => interface(ROUTED, Family::V6, name),
        Entry::Direct(to, protocol) if family == Family::of(to) => {
            let at = [[protocol.number(), 0, 0, 0], port(to)].concat();
            vec![(DIRECT, plain([bytes(to.ip()), at].concat()))]
        }
        Entry::Subnet(_)
        | Entry::Subnet6(_)
        | Entry::Masked(_)
        | Entry::Masked6(_)
        | Entry::Direct(..)
        | Entry::Port(_) => Vec::new(),
    }
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

/// A port as it lies in a register.
fn port(address: &SocketAddr) -> [u8; 4] {
    let [high, low] = address.port().to_be_bytes();
    [high, low, 0, 0]
}

fn rules(family: Family, gate: Option<&Gate>) -> Vec<(Chain, Vec<Vec<Step>>)> {
    let mut all = vec![
        (OUTPUT, from_host(family)),
        (POSTROUTING, masquerading(family)),
        (FORWARD, forwarding(family)),
    ];
    let four = (family == Family::V4)
        .then(|| loopback_guard().into_iter().chain(gate.map(may_be_cut)).collect::<Vec<_>>());
    all.insert(0, (RAW, [untracked()].into_iter().chain(four.into_iter().flatten()).collect()));
    if let Some(gate) = gate {
        all.push((PREROUTING, through_gate(family, gate)));
        all.push((INPUT, to_gate(family, gate)));
    }
    all
}

/// Four registers, then others: enough for two interfaces' names, or an IPv6 address, a protocol
/// and a port.
const A: Register = Register(0);
const B: Register = Register(1);
const C: Register = Register(2);
const E: Register = Register(4);
const F: Register = Register(5);

/// `iifname "wythe-b*" notrack`: where `br_netfilter` is, what passes a branch is seen there first,
/// and would be a connection whose addresses stay as they are before anybody knows where it goes.
fn untracked() -> Vec<Step> {
    let of_branch = Step::Equal { register: A, value: BRANCH_PREFIX.into() };
    vec![Step::Meta { key: META_IIFNAME, to: A }, of_branch, Step::Untracked]
}

/// `iifname != "lo" ip saddr|daddr 127.0.0.0/8 drop`
fn loopback_guard() -> Vec<Vec<Step>> {
    let guard = |offset| {
        rule(&[
            &[Step::Meta { key: META_IIFNAME, to: A }],
            &[Step::NotEqual { register: A, value: LO.into() }],
            &within_loopback_net(offset),
            &[Step::Drop],
        ])
    };
    vec![guard(Family::V4.source()), guard(Family::V4.destination())]
}

/// `iifname "…" ip frag-off set …`: what comes out of the gate may be cut into fragments, as it
/// may have been when it arrived. The kernel's copy says otherwise (`nf_dup_ipv4.c`).
fn may_be_cut(gate: &Gate) -> Vec<Step> {
    /// Where flags and fragment offset lie (RFC 791), and all of them but "don't fragment".
    const FRAGMENT: u32 = 6;
    const BUT_DF: [u8; 2] = [0xbf, 0xff];
    let load = Step::Payload { base: NETWORK_HEADER, offset: FRAGMENT, length: 2, to: A };
    let clear = Step::Mask { register: A, mask: BUT_DF.into() };
    rule(&[
        &arrived_by(gate),
        &[load, clear, Step::WriteIp { offset: FRAGMENT, length: 2, from: A }],
    ])
}

/// The ways to recognise a published port, each up to the key and then what is done with it:
/// `ip daddr . meta l4proto . th dport` and `fib daddr type local meta l4proto . th dport`.
fn published(family: Family, at: Step, all: Step) -> [Vec<Step>; 2] {
    const RTN_LOCAL: u32 = 2;
    // Behind the address: the registers that follow its own.
    let (protocol, number) = match family {
        Family::V4 => (B, C),
        Family::V6 => (E, F),
    };
    [
        rule(&[
            &[payload(family, family.destination(), A)],
            &[Step::Meta { key: META_L4PROTO, to: protocol }, destination_port(number), at],
        ]),
        rule(&[
            &[Step::DestinationType { to: A }],
            &[Step::Equal { register: A, value: RTN_LOCAL.to_ne_bytes().into() }],
            &[Step::Meta { key: META_L4PROTO, to: A }, destination_port(B), all],
        ]),
    ]
}

/// `dnat to … map @ports-at` and `dnat to … map @ports`.
fn to_container(family: Family) -> [Vec<Step>; 2] {
    let port = if family == Family::V4 { B } else { E };
    let map = |set| Step::Map { register: A, set, to: A };
    published(family, map(PORTS_AT), map(PORTS))
        .map(|found| rule(&[&found, &[Step::DestinationNat { family, address: A, port }]]))
}

/// `ip6 saddr ::1 accept`, and to the container.
fn from_host(family: Family) -> Vec<Vec<Step>> {
    let stays = (family == Family::V6).then(|| {
        let loopback = std::net::Ipv6Addr::LOCALHOST.octets();
        let from = payload(family, family.source(), A);
        rule(&[&[from, Step::Equal { register: A, value: loopback.into() }, Step::Accept]])
    });
    stays.into_iter().chain(to_container(family)).collect()
}

/// `iifname "…" dnat to …`
fn through_gate(family: Family, gate: &Gate) -> Vec<Vec<Step>> {
    to_container(family).map(|led| rule(&[&arrived_by(gate), &led])).into()
}

/// `iifname "lo" accept`, `iifname "…" drop` (its port was withdrawn on the way) and
/// `ct state new` to a published port: `dup to …`, and the original ends here.
fn to_gate(family: Family, gate: &Gate) -> Vec<Vec<Step>> {
    /// `NF_CT_STATE_BIT` of new.
    const NEW: u32 = 8;
    let neighbour = match family {
        Family::V4 => gate.into.0.octets().to_vec(),
        Family::V6 => gate.into.1.octets().to_vec(),
    };
    let sent =
        [Step::Load { value: neighbour, to: A }, Step::Duplicate { neighbour: A }, Step::Drop];
    let own = [
        Step::Meta { key: META_IIFNAME, to: A },
        Step::Equal { register: A, value: LO.into() },
        Step::Accept,
    ];
    let known = |set| Step::In { register: A, set };
    let passed = published(family, known(OPEN_AT), known(OPEN))
        .map(|found| rule(&[&has_bits(CT_STATE, NEW), &found, &sent]));
    let mut all = vec![own.into(), rule(&[&arrived_by(gate), &[Step::Drop]])];
    all.extend(passed);
    all
}

fn arrived_by(gate: &Gate) -> [Step; 2] {
    let name = gate.out_of.padded().into();
    [Step::Meta { key: META_IIFNAME, to: A }, Step::Equal { register: A, value: name }]
}

/// `ip saddr 127.0.0.0/8 oifname @bridges masquerade`,
/// `ip saddr @subnets ct status dnat oifname @bridges masquerade` and
/// `ip saddr @masked oifname != @bridges masquerade`
fn masquerading(family: Family) -> Vec<Vec<Step>> {
    let from_container =
        [payload(family, family.source(), A), Step::In { register: A, set: SUBNETS }];
    let from_masked = [payload(family, family.source(), A), Step::In { register: A, set: MASKED }];
    let outward =
        [Step::Meta { key: META_OIFNAME, to: A }, Step::NotIn { register: A, set: BRIDGES }];
    let masquerade = [Step::Masquerade];
    let from_loopback =
        rule(&[&within_loopback_net(Family::V4.source()), &to_bridge(), &masquerade]);
    let mut all = vec![
        rule(&[&from_container, &translated(), &to_bridge(), &masquerade]),
        rule(&[&from_masked, &outward, &masquerade]),
    ];
    if family == Family::V4 {
        all.insert(0, from_loopback);
    }
    all
}

/// `iifname . oifname @within accept`,
/// `iifname @internal drop`, `oifname @internal drop`,
/// `oifname @bridges ct state established,related accept`,
/// `oifname @bridges ct status dnat accept`,
/// `ip daddr . meta l4proto . th dport @direct accept`,
/// `oifname @routed meta l4proto icmp accept`,
/// `iifname != @bridges oifname @unguarded accept` and
/// `oifname @bridges drop`
fn forwarding(family: Family) -> Vec<Vec<Step>> {
    /// Numbers of ICMP and ICMPv6 (IANA, "Assigned Internet Protocol Numbers").
    const ICMP: u8 = 1;
    const ICMP6: u8 = 58;
    /// `NF_CT_STATE_BIT` of established and of related.
    const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
    let known = has_bits(CT_STATE, ESTABLISHED_OR_RELATED);
    let internal =
        |key| vec![Step::Meta { key, to: A }, Step::In { register: A, set: INTERNAL }, Step::Drop];
    let same_bridge = [
        Step::Meta { key: META_IIFNAME, to: A },
        Step::Meta { key: META_OIFNAME, to: E },
        Step::In { register: A, set: WITHIN },
    ];
    let known_in = |set| Step::In { register: A, set };
    let [direct, _] = published(family, known_in(DIRECT), known_in(DIRECT));
    let routed = [Step::Meta { key: META_OIFNAME, to: A }, known_in(ROUTED)];
    let icmp = if family == Family::V4 { ICMP } else { ICMP6 };
    let icmp =
        [Step::Meta { key: META_L4PROTO, to: A }, Step::Equal { register: A, value: vec![icmp] }];
    let from_beyond =
        [Step::Meta { key: META_IIFNAME, to: A }, Step::NotIn { register: A, set: BRIDGES }];
    let unguarded = [Step::Meta { key: META_OIFNAME, to: A }, known_in(UNGUARDED)];
    vec![
        rule(&[&same_bridge, &[Step::Accept]]),
        internal(META_IIFNAME),
        internal(META_OIFNAME),
        rule(&[&to_bridge(), &known, &[Step::Accept]]),
        rule(&[&to_bridge(), &translated(), &[Step::Accept]]),
        rule(&[&direct, &[Step::Accept]]),
        rule(&[&routed, &icmp, &[Step::Accept]]),
        rule(&[&from_beyond, &unguarded, &[Step::Accept]]),
        rule(&[&to_bridge(), &[Step::Drop]]),
    ]
}

/// Keys of `meta` and `ct`, from `enum nft_meta_keys` and `enum nft_ct_keys`.
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_L4PROTO: u32 = 16;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;

/// The name of the loopback interface, as it lies in registers.
const LO: [u8; 16] = *b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

fn rule(parts: &[&[Step]]) -> Vec<Step> {
    parts.concat()
}

/// An address of the packet.
fn payload(family: Family, offset: u32, to: Register) -> Step {
    Step::Payload { base: NETWORK_HEADER, offset, length: family.address().length, to }
}

/// `NFT_PAYLOAD_NETWORK_HEADER`
const NETWORK_HEADER: u32 = 1;

/// The port in a TCP or UDP header lies in its second two bytes (RFC 9293, RFC 768).
fn destination_port(to: Register) -> Step {
    const NFT_PAYLOAD_TRANSPORT_HEADER: u32 = 2;
    Step::Payload { base: NFT_PAYLOAD_TRANSPORT_HEADER, offset: 2, length: 2, to }
}

/// The first byte of an address is the whole prefix of 127.0.0.0/8.
fn within_loopback_net(offset: u32) -> [Step; 2] {
    let first = Step::Payload { base: NETWORK_HEADER, offset, length: 1, to: A };
    [first, Step::Equal { register: A, value: vec![127] }]
}

fn to_bridge() -> [Step; 2] {
    [Step::Meta { key: META_OIFNAME, to: A }, Step::In { register: A, set: BRIDGES }]
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
mod tests;

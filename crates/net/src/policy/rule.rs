//! One rule: what it asks, and what it does then.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use sys::netlink::attributes;

use super::read::{Elements, number_of, text};

/// What is known of the packet; what is not may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked<'a> {
    /// 6 or 17.
    pub(crate) protocol: u8,
    pub(crate) port: Option<u16>,
    /// The links by which it comes and goes.
    pub(crate) arrives_by: Option<&'a str>,
    pub(crate) leaves_by: Option<&'a str>,
    /// 2 or 10: IPv4 or IPv6.
    pub(crate) family: Option<u8>,
    pub(crate) state: State,
}

/// What connection it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// A new one.
    New,
    /// A new one to a published port, which is translated already.
    Published,
    /// One that is known.
    Established,
}

impl State {
    /// Its bits, as `ct state` of nft and `--ctstate` of iptables have them.
    /// Source: `NF_CT_STATE_BIT`, `XT_CONNTRACK_STATE_DNAT`.
    const fn bits(self) -> u32 {
        match self {
            State::New | State::Published => 8,
            State::Established => 2,
        }
    }

    /// Whether its destination was translated; not known where it is known otherwise.
    const fn translated(self) -> Option<bool> {
        match self {
            State::New => Some(false),
            State::Published => Some(true),
            State::Established => None,
        }
    }
}

/// What a rule's expressions refer to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'r> {
    pub(crate) family: u8,
    pub(crate) table: &'r str,
    pub(crate) sets: &'r BTreeMap<(u8, String, String), Elements>,
}

/// A rule that may match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) conditions: Vec<String>,
    pub(super) effect: Effect,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    Accept,
    Refuse,
    Return,
    Jump(String),
    Goto(String),
    Unknown,
}

/// What a register holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Loaded {
    Protocol,
    Port,
    /// Bits of the connection's state, of which these are looked at.
    State {
        mask: u32,
    },
    /// The bits of `ct status`, of which these are looked at.
    Status {
        mask: u32,
    },
    /// `iifname` or `oifname`.
    Interface(&'static str),
    /// `ip saddr` and the like, and a mask.
    Address {
        what: &'static str,
        mask: Option<Vec<u8>>,
    },
    Family,
    Unknown(String),
}

/// Whether an expression holds.
enum Holds {
    Yes,
    No,
    If(String),
}

/// Source: `IPS_DST_NAT`, linux/netfilter/nf_conntrack_common.h.
const STATUS_TRANSLATED: u32 = 1 << 5;

/// Reads a rule; `None` if it cannot match.
pub(super) fn read(
    expressions: &[(String, Vec<u8>)],
    asked: Asked<'_>,
    facts: Facts<'_>,
) -> Option<Reading> {
    let mut registers: BTreeMap<u32, Loaded> = BTreeMap::new();
    let mut conditions = Vec::new();
    let mut effect = Effect::Nothing;
    for (name, data) in expressions {
        let data = Data(data);
        let holds = match name.as_str() {
            "meta" | "payload" | "ct" => {
                if let Some(to) = data.register(1) {
                    registers.insert(to, load(name, data, facts.family));
                }
                Holds::Yes
            }
            "bitwise" => {
                let (from, to) = (data.register(1), data.register(2));
                if let (Some(from), Some(to)) = (from, to) {
                    let masked = mask(registers.get(&from), data.value(4));
                    registers.insert(to, masked);
                }
                Holds::Yes
            }
            "cmp" => {
                let value = data.value(3).unwrap_or_default();
                compare(registers.get(&data.register(1)?), data.number(2)?, value, asked)
            }
            "range" => within(registers.get(&data.register(1)?), data, asked),
            "lookup" => looked_up(registers.get(&data.register(2)?), data, asked, facts),
            "match" => matched(data, asked),
            "immediate" => {
                if let Some(verdict) = data.verdict() {
                    effect = verdict;
                }
                Holds::Yes
            }
            "reject" => {
                effect = Effect::Refuse;
                Holds::Yes
            }
            "target" => {
                effect = target(&data.text(1));
                Holds::Yes
            }
            "counter" | "log" | "last" => Holds::Yes,
            "limit" => Holds::If("a limit of the rate is not reached".to_owned()),
            other => Holds::If(format!("\"{other}\" matches, which is not read here")),
        };
        match holds {
            Holds::Yes => {}
            Holds::No => return None,
            Holds::If(condition) => conditions.push(condition),
        }
    }
    Some(Reading { conditions, effect })
}

/// What a `meta`, `payload` or `ct` expression loads. Numbers: `enum nft_meta_keys`,
/// `nft_payload_bases`, `nft_ct_keys`.
fn load(name: &str, data: Data<'_>, family: u8) -> Loaded {
    let key = data.number(2).unwrap_or(u32::MAX);
    let (offset, length) = (data.number(3), data.number(4));
    match (name, key) {
        ("meta", 6) => Loaded::Interface(ARRIVES_BY),
        ("meta", 7) => Loaded::Interface(LEAVES_BY),
        ("meta", 15) => Loaded::Family,
        ("meta", 16) => Loaded::Protocol,
        ("ct", 0) => Loaded::State { mask: u32::MAX },
        ("ct", 2) => Loaded::Status { mask: u32::MAX },
        ("payload", 1) => match (family, offset, length) {
            (2 | 1, Some(9), Some(1)) => Loaded::Protocol,
            (10 | 1, Some(6), Some(1)) => Loaded::Protocol,
            // A network that ends with a byte is compared by its first bytes alone. In a table of
            // both families, addresses of IPv4 lie at 12 and 16, those of IPv6 at 8 and 24.
            (2 | 1, Some(12), Some(1..=4)) => Loaded::Address { what: "ip saddr", mask: None },
            (2 | 1, Some(16), Some(1..=4)) => Loaded::Address { what: "ip daddr", mask: None },
            (10 | 1, Some(8), Some(1..=16)) => Loaded::Address { what: "ip6 saddr", mask: None },
            (10 | 1, Some(24), Some(1..=16)) => Loaded::Address { what: "ip6 daddr", mask: None },
            _ => Loaded::Unknown("a field of the packet's header".to_owned()),
        },
        ("payload", 2) if (offset, length) == (Some(2), Some(2)) => Loaded::Port,
        ("payload", 2) => Loaded::Unknown("a field of the transport's header".to_owned()),
        _ => Loaded::Unknown(format!("{name} {key}")),
    }
}

fn mask(loaded: Option<&Loaded>, mask: Option<&[u8]>) -> Loaded {
    match (loaded, mask) {
        (Some(Loaded::State { .. }), Some(mask)) => {
            let bits = mask.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
            Loaded::State { mask: bits.unwrap_or(u32::MAX) }
        }
        (Some(Loaded::Status { .. }), Some(mask)) => {
            let bits = mask.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
            Loaded::Status { mask: bits.unwrap_or(u32::MAX) }
        }
        (Some(Loaded::Address { what, .. }), Some(mask)) => {
            Loaded::Address { what, mask: Some(mask.to_vec()) }
        }
        (Some(loaded), _) => Loaded::Unknown(format!("some bits of {}", named(loaded))),
        (None, _) => Loaded::Unknown("some bits".to_owned()),
    }
}

fn named(loaded: &Loaded) -> String {
    match loaded {
        Loaded::Protocol => "the protocol".to_owned(),
        Loaded::Port => "the port".to_owned(),
        Loaded::State { .. } => "the connection's state".to_owned(),
        Loaded::Status { .. } => "the connection's status".to_owned(),
        Loaded::Interface(what) => (*what).to_owned(),
        Loaded::Address { what, .. } => (*what).to_owned(),
        Loaded::Family => "the address family".to_owned(),
        Loaded::Unknown(what) => what.clone(),
    }
}

/// `enum nft_cmp_ops`: equal, not equal, less, at most, greater, at least.
fn compare(loaded: Option<&Loaded>, how: u32, value: &[u8], asked: Asked<'_>) -> Holds {
    let decide = |have: u64, want: u64| match how {
        0 => yes(have == want),
        1 => yes(have != want),
        2 => yes(have < want),
        3 => yes(have <= want),
        4 => yes(have > want),
        _ => yes(have >= want),
    };
    let number = value.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let not = if how == 1 { "is not " } else { "" };
    match loaded {
        Some(Loaded::Protocol) => decide(asked.protocol.into(), number),
        Some(Loaded::Port) => match asked.port {
            Some(port) => decide(port.into(), number),
            None => Holds::If(format!("the port is {}{number}", words_of(how))),
        },
        Some(Loaded::State { mask }) => decide((mask & asked.state.bits()).into(), state(value)),
        Some(Loaded::Status { mask: STATUS_TRANSLATED }) => match asked.state.translated() {
            Some(translated) => {
                let have = if translated { STATUS_TRANSLATED } else { 0 };
                decide(have.into(), state(value))
            }
            None => Holds::If("the connection's status is as the rule asks".to_owned()),
        },
        Some(Loaded::Status { .. }) => {
            Holds::If("the connection's status is as the rule asks".to_owned())
        }
        Some(Loaded::Interface(what)) => match asked.interface(what) {
            Some(name) => yes(is_name(name, value) != (how == 1)),
            None => Holds::If(format!("{what} {not}\"{}\"", text(value))),
        },
        Some(Loaded::Address { what, mask }) => {
            Holds::If(format!("{what} {not}{}", network(what, value, mask.as_deref())))
        }
        Some(Loaded::Family) => match value.first() {
            Some(family) if asked.family.is_some() => {
                yes((asked.family == Some(*family)) != (how == 1))
            }
            Some(2) => Holds::If(format!("{not}over IPv4")),
            Some(10) => Holds::If(format!("{not}over IPv6")),
            _ => Holds::No,
        },
        Some(Loaded::Unknown(what)) => Holds::If(format!("{what} is as the rule asks")),
        None => Holds::If("what the rule asks".to_owned()),
    }
}

/// `iifname` and `oifname` of nft.
const ARRIVES_BY: &str = "iifname";
const LEAVES_BY: &str = "oifname";

impl Asked<'_> {
    fn interface(&self, what: &str) -> Option<&str> {
        if what == ARRIVES_BY { self.arrives_by } else { self.leaves_by }
    }
}

/// Names are compared with the zero that ends them, beginnings of names (`"eth*"`) without.
fn is_name(name: &str, value: &[u8]) -> bool {
    let mut padded = [0; NAME_BYTES];
    padded.iter_mut().zip(name.bytes()).for_each(|(place, byte)| *place = byte);
    padded.get(..value.len()) == Some(value)
}

/// `IFNAMSIZ`.
const NAME_BYTES: usize = 16;

fn words_of(how: u32) -> &'static str {
    match how {
        0 => "",
        1 => "not ",
        2 => "below ",
        3 => "at most ",
        4 => "above ",
        _ => "at least ",
    }
}

/// Connection states are the host's own numbers.
fn state(value: &[u8]) -> u64 {
    value.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes)).into()
}

fn within(loaded: Option<&Loaded>, data: Data<'_>, asked: Asked<'_>) -> Holds {
    let port = |kind| data.value(kind)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
    let inverted = data.number(2) == Some(1);
    match (loaded, port(3), port(4)) {
        (Some(Loaded::Port), Some(from), Some(to)) => match asked.port {
            Some(port) => yes((from..=to).contains(&port) != inverted),
            None => Holds::If(format!("the port is {from}-{to}")),
        },
        (Some(loaded), ..) => Holds::If(format!("{} is in the rule's range", named(loaded))),
        (None, ..) => Holds::If("what the rule asks".to_owned()),
    }
}

fn looked_up(loaded: Option<&Loaded>, data: Data<'_>, asked: Asked<'_>, facts: Facts<'_>) -> Holds {
    let set = data.text(1);
    let inverted = data.number(5).is_some_and(|flags| flags & 1 != 0);
    let key = (facts.family, facts.table.to_owned(), set.clone());
    let interface = match loaded {
        Some(Loaded::Interface(what)) => asked.interface(what),
        _ => None,
    };
    match (loaded, facts.sets.get(&key)) {
        (Some(Loaded::Port), Some(elements)) if asked.port.is_some() => {
            let port = asked.port.unwrap_or_default();
            yes(elements.has(&port.to_be_bytes()) != inverted)
        }
        (Some(Loaded::Interface(_)), Some(elements)) if interface.is_some() => {
            let has = |(key, _): &(Vec<u8>, bool)| is_name(interface.unwrap_or_default(), key);
            match elements.0.iter().any(|(_, ends)| *ends) {
                // Beginnings of names are kept as ranges, in a byte order of their own.
                true => Holds::If(format!("the interface is in set {set}")),
                false => yes(elements.0.iter().any(has) != inverted),
            }
        }
        (Some(Loaded::Protocol), Some(elements)) => {
            yes(elements.has(&[asked.protocol]) != inverted)
        }
        (loaded, _) => {
            let what = loaded.map_or_else(|| "what the rule asks".to_owned(), named);
            let not = if inverted { "not " } else { "" };
            Holds::If(format!("{what} is {not}in set {set}"))
        }
    }
}

/// Matches of iptables. Source: `struct xt_tcp`, `struct xt_udp`: source ports, destination ports,
/// both from and to, in the host's order.
fn matched(data: Data<'_>, asked: Asked<'_>) -> Holds {
    let name = data.text(1);
    let info = data.raw(3).unwrap_or_default();
    let port =
        |at: usize| info.get(at..at + 2)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes));
    match (name.as_str(), port(0), port(2), port(4), port(6)) {
        ("tcp" | "udp", Some(0), Some(u16::MAX), Some(0), Some(u16::MAX)) | ("comment", ..) => {
            Holds::Yes
        }
        ("tcp" | "udp", Some(0), Some(u16::MAX), Some(from), Some(to)) => match asked.port {
            Some(asked) => yes((from..=to).contains(&asked)),
            None => Holds::If(format!("the port is {from}-{to}")),
        },
        ("conntrack", ..) => match tracked(info) {
            Some((states, inverted)) => {
                let translated = asked.state.translated() == Some(true);
                let dnat = if translated { CONNTRACK_TRANSLATED } else { 0 };
                yes((states & (asked.state.bits() | dnat) != 0) != inverted)
            }
            None => Holds::If("the iptables match \"conntrack\" holds".to_owned()),
        },
        _ => Holds::If(format!("the iptables match \"{name}\" holds")),
    }
}

/// The bit of `--ctstate DNAT`.
const CONNTRACK_TRANSLATED: u32 = 1 << 7;

/// The states that the match `conntrack` asks for, if it asks for nothing else, and whether for
/// others than these. Source: `struct xt_conntrack_mtinfo3`: eight addresses, two numbers, five
/// ports, then flags, inverted flags and states of 16 bits each.
fn tracked(info: &[u8]) -> Option<(u32, bool)> {
    const FLAGS: usize = 8 * 16 + 2 * 4 + 5 * 2;
    const BY_STATE: u16 = 1;
    let half = |at: usize| info.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes));
    let (flags, inverted, states) = (half(FLAGS)?, half(FLAGS + 2)?, half(FLAGS + 4)?);
    (flags == BY_STATE).then_some((states.into(), inverted & BY_STATE != 0))
}

fn target(name: &str) -> Effect {
    match name {
        "REJECT" => Effect::Refuse,
        "LOG" | "NFLOG" | "MARK" | "CONNMARK" => Effect::Nothing,
        _ => Effect::Unknown,
    }
}

fn yes(holds: bool) -> Holds {
    if holds { Holds::Yes } else { Holds::No }
}

/// An address; or the network that it stands for under a mask, or as its first bytes alone.
fn network(what: &str, value: &[u8], mask: Option<&[u8]>) -> String {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(value).for_each(|(place, byte)| *place = *byte);
    let (address, length) = match what.starts_with("ip6") {
        true => (Ipv6Addr::from(bytes).to_string(), 16),
        false => {
            let [a, b, c, d, ..] = bytes;
            (Ipv4Addr::new(a, b, c, d).to_string(), 4)
        }
    };
    match mask {
        Some(mask) => {
            let bits: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
            format!("{address}/{bits}")
        }
        None if value.len() < length => format!("{address}/{}", value.len() * 8),
        None => address,
    }
}

/// An expression's attributes.
#[derive(Clone, Copy)]
struct Data<'d>(&'d [u8]);

impl<'d> Data<'d> {
    fn raw(self, kind: u16) -> Option<&'d [u8]> {
        attributes(self.0).find(|(other, _)| *other == kind).map(|(_, value)| value)
    }

    fn number(self, kind: u16) -> Option<u32> {
        number_of(self.raw(kind)?)
    }

    fn text(self, kind: u16) -> String {
        self.raw(kind).map(text).unwrap_or_default()
    }

    /// A register by the number of its first four bytes: the 16-byte ones are 1 to 4, those of four
    /// bytes begin with 8.
    fn register(self, kind: u16) -> Option<u32> {
        let number = self.number(kind)?;
        Some(if (1..=4).contains(&number) { 4 + number * 4 } else { number })
    }

    /// `NFTA_DATA_VALUE`.
    fn value(self, kind: u16) -> Option<&'d [u8]> {
        Data(self.raw(kind)?).raw(1)
    }

    /// `NFTA_DATA_VERDICT`. Source: `enum nft_verdicts`.
    fn verdict(self) -> Option<Effect> {
        let verdict = Data(Data(self.raw(2)?).raw(2)?);
        let chain = || verdict.text(2);
        Some(match verdict.number(1)?.cast_signed() {
            0 => Effect::Refuse,
            1 => Effect::Accept,
            -1 => Effect::Nothing,
            -3 => Effect::Jump(chain()),
            -4 => Effect::Goto(chain()),
            -5 => Effect::Return,
            _ => Effect::Unknown,
        })
    }
}

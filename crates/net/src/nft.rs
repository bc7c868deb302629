//! A writer of nf_tables transactions: tables, chains, rules, sets and their elements.
//!
//! Knows the kernel's language and nothing about what this crate says in it. Numbers are those of
//! `linux/netfilter/nf_tables.h`; the bytecode's semantics are described in nft(8) and shown by
//! `nft --debug=netlink`.

use sys::netlink::{APPEND, Attributes, Batch, CREATE};

const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_NEWRULE: u16 = 6;
const NFT_MSG_NEWSET: u16 = 9;
const NFT_MSG_NEWSETELEM: u16 = 12;
const NFT_MSG_DELSETELEM: u16 = 14;

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_FLAGS: u16 = 3;
const NFT_SET_ELEM_INTERVAL_END: u32 = 1;
const NFT_SET_INTERVAL: u32 = 4;
const NFT_SET_MAP: u32 = 8;

/// Elements of one message. Each takes less than 100 bytes, and a list at most 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 512;

/// A note for `nft`, without which it shows names backwards and cannot read its own listing:
/// `NFTNL_UDATA_SET_KEYBYTEORDER` (0), four bytes, `BYTEORDER_HOST_ENDIAN` (1).
const KEYS_IN_HOST_ORDER: [u8; 6] = {
    let [a, b, c, d] = 1_u32.to_ne_bytes();
    [0, 4, a, b, c, d]
};

/// The address family of a table: `ip` or `ip6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
    pub(crate) fn number(self) -> u8 {
        match self {
            Family::V4 => 2,
            Family::V6 => 10,
        }
    }
}

/// The register of verdicts.
const NFT_REG_VERDICT: u32 = 0;

/// A register of four bytes. Concatenated values lie in neighbouring registers.
///
/// `NFT_REG32_00` is 8; the first four are the same bytes as the 16-byte register 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Register(pub(crate) u8);

/// Where in the network stack a chain is called, in which order among its like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hook {
    /// `filter` or `nat`.
    pub(crate) kind: &'static str,
    /// `NF_INET_PRE_ROUTING` and so on.
    pub(crate) number: u32,
    pub(crate) priority: i32,
}

/// A chain that is called by the network stack and accepts what its rules let through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    pub(crate) hook: Hook,
}

/// What a set's keys or a map's values are. The code is only for people: `nft` shows by it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DataType {
    pub(crate) code: u32,
    pub(crate) length: u32,
}

impl DataType {
    pub(crate) const IPV4: DataType = DataType { code: 7, length: 4 };
    pub(crate) const IPV6: DataType = DataType { code: 8, length: 16 };
    pub(crate) const PROTOCOL: DataType = DataType { code: 12, length: 4 };
    pub(crate) const PORT: DataType = DataType { code: 13, length: 4 };
    pub(crate) const INTERFACE: DataType = DataType { code: 41, length: 16 };

    /// This and then another, as nft's `.` writes it. Each part is padded to whole registers.
    pub(crate) const fn then(self, other: DataType) -> DataType {
        DataType { code: self.code << 6 | other.code, length: self.length + other.length }
    }
}

/// A set; a map if it has values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) key: DataType,
    pub(crate) value: Option<DataType>,
    /// Whether elements are ranges, written as their beginning and what follows their end.
    pub(crate) interval: bool,
}

/// An element of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SetElement {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) ends_interval: bool,
}

/// A step of a rule. A comparison that does not hold, or a lookup that finds nothing, ends it.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Loads a property of the packet.
    Meta { key: u32, to: Register },
    /// Loads a property of its connection, one of `u32` size.
    Connection { key: u32, to: Register },
    /// Loads bytes of its headers.
    Payload { base: u32, offset: u32, length: u32, to: Register },
    /// Loads the type of its destination address, as routing sees it.
    DestinationType { to: Register },
    /// Goes on if the register holds this.
    Equal { register: Register, value: Vec<u8> },
    /// Goes on if it does not.
    NotEqual { register: Register, value: Vec<u8> },
    /// Keeps some bits.
    Mask { register: Register, mask: Vec<u8> },
    /// Goes on if the set has the key.
    In { register: Register, set: &'static str },
    /// Goes on if it does not.
    NotIn { register: Register, set: &'static str },
    /// Goes on with the map's value for the key.
    Map { register: Register, set: &'static str, to: Register },
    /// Loads a constant.
    Load { value: Vec<u8>, to: Register },
    /// Sends the connection elsewhere.
    DestinationNat { family: Family, address: Register, port: Register },
    /// Sends a copy of the packet, as it is and untracked, to a neighbour.
    Duplicate { neighbour: Register },
    /// Writes bytes into the IPv4 header, and puts its checksum right.
    WriteIp { offset: u32, length: u32, from: Register },
    /// Has the packet belong to no connection.
    Untracked,
    /// Writes bytes into the header of TCP or UDP, and puts its checksum right, which lies there.
    WriteTransport { offset: u32, length: u32, from: Register, checksum: u32 },
    /// Gives the connection the address of the link it leaves by as its source.
    Masquerade,
    /// Lets the packet through.
    Accept,
    /// Drops the packet.
    Drop,
}

/// One transaction on the tables of one name: all of it happens, or nothing.
#[derive(Debug)]
pub(crate) struct Transaction<'t> {
    batch: Batch,
    table: &'t str,
    /// `NFPROTO_*` of the table that is spoken of.
    protocol: u8,
}

impl<'t> Transaction<'t> {
    pub(crate) fn new(table: &'t str) -> Transaction<'t> {
        let mut batch = Batch::default();
        batch.frame(NFNL_MSG_BATCH_BEGIN, 0, &subsystem_header(), |_| ());
        Transaction { batch, table, protocol: Family::V4.number() }
    }

    /// Speaks of the table of the family `bridge`.
    pub(crate) fn of_bridges(table: &'t str) -> Transaction<'t> {
        const NFPROTO_BRIDGE: u8 = 7;
        Transaction { protocol: NFPROTO_BRIDGE, ..Transaction::new(table) }
    }

    /// Speaks of the table of this family from here on.
    pub(crate) fn of(&mut self, family: Family) {
        self.protocol = family.number();
    }

    /// The messages to send.
    pub(crate) fn finish(mut self) -> Batch {
        self.batch.frame(NFNL_MSG_BATCH_END, 0, &subsystem_header(), |_| ());
        self.batch
    }

    /// Makes the table if there is none.
    pub(crate) fn add_table(&mut self) {
        let table = self.table;
        self.message(NFT_MSG_NEWTABLE, CREATE, |a| a.put_text(1, table));
    }

    /// Removes the table and all that is in it.
    pub(crate) fn delete_table(&mut self) {
        let table = self.table;
        self.message(NFT_MSG_DELTABLE, 0, |a| a.put_text(1, table));
    }

    pub(crate) fn add_chain(&mut self, chain: &Chain) {
        const NF_ACCEPT: u32 = 1;
        let table = self.table;
        self.message(NFT_MSG_NEWCHAIN, CREATE, |a| {
            a.put_text(1, table);
            a.put_text(3, chain.name);
            a.nest(4, |a| {
                put_u32(a, 1, chain.hook.number);
                a.put(2, &chain.hook.priority.to_be_bytes());
            });
            put_u32(a, 5, NF_ACCEPT);
            a.put_text(7, chain.hook.kind);
        });
    }

    pub(crate) fn add_rule(&mut self, chain: &str, steps: &[Step]) {
        let table = self.table;
        self.message(NFT_MSG_NEWRULE, CREATE | APPEND, |a| {
            a.put_text(1, table);
            a.put_text(2, chain);
            a.nest(4, |a| steps.iter().for_each(|step| put_step(a, step)));
        });
    }

    pub(crate) fn add_set(&mut self, set: &Set) {
        let table = self.table;
        // The id is how one transaction speaks of a set that it makes; names do as well.
        let id = u32::try_from(self.batch.len()).unwrap_or(u32::MAX);
        let map = if set.value.is_some() { NFT_SET_MAP } else { 0 };
        let interval = if set.interval { NFT_SET_INTERVAL } else { 0 };
        self.message(NFT_MSG_NEWSET, CREATE, |a| {
            a.put_text(1, table);
            a.put_text(2, set.name);
            put_u32(a, 3, map | interval);
            put_u32(a, 4, set.key.code);
            put_u32(a, 5, set.key.length);
            if let Some(value) = set.value {
                put_u32(a, 6, value.code);
                put_u32(a, 7, value.length);
            }
            put_u32(a, 10, id);
            if set.key.code == DataType::INTERFACE.code {
                a.put(13, &KEYS_IN_HOST_ORDER);
            }
        });
    }

    pub(crate) fn add_elements(&mut self, set: &str, elements: &[SetElement]) {
        self.elements(NFT_MSG_NEWSETELEM, CREATE, set, elements);
    }

    pub(crate) fn delete_elements(&mut self, set: &str, elements: &[SetElement]) {
        self.elements(NFT_MSG_DELSETELEM, 0, set, elements);
    }

    fn elements(&mut self, kind: u16, flags: u16, set: &str, elements: &[SetElement]) {
        let table = self.table;
        for some in elements.chunks(ELEMENTS_PER_MESSAGE) {
            self.message(kind, flags, |a| {
                a.put_text(1, table);
                a.put_text(2, set);
                a.nest(3, |a| some.iter().for_each(|element| put_element(a, element)));
            });
        }
    }

    fn message(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        let kind = NFNL_SUBSYS_NFTABLES << 8 | kind;
        self.batch.message(kind, flags, &[self.protocol, 0, 0, 0], fill);
    }
}

/// `struct nfgenmsg` of what stands around a transaction: it names the subsystem.
fn subsystem_header() -> [u8; 4] {
    let [high, low] = NFNL_SUBSYS_NFTABLES.to_be_bytes();
    [0, 0, high, low]
}

fn put_element(a: &mut Attributes<'_>, element: &SetElement) {
    a.nest(NFTA_LIST_ELEM, |a| {
        a.nest(NFTA_SET_ELEM_KEY, |a| a.put(NFTA_DATA_VALUE, &element.key));
        if !element.value.is_empty() {
            a.nest(NFTA_SET_ELEM_DATA, |a| a.put(NFTA_DATA_VALUE, &element.value));
        }
        if element.ends_interval {
            put_u32(a, NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
        }
    });
}

fn put_step(a: &mut Attributes<'_>, step: &Step) {
    match step {
        Step::Meta { key, to } => expression(a, "meta", |a| {
            put_register(a, 1, *to);
            put_u32(a, 2, *key);
        }),
        Step::Connection { key, to } => expression(a, "ct", |a| {
            put_register(a, 1, *to);
            put_u32(a, 2, *key);
        }),
        Step::Payload { base, offset, length, to } => expression(a, "payload", |a| {
            put_register(a, 1, *to);
            put_u32(a, 2, *base);
            put_u32(a, 3, *offset);
            put_u32(a, 4, *length);
        }),
        Step::DestinationType { to } => expression(a, "fib", |a| {
            const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
            const NFTA_FIB_F_DADDR: u32 = 2;
            put_register(a, 1, *to);
            put_u32(a, 2, NFT_FIB_RESULT_ADDRTYPE);
            put_u32(a, 3, NFTA_FIB_F_DADDR);
        }),
        Step::Equal { register, value } => compare(a, *register, 0, value),
        Step::NotEqual { register, value } => compare(a, *register, 1, value),
        Step::Mask { register, mask } => expression(a, "bitwise", |a| {
            put_register(a, 1, *register);
            put_register(a, 2, *register);
            put_u32(a, 3, u32::try_from(mask.len()).unwrap_or(u32::MAX));
            a.nest(4, |a| a.put(NFTA_DATA_VALUE, mask));
            a.nest(5, |a| a.put(NFTA_DATA_VALUE, &vec![0; mask.len()]));
        }),
        Step::In { register, set } => lookup(a, *register, set, None, false),
        Step::NotIn { register, set } => lookup(a, *register, set, None, true),
        Step::Map { register, set, to } => lookup(a, *register, set, Some(*to), false),
        Step::Load { value, to } => expression(a, "immediate", |a| {
            put_register(a, 1, *to);
            a.nest(2, |a| a.put(NFTA_DATA_VALUE, value));
        }),
        Step::Duplicate { neighbour } => expression(a, "dup", |a| put_register(a, 1, *neighbour)),
        Step::WriteIp { offset, length, from } => {
            const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
            const CHECKSUM: u32 = 10;
            write(a, NFT_PAYLOAD_NETWORK_HEADER, (*offset, *length), *from, CHECKSUM);
        }
        Step::WriteTransport { offset, length, from, checksum } => {
            const NFT_PAYLOAD_TRANSPORT_HEADER: u32 = 2;
            write(a, NFT_PAYLOAD_TRANSPORT_HEADER, (*offset, *length), *from, *checksum);
        }
        Step::DestinationNat { family, address, port } => expression(a, "nat", |a| {
            const NFT_NAT_DNAT: u32 = 1;
            put_u32(a, 1, NFT_NAT_DNAT);
            put_u32(a, 2, u32::from(family.number()));
            put_register(a, 3, *address);
            put_register(a, 5, *port);
        }),
        Step::Untracked => expression(a, "notrack", |_| ()),
        Step::Masquerade => expression(a, "masq", |_| ()),
        Step::Accept => verdict(a, 1),
        Step::Drop => verdict(a, 0),
    }
}

fn expression(a: &mut Attributes<'_>, name: &str, fill: impl FnOnce(&mut Attributes<'_>)) {
    a.nest(NFTA_LIST_ELEM, |a| {
        a.put_text(1, name);
        a.nest(2, fill);
    });
}

fn write(
    a: &mut Attributes<'_>,
    base: u32,
    (offset, length): (u32, u32),
    from: Register,
    checksum: u32,
) {
    const NFT_PAYLOAD_CSUM_INET: u32 = 1;
    expression(a, "payload", |a| {
        put_u32(a, 2, base);
        put_u32(a, 3, offset);
        put_u32(a, 4, length);
        put_register(a, 5, from);
        put_u32(a, 6, NFT_PAYLOAD_CSUM_INET);
        put_u32(a, 7, checksum);
    });
}

fn compare(a: &mut Attributes<'_>, register: Register, operator: u32, value: &[u8]) {
    expression(a, "cmp", |a| {
        put_register(a, 1, register);
        put_u32(a, 2, operator);
        a.nest(3, |a| a.put(NFTA_DATA_VALUE, value));
    });
}

fn lookup(
    a: &mut Attributes<'_>,
    register: Register,
    set: &str,
    to: Option<Register>,
    inverted: bool,
) {
    expression(a, "lookup", |a| {
        a.put_text(1, set);
        put_register(a, 2, register);
        if let Some(to) = to {
            put_register(a, 3, to);
        }
        if inverted {
            put_u32(a, 5, 1);
        }
    });
}

fn verdict(a: &mut Attributes<'_>, code: u32) {
    expression(a, "immediate", |a| {
        put_u32(a, 1, NFT_REG_VERDICT);
        a.nest(2, |a| a.nest(NFTA_DATA_VERDICT, |a| put_u32(a, 1, code)));
    });
}

fn put_register(a: &mut Attributes<'_>, kind: u16, Register(number): Register) {
    const NFT_REG32_00: u32 = 8;
    put_u32(a, kind, NFT_REG32_00 + u32::from(number));
}

/// Numbers of nf_tables are in network byte order.
fn put_u32(a: &mut Attributes<'_>, kind: u16, value: u32) {
    a.put(kind, &value.to_be_bytes());
}

//! Asking the kernel for chains, rules and sets, and reading its answers.

use sys::netlink::{Batch, DUMP, attributes};

const GET_CHAIN: u16 = 10 << 8 | 4;
const GET_RULE: u16 = 10 << 8 | 7;
const GET_ELEMENTS: u16 = 10 << 8 | 13;
/// A header for whatever family: `NFPROTO_UNSPEC`.
const ANY: [u8; 4] = [0, 0, 0, 0];
const NF_DROP: u32 = 0;
const INTERVAL_END: u32 = 1;

/// A chain as the kernel tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawChain {
    pub(crate) family: u8,
    pub(crate) table: String,
    pub(crate) name: String,
    /// Where it hooks in, if it does.
    pub(crate) hook: Option<u32>,
    /// What happens to a packet that reaches its end.
    pub(crate) accepts: bool,
}

/// A rule as the kernel tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawRule {
    pub(crate) family: u8,
    pub(crate) table: String,
    pub(crate) chain: String,
    pub(crate) handle: u64,
    /// Name and attributes of each expression.
    pub(crate) expressions: Vec<(String, Vec<u8>)>,
}

/// The keys of a set, in order; a key that ends an interval is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Elements(pub(crate) Vec<(Vec<u8>, bool)>);

impl Elements {
    /// Whether this is in the set. Keys are in network order, so bytes compare as their numbers do.
    pub(crate) fn has(&self, value: &[u8]) -> bool {
        let key = |(key, _): &(Vec<u8>, bool)| key.get(..value.len()).map(<[u8]>::to_vec);
        if !self.0.iter().any(|(_, ends)| *ends) {
            return self.0.iter().any(|element| key(element).as_deref() == Some(value));
        }
        // The last beginning or end at or below it says whether it is inside.
        let below = self.0.iter().filter(|element| key(element).is_some_and(|key| *key <= *value));
        below.max_by_key(|element| (key(element), !element.1)).is_some_and(|(_, ends)| !ends)
    }
}

pub(crate) fn get_chains(batch: &mut Batch) {
    batch.message(GET_CHAIN, DUMP, &ANY, |_| ());
}

pub(crate) fn get_rules(batch: &mut Batch) {
    batch.message(GET_RULE, DUMP, &ANY, |_| ());
}

pub(crate) fn get_elements(batch: &mut Batch, family: u8, table: &str, set: &str) {
    batch.message(GET_ELEMENTS, DUMP, &[family, 0, 0, 0], |a| {
        a.put_text(1, table);
        a.put_text(2, set);
    });
}

impl RawChain {
    pub(crate) fn read(body: &[u8]) -> Option<RawChain> {
        let (header, rest) = body.split_first_chunk::<4>()?;
        let mut chain = RawChain {
            family: header[0],
            table: String::new(),
            name: String::new(),
            hook: None,
            accepts: true,
        };
        for (kind, value) in attributes(rest) {
            match kind {
                1 => chain.table = text(value),
                3 => chain.name = text(value),
                4 => {
                    let number = attributes(value).find(|(kind, _)| *kind == 1);
                    chain.hook = number.and_then(|(_, value)| number_of(value));
                }
                5 => chain.accepts = number_of(value) != Some(NF_DROP),
                _ => {}
            }
        }
        Some(chain)
    }
}

impl RawRule {
    pub(crate) fn read(body: &[u8]) -> Option<RawRule> {
        let (header, rest) = body.split_first_chunk::<4>()?;
        let mut rule = RawRule {
            family: header[0],
            table: String::new(),
            chain: String::new(),
            handle: 0,
            expressions: Vec::new(),
        };
        for (kind, value) in attributes(rest) {
            match kind {
                1 => rule.table = text(value),
                2 => rule.chain = text(value),
                3 => {
                    rule.handle = value.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
                }
                4 => {
                    rule.expressions =
                        attributes(value).filter_map(|(_, e)| expression(e)).collect()
                }
                _ => {}
            }
        }
        Some(rule)
    }
}

impl RawRule {
    /// The sets that it looks into: family, table and name.
    pub(crate) fn sets(&self) -> impl Iterator<Item = (u8, String, String)> {
        let lookups = self.expressions.iter().filter(|(name, _)| name == "lookup");
        lookups.filter_map(|(_, data)| {
            let set = attributes(data).find(|(kind, _)| *kind == 1).map(|(_, name)| text(name))?;
            Some((self.family, self.table.clone(), set))
        })
    }
}

fn expression(bytes: &[u8]) -> Option<(String, Vec<u8>)> {
    let (mut name, mut data) = (None, Vec::new());
    for (kind, value) in attributes(bytes) {
        match kind {
            1 => name = Some(text(value)),
            2 => data = value.to_vec(),
            _ => {}
        }
    }
    Some((name?, data))
}

impl Elements {
    /// Adds what one answer tells.
    pub(crate) fn read(&mut self, body: &[u8]) {
        let lists = attributes(body.get(4..).unwrap_or_default()).filter(|(kind, _)| *kind == 3);
        for (_, element) in lists.flat_map(|(_, list)| attributes(list)) {
            let (mut key, mut ends) = (None, false);
            for (kind, value) in attributes(element) {
                match kind {
                    1 => {
                        key =
                            attributes(value).find(|(kind, _)| *kind == 1).map(|(_, v)| v.to_vec())
                    }
                    3 => ends = number_of(value).is_some_and(|flags| flags & INTERVAL_END != 0),
                    _ => {}
                }
            }
            self.0.extend(key.map(|key| (key, ends)));
        }
    }
}

/// Text up to the zero that ends it.
pub(super) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}

/// Four bytes in network order, as nf_tables writes all its numbers.
pub(super) fn number_of(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

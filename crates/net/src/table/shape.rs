//! What our tables look like from outside, so that it can be seen whether they are whole.

use std::collections::{BTreeMap, BTreeSet};

use super::{Contents, Family, by_set, rules};

/// A table as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) family: Family,
    /// Its chains, and how many rules each has.
    pub(crate) chains: BTreeMap<String, usize>,
    /// The keys in each set.
    pub(crate) sets: BTreeMap<String, BTreeSet<Vec<u8>>>,
}

/// The tables that say this.
pub(crate) fn shapes(contents: &Contents) -> Vec<Shape> {
    let of = |family: Family| {
        let chains = rules(family, contents.gate.as_ref());
        let chains = chains.iter().map(|(chain, rules)| (chain.name.to_owned(), rules.len()));
        let mut sets: BTreeMap<_, BTreeSet<_>> =
            family.sets().iter().map(|set| (set.name.to_owned(), BTreeSet::new())).collect();
        for (set, elements) in by_set(family, contents.entries.iter()) {
            let keys = elements.into_iter().map(|element| element.key);
            sets.entry(set.to_owned()).or_default().extend(keys);
        }
        Shape { family, chains: chains.collect(), sets }
    };
    contents.families().map(of).collect()
}

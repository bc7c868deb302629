//! What nobody needs any more. What is reachable is decided by a pure function.

use std::collections::BTreeMap;

use base::Digest;
use redb::ReadableTable as _;

use super::{
    BLOBS, Digests, ENDS, MANIFESTS, Row, TAGS, Table, TableError, from_bytes, names,
    remove_manifest,
};

/// What goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Whether manifests go, too, that no tag reaches.
    pub(crate) untagged: bool,
    /// What came since then stays, in seconds since 1970: it may be part of a push under way.
    pub(crate) before: u64,
}

/// What went of the table, and what must stay on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Manifests that went.
    pub(crate) manifests: usize,
    /// Every digest that a row has.
    pub(crate) needed: Digests,
}

/// One repository.
#[derive(Debug, Default)]
struct Repository {
    manifests: BTreeMap<Digest, Row>,
    tagged: Digests,
}

impl Repository {
    /// Manifests that stay. Those that are tagged, or young; what these are made of; and what
    /// refers to one that stays.
    fn staying(&self, rule: Rule) -> Digests {
        let young = |row: &Row| row.since >= rule.before;
        let kept = |(digest, row): &(&Digest, &Row)| {
            !rule.untagged || self.tagged.contains(digest) || young(row)
        };
        let roots = self.manifests.iter().filter(kept).map(|(digest, _)| *digest);
        let mut todo: Vec<Digest> = roots.collect();
        let mut referring: BTreeMap<Digest, Vec<Digest>> = BTreeMap::new();
        for (digest, row) in &self.manifests {
            if let Some(subject) = row.subject {
                referring.entry(subject).or_default().push(*digest);
            }
        }
        let mut staying = Digests::new();
        while let Some(digest) = todo.pop() {
            let Some(row) = self.manifests.get(&digest) else { continue };
            if staying.insert(digest) {
                todo.extend(&row.manifests);
                todo.extend(referring.get(&digest).into_iter().flatten());
            }
        }
        staying
    }
}

impl Table {
    /// Takes away the rows of what nobody needs. Nothing else is written meanwhile.
    pub(crate) fn collect(&self, rule: Rule) -> Result<Swept, TableError> {
        self.change(|transaction| {
            let mut swept = Swept::default();
            let mut all = names(&transaction.open_table(MANIFESTS)?)?;
            all.extend(names(&transaction.open_table(BLOBS)?)?);
            all.sort();
            all.dedup();
            for name in all {
                sweep(transaction, &name, rule, &mut swept)?;
            }
            Ok(swept)
        })
    }
}

fn sweep(
    transaction: &redb::WriteTransaction,
    name: &str,
    rule: Rule,
    swept: &mut Swept,
) -> Result<(), TableError> {
    let repository = read(transaction, name)?;
    let staying = repository.staying(rule);
    let mut needed = Digests::new();
    for (digest, row) in &repository.manifests {
        if staying.contains(digest) {
            needed.extend(&row.blobs);
        } else {
            remove_manifest(transaction, name, digest)?;
            swept.manifests += 1;
        }
    }
    let mut blobs = transaction.open_table(BLOBS)?;
    let all = (name, &ENDS.0)..=(name, &ENDS.1);
    blobs.retain_in(all.clone(), |(_, digest), (_, since)| {
        since >= rule.before || needed.contains(&Digest::from_sha256(*digest))
    })?;
    for entry in blobs.range(all)? {
        swept.needed.insert(Digest::from_sha256(*entry?.0.value().1));
    }
    swept.needed.extend(staying);
    Ok(())
}

fn read(transaction: &redb::WriteTransaction, name: &str) -> Result<Repository, TableError> {
    let mut repository = Repository::default();
    let manifests = transaction.open_table(MANIFESTS)?;
    for entry in manifests.range((name, &ENDS.0)..=(name, &ENDS.1))? {
        let (key, value) = entry?;
        let digest = Digest::from_sha256(*key.value().1);
        repository.manifests.insert(digest, from_bytes(value.value())?);
    }
    let tags = transaction.open_table(TAGS)?;
    for entry in tags.range((name, "")..)? {
        let (key, value) = entry?;
        if key.value().0 != name {
            break;
        }
        repository.tagged.insert(Digest::from_sha256(*value.value()));
    }
    Ok(repository)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> Digest {
        Digest::from_sha256([n; 32])
    }

    fn row(since: u64, manifests: &[u8], subject: Option<u8>) -> Row {
        Row {
            media_type: String::new(),
            bytes: 0,
            since,
            blobs: Vec::new(),
            manifests: manifests.iter().map(|n| digest(*n)).collect(),
            subject: subject.map(digest),
            artifact_type: None,
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn what_tags_reach_stays_and_what_refers_to_it() {
        let repository = Repository {
            manifests: [
                (digest(1), row(0, &[2, 3], None)),
                (digest(2), row(0, &[], None)),
                // Refers to an entry of the index, and something refers to it.
                (digest(4), row(0, &[], Some(2))),
                (digest(5), row(0, &[], Some(4))),
                // Nobody's, and what refers to it.
                (digest(6), row(0, &[7], None)),
                (digest(7), row(0, &[], None)),
                (digest(8), row(0, &[], Some(6))),
                // Nobody's yet.
                (digest(9), row(100, &[], None)),
            ]
            .into(),
            tagged: [digest(1)].into(),
        };
        let staying = |untagged| repository.staying(Rule { untagged, before: 100 });
        assert_eq!(staying(true), [1, 2, 4, 5, 9].map(digest).into());
        assert_eq!(staying(false).len(), repository.manifests.len());
    }
}

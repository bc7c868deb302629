//! Removing some of the platforms of an image: the others stay, under the same names.
//!
//! What goes is decided by [`part`], which is pure.

use std::collections::{BTreeMap, BTreeSet};

use base::Digest;

use super::{Conflict, Found, Removed, ResolveError, Subject, Table, Users};
use crate::platform::Platform;

/// What goes of an image of which something stays.
#[derive(Debug)]
pub(super) struct Part {
    /// The manifests that go, by the target that loses them and keeps others.
    manifests: BTreeMap<Digest, BTreeSet<Digest>>,
    /// Ids of images that are in no target any more then.
    ids: BTreeSet<Digest>,
}

/// What removing these platforms takes, unless nothing would stay: then it is the whole image
/// that is removed. An id means all targets in which it is.
///
/// # Errors
/// When there is no image for one of the platforms. One for another variant that would run there
/// is not meant.
pub(super) fn part(
    table: &Table,
    name: &str,
    found: &Found,
    platforms: &[Platform],
) -> Result<Option<Part>, ResolveError> {
    let targets: Vec<_> = match found {
        Found::Id(id) => table.targets_with(id).collect(),
        Found::Name(_, digest) | Found::Target(digest) => {
            table.targets.get_key_value(digest).into_iter().collect()
        }
    };
    let have = || targets.iter().flat_map(|(_, target)| &target.manifests);
    if let Some(lacking) = platforms.iter().find(|&p| have().all(|m| m.platform != *p)) {
        let have = have().map(|manifest| manifest.platform.clone()).collect();
        let name = name.to_owned();
        return Err(ResolveError::Platform { name, wanted: lacking.clone(), have });
    }
    let mut part = Part { manifests: BTreeMap::new(), ids: BTreeSet::new() };
    for (digest, target) in targets {
        let goes = target.manifests.iter().filter(|m| platforms.contains(&m.platform));
        let goes: BTreeSet<_> = goes.map(|manifest| manifest.digest).collect();
        if (1..target.manifests.len()).contains(&goes.len()) {
            part.manifests.insert(*digest, goes);
        }
    }
    let (mut gone, mut stay) = (BTreeSet::new(), BTreeSet::new());
    for (digest, target) in &table.targets {
        let goes = part.manifests.get(digest);
        for manifest in &target.manifests {
            match goes.is_some_and(|goes| goes.contains(&manifest.digest)) {
                true => gone.insert(manifest.config),
                false => stay.insert(manifest.config),
            };
        }
    }
    part.ids = &gone - &stay;
    Ok((!part.manifests.is_empty()).then_some(part))
}

impl Part {
    /// Who is in the way: users of the images that go. Users of those that stay are not.
    pub(super) fn conflict(&self, users: Users<'_>, force: bool) -> Option<Conflict> {
        self.ids.iter().find_map(|id| Subject::alone(*id).conflict(users, force))
    }

    /// Changes the table; answers what went, and the layers that might go.
    pub(super) fn carry_out(&self, table: &mut Table) -> (Vec<Removed>, Vec<Vec<Digest>>) {
        let mut stacks = Vec::new();
        for (digest, goes) in &self.manifests {
            let target = table.targets.get_mut(digest).expect("found in this table");
            let gone = target.manifests.extract_if(.., |m| goes.contains(&m.digest));
            stacks.extend(gone.map(|m| m.layers.iter().map(|layer| layer.diff_id).collect()));
        }
        (self.ids.iter().copied().map(Removed::Deleted).collect(), stacks)
    }
}

//! Removing images as Docker does: names first, the image when its last name goes.
//!
//! What to do is decided by [`plan`], which is pure; then the table is replaced, and what nobody
//! needs any more is deleted.
//!
//! Source: moby, `daemon/images/image_delete.go`.

mod platforms;

use std::{collections::BTreeSet, path::PathBuf};

use base::{Digest, ErrorKind};
use sha2::{Digest as _, Sha256};

use super::{
    Collected, ImageMount, Store, StoreError, Table,
    resolve::{self, Found, ResolveError},
};
use crate::{platform::Platform, reference::Reference, wire};

/// A container and the image it was made from, whether it runs or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerUse {
    /// The container's id or name, for messages.
    pub container: String,
    /// The image's id.
    pub image: Digest,
    /// The diff ids of its root: they stay even if the image goes.
    pub layers: Vec<Digest>,
    /// Whether it runs.
    pub running: bool,
}

/// One thing that was removed, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A name.
    Untagged(Reference),
    /// An image, or a layer by its chain id.
    Deleted(Digest),
}

/// What `image prune` did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// What was removed, in order.
    pub removed: Vec<Removed>,
    /// Bytes of disk that are free again.
    pub bytes: u64,
}

/// What is in the way of removing an image. The words are Docker's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// A container needs its last name.
    #[error(
        "conflict: unable to remove repository reference \"{name}\" (must force) - container \
         {container} is using its referenced image {}",
        short(.id)
    )]
    Name {
        /// The name.
        name: String,
        /// The container.
        container: String,
        /// The image.
        id: Digest,
    },
    /// A container runs.
    #[error(
        "conflict: unable to delete {} (cannot be forced) - image is being used by running \
         container {container}",
        short(.id)
    )]
    Running {
        /// The image.
        id: Digest,
        /// The container.
        container: String,
    },
    /// A container could run again.
    #[error(
        "conflict: unable to delete {} (must be forced) - image is being used by stopped \
         container {container}",
        short(.id)
    )]
    Stopped {
        /// The image.
        id: Digest,
        /// The container.
        container: String,
    },
    /// Its files are shown at a directory of the host.
    #[error(
        "conflict: unable to delete {} (cannot be forced) - image is mounted at {}",
        short(.id),
        .target.display()
    )]
    Mounted {
        /// The image.
        id: Digest,
        /// The directory.
        target: PathBuf,
    },
    /// It was asked for by id, and has several names.
    #[error(
        "conflict: unable to delete {} (must be forced) - image is referenced in multiple \
         repositories",
        short(.id)
    )]
    Names {
        /// The image.
        id: Digest,
    },
}

/// Why an image was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// It was not found.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// Something is in the way.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The store could not be changed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RemoveError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            RemoveError::Resolve(error) => error.kind(),
            RemoveError::Conflict(_) => ErrorKind::Conflict,
            RemoveError::Store(error) => error.kind(),
        }
    }
}

impl Store {
    /// Removes a name, or an image with all its names; with `platforms` these alone of it, and
    /// the rest keeps its names.
    ///
    /// `containers` are all there are, so that nothing they need goes.
    ///
    /// # Errors
    /// When there is no such image, or a container is in the way and, where that helps, `force`
    /// was not given.
    pub fn remove(
        &self,
        name: &str,
        force: bool,
        platforms: &[Platform],
        containers: &[ContainerUse],
    ) -> Result<Vec<Removed>, RemoveError> {
        let mounts = self.image_mounts();
        let users = Users { containers, mounts: &mounts };
        let (mut removed, layers) = self.change(|table| {
            let found = resolve::lookup(table, name)?;
            if !platforms.is_empty()
                && let Some(part) = platforms::part(table, name, &found, platforms)?
            {
                return match part.conflict(users, force) {
                    None => Ok(part.carry_out(table)),
                    Some(conflict) => Err(conflict.into()),
                };
            }
            let subject = Subject::new(table, &found, self.host());
            let plan = plan(&subject, &found, users, force)?;
            Ok::<_, RemoveError>(carry_out(table, &subject, plan))
        })??;
        let collected = self.collect(containers)?;
        removed.extend(chain_ids(&layers, &collected));
        Ok(removed)
    }

    /// Removes images that nobody uses and that are `wanted` away by their configuration: those
    /// without a name, or `all`.
    ///
    /// # Errors
    /// When the store cannot be read or changed.
    pub fn prune(
        &self,
        all: bool,
        wanted: &dyn Fn(&wire::ImageConfig) -> bool,
        containers: &[ContainerUse],
    ) -> Result<Pruned, StoreError> {
        let mounts = self.image_mounts();
        let users = Users { containers, mounts: &mounts };
        let mut goes = BTreeSet::new();
        for subject in unused(&self.table(), all, users, self.host()) {
            if wanted(&self.read_config(&subject.id)?) {
                goes.insert(subject.id);
            }
        }
        let (mut removed, layers) = self.change(|table| {
            let (mut removed, mut layers) = (Vec::new(), Vec::new());
            let unused = unused(table, all, users, self.host());
            for subject in unused.into_iter().filter(|subject| goes.contains(&subject.id)) {
                let plan = Plan { untag: subject.names.clone(), delete: true };
                let (more, stack) = carry_out(table, &subject, plan);
                removed.extend(more);
                layers.extend(stack);
            }
            (removed, layers)
        })?;
        let collected = self.collect(containers)?;
        removed.extend(chain_ids(&layers, &collected));
        Ok(Pruned { removed, bytes: collected.bytes })
    }
}

/// Everybody who uses images.
#[derive(Clone, Copy, Debug)]
struct Users<'u> {
    containers: &'u [ContainerUse],
    mounts: &'u [ImageMount],
}

/// An image with everything that goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Subject {
    id: Digest,
    /// Ids of all images in its targets.
    ids: BTreeSet<Digest>,
    names: Vec<Reference>,
    targets: Vec<Digest>,
}

/// What to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plan {
    untag: Vec<Reference>,
    delete: bool,
}

impl Subject {
    fn new(table: &Table, found: &Found, host: &crate::Platform) -> Subject {
        let target = found.target(table);
        let primary = || table.targets.get(&target).map(|t| t.primary(host).config);
        let id = match found {
            Found::Id(id) => *id,
            Found::Name(..) | Found::Target(_) => primary().expect("found in this table"),
        };
        Subject::of(table, id)
    }

    fn of(table: &Table, id: Digest) -> Subject {
        let targets: Vec<_> = table.targets_with(&id).collect();
        let names = targets.iter().flat_map(|(digest, _)| table.names_of(digest));
        Subject {
            id,
            ids: targets.iter().flat_map(|(_, t)| &t.manifests).map(|m| m.config).collect(),
            names: names.cloned().collect(),
            targets: targets.iter().map(|(digest, _)| **digest).collect(),
        }
    }

    /// The image itself, whatever its names are.
    fn alone(id: Digest) -> Subject {
        Subject { id, ids: [id].into(), names: Vec::new(), targets: Vec::new() }
    }

    fn user<'c>(&self, users: Users<'c>, running: bool) -> Option<&'c str> {
        let mut users = users.containers.iter().filter(|c| self.ids.contains(&c.image));
        users.find(|c| c.running == running).map(|c| c.container.as_str())
    }

    /// At most one name with a tag, and all names of one repository.
    fn is_single(&self) -> bool {
        let Some(first) = self.names.first() else { return false };
        self.names.iter().filter(|name| name.tag().is_some()).count() <= 1
            && self.names.iter().all(|name| name.same_repository(first))
    }

    fn mounted(&self, users: Users<'_>) -> Option<Conflict> {
        let mount = users.mounts.iter().find(|mount| self.ids.contains(&mount.image))?;
        Some(Conflict::Mounted { id: self.id, target: mount.target.clone() })
    }

    fn conflict(&self, users: Users<'_>, force: bool) -> Option<Conflict> {
        let owned = |container: &str| container.to_owned();
        if let Some(container) = self.user(users, true).map(owned) {
            return Some(Conflict::Running { id: self.id, container });
        }
        if let Some(mounted) = self.mounted(users) {
            return Some(mounted);
        }
        let container = self.user(users, false).map(owned).filter(|_| !force)?;
        Some(Conflict::Stopped { id: self.id, container })
    }
}

fn plan(subject: &Subject, found: &Found, users: Users<'_>, force: bool) -> Result<Plan, Conflict> {
    let conflict = subject.conflict(users, force);
    let Found::Name(name, _) = found else {
        return match conflict {
            Some(conflict) => Err(conflict),
            None if subject.names.is_empty() || subject.is_single() || force => {
                Ok(Plan { untag: subject.names.clone(), delete: true })
            }
            None => Err(Conflict::Names { id: subject.id }),
        };
    };
    let others = subject.names.iter().filter(|other| *other != name);
    let (tags, digests): (Vec<_>, Vec<_>) = others.partition(|other| other.tag().is_some());
    // Names by digest go with the last tag of their repository.
    let bound = |d: &&Reference| {
        d.same_repository(name) && !tags.iter().any(|tag| tag.same_repository(name))
    };
    let (bound, free): (Vec<_>, Vec<_>) = digests.into_iter().partition(bound);
    let untag = [name].into_iter().chain(bound).cloned().collect();
    if !tags.is_empty() || !free.is_empty() {
        return Ok(Plan { untag, delete: false });
    }
    let user = subject.user(users, true).or(subject.user(users, false));
    match (user, subject.mounted(users)) {
        (None, Some(mounted)) if !force => Err(mounted),
        (Some(container), _) if !force => Err(Conflict::Name {
            name: name.familiar(),
            container: container.to_owned(),
            id: subject.id,
        }),
        // Forced away under a running container, it loses its name alone.
        _ => Ok(Plan { untag, delete: conflict.is_none() }),
    }
}

/// Changes the table; answers what went, and the layers that might go.
fn carry_out(table: &mut Table, subject: &Subject, plan: Plan) -> (Vec<Removed>, Vec<Vec<Digest>>) {
    let mut stacks = Vec::new();
    for name in &plan.untag {
        table.references.remove(name);
    }
    let mut removed: Vec<_> = plan.untag.into_iter().map(Removed::Untagged).collect();
    if plan.delete {
        for target in subject.targets.iter().filter_map(|digest| table.targets.remove(digest)) {
            for manifest in &target.manifests {
                stacks.push(manifest.layers.iter().map(|layer| layer.diff_id).collect());
            }
        }
        removed.extend(subject.ids.iter().copied().map(Removed::Deleted));
    }
    (removed, stacks)
}

/// Images that prune removes.
fn unused(table: &Table, all: bool, users: Users<'_>, host: &crate::Platform) -> Vec<Subject> {
    let ids: BTreeSet<_> = table.targets.values().map(|t| t.primary(host).config).collect();
    let subjects = ids.into_iter().map(|id| Subject::of(table, id));
    let goes = |subject: &Subject| {
        (all || subject.names.is_empty()) && subject.conflict(users, false).is_none()
    };
    subjects.filter(goes).collect()
}

/// The chain ids of layers that are gone, top first, each once.
///
/// Source: OCI image-spec, config.md, "Layer ChainID".
fn chain_ids(stacks: &[Vec<Digest>], collected: &Collected) -> Vec<Removed> {
    let mut seen = BTreeSet::new();
    let mut removed = Vec::new();
    for stack in stacks {
        let mut chain: Option<Digest> = None;
        let mut gone = Vec::new();
        for diff_id in stack {
            let next = match chain {
                None => *diff_id,
                Some(below) => {
                    let hash = Sha256::digest(format!("{below} {diff_id}"));
                    Digest::from_sha256(hash.into())
                }
            };
            chain = Some(next);
            if collected.layers.contains(diff_id) && seen.insert(next) {
                gone.push(Removed::Deleted(next));
            }
        }
        removed.extend(gone.into_iter().rev());
    }
    removed
}

fn short(id: &Digest) -> String {
    id.hex().chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(names: &[&str]) -> Subject {
        let id = Digest::from_sha256([1; 32]);
        let names = names.iter().map(|name| name.parse().unwrap()).collect();
        Subject { id, ids: [id].into(), names, targets: vec![id] }
    }

    fn container(running: bool) -> ContainerUse {
        let image = Digest::from_sha256([1; 32]);
        ContainerUse { container: "c1".to_owned(), image, layers: Vec::new(), running }
    }

    fn named(name: &str) -> Found {
        Found::Name(name.parse().unwrap(), Digest::from_sha256([1; 32]))
    }

    fn by_id() -> Found {
        Found::Id(Digest::from_sha256([1; 32]))
    }

    fn check(names: &[&str], found: &Found, containers: &[ContainerUse], force: bool, want: &str) {
        let users = Users { containers, mounts: &[] };
        said(plan(&subject(names), found, users, force), want);
    }

    #[track_caller]
    fn said(plan: Result<Plan, Conflict>, want: &str) {
        let said = match plan {
            Ok(Plan { untag, delete }) => {
                let names: Vec<_> = untag.iter().map(Reference::familiar).collect();
                format!("untag {} delete {delete}", names.join(","))
            }
            Err(conflict) => conflict.to_string(),
        };
        assert!(said.contains(want), "{said}");
    }

    #[test]
    fn the_image_goes_with_its_last_name_only() {
        check(&["a:1", "a:2"], &named("a:1"), &[], false, "untag a:1 delete false");
        check(&["a:1"], &named("a:1"), &[], false, "untag a:1 delete true");
        let digest = format!("a@sha256:{}", "01".repeat(32));
        check(&["a:1", &digest], &named("a:1"), &[], false, "delete true");
        check(&["a:1", "b:1"], &named("a:1"), &[container(true)], false, "untag a:1 delete false");
    }

    #[test]
    fn a_container_keeps_the_last_name_unless_forced() {
        check(&["a:1"], &named("a:1"), &[container(false)], false, "repository reference \"a:1\"");
        check(&["a:1"], &named("a:1"), &[container(false)], true, "untag a:1 delete true");
        check(&["a:1"], &named("a:1"), &[container(true)], true, "untag a:1 delete false");
    }

    #[test]
    fn a_mount_keeps_the_image_and_forced_away_it_loses_its_name_alone() {
        let mounts = [ImageMount {
            id: "1".to_owned(),
            image: Digest::from_sha256([1; 32]),
            name: "a:1".to_owned(),
            layers: Vec::new(),
            target: "/mnt/a".into(),
            namespace: "mnt:[1]".into(),
            made: base::clock::Timestamp(0),
            placed: true,
        }];
        let users = Users { containers: &[], mounts: &mounts };
        let one = subject(&["a:1"]);
        said(plan(&one, &named("a:1"), users, false), "is mounted at /mnt/a");
        said(plan(&one, &named("a:1"), users, true), "untag a:1 delete false");
        said(plan(&one, &by_id(), users, true), "is mounted at /mnt/a");
        said(plan(&subject(&["a:1", "b:1"]), &named("a:1"), users, false), "delete false");
    }

    #[test]
    fn by_id_a_running_container_cannot_be_forced_and_the_rest_can() {
        check(&["a:1"], &by_id(), &[], false, "untag a:1 delete true");
        check(&[], &by_id(), &[], false, "delete true");
        check(&["a:1"], &by_id(), &[container(true)], true, "cannot be forced");
        check(&["a:1"], &by_id(), &[container(false)], false, "must be forced");
        check(&["a:1"], &by_id(), &[container(false)], true, "delete true");
        check(&["a:1", "b:1"], &by_id(), &[], false, "multiple repositories");
        check(&["a:1", "a:2"], &by_id(), &[], true, "untag a:1,a:2 delete true");
    }
}

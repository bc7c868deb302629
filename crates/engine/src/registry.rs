//! Which containers there are: by id, by name, and what each looks like now.
//!
//! Everything that only looks reads this and waits for nobody; every change goes through the
//! container's own task.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use base::{ContainerId, ContainerName, Digest};
use tokio::sync::{mpsc, watch};
use workload::{Exit, Process, Sandbox};

use crate::{Container, EngineError, actor::Message, names};

/// Shortest beginning of an id that is taken for one; shorter ones name too many.
const PREFIX_MIN: usize = 1;
/// How often a made-up name may be taken before the container is named after its id.
const NAME_ATTEMPTS: u32 = 16;

/// One container, as everybody but its own task knows it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: ContainerId,
    /// Its image's layers, lowest first.
    pub(crate) layers: Vec<Digest>,
    pub(crate) mailbox: mpsc::Sender<Message>,
    pub(crate) snapshot: watch::Sender<Snapshot>,
    live: Mutex<Live>,
    /// Whether a start has its root; held while its root is written to without one.
    pub(crate) rooted: tokio::sync::Mutex<bool>,
}

/// What there is of a container that runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Live {
    pub(crate) sandbox: Option<Arc<dyn Sandbox>>,
    pub(crate) process: Option<Arc<dyn Process>>,
}

/// A container at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) container: Arc<Container>,
    /// Whether it was made, so that it is shown.
    pub(crate) made: bool,
    pub(crate) alive: bool,
    /// Whether output may come: it runs, or is being started (again).
    pub(crate) logs: bool,
    /// How often it has ended since the daemon knows it.
    pub(crate) ends: u64,
    /// How it last ended.
    pub(crate) exit: Option<Exit>,
    pub(crate) gone: bool,
}

impl Entry {
    pub(crate) fn new(
        id: ContainerId,
        layers: Vec<Digest>,
        mailbox: mpsc::Sender<Message>,
        snapshot: Snapshot,
    ) -> Entry {
        Entry {
            id,
            layers,
            mailbox,
            snapshot: watch::Sender::new(snapshot),
            live: Mutex::default(),
            rooted: tokio::sync::Mutex::default(),
        }
    }

    /// What it looks like now.
    pub(crate) fn container(&self) -> Arc<Container> {
        Arc::clone(&self.snapshot.borrow().container)
    }

    pub(crate) fn live(&self) -> Live {
        self.lock_live().clone()
    }

    pub(crate) fn set_live(&self, live: Live) {
        *self.lock_live() = live;
    }

    fn lock_live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every container.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<ContainerId, Arc<Entry>>,
    names: HashMap<ContainerName, ContainerId>,
}

impl Registry {
    /// Enters a container under its name, or under one made up from `random`.
    ///
    /// # Errors
    /// [`EngineError::NameTaken`].
    pub(crate) fn enter(
        &self,
        id: &ContainerId,
        name: Option<ContainerName>,
        random: impl Iterator<Item = u64>,
        entry: impl FnOnce(ContainerName) -> Entry,
    ) -> Result<Arc<Entry>, EngineError> {
        let mut inner = self.write();
        let name = match name {
            Some(name) => match inner.names.get(&name) {
                Some(owner) => return Err(EngineError::NameTaken { name, id: owner.clone() }),
                None => name,
            },
            None => inner.free_name(id, random),
        };
        let entry = Arc::new(entry(name.clone()));
        inner.names.insert(name, id.clone());
        inner.entries.insert(id.clone(), Arc::clone(&entry));
        Ok(entry)
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// [`EngineError::NameTaken`], also by itself.
    pub(crate) fn rename(
        &self,
        id: &ContainerId,
        from: &ContainerName,
        to: &ContainerName,
    ) -> Result<(), EngineError> {
        let mut inner = self.write();
        if let Some(owner) = inner.names.get(to) {
            return Err(EngineError::NameTaken { name: to.clone(), id: owner.clone() });
        }
        inner.names.remove(from);
        inner.names.insert(to.clone(), id.clone());
        Ok(())
    }

    /// Takes a container out. Answers whether it was the last.
    pub(crate) fn leave(&self, id: &ContainerId, name: &ContainerName) -> bool {
        let mut inner = self.write();
        inner.names.remove(name);
        inner.entries.remove(id);
        inner.entries.is_empty()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.read().entries.is_empty()
    }

    /// The container of this name (a leading `/` is Docker's), id, or beginning of an id.
    ///
    /// # Errors
    /// [`EngineError::NoSuchContainer`], [`EngineError::AmbiguousId`].
    pub(crate) fn find(&self, who: &str) -> Result<Arc<Entry>, EngineError> {
        let inner = self.read();
        let nobody = || EngineError::NoSuchContainer(who.to_owned());
        let plain = who.strip_prefix('/').unwrap_or(who);
        let named = plain.parse::<ContainerName>().ok().and_then(|name| inner.names.get(&name));
        if let Some(entry) = named.and_then(|id| inner.entries.get(id)) {
            return Ok(Arc::clone(entry));
        }
        let hex = plain.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !hex || plain.len() < PREFIX_MIN {
            return Err(nobody());
        }
        let mut found = inner.entries.values().filter(|entry| entry.id.as_str().starts_with(plain));
        match (found.next(), found.next()) {
            (Some(entry), None) => Ok(Arc::clone(entry)),
            (None, _) => Err(nobody()),
            (Some(_), Some(_)) => Err(EngineError::AmbiguousId(who.to_owned())),
        }
    }

    /// Every container that was made, oldest first.
    pub(crate) fn list(&self) -> Vec<Arc<Container>> {
        let inner = self.read();
        let made = inner.entries.values().filter(|entry| entry.snapshot.borrow().made);
        let mut list: Vec<_> = made.map(|entry| entry.container()).collect();
        list.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        list
    }

    /// Every container, those that are still being made too.
    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        self.read().entries.values().cloned().collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        // Nothing in here can panic half-way through a change.
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn free_name(&self, id: &ContainerId, random: impl Iterator<Item = u64>) -> ContainerName {
        (0..NAME_ATTEMPTS)
            .zip(random)
            .map(|(attempt, random)| names::generate(random, attempt))
            .find(|name| !self.names.contains_key(name))
            .unwrap_or_else(|| id.short().parse().expect("twelve hexadecimal digits are a name"))
    }
}

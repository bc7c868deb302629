//! The handle through which everything is asked.

mod containers;
mod copies;
mod disk;
mod events;
mod execs;
mod forks;
mod images;
mod networks;
mod open;
mod pull;
mod push;
mod stats;
mod still;
mod volumes;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

pub(crate) use containers::random;
pub(crate) use images::uses;
#[cfg(test)]
pub(crate) use open::Parts;
use tokio::{sync::watch, task::JoinSet};
use tracing::warn;
use workload::{Driver, Isolation};

use crate::{
    Config, Container, ContainerState, EngineError, Info, Progress, Protocol,
    actor::blocking,
    error::chain,
    events::Events,
    execs::Execs,
    files::{Files, Lock},
    gather::HostFacts,
    images::Images,
    networks::Networks,
    records::Records,
    registries::Registries,
    registry::Registry,
    volume::Volumes,
};

/// How long closing waits for what has begun.
const CLOSE_WAIT: Duration = Duration::from_secs(60);

/// Called with news of long work, from any thread; it must not block.
pub type OnProgress = Box<dyn Fn(Progress) + Send + Sync>;

/// The engine. Cloning it gives another handle to the same one.
///
/// Wherever a container is named (`who`), its name, its id or a unique beginning of its id does.
/// Dropping a future that one of these returned leaves nothing half-made: what began is finished
/// or undone by the container's own task.
///
/// When the last handle is dropped without [`Engine::close`], it is as if the daemon had been
/// killed.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    /// The containers' tasks; they end with this.
    actors: Mutex<JoinSet<()>>,
}

/// What every container's task uses.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) drivers: HashMap<Isolation, Arc<dyn Driver>>,
    pub(crate) registry: Registry,
    pub(crate) execs: Execs,
    pub(crate) events: Events,
    pub(crate) files: Files,
    pub(crate) images: Arc<dyn Images>,
    pub(crate) networks: Arc<dyn Networks>,
    pub(crate) volumes: Volumes,
    pub(crate) registries: Registries,
    pub(crate) host: HostFacts,
    pub(crate) closing: watch::Sender<bool>,
    pub(crate) records: Records,
    /// Dropped last: nobody else opens the data root before the rest is gone.
    _lock: Lock,
}

impl Engine {
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    /// Every container, oldest first.
    pub fn list(&self) -> Vec<Arc<Container>> {
        self.inner.shared.registry.list()
    }

    /// One container.
    ///
    /// # Errors
    /// [`EngineError::NoSuchContainer`], [`EngineError::AmbiguousId`].
    pub fn inspect(&self, who: &str) -> Result<Arc<Container>, EngineError> {
        Ok(self.inner.shared.registry.find(who)?.container())
    }

    /// What the host's own rules say of a published port that leads to the port `inside`.
    ///
    /// # Errors
    /// [`EngineError::Network`] if the kernel does not tell.
    pub async fn admission(
        &self,
        protocol: Protocol,
        port: u16,
        inside: u16,
    ) -> Result<net::Admission, EngineError> {
        let shared = Arc::clone(&self.inner.shared);
        let read = move || shared.networks.admission(protocol, port, inside);
        blocking("reading the host's rules", read).await
    }

    /// The daemon in a few numbers.
    pub fn info(&self) -> Info {
        let shared = &self.inner.shared;
        let list = self.list();
        let count = |state| list.iter().filter(|c| c.state.state == state).count();
        let (running, paused) = (count(ContainerState::Running), count(ContainerState::Paused));
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let mut isolations: Vec<_> = shared.drivers.keys().copied().collect();
        isolations.sort_by_key(ToString::to_string);
        Info {
            version: shared.config.version.clone(),
            containers: (number(running), number(paused), number(list.len() - running - paused)),
            images: shared.images.count(),
            data_root: shared.config.data.display().to_string(),
            isolations,
            rootless: shared.config.user.is_some(),
            lacks: shared.config.user.as_ref().map(|u| u.lacks.sentences()).unwrap_or_default(),
        }
    }

    /// Finishes what has begun and lets go of the data root. Containers go on.
    pub async fn close(&self) {
        let shared = Arc::clone(&self.inner.shared);
        shared.tell_daemon("shutdown");
        shared.closing.send_replace(true);
        let mut actors = std::mem::take(&mut *self.inner.actors());
        let all = async { while actors.join_next().await.is_some() {} };
        if tokio::time::timeout(CLOSE_WAIT, all).await.is_err() {
            warn!("something does not come to an end; the next daemon will see to it");
        }
        shared.leave_host().await;
        let end = move || {
            shared.records.close();
            Ok(())
        };
        if let Err(failure) = blocking("closing the records", end).await {
            warn!(error = chain(&failure), "records are left to the journal");
        }
    }
}

#[cfg(test)]
impl Engine {
    /// The last change of a record.
    pub(crate) fn latest_record(&self) -> crate::records::Mark {
        self.inner.shared.records.latest()
    }
}

impl Shared {
    /// Leaves the host as it was, bridge and mounted layers, if there are no containers.
    pub(crate) async fn leave_host(self: &Arc<Shared>) {
        let shared = Arc::clone(self);
        let leave = move || {
            if !shared.registry.is_empty() {
                return Ok(());
            }
            shared.images.unmount_idle();
            shared.networks.remove_unused()
        };
        if let Err(failure) = blocking("leaving the host", leave).await {
            warn!(error = chain(&failure), "the bridge is left");
        }
    }
}

impl Inner {
    fn actors(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.actors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a container's task until its end, or the engine's.
    fn spawn(&self, actor: impl Future<Output = ()> + Send + 'static) {
        let mut actors = self.actors();
        while actors.try_join_next().is_some() {}
        actors.spawn(actor);
    }
}

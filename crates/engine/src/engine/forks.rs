//! Copies of a running container: it is saved once, and each copy goes on from there.

use std::{path::PathBuf, sync::Arc, time::Duration};

use base::{ContainerId, ContainerName, Deadline};
use tokio::{sync::Semaphore, task::JoinSet};
use tracing::warn;
use workload::{DriverError, Sandbox};

use super::{
    Engine,
    containers::{Origin, random},
    still::to_its_end,
};
use crate::{
    Created, EngineError, Fork, Remove,
    actor::{Message, StartArgs, blocking, within},
    error::chain,
    files::SavedFork,
    fork,
    registry::Entry,
};

/// How long a driver may take to save a sandbox.
pub(super) const SAVE_WAIT: Duration = Duration::from_secs(60);

/// Copies that are begun at the same time.
const AT_ONCE: usize = 8;

impl Engine {
    /// Makes copies of a container that runs. Each is a container of its own, with its own name,
    /// address and files, in which the other one's processes go on from where they were.
    ///
    /// # Errors
    /// [`EngineError`]; then there is no copy.
    pub async fn fork(&self, who: &str, fork: Fork) -> Result<Vec<Created>, EngineError> {
        let names = fork::names(&fork)?;
        let (engine, entry) = (self.clone(), self.find(who)?);
        let copies = async move {
            let saved = engine.save_fork(&entry).await?;
            let copies = engine.begin_copies(&entry, names, saved.path().to_owned()).await;
            // Whoever runs has it mapped.
            let remove = move || {
                drop(saved);
                Ok(())
            };
            blocking("removing what was saved", remove).await.and(copies)
        };
        to_its_end("forking", copies).await
    }

    /// Saves a container that runs; it goes on.
    async fn save_fork(&self, entry: &Entry) -> Result<SavedFork, EngineError> {
        self.send(entry, |reply| Message::MayExec { reply }).await?;
        let not_running = || EngineError::NotRunning(entry.container().name.to_string());
        let sandbox: Arc<dyn Sandbox> = entry.live().sandbox.ok_or_else(not_running)?;
        let Some(forkable) = sandbox.forkable() else {
            let isolation = sandbox.handle().isolation;
            return Err(EngineError::Driver(DriverError::Unsupported {
                what: "forking this container".to_owned(),
                why: format!("its isolation is {isolation}: only machines (vm) can be forked"),
            }));
        };
        let name = format!("{:016x}", u64::from_ne_bytes(random()?));
        let shared = Arc::clone(&self.inner.shared);
        let saved = blocking("making a directory", move || shared.files.make_fork(&name)).await?;
        let by = Deadline::after(SAVE_WAIT);
        let save = within(by, "saving it", forkable.save(saved.path(), by));
        self.while_still(entry, save).await?;
        Ok(saved)
    }

    /// Begins all copies, or none.
    async fn begin_copies(
        &self,
        of: &Arc<Entry>,
        names: Vec<Option<ContainerName>>,
        saved: PathBuf,
    ) -> Result<Vec<Created>, EngineError> {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let mut beginning = JoinSet::new();
        for (n, name) in names.into_iter().enumerate() {
            let (engine, of, saved) = (self.clone(), Arc::clone(of), saved.clone());
            let turns = Arc::clone(&turns);
            beginning.spawn(async move {
                // It is never closed.
                let _turn = turns.acquire_owned().await;
                (n, engine.begin_copy(&of, name, saved).await)
            });
        }
        let (mut copies, mut failure) = (Vec::new(), None);
        while let Some(done) = beginning.join_next().await {
            match done {
                Ok((n, Ok(created))) => copies.push((n, created)),
                Ok((_, Err(error))) => failure = Some(error),
                Err(_) => failure = Some(EngineError::Failed { doing: "forking" }),
            }
        }
        if let Some(failure) = failure {
            for (_, Created { id, .. }) in copies {
                self.undo(&id).await;
            }
            return Err(failure);
        }
        copies.sort_by_key(|(n, _)| *n);
        Ok(copies.into_iter().map(|(_, created)| created).collect())
    }

    /// Begins a copy of what was saved. If it does not run, there is none.
    async fn begin_copy(
        &self,
        of: &Entry,
        name: Option<ContainerName>,
        saved: PathBuf,
    ) -> Result<Created, EngineError> {
        let id = ContainerId::from_random(random()?);
        let container = of.container();
        let (config, warnings) = fork::configuration(&container.config);
        let (shared, holder) = (Arc::clone(&self.inner.shared), id.clone());
        let hold = move || shared.hold_same_volumes(&holder, config);
        let held = blocking("holding its volumes", hold).await?;
        let origin = Origin {
            image_id: container.image_id.clone(),
            layers: of.layers.clone(),
            forked_from: Some(of.id.clone()),
        };
        let entry = self.spawn(&id, name, origin, held.config.clone())?;
        held.keep();
        let args = StartArgs { taken_from: Some(saved), ..StartArgs::default() };
        if let Err(failure) = self.send(&entry, |reply| Message::Run { args, reply }).await {
            self.undo(&id).await;
            return Err(failure);
        }
        Ok(Created { id, warnings })
    }

    /// Removes a copy; it may have removed itself.
    async fn undo(&self, id: &ContainerId) {
        let remove = Remove { force: true, volumes: false };
        match self.remove(id.as_str(), remove).await {
            Ok(()) | Err(EngineError::NoSuchContainer(_) | EngineError::Removing(_)) => {}
            Err(failure) => {
                warn!(container = %id, error = chain(&failure), "a copy that failed is left");
            }
        }
    }
}

//! What is asked of volumes.

use std::{fs::File, sync::Arc};

use ::volumes::{How, NewVolume, Volume, VolumeName};
use base::ContainerId;
use tracing::warn;

use super::{Engine, Shared, still::to_its_end};
use crate::{
    ContainerState, EngineError, SnapshotView, VolumeCreate, VolumePrune, VolumeUsage, VolumeView,
    VolumesPruned, actor::blocking, error::chain, volume,
};

impl Engine {
    /// Makes a volume; one of this name that exists is answered with as it is.
    ///
    /// # Errors
    /// [`EngineError::Volume`].
    pub async fn volume_create(&self, create: VolumeCreate) -> Result<VolumeView, EngineError> {
        self.with_volumes("making the volume", move |shared| {
            let named = create.name.filter(|name| !name.is_empty());
            let anonymous = named.is_none();
            let name = match named {
                Some(name) => name,
                None => VolumeName::from_random(super::random()?).to_string(),
            };
            let known = shared.volumes.store.get(&name).is_ok();
            let VolumeCreate { driver, labels, options, .. } = create;
            let new = NewVolume { name, driver, labels, options, anonymous };
            let volume = shared.volumes.store.create(new)?;
            if !known {
                shared.volumes.tell("create", volume.name.as_str(), &[]);
            }
            Ok(view(volume))
        })
        .await
    }

    /// Every volume, by name.
    ///
    /// # Errors
    /// [`EngineError::Failed`].
    pub async fn volumes(&self) -> Result<Vec<VolumeView>, EngineError> {
        let list =
            |shared: &Shared| Ok(shared.volumes.store.list().into_iter().map(view).collect());
        self.with_volumes("listing volumes", list).await
    }

    /// One volume.
    ///
    /// # Errors
    /// [`EngineError::Volume`].
    pub async fn volume_inspect(&self, name: &str) -> Result<VolumeView, EngineError> {
        let name = name.to_owned();
        self.with_volumes("inspecting", move |shared| Ok(view(shared.volumes.store.get(&name)?)))
            .await
    }

    /// Removes a volume with its snapshots.
    ///
    /// # Errors
    /// [`EngineError::Volume`] if a container has it.
    pub async fn volume_remove(&self, name: &str) -> Result<(), EngineError> {
        let name = name.to_owned();
        self.with_volumes("removing the volume", move |shared| {
            shared.volumes.store.remove(&name)?;
            shared.volumes.tell("destroy", &name, &[]);
            Ok(())
        })
        .await
    }

    /// Removes volumes that no container has.
    ///
    /// # Errors
    /// [`EngineError::Failed`]. One that cannot be removed is named in the log, and stays.
    pub async fn volume_prune(&self, prune: VolumePrune) -> Result<VolumesPruned, EngineError> {
        self.with_volumes("removing volumes", move |shared| {
            let store = &shared.volumes.store;
            let mut pruned = VolumesPruned::default();
            let goes = |volume: &Volume| {
                volume.users.is_empty()
                    && (prune.all || volume.anonymous)
                    && prune.labels.iter().all(|label| label.holds(&volume.labels))
            };
            for volume in store.list().into_iter().filter(goes) {
                let (name, bytes) = (volume.name.as_str(), store.bytes(volume.name.as_str()));
                match store.remove(name) {
                    Ok(()) => {
                        shared.volumes.tell("destroy", name, &[]);
                        pruned.bytes += bytes;
                        pruned.names.push(name.to_owned());
                    }
                    Err(error) => warn!(volume = name, error = chain(&error), "it is left"),
                }
            }
            let bytes = pruned.bytes.to_string();
            shared.volumes.tell("prune", "", &[("reclaimed", &bytes)]);
            Ok(pruned)
        })
        .await
    }

    /// What every volume takes of the disk. It looks at every file.
    ///
    /// # Errors
    /// [`EngineError::Failed`].
    pub async fn volume_usage(&self) -> Result<Vec<VolumeUsage>, EngineError> {
        self.with_volumes("measuring volumes", |shared| {
            let usage = shared.volumes.store.usage().into_iter().map(|usage| VolumeUsage {
                name: usage.volume.to_string(),
                bytes: usage.bytes,
                users: u64::try_from(usage.users).unwrap_or(u64::MAX),
            });
            Ok(usage.collect())
        })
        .await
    }

    /// Keeps a volume's content as it is now; with `pause`, while its containers stand still.
    ///
    /// # Errors
    /// [`EngineError::Volume`].
    pub async fn volume_snapshot(
        &self,
        name: &str,
        snapshot: Option<String>,
        pause: bool,
    ) -> Result<SnapshotView, EngineError> {
        let (engine, volume) = (self.clone(), name.to_owned());
        to_its_end("taking a snapshot", async move {
            engine.snapshot_volume(volume, snapshot, pause).await
        })
        .await
    }

    async fn snapshot_volume(
        &self,
        volume: String,
        snapshot: Option<String>,
        pause: bool,
    ) -> Result<SnapshotView, EngineError> {
        let users = self.volume_inspect(&volume).await?.users;
        let mut running: Vec<ContainerId> = users.into_iter().filter(|id| self.runs(id)).collect();
        let paused = if pause { self.hold_still(&mut running).await? } else { Vec::new() };
        let taken = self
            .with_volumes("taking a snapshot", move |shared| {
                let taken = shared.volumes.store.snapshot(&volume, snapshot.as_deref())?;
                Ok(snapshot_view(taken))
            })
            .await;
        for id in &paused {
            if let Err(failure) = self.let_go_on(id).await {
                warn!(container = %id, error = chain(&failure), "it stays paused");
            }
        }
        Ok(SnapshotView { running, ..taken? })
    }

    fn runs(&self, id: &ContainerId) -> bool {
        self.inspect(id.as_str()).is_ok_and(|c| c.state.state == ContainerState::Running)
    }

    /// A volume's snapshots, oldest first.
    ///
    /// # Errors
    /// [`EngineError::Volume`].
    pub async fn volume_snapshots(&self, name: &str) -> Result<Vec<SnapshotView>, EngineError> {
        let name = name.to_owned();
        self.with_volumes("listing snapshots", move |shared| {
            let snapshots = shared.volumes.store.snapshots(&name)?;
            Ok(snapshots.into_iter().map(snapshot_view).collect())
        })
        .await
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// [`EngineError::Volume`].
    pub async fn volume_remove_snapshot(
        &self,
        name: &str,
        snapshot: &str,
    ) -> Result<(), EngineError> {
        let (name, snapshot) = (name.to_owned(), snapshot.to_owned());
        self.with_volumes("removing the snapshot", move |shared| {
            Ok(shared.volumes.store.remove_snapshot(&name, &snapshot)?)
        })
        .await
    }

    /// Puts a snapshot's content in place of a volume's. Answers whether blocks are shared.
    ///
    /// # Errors
    /// [`EngineError::Volume`] while a container that runs has the volume.
    pub async fn volume_restore(&self, name: &str, snapshot: &str) -> Result<bool, EngineError> {
        let (name, snapshot) = (name.to_owned(), snapshot.to_owned());
        self.with_volumes("restoring the volume", move |shared| {
            Ok(shared.volumes.store.restore(&name, &snapshot)? == How::Shared)
        })
        .await
    }

    /// Makes a new volume with a volume's content. Answers whether blocks are shared.
    ///
    /// # Errors
    /// [`EngineError::Volume`].
    pub async fn volume_clone(&self, name: &str, new: &str) -> Result<bool, EngineError> {
        let (name, new) = (name.to_owned(), new.to_owned());
        self.with_volumes("cloning the volume", move |shared| {
            let how = shared.volumes.store.clone_volume(&name, &new)?;
            shared.volumes.tell("create", &new, &[]);
            Ok(how == How::Shared)
        })
        .await
    }

    /// Writes a volume's content to a tar archive. `to` is anything that can be written.
    ///
    /// # Errors
    /// [`EngineError::Volume`].
    pub async fn volume_export(&self, name: &str, to: File) -> Result<(), EngineError> {
        let name = name.to_owned();
        let write = move |shared: &Shared| volume::write_archive(&shared.volumes, &name, to);
        self.with_volumes("exporting the volume", write).await
    }

    /// Fills a volume from a tar archive (plain, gzip or zstd); makes it if there is none.
    ///
    /// # Errors
    /// [`EngineError::Volume`]: if it is not empty and not to be replaced, or a container that runs
    /// has it. The volume is as it was then.
    pub async fn volume_import(
        &self,
        name: &str,
        from: File,
        replace: bool,
    ) -> Result<(), EngineError> {
        let name = name.to_owned();
        self.with_volumes("importing the volume", move |shared| {
            let store = &shared.volumes.store;
            let known = store.get(&name).is_ok();
            let staged = store.stage(&name, replace)?;
            volume::read_archive(&staged, from)?;
            store.import(&name, staged, replace)?;
            if !known {
                shared.volumes.tell("create", &name, &[]);
            }
            Ok(())
        })
        .await
    }

    async fn with_volumes<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Shared) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let shared = Arc::clone(&self.inner.shared);
        blocking(doing, move || work(&shared)).await
    }
}

fn view(volume: Volume) -> VolumeView {
    VolumeView {
        name: volume.name.to_string(),
        created: volume.created,
        labels: volume.labels,
        options: volume.options,
        anonymous: volume.anonymous,
        // What the user sees: a bound directory's volume still has one of its own.
        mountpoint: volume.path.display().to_string(),
        users: volume.users.iter().filter_map(|user| user.parse().ok()).collect(),
    }
}

fn snapshot_view(snapshot: ::volumes::Snapshot) -> SnapshotView {
    SnapshotView {
        name: snapshot.name.to_string(),
        created: snapshot.created,
        shared: snapshot.how == How::Shared,
        running: Vec::new(),
    }
}

//! Volumes: which a container has, and what is asked of them. Kept by the `volumes` crate's
//! store, which the engine tells who uses what.
//!
//! ```text
//! made ──settle: what is mounted; volumes made and held──▶ started ──mount: filled, ready──▶ runs
//!   removed ◀──forget: held no more, anonymous ones removed── stopped ◀──unmount──────────────┘
//! ```

mod archive;
mod request;
mod settle;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use base::ContainerId;
use tracing::warn;
use volumes::{NewVolume, Store, Use, VolumeError, VolumeName};

pub use request::{
    SnapshotView, VolumeCreate, VolumeLabel, VolumePrune, VolumeUsage, VolumeView, VolumesPruned,
};
pub(crate) use settle::{Others, settle};

use crate::{
    Create, Engine, EngineError, ImageConfig, MountKind, MountRequest, OpenError,
    actor::blocking,
    engine::Shared,
    error::chain,
    events::{Attributes, EventKind, Events},
    record::{Record, Stage},
};

pub(crate) use archive::{read as read_archive, write as write_archive};

impl From<VolumeError> for EngineError {
    fn from(error: VolumeError) -> EngineError {
        EngineError::Volume { kind: error.kind(), text: chain(&error) }
    }
}

/// The volumes of one engine.
#[derive(Debug)]
pub(crate) struct Volumes {
    pub(crate) store: Store,
    events: Events,
}

/// Where a volume of a container is: its target inside, and the path to bind.
pub(crate) type Places = Vec<(PathBuf, PathBuf)>;

impl Volumes {
    /// Opens the store of a data root, and tells it who uses what by the records.
    pub(crate) fn open(
        data: &Path,
        run: &Path,
        records: &[Record],
        events: Events,
    ) -> Result<Volumes, OpenError> {
        let store = Store::open(data, run).map_err(|error| OpenError::Volumes(chain(&error)))?;
        for record in records {
            let id = record.id.as_str();
            for name in named(&record.config) {
                if let Err(error) = store.hold(id, [name]) {
                    warn!(container = id, %error, "a container's volume is missing");
                }
            }
            if !matches!(record.stage, Stage::Idle | Stage::Making) {
                store.adopt(id, named(&record.config));
            }
        }
        store.tidy();
        store.unmount_idle();
        Ok(Volumes { store, events })
    }

    /// Decides what is mounted in a container that is to be made, and makes and holds its
    /// volumes. Blocks.
    ///
    /// # Errors
    /// Then nothing is held, and no anonymous volume is left.
    pub(crate) fn settle(
        &self,
        id: &ContainerId,
        config: &mut Create,
        image: &ImageConfig,
        others: &[Others],
    ) -> Result<(), EngineError> {
        let name = || Ok(VolumeName::from_random(crate::engine::random()?).to_string());
        let mut mounts = settle(config, image, others, name)?;
        let driver = config.volume_driver.clone();
        let made = mounts.iter_mut().try_for_each(|mount| self.make(mount, driver.as_ref()));
        config.mounts = mounts;
        let held = made.and_then(|()| Ok(self.store.hold(id.as_str(), named(config))?));
        held.inspect_err(|_| {
            self.store.release(id.as_str());
            let own = config.mounts.iter().filter_map(volume).filter(|volume| volume.anonymous);
            // Those of other containers are theirs, and held by them.
            own.for_each(|volume| drop(self.store.remove(&volume.name)));
        })
    }

    fn make(&self, mount: &mut MountRequest, driver: Option<&String>) -> Result<(), EngineError> {
        let MountKind::Volume(volume) = &mut mount.kind else { return Ok(()) };
        let found = self.store.get(&volume.name);
        let made = match found {
            Ok(found) => found,
            Err(_) => {
                let new = NewVolume {
                    name: volume.name.clone(),
                    driver: volume.driver.clone().or_else(|| driver.cloned()),
                    labels: volume.labels.clone(),
                    options: volume.options.clone(),
                    anonymous: volume.anonymous,
                };
                let made = self.store.create(new)?;
                self.tell("create", made.name.as_str(), &[]);
                made
            }
        };
        volume.source = Some(made.path);
        Ok(())
    }

    /// Makes a container's volumes ready, filled from its image's layers, top first, if it is its
    /// first start. Blocks.
    ///
    /// # Errors
    /// Then none is ready.
    pub(crate) fn mount(
        &self,
        id: &ContainerId,
        config: &Create,
        first: bool,
        layers: &[PathBuf],
    ) -> Result<Places, EngineError> {
        let wanted = config.mounts.iter().filter_map(|mount| Some((mount, volume(mount)?)));
        let uses: Vec<Use> = wanted
            .clone()
            .map(|(mount, volume)| Use {
                volume: volume.name.clone(),
                subpath: volume.subpath.clone(),
                fill_from: (first && !volume.no_copy && volume.subpath.is_none())
                    .then(|| mount.target.clone()),
            })
            .collect();
        if uses.is_empty() {
            return Ok(Places::new());
        }
        let paths = self.store.mount(id.as_str(), &uses, layers)?;
        for (mount, volume) in wanted.clone() {
            let destination = mount.target.to_string_lossy();
            let more = [
                ("container", id.as_str()),
                ("destination", destination.as_ref()),
                ("propagation", ""),
                ("read/write", if mount.read_only { "false" } else { "true" }),
            ];
            self.tell("mount", &volume.name, &more);
        }
        Ok(wanted.map(|(mount, _)| mount.target.clone()).zip(paths).collect())
    }

    /// A container does not run any more. Blocks.
    pub(crate) fn unmount(&self, id: &ContainerId) {
        for name in self.store.unmount(id.as_str()) {
            self.tell("unmount", name.as_str(), &[("container", id.as_str())]);
        }
    }

    /// A container is gone; with `own`, its configuration, so are its anonymous volumes that
    /// nobody else has. Blocks.
    pub(crate) fn forget(&self, id: &ContainerId, own: Option<&Create>) {
        let mut free = self.store.release(id.as_str());
        // One that was asked for by its made-up name is as good as named.
        free.retain(|name| {
            let mounts = own.into_iter().flat_map(|config| &config.mounts).filter_map(volume);
            mounts.into_iter().any(|volume| volume.anonymous && volume.name == name.as_str())
        });
        for name in &free {
            match self.store.remove(name.as_str()) {
                Ok(()) => self.tell("destroy", name.as_str(), &[]),
                // Somebody has just begun to use it, or was quicker.
                Err(VolumeError::InUse { .. } | VolumeError::NoSuchVolume(_)) => {}
                Err(error) => {
                    warn!(volume = %name, error = chain(&error), "an anonymous volume is left");
                }
            }
        }
    }

    pub(crate) fn tell(&self, action: &str, name: &str, more: &[(&str, &str)]) {
        let all = std::iter::once(&("driver", "local")).chain(more);
        let attributes: Attributes =
            all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.events.publish(EventKind::Volume, action, name, attributes);
    }
}

/// Volumes that a container has before it is entered; let go again if it never is.
#[derive(Debug)]
pub(crate) struct Held {
    /// The container's configuration, complete.
    pub(crate) config: Create,
    owner: Option<(Arc<Shared>, ContainerId)>,
}

impl Held {
    /// The container is entered: it has them from now on.
    pub(crate) fn keep(mut self) {
        self.owner = None;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((shared, id)) = self.owner.take() {
            shared.volumes.forget(&id, Some(&self.config));
        }
    }
}

impl Engine {
    /// Decides what is mounted in a container that is about to be entered, and makes its volumes.
    ///
    /// # Errors
    /// Then nothing is left of it.
    pub(crate) async fn hold_volumes(
        &self,
        id: &ContainerId,
        mut config: Create,
        image: ImageConfig,
    ) -> Result<Held, EngineError> {
        let shared = Arc::clone(self.shared());
        let others = shared.volumes_from(&config)?;
        if others.is_empty() && !concerns(&config, &image) {
            return Ok(Held { config, owner: None });
        }
        let id = id.clone();
        let work = move || {
            shared.volumes.settle(&id, &mut config, &image, &others)?;
            Ok(Held { config, owner: Some((shared, id)) })
        };
        blocking("making its volumes", work).await
    }
}

impl Shared {
    /// Holds the volumes of a container for another one of the same configuration. Blocks.
    ///
    /// # Errors
    /// Then nothing is held.
    pub(crate) fn hold_same_volumes(
        self: Arc<Shared>,
        id: &ContainerId,
        config: Create,
    ) -> Result<Held, EngineError> {
        self.volumes.store.hold(id.as_str(), named(&config))?;
        Ok(Held { config, owner: Some((self, id.clone())) })
    }

    /// What the containers have that `--volumes-from` names.
    ///
    /// # Errors
    /// [`EngineError::NoSuchContainer`].
    pub(crate) fn volumes_from(&self, config: &Create) -> Result<Vec<Others>, EngineError> {
        let other = |text: &String| {
            let (who, read_only) = settle::parse_from(text)?;
            let container = self.registry.find(who)?.container();
            Ok(Others { mounts: container.config.mounts.clone(), read_only })
        };
        config.volumes_from.iter().map(other).collect()
    }
}

/// The volume of a mount.
fn volume(mount: &MountRequest) -> Option<&crate::VolumeMount> {
    match &mount.kind {
        MountKind::Volume(volume) => Some(volume),
        MountKind::Bind { .. } | MountKind::Tmpfs { .. } => None,
    }
}

/// Names of a container's volumes.
fn named(config: &Create) -> impl Iterator<Item = &str> {
    config.mounts.iter().filter_map(volume).map(|volume| volume.name.as_str())
}

/// Whether settling a container takes the disk.
pub(crate) fn concerns(config: &Create, image: &ImageConfig) -> bool {
    !image.volumes.is_empty() || config.mounts.iter().any(|mount| volume(mount).is_some())
}

//! Room on the disk: counting it, and making some.

use std::{
    collections::HashSet,
    fs, io,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use base::ContainerId;

use super::{Engine, Shared, images::uses};
use crate::{
    Change, ContainerSize, ContainerState, DiskUsage, EngineError, ImageMount, Prune, Pruned,
    Remove,
};

/// Deepest directory that is counted: paths in a container are no longer than `PATH_MAX`, but a
/// process in it can nest directories deeper.
const DEPTH_MAX: usize = 2048;

impl Engine {
    /// What takes room on the disk.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn disk_usage(&self) -> Result<DiskUsage, EngineError> {
        let containers: Vec<_> = self.list().iter().map(|c| c.id.clone()).collect();
        self.with("counting what the disk holds", move |shared| {
            let images = shared.images.usage(&uses(shared))?;
            Ok(DiskUsage { images, containers: sizes(shared, &containers) })
        })
        .await
    }

    /// How large these containers are. One that is not there, or not any more, is left out.
    ///
    /// # Errors
    /// [`EngineError`] if the engine closes.
    pub async fn container_sizes(&self, who: &[String]) -> Result<Vec<ContainerSize>, EngineError> {
        let ids =
            who.iter().filter_map(|who| Some(self.find(who).ok()?.id.clone())).collect::<Vec<_>>();
        self.with("counting what containers hold", move |shared| Ok(sizes(shared, &ids))).await
    }

    /// Removes containers that do not run.
    ///
    /// # Errors
    /// [`EngineError`]; those that went before it are gone.
    pub async fn prune_containers(&self, prune: &Prune) -> Result<Pruned, EngineError> {
        let mut pruned = Pruned::default();
        for container in self.list() {
            let idle = match container.state.state {
                ContainerState::Created | ContainerState::Exited | ContainerState::Dead => true,
                ContainerState::Running
                | ContainerState::Paused
                | ContainerState::Restarting
                | ContainerState::Removing => false,
            };
            if !idle || !prune.takes(container.created, &container.config.labels) {
                continue;
            }
            let size = self.container_sizes(&[container.id.to_string()]).await;
            match self.remove(container.id.as_str(), Remove::default()).await {
                Ok(()) => {
                    let size = size.ok().and_then(|sizes| sizes.first().map(|size| size.written));
                    pruned.bytes += size.unwrap_or(0);
                    pruned.containers.push(container.id.clone());
                }
                // Somebody was faster, in one way or the other.
                Err(
                    EngineError::NoSuchContainer(_)
                    | EngineError::Removing(_)
                    | EngineError::RemoveRunning(_)
                    | EngineError::Busy { .. },
                ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(pruned)
    }

    /// Removes images that nobody uses.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn prune_images(&self, prune: Prune) -> Result<Pruned, EngineError> {
        self.with("pruning images", move |shared| {
            let before = shared.images.list()?;
            let pruned = shared.images.prune(&prune, &uses(shared))?;
            for image in &before {
                let own = |change: &&Change| match change {
                    Change::Untagged(name) => image.references.contains(name),
                    Change::Deleted(id) => *id == image.id,
                    Change::Loaded(_) => false,
                };
                let own: Vec<_> = pruned.images.iter().filter(own).cloned().collect();
                shared.tell_removed(image, &own);
            }
            Ok(pruned)
        })
        .await
    }

    /// An image's files as a mount that is nowhere yet. Who moves it to the target, in the mount
    /// namespace that `/proc/PID/ns/mnt` names so, confirms it by
    /// [`Engine::image_mounted`].
    ///
    /// # Errors
    /// [`EngineError::NoSuchImage`], or that it cannot be mounted.
    pub async fn mount_image(
        &self,
        image: &str,
        platform: Option<String>,
        target: PathBuf,
        namespace: PathBuf,
    ) -> Result<(ImageMount, OwnedFd), EngineError> {
        let image = image.to_owned();
        self.with("mounting the image", move |shared| {
            shared.images.expose(&image, platform.as_deref(), &target, &namespace)
        })
        .await
    }

    /// Makes sure that a mount is known whose taker has put it in its place.
    ///
    /// # Errors
    /// [`EngineError::Invalid`]: nothing keeps its layers, so it must be unmounted again.
    pub async fn image_mounted(&self, id: &str) -> Result<(), EngineError> {
        let wanted = id.to_owned();
        let keep = move |shared: &Shared| shared.images.keep_exposed(&wanted);
        if self.with("noting the mount", keep).await? {
            return Ok(());
        }
        let why = format!("mount {id} is not known (any more): try again");
        Err(EngineError::Invalid { what: "image mount".to_owned(), why })
    }

    /// Forgets a mount that was unmounted. One that is not known is forgotten already.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn image_unmounted(&self, id: &str) -> Result<(), EngineError> {
        let id = id.to_owned();
        let conceal = move |shared: &Shared| Ok(shared.images.conceal(&id));
        self.with("forgetting the mount", conceal).await.map(drop)
    }

    /// Images that are mounted at directories of the host.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn image_mounts(&self) -> Result<Vec<ImageMount>, EngineError> {
        self.with("listing mounts", |shared| Ok(shared.images.exposed())).await
    }
}

fn sizes(shared: &Shared, ids: &[ContainerId]) -> Vec<ContainerSize> {
    let size = |id: &ContainerId| {
        let upper = shared.files.directory(id).join("upper");
        let written = bytes_below(&upper).ok()?;
        let container = shared.registry.find(id.as_str()).ok()?.container();
        let image = shared.images.find(&container.image_id).map_or(0, |image| image.size);
        Some(ContainerSize { id: id.clone(), written, root: image + written })
    };
    ids.iter().filter_map(size).collect()
}

/// Bytes of all files below a directory by their length, those with several names once.
/// Symbolic links are counted, not followed.
///
/// Source: moby, `daemon/internal/directory`, `Size`.
fn bytes_below(top: &Path) -> io::Result<u64> {
    let mut seen = HashSet::new();
    let mut bytes = 0;
    let mut waiting = vec![(top.to_owned(), 0)];
    while let Some((directory, depth)) = waiting.pop() {
        let entries = match fs::read_dir(&directory) {
            // The container goes on while it is counted.
            Err(error) if error.kind() == io::ErrorKind::NotFound && depth > 0 => continue,
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                if depth < DEPTH_MAX {
                    waiting.push((entry.path(), depth + 1));
                }
            } else if metadata.nlink() == 1 || seen.insert((metadata.dev(), metadata.ino())) {
                bytes += metadata.len();
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_once_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("d")).unwrap();
        fs::write(path("d/a"), [0; 1000]).unwrap();
        fs::hard_link(path("d/a"), path("b")).unwrap();
        std::os::unix::fs::symlink("/etc", path("link")).unwrap();
        assert_eq!(bytes_below(dir.path()).unwrap(), 1004);
        assert!(bytes_below(&path("missing")).is_err());
    }
}

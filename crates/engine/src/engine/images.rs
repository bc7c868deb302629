//! What is asked of images.

use std::{fs::File, io::Write as _, os::fd::OwnedFd, path::Path, sync::Arc};

use rustix::fs::{MemfdFlags, SeekFrom, memfd_create, seek};

use super::{Engine, OnProgress, Shared};
use crate::{
    Change, ContainerState, EngineError, ImageView, Import, RemoveImage, actor::blocking,
    files::failed, images::ImageUse,
};

impl Engine {
    /// Makes an image of a root file system archive (plain, gzip or zstd), and answers with its
    /// id. `from` is anything that can be read: a file, a pipe, a socket.
    ///
    /// # Errors
    /// [`EngineError`]; then nothing is left of it.
    pub async fn import(
        &self,
        from: File,
        import: Import,
        progress: OnProgress,
    ) -> Result<String, EngineError> {
        self.with("importing", move |shared| {
            let id = shared.images.import(from, &import, progress)?;
            shared.tell_image("import", &id);
            Ok(id)
        })
        .await
    }

    /// Loads an image archive (`docker save`'s, or an OCI layout); of images for several
    /// platforms only these, if any are given.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn load(
        &self,
        from: File,
        platforms: Vec<String>,
        progress: OnProgress,
    ) -> Result<Vec<Change>, EngineError> {
        self.with("loading", move |shared| {
            let changes = shared.images.load(from, &platforms, progress)?;
            shared.tell_loaded(&changes);
            Ok(changes)
        })
        .await
    }

    /// Writes images to an archive that `load` and Docker read; of images for several platforms
    /// only these, if any are given.
    ///
    /// # Errors
    /// [`EngineError::NoSuchImage`].
    pub async fn save(
        &self,
        names: Vec<String>,
        platforms: Vec<String>,
        to: File,
    ) -> Result<(), EngineError> {
        self.with("saving", move |shared| {
            shared.images.save(&names, &platforms, to)?;
            names.iter().for_each(|name| shared.tell_image("save", name));
            Ok(())
        })
        .await
    }

    /// Gives an image one more reference.
    ///
    /// # Errors
    /// [`EngineError::NoSuchImage`].
    pub async fn tag(&self, from: &str, to: &str) -> Result<(), EngineError> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.with("tagging", move |shared| {
            shared.images.tag(&from, &to)?;
            shared.tell_image("tag", &to);
            Ok(())
        })
        .await
    }

    /// Takes a reference away, and the image with its last one; or some platforms of it.
    ///
    /// # Errors
    /// [`EngineError::NoSuchImage`], [`EngineError::Image`] if it is in use.
    pub async fn remove_image(
        &self,
        name: &str,
        remove: RemoveImage,
    ) -> Result<Vec<Change>, EngineError> {
        let name = name.to_owned();
        self.with("removing the image", move |shared| {
            let image = shared.images.find(&name).ok();
            let changes = shared.images.remove(&name, &remove, &uses(shared))?;
            image.iter().for_each(|image| shared.tell_removed(image, &changes));
            Ok(changes)
        })
        .await
    }

    /// Every image, newest first.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn images(&self) -> Result<Vec<ImageView>, EngineError> {
        self.with("listing images", |shared| {
            let uses = uses(shared);
            let mut images = shared.images.list()?;
            images.iter_mut().for_each(|image| count(image, &uses));
            Ok(images)
        })
        .await
    }

    /// One image.
    ///
    /// # Errors
    /// [`EngineError::NoSuchImage`].
    pub async fn image_inspect(
        &self,
        name: &str,
        platform: Option<String>,
    ) -> Result<ImageView, EngineError> {
        let name = name.to_owned();
        self.with("inspecting the image", move |shared| {
            let mut image = shared.images.find_for(&name, platform.as_deref())?;
            count(&mut image, &uses(shared));
            Ok(image)
        })
        .await
    }

    pub(super) async fn with<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Shared) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let shared = Arc::clone(&self.inner.shared);
        blocking(doing, move || work(&shared)).await
    }
}

/// Which containers use which image and layers.
pub(crate) fn uses(shared: &Shared) -> Vec<ImageUse> {
    shared
        .registry
        .entries()
        .into_iter()
        .map(|entry| {
            let container = entry.container();
            ImageUse {
                container: container.id.clone(),
                image_id: container.image_id.clone(),
                layers: entry.layers.clone(),
                running: matches!(
                    container.state.state,
                    ContainerState::Running | ContainerState::Paused
                ),
            }
        })
        .collect()
}

fn count(image: &mut ImageView, uses: &[ImageUse]) {
    let users = uses.iter().filter(|other| other.image_id == image.id).count();
    image.containers = u64::try_from(users).unwrap_or(u64::MAX);
}

/// These bytes as a file in memory, to be read from its beginning.
pub(super) fn memory_file(bytes: &[u8]) -> Result<File, EngineError> {
    let name = Path::new("memory");
    let file: OwnedFd = memfd_create("archive", MemfdFlags::CLOEXEC)
        .map_err(|errno| failed("make a file in", name)(errno.into()))?;
    let mut file = File::from(file);
    file.write_all(bytes).map_err(failed("write to", name))?;
    seek(&file, SeekFrom::Start(0)).map_err(|errno| failed("rewind", name)(errno.into()))?;
    Ok(file)
}

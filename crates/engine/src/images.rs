//! What the engine wants of images. Carried out by the `image` crate's store.

mod store;

use std::{
    fmt::Debug,
    fs::File,
    io::Read,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use base::{ContainerId, Digest};
use workload::Finding;

use crate::{
    Change, Commit, Create, EngineError, ImageMount, ImageUsage, ImageView, Import, Prune, Pruned,
    RemoveImage, engine::OnProgress,
};

pub(crate) use store::{StoreImages, platform, reference, unresolved, wrong};

/// A container, as far as its image cares.
#[derive(Clone, Debug)]
pub(crate) struct ImageUse {
    pub(crate) container: ContainerId,
    pub(crate) image_id: String,
    pub(crate) layers: Vec<Digest>,
    pub(crate) running: bool,
}

/// Images and their layers. Every method may block.
pub(crate) trait Images: Debug + Send + Sync {
    /// The image of this reference, id or beginning of an id.
    ///
    /// # Errors
    /// [`EngineError::NoSuchImage`], or [`EngineError::Image`] if it is no name of an image.
    fn find(&self, name: &str) -> Result<ImageView, EngineError> {
        self.find_for(name, None)
    }

    /// The same, for this platform; without one, for the host's if it is there.
    ///
    /// # Errors
    /// As [`Images::find`], or [`EngineError::Image`] naming the platforms there are.
    fn find_for(&self, name: &str, platform: Option<&str>) -> Result<ImageView, EngineError>;

    /// Makes layers, lowest first, available to a container: directories, top first. Doing it
    /// again changes nothing.
    ///
    /// # Errors
    /// Nothing is held then.
    fn mount(
        &self,
        container: &ContainerId,
        layers: &[Digest],
    ) -> Result<Vec<PathBuf>, EngineError>;

    /// Where layers that are available to somebody are as files, top first.
    ///
    /// # Errors
    /// If this host keeps them as directories.
    fn files(&self, layers: &[Digest]) -> Result<Vec<PathBuf>, EngineError>;

    /// Gives them back, if it has any.
    fn unmount(&self, container: &ContainerId);

    /// Unmounts what nobody has: there are no containers any more.
    fn unmount_idle(&self);

    /// Every image, newest first.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn list(&self) -> Result<Vec<ImageView>, EngineError>;

    /// How many images there are, from memory.
    fn count(&self) -> u64;

    /// Makes an image of a root file system archive; answers with its id.
    ///
    /// # Errors
    /// Nothing is left of it then.
    fn import(
        &self,
        from: File,
        import: &Import,
        progress: OnProgress,
    ) -> Result<String, EngineError>;

    /// Makes an image of another one, by id, and the archive of a further layer; answers with
    /// its id.
    ///
    /// # Errors
    /// Nothing is left of it then.
    fn commit(
        &self,
        parent: &str,
        layer: &mut (dyn Read + Send),
        commit: &Commit,
        config: &Create,
    ) -> Result<String, EngineError>;

    /// Loads an image archive; of images for several platforms only these, if any are given.
    ///
    /// # Errors
    /// Nothing is left of it then.
    fn load(
        &self,
        from: File,
        platforms: &[String],
        progress: OnProgress,
    ) -> Result<Vec<Change>, EngineError>;

    /// Writes images to an archive; of images for several platforms only these, if any are given.
    ///
    /// # Errors
    /// [`EngineError::NoSuchImage`] before a byte is written.
    fn save(&self, names: &[String], platforms: &[String], to: File) -> Result<(), EngineError>;

    /// Gives an image one more reference.
    ///
    /// # Errors
    /// [`EngineError::NoSuchImage`].
    fn tag(&self, from: &str, to: &str) -> Result<(), EngineError>;

    /// Takes a reference away, and the image with its last one; or some platforms of it.
    ///
    /// # Errors
    /// [`EngineError::NoSuchImage`], [`EngineError::Image`] if it is in use.
    fn remove(
        &self,
        name: &str,
        remove: &RemoveImage,
        uses: &[ImageUse],
    ) -> Result<Vec<Change>, EngineError>;

    /// Removes images that nobody uses: those without a reference, or all, that meet the
    /// conditions.
    ///
    /// # Errors
    /// If the store cannot be read or changed.
    fn prune(&self, prune: &Prune, uses: &[ImageUse]) -> Result<Pruned, EngineError>;

    /// What images take on the disk.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn usage(&self, uses: &[ImageUse]) -> Result<ImageUsage, EngineError>;

    /// An image's files as a mount that is nowhere yet, and the note that keeps them.
    ///
    /// # Errors
    /// [`EngineError::NoSuchImage`], or that it cannot be mounted.
    fn expose(
        &self,
        name: &str,
        platform: Option<&str>,
        target: &Path,
        namespace: &Path,
    ) -> Result<(ImageMount, OwnedFd), EngineError>;

    /// Notes that such a mount is in its place. Whether it is known.
    ///
    /// # Errors
    /// If it cannot be noted.
    fn keep_exposed(&self, id: &str) -> Result<bool, EngineError>;

    /// Takes such a note away. Whether it stood.
    fn conceal(&self, id: &str) -> bool;

    /// All that are mounted.
    fn exposed(&self) -> Vec<ImageMount>;

    /// Deletes what neither an image nor one of these containers needs; called when the engine
    /// is opened.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn collect(&self, uses: &[ImageUse]) -> Result<(), EngineError>;

    /// The store itself, for what comes from registries and goes there; nothing where there is
    /// none.
    fn store(&self) -> Option<Arc<image::Store>>;

    /// Counts again after the store was changed by itself.
    fn recount(&self);

    /// What this host can do with layers, and what is wrong with the store.
    fn findings(&self) -> Vec<Finding>;

    /// Files that neither an image nor one of these containers needs.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn strays(&self, uses: &[ImageUse]) -> Result<Vec<PathBuf>, EngineError>;
}

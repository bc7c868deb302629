//! What the engine wants of images. Carried out by the `image` crate's store.

mod store;

use std::{fmt::Debug, fs::File, io::Read, path::PathBuf};

use base::{ContainerId, Digest};
use workload::Finding;

use crate::{Change, Commit, Create, EngineError, ImageView, Import, engine::OnProgress};

pub(crate) use store::StoreImages;

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
    fn find(&self, name: &str) -> Result<ImageView, EngineError>;

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

    /// Loads an image archive.
    ///
    /// # Errors
    /// Nothing is left of it then.
    fn load(&self, from: File, progress: OnProgress) -> Result<Vec<Change>, EngineError>;

    /// Writes images to an archive.
    ///
    /// # Errors
    /// [`EngineError::NoSuchImage`] before a byte is written.
    fn save(&self, names: &[String], to: File) -> Result<(), EngineError>;

    /// Gives an image one more reference.
    ///
    /// # Errors
    /// [`EngineError::NoSuchImage`].
    fn tag(&self, from: &str, to: &str) -> Result<(), EngineError>;

    /// Takes a reference away, and the image with its last one.
    ///
    /// # Errors
    /// [`EngineError::NoSuchImage`], [`EngineError::Image`] if it is in use.
    fn remove(
        &self,
        name: &str,
        force: bool,
        uses: &[ImageUse],
    ) -> Result<Vec<Change>, EngineError>;

    /// Deletes what neither an image nor one of these containers needs; called when the engine
    /// is opened.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn collect(&self, uses: &[ImageUse]) -> Result<(), EngineError>;

    /// What this host can do with layers, and what is wrong with the store.
    fn findings(&self) -> Vec<Finding>;

    /// Files that neither an image nor one of these containers needs.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn strays(&self, uses: &[ImageUse]) -> Result<Vec<PathBuf>, EngineError>;
}

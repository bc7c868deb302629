//! Room on the disk, and images mounted at directories.

use std::{os::fd::OwnedFd, path::PathBuf};

use engine::{ContainerSize, DiskUsage, ImageMount, Prune, Pruned};

use super::{Client, ClientError};
use crate::{Reply, Request};

impl Client {
    /// What takes room on the disk.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn disk_usage(&mut self) -> Result<DiskUsage, ClientError> {
        Ok(*expect!(self.call(Request::DiskUsage, &[]).await?, DiskUsage)?)
    }

    /// How large these containers are.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn container_sizes(
        &mut self,
        who: Vec<String>,
    ) -> Result<Vec<ContainerSize>, ClientError> {
        expect!(self.call(Request::ContainerSizes { who }, &[]).await?, ContainerSizes)
    }

    /// Removes images that nobody uses.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn prune_images(&mut self, prune: Prune) -> Result<Pruned, ClientError> {
        expect!(self.call(Request::PruneImages(prune), &[]).await?, Pruned)
    }

    /// Removes containers that do not run.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn prune_containers(&mut self, prune: Prune) -> Result<Pruned, ClientError> {
        expect!(self.call(Request::PruneContainers(prune), &[]).await?, Pruned)
    }

    /// An image's files as a mount that is nowhere yet. Whoever moves it to the target, in the
    /// mount namespace that `/proc/PID/ns/mnt` names so, calls
    /// [`Client::image_mounted`], and unmounts it if that fails.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn mount_image(
        &mut self,
        image: &str,
        platform: Option<String>,
        target: PathBuf,
        namespace: PathBuf,
    ) -> Result<(ImageMount, OwnedFd), ClientError> {
        let image = image.to_owned();
        let request = Request::MountImage { image, platform, target, namespace };
        self.ask(&request, &[]).await?;
        let (reply, mut fds) = self.hear_all().await?;
        let mount = expect!(reply, ImageMount)?;
        let overlay = fds.pop().ok_or(ClientError::Unexpected)?;
        self.done().await?;
        Ok((mount, overlay))
    }

    /// Tells that a mount is in its place.
    ///
    /// # Errors
    /// [`ClientError`]: the daemon does not know it, so nothing keeps its layers.
    pub async fn image_mounted(&mut self, id: &str) -> Result<(), ClientError> {
        self.order(Request::ImageMounted { id: id.to_owned() }, &[]).await
    }

    /// Tells that a mount is gone, or was never put anywhere.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn image_unmounted(&mut self, id: &str) -> Result<(), ClientError> {
        self.order(Request::ImageUnmounted { id: id.to_owned() }, &[]).await
    }

    /// Images that are mounted at directories.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn image_mounts(&mut self) -> Result<Vec<ImageMount>, ClientError> {
        expect!(self.call(Request::ImageMounts, &[]).await?, ImageMounts)
    }
}

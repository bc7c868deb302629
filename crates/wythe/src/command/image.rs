//! `image …`: the long names of commands about images.

use clap::Subcommand;

use super::{
    history, image_disk, image_mount, images, import, inspect, load, prune, pull, push, rmi, save,
    tag,
};
use crate::{connect::Endpoint, error::CliError};

/// What can be asked about images.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Show the history of an image
    History(history::Args),
    /// Import the contents from a tarball to create a filesystem image
    Import(import::Args),
    /// Display detailed information on one or more images
    Inspect(inspect::ImageArgs),
    /// Load an image from a tar archive or STDIN
    Load(load::Args),
    /// List images
    #[command(visible_alias = "list")]
    Ls(images::Args),
    /// Mount an image read-only on a directory, or list those that are mounted
    Mount(image_mount::MountArgs),
    /// Remove unused images
    Prune(prune::ImageArgs),
    /// Download an image from a registry
    Pull(pull::Args),
    /// Upload an image to a registry
    Push(push::Args),
    /// Remove one or more images
    #[command(visible_alias = "remove")]
    Rm(rmi::Args),
    /// Save one or more images to a tar archive (streamed to STDOUT by default)
    Save(save::Args),
    /// Write the files of an image as a disk with an ext4 file system, for a machine
    ToDisk(image_disk::Args),
    /// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
    Tag(tag::Args),
    /// Unmount images that were mounted on directories
    #[command(visible_alias = "umount")]
    Unmount(image_mount::UnmountArgs),
}

impl ImageCommand {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        match self {
            ImageCommand::History(args) => args.run(to).await,
            ImageCommand::Import(args) => args.run(to).await,
            ImageCommand::Inspect(args) => args.run(to).await,
            ImageCommand::Load(args) => args.run(to).await,
            ImageCommand::Ls(args) => args.run(to).await,
            ImageCommand::Mount(args) => args.run(to).await,
            ImageCommand::Prune(args) => args.run(to).await,
            ImageCommand::Pull(args) => args.run(to).await,
            ImageCommand::Push(args) => args.run(to).await,
            ImageCommand::Rm(args) => args.run(to).await,
            ImageCommand::Save(args) => args.run(to).await,
            ImageCommand::ToDisk(args) => args.run(to).await,
            ImageCommand::Tag(args) => args.run(to).await,
            ImageCommand::Unmount(args) => args.run(to).await,
        }
    }
}

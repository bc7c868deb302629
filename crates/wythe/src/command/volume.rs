//! `volume …`: volumes.

use clap::Subcommand;

use crate::{connect::Endpoint, error::CliError};

mod archive;
mod create;
mod filter;
mod inspect;
mod ls;
mod prune;
mod rm;
mod snapshot;

/// What can be asked about volumes.
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Create a new volume with the content of another
    Clone(snapshot::CloneArgs),
    /// Create a volume
    Create(create::Args),
    /// Write a volume's content to a tar archive (streamed to STDOUT by default)
    Export(archive::ExportArgs),
    /// Fill a volume from a tar archive (read from STDIN by default)
    Import(archive::ImportArgs),
    /// Display detailed information on one or more volumes
    Inspect(inspect::Args),
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    /// Remove unused local volumes
    Prune(prune::Args),
    /// Put the content of a snapshot in place of a volume's
    Restore(snapshot::RestoreArgs),
    /// Remove one or more volumes
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
    /// Keep a volume's content as it is now
    Snapshot(snapshot::SnapshotArgs),
    /// List a volume's snapshots, or remove one
    Snapshots(snapshot::SnapshotsArgs),
}

impl VolumeCommand {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        match self {
            VolumeCommand::Clone(args) => args.run(to).await,
            VolumeCommand::Create(args) => args.run(to).await,
            VolumeCommand::Export(args) => args.run(to).await,
            VolumeCommand::Import(args) => args.run(to).await,
            VolumeCommand::Inspect(args) => args.run(to).await,
            VolumeCommand::Ls(args) => args.run(to).await,
            VolumeCommand::Prune(args) => args.run(to).await,
            VolumeCommand::Restore(args) => args.run(to).await,
            VolumeCommand::Rm(args) => args.run(to).await,
            VolumeCommand::Snapshot(args) => args.run(to).await,
            VolumeCommand::Snapshots(args) => args.run(to).await,
        }
    }
}

//! `network …`: networks.

use clap::Subcommand;

use crate::{connect::Endpoint, error::CliError};

mod connect;
mod create;
mod filter;
mod ls;
mod prune;

/// What can be asked about networks.
#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Connect a container to a network
    Connect(connect::ConnectArgs),
    /// Create a network
    Create(create::Args),
    /// Disconnect a container from a network
    Disconnect(connect::DisconnectArgs),
    /// Display detailed information on one or more networks
    Inspect(ls::InspectArgs),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    /// Remove all unused networks
    Prune(prune::Args),
    /// Remove one or more networks
    #[command(visible_alias = "remove")]
    Rm(ls::RmArgs),
}

impl NetworkCommand {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        match self {
            NetworkCommand::Connect(args) => args.run(to).await,
            NetworkCommand::Create(args) => args.run(to).await,
            NetworkCommand::Disconnect(args) => args.run(to).await,
            NetworkCommand::Inspect(args) => args.run(to).await,
            NetworkCommand::Ls(args) => args.run(to).await,
            NetworkCommand::Prune(args) => args.run(to).await,
            NetworkCommand::Rm(args) => args.run(to).await,
        }
    }
}

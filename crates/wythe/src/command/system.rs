//! `system …`: the daemon and all it has.

use clap::Subcommand;

use super::{events, info};
use crate::{connect::Endpoint, error::CliError};

/// What can be asked about everything at once.
#[derive(Debug, Subcommand)]
pub(crate) enum SystemCommand {
    /// Get real time events from the server
    Events(events::Args),
    /// Display system-wide information
    Info(info::Args),
}

impl SystemCommand {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        match self {
            SystemCommand::Events(args) => args.run(to).await,
            SystemCommand::Info(args) => args.run(to).await,
        }
    }
}

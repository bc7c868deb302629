//! `network …`: the default network alone, so far.

use base::clock::Timestamp;
use clap::Subcommand;

use super::prune::{Common, conditions};
use crate::{connect::Endpoint, error::CliError};

/// What can be asked about networks.
#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Remove all unused networks
    Prune(PruneArgs),
    /// What comes with networks of one's own.
    #[command(external_subcommand)]
    Later(Vec<String>),
}

#[derive(Debug, clap::Args)]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    common: Common,
}

impl NetworkCommand {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        match self {
            NetworkCommand::Prune(args) => args.run(to).await,
            NetworkCommand::Later(words) => {
                let word = words.first().map_or("", String::as_str);
                let why = format!("'wythe network {word}' is not built yet: networks of one's own");
                Err(CliError::Unbuilt(why))
            }
        }
    }
}

impl PruneArgs {
    /// The default network is not one of those that are pruned, as in Docker, and goes by itself
    /// with its last container; so there is never anything to remove, and nothing is said.
    async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        conditions(&self.common.filter, Timestamp::now(), false)?;
        let warning = "WARNING! This will remove all custom networks not used by at least one \
                       container.\n";
        if self.common.agreed(warning)? {
            to.connect().await?;
        }
        Ok(0)
    }
}

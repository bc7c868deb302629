//! `pause` and `unpause`.

use super::each::together;
use crate::{connect::Endpoint, error::CliError};

#[derive(Debug, clap::Args)]
pub(crate) struct PauseArgs {
    /// Which containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct UnpauseArgs {
    /// Which containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl PauseArgs {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        together(to, &self.containers, async |client, name| {
            client.pause(name).await?;
            Ok(name.to_owned())
        })
        .await
    }
}

impl UnpauseArgs {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        together(to, &self.containers, async |client, name| {
            client.resume(name).await?;
            Ok(name.to_owned())
        })
        .await
    }
}

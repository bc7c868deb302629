//! `restart`: stop, then start.

use super::{each::together, stop::StopFlags};
use crate::{connect::Endpoint, error::CliError};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    how: StopFlags,
    /// Which containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        together(to, &self.containers, async |client, name| {
            client.restart(name, self.how.request()).await?;
            Ok(name.to_owned())
        })
        .await
    }
}

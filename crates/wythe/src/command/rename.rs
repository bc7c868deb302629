//! `rename`: another name for a container.

use base::ContainerName;

use crate::{connect::Endpoint, error::CliError};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which container
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Its name from then on
    #[arg(value_name = "NEW_NAME")]
    name: ContainerName,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        to.connect().await?.rename(&self.container, self.name).await?;
        Ok(0)
    }
}

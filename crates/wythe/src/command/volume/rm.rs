//! `volume rm`.

use api::ClientError;
use base::ErrorKind;

use crate::{command::each::each, connect::Endpoint, error::CliError};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Force the removal of one or more volumes
    #[arg(short, long)]
    force: bool,
    /// Which volumes
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        each(to, &self.volumes, async |client, name| {
            match client.volume_remove(name).await {
                // As in Docker, what is not there need not be forced away.
                Err(ClientError::Refused(failure))
                    if self.force && failure.kind == ErrorKind::NotFound => {}
                other => other?,
            }
            Ok(name.to_owned())
        })
        .await
    }
}

//! `rm`: remove containers.

use api::ClientError;
use base::ErrorKind;
use engine::Remove;

use super::each::together;
use crate::{connect::Endpoint, error::CliError};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(short, long)]
    force: bool,
    /// Remove anonymous volumes associated with the container
    #[arg(short, long)]
    volumes: bool,
    /// Which containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let remove = Remove { force: self.force, volumes: self.volumes };
        together(to, &self.containers, async |client, name| {
            match client.remove(name, remove).await {
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

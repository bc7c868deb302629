//! `kill`: send a signal.

use workload::Signal;

use super::each::together;
use crate::{connect::Endpoint, create::signal, error::CliError};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Signal to send to the container
    #[arg(short, long, value_name = "string", default_value = "KILL", value_parser = signal)]
    signal: Signal,
    /// Which containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        together(to, &self.containers, async |client, name| {
            client.kill(name, self.signal).await?;
            Ok(name.to_owned())
        })
        .await
    }
}

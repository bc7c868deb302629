//! `volume inspect`.

use crate::{command::inspect, connect::Endpoint, error::CliError};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template ('json', 'TEMPLATE')
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Which volumes
    #[arg(required = true, value_name = "VOLUME")]
    names: Vec<String>,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        inspect::volumes(self.format, self.names, to).await
    }
}

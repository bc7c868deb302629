//! `network ls`, `network inspect` and `network rm`.

use api::ClientError;
use base::ErrorKind;

use super::filter::Filters;
use crate::{
    command::{each::each, inspect},
    connect::Endpoint,
    error::CliError,
    output::{
        self,
        format::{Format, print_list},
    },
    show::network::{COLUMNS, TABLE, row},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Provide filter values (e.g. "driver=bridge")
    #[arg(short, long, value_name = "filter")]
    filter: Vec<String>,
    /// Format output using a custom template ('table', 'table TEMPLATE', 'json', 'TEMPLATE')
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Do not truncate the output
    #[arg(long)]
    no_trunc: bool,
    /// Only display network IDs
    #[arg(short, long)]
    quiet: bool,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let filters = Filters::parse(&self.filter)?;
        let mut networks = to.connect().await?.networks().await?;
        networks.retain(|network| filters.wants(network));
        if self.quiet && self.format.is_none() {
            for network in &networks {
                let short = network.id.get(..12).filter(|_| !self.no_trunc);
                output::line(short.unwrap_or(&network.id))?;
            }
            return Ok(0);
        }
        let rows: Vec<_> = networks.iter().map(|network| row(network, !self.no_trunc)).collect();
        print_list(&Format::parse(self.format.as_deref()), TABLE, &COLUMNS, &rows)?;
        Ok(0)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// Format output using a custom template ('json', 'TEMPLATE')
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Verbose output for diagnostics
    #[arg(short, long)]
    verbose: bool,
    /// Which networks
    #[arg(required = true, value_name = "NETWORK")]
    names: Vec<String>,
}

impl InspectArgs {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        // As in Docker, it tells more of swarms alone.
        let InspectArgs { format, verbose: _, names } = self;
        inspect::networks(format, names, to).await
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct RmArgs {
    /// Do not error if the network does not exist
    #[arg(short, long)]
    force: bool,
    /// Which networks
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
}

impl RmArgs {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        each(to, &self.networks, async |client, name| {
            match client.network_remove(name).await {
                Err(ClientError::Refused(failure))
                    if self.force && failure.kind == ErrorKind::NotFound => {}
                other => other?,
            }
            Ok(name.to_owned())
        })
        .await
    }
}

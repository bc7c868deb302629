//! `volume ls`.

use super::filter::Filters;
use crate::{
    connect::Endpoint,
    error::CliError,
    output::{
        self,
        format::{Format, print_list},
    },
    show::volume::{self, COLUMNS, TABLE},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Provide filter values (e.g. "dangling=true")
    #[arg(short, long, value_name = "filter")]
    filter: Vec<String>,
    /// Format output using a custom template ('table', 'table TEMPLATE', 'json', 'TEMPLATE')
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Only display volume names
    #[arg(short, long)]
    quiet: bool,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let filters = Filters::parse(&self.filter)?;
        let mut volumes = to.connect().await?.volumes().await?;
        volumes.retain(|volume| filters.wants(volume));
        if self.quiet && self.format.is_none() {
            for volume in &volumes {
                output::line(&volume.name)?;
            }
            return Ok(0);
        }
        let rows: Vec<_> = volumes.iter().map(volume::row).collect();
        print_list(&Format::parse(self.format.as_deref()), TABLE, &COLUMNS, &rows)?;
        Ok(0)
    }
}

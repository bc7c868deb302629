//! `system df`: what takes room on the disk.

use base::clock::Timestamp;

use crate::{
    connect::Endpoint,
    error::CliError,
    output::{
        self,
        format::{Format, list, print_list},
    },
    show::usage::{self, Everything},
    template::{Template, Value},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template ('table', 'table TEMPLATE', 'json', 'TEMPLATE')
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Show detailed information on space usage
    #[arg(short, long)]
    verbose: bool,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let mut client = to.connect().await?;
        let all = Everything {
            images: client.images().await?,
            containers: client.list().await?,
            usage: client.disk_usage().await?,
            volumes: client.volume_usage().await?,
        };
        let format = Format::parse(self.format.as_deref());
        if !self.verbose {
            print_list(&format, usage::TABLE, &usage::COLUMNS, &all.rows())?;
            return Ok(0);
        }
        let now = Timestamp::now();
        match format {
            Format::Table => output::print(&details(&all, now)?)?,
            Format::Json => output::line(&all.details(now).json())?,
            Format::Template(text) | Format::TableOf(text) => {
                output::line(&Template::parse(&text)?.render(&all.details(now))?)?;
            }
        }
        Ok(0)
    }
}

/// The tables of `system df -v`.
fn details(all: &Everything, now: Timestamp) -> Result<String, CliError> {
    let mut text = String::new();
    for section in all.sections(now) {
        text += &format!("{}\n\n", section.heading);
        let rows: &[Value] = &section.rows;
        text += &list(&Format::Table, section.table, section.columns, rows)?;
        text.push('\n');
    }
    Ok(text)
}

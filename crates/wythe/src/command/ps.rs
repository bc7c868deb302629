//! `ps`: the containers there are.

use base::clock::Timestamp;
use docker::spec::selection::Selection;
use engine::Summary;

use crate::{
    connect::Endpoint,
    error::CliError,
    output::{
        self,
        format::{Format, print_list},
    },
    show::row,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter")]
    filter: Vec<String>,
    /// Format output using a custom template ('table', 'table TEMPLATE', 'json', 'TEMPLATE')
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Show n last created containers (includes all states)
    #[arg(short = 'n', long, value_name = "int", default_value_t = -1,
          allow_negative_numbers = true, hide_default_value = true)]
    last: i64,
    /// Show the latest created container (includes all states)
    #[arg(short, long)]
    latest: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only display container IDs
    #[arg(short, long)]
    quiet: bool,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let selection = self.selection()?;
        let mut client = to.connect().await?;
        let containers = selection.pick(client.list().await?).map_err(|error| usage(&error))?;
        if self.quiet && self.format.is_none() {
            for container in &containers {
                let id = &container.id;
                output::line(if self.no_trunc { id.as_str() } else { id.short() })?;
            }
            return Ok(0);
        }
        let now = Timestamp::now();
        let sizes = match self.counts() {
            true => client.container_sizes(ids(&containers)).await?,
            false => Vec::new(),
        };
        let size = |container: &Summary| sizes.iter().find(|size| size.id == container.id);
        let row = |c: &Summary| row::row(c, size(c), self.no_trunc, now);
        let rows: Vec<_> = containers.iter().map(row).collect();
        let format = Format::parse(self.format.as_deref());
        let usual = if self.size { row::TABLE_WITH_SIZE } else { row::TABLE };
        print_list(&format, usual, &row::COLUMNS, &rows)?;
        Ok(0)
    }

    /// Whether sizes are wanted: by the flag, or by a template that shows them.
    fn counts(&self) -> bool {
        self.size || self.format.as_deref().is_some_and(|format| format.contains(".Size"))
    }

    /// Which are to be shown.
    fn selection(&self) -> Result<Selection, CliError> {
        let last = if self.latest { 1 } else { self.last };
        let last = usize::try_from(last).ok().filter(|last| *last > 0);
        let mut selection = Selection::new(self.all, last);
        for text in &self.filter {
            let bad = || CliError::Usage(format!("invalid filter \"{text}\": write kind=value"));
            let (kind, value) = text.split_once('=').ok_or_else(bad)?;
            selection.add(kind, value).map_err(|error| usage(&error))?;
        }
        Ok(selection)
    }
}

fn usage(error: &docker::spec::selection::SelectionError) -> CliError {
    CliError::Usage(error.to_string())
}

fn ids(containers: &[Summary]) -> Vec<String> {
    containers.iter().map(|container| container.id.to_string()).collect()
}

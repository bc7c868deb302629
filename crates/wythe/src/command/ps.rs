//! `ps`: the containers there are.

use base::clock::Timestamp;
use engine::{ContainerState, Summary};

use crate::{
    connect::Endpoint,
    error::CliError,
    output::{
        self,
        format::{Format, print_list},
    },
    show::row,
};

mod filter;

use filter::Filters;

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
        let filters = Filters::parse(&self.filter)?;
        let mut client = to.connect().await?;
        let containers = self.pick(client.list().await?, &filters)?;
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

    /// Those that are to be shown, newest first.
    fn pick(
        &self,
        mut containers: Vec<Summary>,
        filters: &Filters,
    ) -> Result<Vec<Summary>, CliError> {
        containers.sort_by_key(|container| std::cmp::Reverse(container.created));
        let last = if self.latest { 1 } else { self.last };
        let counted = usize::try_from(last).ok().filter(|last| *last > 0);
        let every = self.all || counted.is_some() || filters.name_states();
        let bounds = filters.bounds(&containers)?;
        containers.retain(|container| {
            let runs = match container.state.state {
                ContainerState::Running | ContainerState::Paused | ContainerState::Restarting => {
                    true
                }
                ContainerState::Created
                | ContainerState::Exited
                | ContainerState::Removing
                | ContainerState::Dead => false,
            };
            (every || runs) && filters.accept(container) && bounds.contain(container)
        });
        containers.truncate(counted.unwrap_or(usize::MAX));
        Ok(containers)
    }
}

fn ids(containers: &[Summary]) -> Vec<String> {
    containers.iter().map(|container| container.id.to_string()).collect()
}

//! `volume prune`.

use std::io::{self, BufRead as _};

use engine::VolumePrune;

use super::filter::Filters;
use crate::{
    connect::Endpoint,
    error::CliError,
    output::{self, human},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove all unused volumes, not just anonymous ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "label=<label>")
    #[arg(long, value_name = "filter")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let filters = Filters::parse_prune(&self.filter)?;
        let all = self.all || filters.all == Some(true);
        if !self.force && !agreed(all)? {
            return Err(CliError::Usage("volume prune has been cancelled".to_owned()));
        }
        let prune = VolumePrune { all, labels: filters.labels };
        let pruned = to.connect().await?.volume_prune(prune).await?;
        if !pruned.names.is_empty() {
            output::line("Deleted Volumes:")?;
            for name in &pruned.names {
                output::line(name)?;
            }
            output::line("")?;
        }
        output::line(&format!("Total reclaimed space: {}", human::size(pruned.bytes)))?;
        Ok(0)
    }
}

fn agreed(all: bool) -> Result<bool, CliError> {
    let which = if all { "all local volumes" } else { "anonymous local volumes" };
    output::print(&format!(
        "WARNING! This will remove {which} not used by at least one container.\n\
         Are you sure you want to continue? [y/N] "
    ))?;
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| CliError::io("read the answer", error))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes" | "YES"))
}

//! `vm ls`.

use base::clock::Timestamp;
use machines::{Entry, Kept, Machines, State, Usage};

use super::failed;
use crate::{
    error::CliError,
    output::{
        self,
        format::{Format, print_list},
    },
    show::machine::{COLUMNS, TABLE, damaged, row},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template ('table', 'table TEMPLATE', 'json', 'TEMPLATE')
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Only display names
    #[arg(short, long)]
    quiet: bool,
}

impl Args {
    pub(super) fn run(self, machines: &Machines) -> Result<u8, CliError> {
        let entries = machines.list().map_err(|error| failed(&error))?;
        if self.quiet && self.format.is_none() {
            for entry in &entries {
                output::line(name(entry))?;
            }
            return Ok(0);
        }
        let now = Timestamp::now();
        let rows: Vec<_> = entries
            .iter()
            .map(|entry| match entry {
                Entry::Whole(kept) => match seen(kept, machines) {
                    Ok((state, usage)) => row(kept, &state, usage, now),
                    Err(why) => damaged(&kept.name, &why),
                },
                Entry::Damaged { name, why } => damaged(name, why),
            })
            .collect();
        print_list(&Format::parse(self.format.as_deref()), TABLE, &COLUMNS, &rows)?;
        Ok(0)
    }
}

fn name(entry: &Entry) -> &str {
    match entry {
        Entry::Whole(kept) => kept.name.as_str(),
        Entry::Damaged { name, .. } => name.as_str(),
    }
}

/// How a machine stands, and what it uses if it runs and answers.
pub(super) fn seen(
    kept: &Kept,
    machines: &Machines,
) -> Result<(State, Option<Usage>), machines::StoreError> {
    let state = kept.state()?;
    let runs = matches!(state, State::Running { .. });
    let usage = runs.then(|| kept.running(machines).usage().ok()).flatten();
    Ok((state, usage))
}

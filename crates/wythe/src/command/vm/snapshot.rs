//! `vm snapshot create|ls|rm`.

use base::clock::Timestamp;
use machines::{Kept, Machines, Name, Snapshot};

use super::{each, failed, find};
use crate::{
    error::CliError,
    output::{
        self,
        format::{Format, print_list},
    },
    show::machine::{SNAPSHOT_COLUMNS, SNAPSHOT_TABLE, snapshot_row},
};

/// What can be done with snapshots of machines.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Save a machine that runs; it stands still meanwhile
    Create(CreateArgs),
    /// List the snapshots of a machine
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Remove one or more snapshots of a machine
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// Which machine
    #[arg(value_name = "NAME")]
    name: String,
    /// What the snapshot is called; one is made up where there is none (s1, s2, …)
    #[arg(value_name = "SNAPSHOT")]
    snapshot: Option<String>,
    /// Save all of the memory, and not only what was written since the last snapshot
    #[arg(long)]
    full: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LsArgs {
    /// Format output using a custom template ('table', 'table TEMPLATE', 'json', 'TEMPLATE')
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Only display names
    #[arg(short, long)]
    quiet: bool,
    /// Which machine
    #[arg(value_name = "NAME")]
    name: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RmArgs {
    /// Which machine
    #[arg(value_name = "NAME")]
    name: String,
    /// Which of its snapshots
    #[arg(required = true, value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
}

impl SnapshotCommand {
    pub(super) fn run(self, machines: &Machines) -> Result<u8, CliError> {
        match self {
            SnapshotCommand::Create(args) => args.run(machines),
            SnapshotCommand::Ls(args) => args.run(machines),
            SnapshotCommand::Rm(args) => {
                let kept = find(machines, &args.name)?;
                let names: Result<Vec<Name>, _> =
                    args.snapshots.iter().map(|name| name.parse()).collect();
                let mut names = names.map_err(|error| failed(&error))?;
                kept.youngest_first(&mut names);
                each(&names, |name| kept.remove_snapshot(name).map_err(|error| failed(&error)))
            }
        }
    }
}

impl CreateArgs {
    fn run(self, machines: &Machines) -> Result<u8, CliError> {
        let kept = find(machines, &self.name)?;
        let name: Name = match self.snapshot {
            Some(name) => name.parse().map_err(|error| failed(&error))?,
            None => free(&all(&kept)?),
        };
        kept.running(machines).save(&name, self.full).map_err(|error| failed(&error))?;
        output::line(name.as_str())?;
        Ok(0)
    }
}

impl LsArgs {
    fn run(self, machines: &Machines) -> Result<u8, CliError> {
        let snapshots = all(&find(machines, &self.name)?)?;
        if self.quiet && self.format.is_none() {
            for snapshot in &snapshots {
                output::line(snapshot.name.as_str())?;
            }
            return Ok(0);
        }
        let now = Timestamp::now();
        let rows: Vec<_> = snapshots.iter().map(|it| snapshot_row(it, now)).collect();
        let format = Format::parse(self.format.as_deref());
        print_list(&format, SNAPSHOT_TABLE, &SNAPSHOT_COLUMNS, &rows)?;
        Ok(0)
    }
}

fn all(kept: &Kept) -> Result<Vec<Snapshot>, CliError> {
    kept.snapshots().map_err(|error| failed(&error))
}

/// The first of s1, s2, … that is none yet.
fn free(taken: &[Snapshot]) -> Name {
    let names = (1_u32..).map(|n| format!("s{n}"));
    let mut free = names.filter(|name| taken.iter().all(|it| it.name.as_str() != name));
    let name = free.next().expect("there are fewer snapshots than numbers");
    name.parse().expect("a letter and digits are a name")
}

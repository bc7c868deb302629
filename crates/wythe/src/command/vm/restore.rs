//! `vm restore`.

use machines::Machines;

use super::{failed, find, spawn};
use crate::{error::CliError, output, paths::Roots};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which machine; one that runs is to be stopped first
    #[arg(value_name = "NAME")]
    name: String,
    /// Which of its snapshots; the latest, if not given
    #[arg(value_name = "SNAPSHOT")]
    snapshot: Option<String>,
}

impl Args {
    pub(super) fn run(self, roots: &Roots, machines: &Machines) -> Result<u8, CliError> {
        let mut kept = find(machines, &self.name)?;
        let snapshot = match &self.snapshot {
            Some(name) => {
                let name = name.parse().map_err(|error| failed(&error))?;
                kept.snapshot(&name).map_err(|error| failed(&error))?
            }
            None => {
                let last = kept.snapshots().map_err(|error| failed(&error))?.pop();
                last.ok_or_else(|| failed(&kept.no_snapshot("it has none")))?
            }
        };
        let same = kept.clone();
        kept.restore(machines, &snapshot, spawn(roots, &same)).map_err(|error| failed(&error))?;
        output::line(snapshot.name.as_str())?;
        Ok(0)
    }
}

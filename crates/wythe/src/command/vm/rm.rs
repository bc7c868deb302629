//! `vm rm`.

use machines::{Machines, Name, StoreError};

use super::{each, failed};
use crate::error::CliError;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// End machines that run, and do not mind those that are not there
    #[arg(short, long)]
    force: bool,
    /// Which machines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl Args {
    pub(super) fn run(self, machines: &Machines) -> Result<u8, CliError> {
        each(&self.names, |name| {
            let name: Name = name.parse().map_err(|error| failed(&error))?;
            if self.force
                && let Ok(kept) = machines.find(&name)
            {
                kept.running(machines).kill().map_err(|error| failed(&error))?;
            }
            match machines.remove(&name) {
                Err(StoreError::NotFound(_)) if self.force => Ok(()),
                removed => removed.map_err(|error| failed(&error)),
            }
        })
    }
}

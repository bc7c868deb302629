//! `vm stop`.

use std::time::Duration;

use machines::Machines;

use super::{each, failed, find};
use crate::error::CliError;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds to wait before ending the machine at once
    #[arg(short, long, visible_alias = "timeout", value_name = "int", default_value_t = 10)]
    time: u32,
    /// Which machines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl Args {
    pub(super) fn run(self, machines: &Machines) -> Result<u8, CliError> {
        let patience = Duration::from_secs(self.time.into());
        each(&self.names, |name| {
            let kept = find(machines, name)?;
            let stopped = kept.running(machines).stop(patience);
            stopped.map(drop).map_err(|error| failed(&error))
        })
    }
}

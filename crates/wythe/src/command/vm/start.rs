//! `vm start`.

use machines::Machines;

use super::{each, failed, find, spawn};
use crate::{error::CliError, paths::Roots};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which machines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl Args {
    pub(super) fn run(self, roots: &Roots, machines: &Machines) -> Result<u8, CliError> {
        each(&self.names, |name| {
            let kept = find(machines, name)?;
            kept.start(machines, spawn(roots, &kept)).map_err(|error| failed(&error))
        })
    }
}

//! `vm …`: machines that are no containers.

use clap::Subcommand;

use crate::{connect::Endpoint, error::CliError};

mod accel;
mod boot;

pub(crate) use accel::finding;

/// What can be done with machines.
#[derive(Debug, Subcommand)]
pub(crate) enum VmCommand {
    /// Boot a kernel in a machine, with the terminal as its serial console
    Boot(boot::Args),
}

impl VmCommand {
    pub(super) fn run(self, endpoint: &Endpoint) -> Result<u8, CliError> {
        match self {
            VmCommand::Boot(args) => args.run(endpoint),
        }
    }
}

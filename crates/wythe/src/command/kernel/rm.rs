//! `kernel rm`.

use kernels::{Store, StoreError};

use super::failed;
use crate::{cli, error::CliError, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not mind kernels that are not there
    #[arg(short, long)]
    force: bool,
    /// Which kernels, by name, release or digest
    #[arg(required = true, value_name = "KERNEL")]
    kernels: Vec<String>,
}

impl Args {
    pub(super) fn run(self, store: &Store) -> Result<u8, CliError> {
        let mut all = true;
        for name in &self.kernels {
            match store.remove(name) {
                Ok(_) => output::line(name)?,
                Err(StoreError::NotFound(_)) if self.force => {}
                Err(error) => {
                    cli::tell(&failed(&error));
                    all = false;
                }
            }
        }
        if all { Ok(0) } else { Err(CliError::Said) }
    }
}

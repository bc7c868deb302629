//! `kernel default`.

use kernels::Store;

use super::failed;
use crate::{error::CliError, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The kernel to use from now on; without it, the one that is used is shown
    #[arg(value_name = "KERNEL")]
    kernel: Option<String>,
}

impl Args {
    pub(super) fn run(self, store: &Store) -> Result<u8, CliError> {
        let kernel = match self.kernel {
            Some(name) => {
                let kernel = store.find(&name).map_err(|error| failed(&error))?;
                store.set_default(&kernel).map_err(|error| failed(&error))?;
                kernel
            }
            None => store.default().map_err(|error| failed(&error))?.ok_or_else(|| {
                CliError::Usage("there is no kernel: wythe kernel pull fetches one".to_owned())
            })?,
        };
        output::line(&kernel.manifest.name)?;
        Ok(0)
    }
}

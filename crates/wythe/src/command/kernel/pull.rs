//! `kernel pull`.

use kernels::Store;

use super::{
    From, now,
    progress::{finish, shown},
};
use crate::{error::CliError, paths::Roots};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    from: From,
    /// Name of the kernel; default: debian- and its release
    #[arg(long, value_name = "string")]
    name: Option<String>,
    /// Use it unless another kernel is named
    #[arg(long)]
    default: bool,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
}

impl Args {
    pub(super) fn run(self, roots: &Roots, store: &Store) -> Result<u8, CliError> {
        let settings = self.from.settings(roots)?;
        let name = self.name.as_deref();
        let pulled = shown(self.quiet, async |tell| {
            kernels::pull(store, &settings, name, now(), tell).await
        })?;
        match pulled {
            Ok(added) => finish(store, &added, (self.default, self.quiet)),
            Err(code) => Ok(code),
        }
    }
}

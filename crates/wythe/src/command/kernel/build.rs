//! `kernel build`.

use std::{num::NonZeroUsize, path::PathBuf};

use kernels::{Build, Store};

use super::{
    From, now,
    progress::{finish, shown},
};
use crate::{error::CliError, output, paths::Roots};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    from: From,
    /// Build this source of Linux instead of Debian's
    #[arg(long, value_name = "dir")]
    source: Option<PathBuf>,
    /// Work in this directory; default: below the data root
    #[arg(long, value_name = "dir")]
    scratch: Option<PathBuf>,
    /// Run this many compilers at once; default: one for each processor
    #[arg(short, long, value_name = "int")]
    jobs: Option<NonZeroUsize>,
    /// Name of the kernel; default: minimal- and its release
    #[arg(long, value_name = "string")]
    name: Option<String>,
    /// Use it unless another kernel is named
    #[arg(long)]
    default: bool,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    /// Print the configuration and build nothing
    #[arg(long)]
    print_config: bool,
}

impl Args {
    pub(super) fn run(self, roots: &Roots, store: &Store) -> Result<u8, CliError> {
        if self.print_config {
            output::print(kernels::CONFIG)?;
            return Ok(0);
        }
        let settings = self.from.settings(roots)?;
        let build =
            Build { source: self.source, scratch: self.scratch, name: self.name, jobs: self.jobs };
        let built = shown(self.quiet, async |tell| {
            kernels::build(store, &settings, &build, now(), tell).await
        })?;
        match built {
            Ok(added) => finish(store, &added, (self.default, self.quiet)),
            Err(code) => Ok(code),
        }
    }
}

//! `kernel import`.

use std::path::PathBuf;

use kernels::{Draft, Source, Store};

use super::{failed, now, progress::finish};
use crate::error::CliError;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The kernel: a bzImage (vmlinuz) or an ELF executable (vmlinux)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Its modules, such as /lib/modules/6.1.0-9-amd64: those that a guest needs are taken
    #[arg(long, value_name = "dir")]
    modules: Option<PathBuf>,
    /// What it was configured with
    #[arg(long, value_name = "file")]
    config: Option<PathBuf>,
    /// Name of the kernel; default: imported- and its release
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
    pub(super) fn run(self, store: &Store) -> Result<u8, CliError> {
        let shown = std::path::absolute(&self.file).unwrap_or_else(|_| self.file.clone());
        let draft = Draft {
            vmlinuz: self.file,
            config: self.config,
            modules: self.modules,
            name: self.name,
            source: Source::Imported { file: shown.display().to_string() },
            created: now(),
        };
        let added = store.stage().and_then(|staging| store.add(staging, &draft));
        let added = added.map_err(|error| failed(&error))?;
        finish(store, &added, (self.default, self.quiet))
    }
}

//! `load`: images from an archive.

use std::{
    fs::File,
    io::IsTerminal as _,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use super::rmi::line;
use crate::{
    connect::Endpoint,
    error::CliError,
    output::{self, progress::Bar},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, value_name = "string")]
    input: Option<PathBuf>,
    /// Load only the given platform variants. Formatted as "os[/arch[/variant]]" (e.g.,
    /// "linux/amd64")
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    platform: Vec<image::Platform>,
    /// Suppress the load output
    #[arg(short, long)]
    quiet: bool,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let from = source(self.input.as_deref())?;
        let mut client = to.connect().await?;
        let bar = Bar::new(self.quiet, &from);
        let platforms = self.platform.iter().map(ToString::to_string).collect();
        let changes = client.load(from, platforms, |progress| bar.show(progress)).await?;
        drop(bar);
        for change in &changes {
            output::line(&line(change))?;
        }
        Ok(0)
    }
}

/// The archive: a file, or standard input unless that is a terminal.
pub(super) fn source(path: Option<&Path>) -> Result<OwnedFd, CliError> {
    let Some(path) = path else {
        if std::io::stdin().is_terminal() {
            let why = "requested load from stdin, but stdin is empty: give a file or a pipe";
            return Err(CliError::Usage(why.to_owned()));
        }
        return std::io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| CliError::io("use standard input", error));
    };
    File::open(path)
        .map(OwnedFd::from)
        .map_err(|error| CliError::io(format!("open {}", path.display()), error))
}

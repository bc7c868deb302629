//! `volume export` and `volume import`.

use std::{
    fs::File,
    io::{self, IsTerminal as _},
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
};

use crate::{
    command::{load::source, save::beside},
    connect::Endpoint,
    error::CliError,
    output,
};

#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    output: Option<PathBuf>,
    /// Which volume
    #[arg(value_name = "VOLUME")]
    volume: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// Replace what is in the volume
    #[arg(short, long)]
    force: bool,
    /// Read from a file, instead of STDIN
    #[arg(short, long, value_name = "string")]
    input: Option<PathBuf>,
    /// Which volume; it is created if there is none
    #[arg(value_name = "VOLUME")]
    volume: String,
}

impl ExportArgs {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let mut client = to.connect().await?;
        let Some(path) = &self.output else {
            if io::stdout().is_terminal() {
                let why = "refusing to write an archive to a terminal: use -o or redirect";
                return Err(CliError::Usage(why.to_owned()));
            }
            let out = io::stdout().as_fd().try_clone_to_owned();
            let out = out.map_err(|error| CliError::io("use standard output", error))?;
            client.volume_export(&self.volume, out).await?;
            return Ok(0);
        };
        // Written beside its place and moved there when it is whole.
        let part = beside(path);
        let failed = |error| CliError::io(format!("write {}", path.display()), error);
        let file = File::create_new(&part).map_err(failed)?;
        let written = client.volume_export(&self.volume, OwnedFd::from(file)).await;
        let written = written.map_err(CliError::from);
        let written = written.and_then(|()| std::fs::rename(&part, path).map_err(failed));
        if written.is_err() {
            let _ = std::fs::remove_file(&part);
        }
        written.map(|()| 0)
    }
}

impl ImportArgs {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let from = source(self.input.as_deref().filter(|path| path.as_os_str() != "-"))?;
        let mut client = to.connect().await?;
        client.volume_import(&self.volume, from, self.force).await?;
        output::line(&self.volume)?;
        Ok(0)
    }
}

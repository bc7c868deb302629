//! `save`: images as an archive.

use std::{
    fs::File,
    io::{self, IsTerminal as _},
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use crate::{connect::Endpoint, error::CliError};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    output: Option<PathBuf>,
    /// Which images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let mut client = to.connect().await?;
        let Some(path) = &self.output else {
            if io::stdout().is_terminal() {
                let why = "cowardly refusing to save to a terminal: use the -o flag or redirect";
                return Err(CliError::Usage(why.to_owned()));
            }
            let out = io::stdout().as_fd().try_clone_to_owned();
            let out = out.map_err(|error| CliError::io("use standard output", error))?;
            client.save(self.images, out).await?;
            return Ok(0);
        };
        // Written beside its place and moved there when it is whole.
        let part = beside(path);
        let failed = |error| CliError::io(format!("write {}", path.display()), error);
        let file = File::create_new(&part).map_err(failed)?;
        let saved = client.save(self.images, OwnedFd::from(file)).await.map_err(CliError::from);
        let saved = saved.and_then(|()| std::fs::rename(&part, path).map_err(failed));
        if saved.is_err() {
            let _ = std::fs::remove_file(&part);
        }
        saved.map(|()| 0)
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    PathBuf::from(name)
}

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
    /// Save only the given platform variants. Formatted as "os[/arch[/variant]]" (e.g.,
    /// "linux/amd64")
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    platform: Vec<image::Platform>,
    /// Which images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let mut client = to.connect().await?;
        let platforms: Vec<_> = self.platform.iter().map(ToString::to_string).collect();
        let Some(path) = &self.output else {
            if io::stdout().is_terminal() {
                let why = "cowardly refusing to save to a terminal: use the -o flag or redirect";
                return Err(CliError::Usage(why.to_owned()));
            }
            let out = io::stdout().as_fd().try_clone_to_owned();
            let out = out.map_err(|error| CliError::io("use standard output", error))?;
            client.save(self.images, platforms, out).await?;
            return Ok(0);
        };
        let part = Part::create(path)?;
        let saved = client.save(self.images, platforms, &part.file).await;
        part.end(saved.map_err(CliError::from)).map(|()| 0)
    }
}

/// A file that is written beside its place and moved there when it is whole.
pub(super) struct Part {
    pub(super) file: OwnedFd,
    part: PathBuf,
    path: PathBuf,
}

impl Part {
    pub(super) fn create(path: &Path) -> Result<Part, CliError> {
        let part = beside(path);
        let file = File::create_new(&part)
            .map_err(|error| CliError::io(format!("write {}", path.display()), error))?;
        Ok(Part { file: OwnedFd::from(file), part, path: path.to_owned() })
    }

    /// Moves it to its place, or takes it away if what was to be in it failed.
    pub(super) fn end(self, written: Result<(), CliError>) -> Result<(), CliError> {
        let failed = |error| CliError::io(format!("write {}", self.path.display()), error);
        let moved = written.and_then(|()| std::fs::rename(&self.part, &self.path).map_err(failed));
        if moved.is_err() {
            let _ = std::fs::remove_file(&self.part);
        }
        moved
    }
}

/// A name for what is not yet whole.
pub(super) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    PathBuf::from(name)
}

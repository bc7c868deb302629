//! `export`: a container's root as an archive.

use std::{
    io::{self, IsTerminal as _},
    os::fd::AsFd as _,
    path::PathBuf,
};

use super::save::Part;
use crate::{connect::Endpoint, error::CliError};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    output: Option<PathBuf>,
    /// Which container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        if self.output.is_none() && io::stdout().is_terminal() {
            let why = "cowardly refusing to save to a terminal. Use the -o flag or redirect";
            return Err(CliError::Usage(why.to_owned()));
        }
        let mut client = to.connect().await?;
        let Some(path) = &self.output else {
            client.export(&self.container, io::stdout().as_fd()).await?;
            return Ok(0);
        };
        let part = Part::create(path)?;
        let exported = client.export(&self.container, &part.file).await;
        part.end(exported.map_err(CliError::from)).map(|()| 0)
    }
}

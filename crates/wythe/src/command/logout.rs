//! `logout`: credentials are forgotten.

use super::login::DEFAULT;
use crate::{docker_config, error::CliError, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Registry
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

impl Args {
    pub(super) fn run(self) -> Result<u8, CliError> {
        let server = docker_config::host(self.server.as_deref().unwrap_or(DEFAULT));
        output::line(&format!("Removing login credentials for {}", docker_config::key(&server)))?;
        if !docker_config::erase(&server)? {
            output::complain(&format!("Not logged in to {}", docker_config::key(&server)));
        }
        Ok(0)
    }
}

//! `wait`: until containers have ended.

use engine::WaitFor;

use super::each::each;
use crate::{connect::Endpoint, error::CliError};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        each(to, &self.containers, async |client, name| {
            let exit = client.wait(name, WaitFor::NotRunning).await?;
            Ok(exit.status.shell_code().to_string())
        })
        .await
    }
}

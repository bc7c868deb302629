//! `top`: the processes of a container, as the host sees them.

use crate::{
    connect::Endpoint,
    error::{CliError, chain},
    output::{self, table},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which container
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Options of the host's ps(1)
    #[arg(value_name = "ps OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let pids = to.connect().await?.host_pids(&self.container).await?;
        let processes = docker::top::table(&self.options, &pids)
            .map_err(|error| CliError::Usage(chain(&error)))?;
        let mut text = processes.titles.join("\t") + "\n";
        for row in processes.rows {
            text += &(row.join("\t") + "\n");
        }
        output::print(&table::align(&text))?;
        Ok(0)
    }
}

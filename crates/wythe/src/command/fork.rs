//! `fork`: copies of a running container, in which its processes go on.

use base::ContainerName;
use engine::Fork;

use super::run::warn;
use crate::{connect::Endpoint, error::CliError, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Make so many copies
    #[arg(short = 'n', long, default_value_t = 1, value_name = "int")]
    count: u32,
    /// Assign a name to the copy; several are numbered
    #[arg(long, value_name = "string")]
    name: Option<ContainerName>,
    /// Which container; its isolation is vm
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let fork = Fork { name: self.name, count: self.count };
        let mut client = to.connect().await?;
        let copies = client.fork(&self.container, fork).await?;
        // Of all copies it is the same.
        warn(copies.first().map_or(&[], |created| &created.warnings));
        for created in &copies {
            output::line(created.id.as_str())?;
        }
        Ok(0)
    }
}

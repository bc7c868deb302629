//! `network prune`.

use base::clock::Timestamp;

use crate::{
    command::prune::{Common, conditions},
    connect::Endpoint,
    error::CliError,
    output,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let prune = conditions(&self.common.filter, Timestamp::now(), false)?;
        let warning = "WARNING! This will remove all custom networks not used by at least one \
                       container.\n";
        if !self.common.agreed(warning)? {
            return Ok(0);
        }
        let names = to.connect().await?.network_prune(prune).await?;
        if !names.is_empty() {
            output::line("Deleted Networks:")?;
            for name in &names {
                output::line(name)?;
            }
            output::line("")?;
        }
        Ok(0)
    }
}

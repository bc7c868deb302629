//! `wait`: until containers have ended, end the next time, or are removed.

use clap::ValueEnum;
use engine::WaitFor;

use super::each::each;
use crate::{connect::Endpoint, error::CliError};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to wait for
    #[arg(long, value_name = "condition", value_enum, default_value = "not-running")]
    condition: Condition,
    /// Which containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Docker's API has it, its command line has not.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Condition {
    /// It does not run; at once if it does not now.
    NotRunning,
    /// It ends, the next time.
    NextExit,
    /// It is removed.
    Removed,
}

impl From<Condition> for WaitFor {
    fn from(condition: Condition) -> WaitFor {
        match condition {
            Condition::NotRunning => WaitFor::NotRunning,
            Condition::NextExit => WaitFor::NextExit,
            Condition::Removed => WaitFor::Removed,
        }
    }
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let until = WaitFor::from(self.condition);
        each(to, &self.containers, async |client, name| {
            let exit = client.wait(name, until).await?;
            Ok(exit.status.shell_code().to_string())
        })
        .await
    }
}

//! `stop`: ask to end, then kill.

use std::time::Duration;

use engine::Stop;
use workload::Signal;

use super::each::together;
use crate::{connect::Endpoint, create::signal, error::CliError};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    how: StopFlags,
    /// Which containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// How containers are stopped.
#[derive(Debug, clap::Args)]
pub(super) struct StopFlags {
    /// Signal to send to the container
    #[arg(short, long, value_name = "string", value_parser = signal)]
    signal: Option<Signal>,
    /// Seconds to wait before killing the container (-1 to wait for ever)
    #[arg(short, long, visible_alias = "time", value_name = "int", allow_negative_numbers = true)]
    timeout: Option<i64>,
}

impl StopFlags {
    pub(super) fn request(&self) -> Stop {
        let grace = |seconds: i64| u64::try_from(seconds).ok().map(Duration::from_secs);
        Stop { signal: self.signal, grace: self.timeout.map(grace) }
    }
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        together(to, &self.containers, async |client, name| {
            client.stop(name, self.how.request()).await?;
            Ok(name.to_owned())
        })
        .await
    }
}

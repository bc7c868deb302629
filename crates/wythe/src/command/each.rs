//! Commands that do one thing to each of several names.

use api::{Client, ClientError};

use crate::{cli, connect::Endpoint, error::CliError, output};

/// Does it to each, prints the name of each that worked and the error of each that did not, and
/// fails if any failed.
pub(super) async fn each(
    to: &Endpoint,
    names: &[String],
    mut act: impl AsyncFnMut(&mut Client, &str) -> Result<String, ClientError>,
) -> Result<u8, CliError> {
    let mut client = to.connect().await?;
    let mut failed = false;
    for name in names {
        match act(&mut client, name).await {
            Ok(line) => output::line(&line)?,
            Err(ClientError::Refused(failure)) => {
                cli::tell(&CliError::Daemon(failure));
                failed = true;
            }
            Err(error) => return Err(error.into()),
        }
    }
    if failed { Err(CliError::Said) } else { Ok(0) }
}

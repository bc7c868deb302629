//! Commands that do one thing to each of several names.

use std::cell::RefCell;

use api::{Client, ClientError};
use futures_util::{StreamExt as _, stream};

use crate::{cli, connect::Endpoint, error::CliError, output};

/// Most that are done at the same time: as many as Docker's client does.
const AT_ONCE: usize = 50;

/// Does it to each in turn, prints the name of each that worked and the error of each that did
/// not, and fails if any failed.
pub(super) async fn each(
    to: &Endpoint,
    names: &[String],
    act: impl AsyncFn(&mut Client, &str) -> Result<String, ClientError>,
) -> Result<u8, CliError> {
    up_to(1, to, names, act).await
}

/// As [`each`], several at the same time: ten that take ten seconds to stop take ten seconds.
/// What is printed keeps the order of the names.
pub(super) async fn together(
    to: &Endpoint,
    names: &[String],
    act: impl AsyncFn(&mut Client, &str) -> Result<String, ClientError>,
) -> Result<u8, CliError> {
    up_to(AT_ONCE, to, names, act).await
}

async fn up_to(
    at_once: usize,
    to: &Endpoint,
    names: &[String],
    act: impl AsyncFn(&mut Client, &str) -> Result<String, ClientError>,
) -> Result<u8, CliError> {
    // The first one starts the daemon if there is none.
    let idle = RefCell::new(vec![to.connect().await?]);
    let one = async |name: &String| -> Result<Result<String, ClientError>, CliError> {
        let waiting = idle.borrow_mut().pop();
        let mut client = match waiting {
            Some(client) => client,
            None => to.connect().await?,
        };
        let done = act(&mut client, name).await;
        idle.borrow_mut().push(client);
        Ok(done)
    };
    let mut failed = false;
    let mut all = std::pin::pin!(stream::iter(names).map(one).buffered(at_once));
    while let Some(done) = all.next().await {
        match done? {
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

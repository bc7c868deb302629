//! What is told while a kernel is fetched or built, as pulls of images tell it.

use engine::TransferEvent;
use kernels::{Added, Event, Store};

use super::failed;
use crate::{
    error::CliError,
    output::{self, transfer::Transfers},
};

/// What a shell reports of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 128 + 2;

/// Shows events until the work is done; Ctrl-C gives it up, and nothing is left of it.
pub(super) fn shown<E: std::error::Error>(
    quiet: bool,
    work: impl AsyncFnOnce(&mut (dyn FnMut(Event) + Send)) -> Result<Added, E>,
) -> Result<Result<Added, u8>, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::io("start", error))?;
    runtime.block_on(async {
        let mut transfers = Transfers::to_stdout(quiet);
        let mut tell = |event| transfers.show(&transfer(event));
        let done = tokio::select! {
            done = work(&mut tell) => Some(done),
            _ = tokio::signal::ctrl_c() => None,
        };
        drop(transfers);
        match done {
            Some(added) => added.map(Ok).map_err(|error| failed(&error)),
            None => Ok(Err(INTERRUPTED)),
        }
    })
}

/// Shows events on standard error until the work is done, beside which something else goes on.
pub(super) async fn beside(
    quiet: bool,
    work: impl AsyncFnOnce(&mut (dyn FnMut(Event) + Send)) -> Result<Added, CliError>,
) -> Result<(), CliError> {
    let mut transfers = Transfers::to_stderr(quiet);
    let mut tell = |event| transfers.show(&transfer(event));
    work(&mut tell).await.map(drop)
}

fn transfer(event: Event) -> TransferEvent {
    match event {
        Event::Note(text) => TransferEvent::Note { text },
        // A mirror need not say how long a file is.
        Event::Fetching { what: id, done, total } => {
            TransferEvent::Downloading { id, done, total: total.max(done) }
        }
        Event::Fetched { what: id } => TransferEvent::Downloaded { id },
        Event::Unpacking { what } => TransferEvent::Note { text: format!("{what}: Unpacking") },
        Event::Building { line } => TransferEvent::Note { text: line },
    }
}

/// Says what was added, and makes it the default if that was asked.
pub(super) fn finish(
    store: &Store,
    added: &Added,
    (default, quiet): (bool, bool),
) -> Result<u8, CliError> {
    if default {
        store.set_default(&added.kernel).map_err(|error| failed(&error))?;
    }
    if !quiet && !added.missing.is_empty() {
        let text = format!("This kernel may lack: {}", added.missing.join(", "));
        output::complain(&text);
    }
    if !quiet && !added.new {
        output::line(&format!("sha256:{}: Already exists", added.kernel.digest.hex()))?;
    }
    output::line(&added.kernel.manifest.name)?;
    Ok(0)
}

//! The registries' client, and who of several pulls fetches what they share.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use base::{Digest, Reference};
use registry::{Client, Hosts, RegistryError};
use tokio::sync::{Mutex as Turn, MutexGuard as Held, watch};

use crate::{EngineError, TransferEvent, TransferNews, error::chain};

/// Where the host's administrator says how registries are reached.
const HOST_DIRECTORY: &str = "/etc/wythe";
/// Where he may have told Docker already whom to trust.
const DOCKER_DIRECTORY: &str = "/etc/docker";

/// What the engine has to do with registries.
#[derive(Debug)]
pub(crate) struct Registries {
    data: PathBuf,
    /// The client, for as long as `registries.toml` stays as it was.
    client: Mutex<Option<(Hosts, Client)>>,
    flights: Mutex<HashMap<Digest, Weak<Flight>>>,
}

/// A blob that is being fetched, by one at a time; who waited finds it there.
#[derive(Debug)]
pub(crate) struct Flight {
    turn: Turn<()>,
    /// What was last told of it, for those who wait.
    progress: watch::Sender<Option<TransferEvent>>,
}

impl Flight {
    /// Waits for the turn; what the one who has it tells is told on.
    pub(crate) async fn turn(&self, news: &TransferNews) -> Held<'_, ()> {
        let mut progress = self.progress.subscribe();
        progress.mark_changed();
        let turn = self.turn.lock();
        tokio::pin!(turn);
        loop {
            tokio::select! {
                biased;
                held = &mut turn => return held,
                Ok(()) = progress.changed() => {
                    let event = progress.borrow_and_update().clone();
                    event.into_iter().for_each(|event| news.hint(event));
                }
            }
        }
    }

    /// Tells how far it has come, to those who wait as well.
    pub(crate) fn tell(&self, news: &TransferNews, event: TransferEvent) {
        self.progress.send_replace(Some(event.clone()));
        news.hint(event);
    }
}

impl Registries {
    pub(crate) fn new(data: &Path) -> Registries {
        let (client, flights) = (Mutex::default(), Mutex::default());
        Registries { data: data.to_owned(), client, flights }
    }

    /// The client, with what `registries.toml` says now. Blocks for a moment.
    pub(crate) fn client(&self) -> Result<Client, EngineError> {
        let (host, docker) = (Path::new(HOST_DIRECTORY), Path::new(DOCKER_DIRECTORY));
        let hosts = Hosts::read(&[&self.data, host]);
        let hosts = hosts
            .and_then(|hosts| hosts.with_certificates(&[&self.data, host, docker]))
            .map_err(|error| EngineError::Image { kind: error.kind(), text: chain(&error) })?;
        let mut known = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = known.as_ref().filter(|(old, _)| *old == hosts) {
            return Ok(client.clone());
        }
        let client = Client::new(hosts.clone());
        *known = Some((hosts, client.clone()));
        Ok(client)
    }

    /// The fetching of a blob, which may be under way.
    pub(crate) fn flight(&self, blob: Digest) -> Arc<Flight> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        flights.retain(|_, flight| flight.strong_count() > 0);
        if let Some(flight) = flights.get(&blob).and_then(Weak::upgrade) {
            return flight;
        }
        let flight = Arc::new(Flight { turn: Turn::default(), progress: watch::Sender::new(None) });
        flights.insert(blob, Arc::downgrade(&flight));
        flight
    }
}

/// What a registry's refusal is to whoever asked for an image.
pub(crate) fn refused(name: &Reference, error: &RegistryError) -> EngineError {
    let text = match error.said_no() {
        // Docker's words.
        Some(said) => format!(
            "pull access denied for {}, repository does not exist or may require 'wythe login': \
             {said}",
            name.familiar_name()
        ),
        None => chain(error),
    };
    EngineError::Image { kind: error.kind(), text }
}

/// Beginning of a digest, for people.
pub(crate) fn short(digest: &Digest) -> String {
    digest.hex().chars().take(12).collect()
}

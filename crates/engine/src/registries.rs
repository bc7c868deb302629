//! The registries' client, and who of several pulls fetches what they share.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use base::{Digest, Reference};
use registry::{Client, Hosts, RegistryError};
use tokio::sync::Mutex as Turn;

use crate::{EngineError, error::chain};

/// Where the host's administrator says how registries are reached.
const HOST_DIRECTORY: &str = "/etc/wythe";

/// What the engine has to do with registries.
#[derive(Debug)]
pub(crate) struct Registries {
    data: PathBuf,
    /// The client, for as long as `registries.toml` stays as it was.
    client: Mutex<Option<(Hosts, Client)>>,
    /// One at a time fetches a blob; who waited finds it there.
    flights: Mutex<HashMap<Digest, Weak<Turn<()>>>>,
}

impl Registries {
    pub(crate) fn new(data: &Path) -> Registries {
        let (client, flights) = (Mutex::default(), Mutex::default());
        Registries { data: data.to_owned(), client, flights }
    }

    /// The client, with what `registries.toml` says now. Blocks for a moment.
    pub(crate) fn client(&self) -> Result<Client, EngineError> {
        let hosts = Hosts::read(&[&self.data, Path::new(HOST_DIRECTORY)]);
        let hosts = hosts
            .map_err(|error| EngineError::Image { kind: error.kind(), text: chain(&error) })?;
        let mut known = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = known.as_ref().filter(|(old, _)| *old == hosts) {
            return Ok(client.clone());
        }
        let client = Client::new(hosts.clone());
        *known = Some((hosts, client.clone()));
        Ok(client)
    }

    /// Whose turn it is to fetch a blob.
    pub(crate) fn turn(&self, blob: Digest) -> Arc<Turn<()>> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        flights.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = flights.get(&blob).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(Turn::new(()));
        flights.insert(blob, Arc::downgrade(&turn));
        turn
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

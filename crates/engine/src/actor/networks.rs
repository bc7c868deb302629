//! Connects the container to one more network, or disconnects it from one, whether it runs or not.
//!
//! One change after the other. What is plugged in is recorded when it is: if the daemon dies
//! between the two, the next one finds a cable that is nobody's and removes it, and it is as if
//! nobody had asked. What is unplugged is recorded first, for the same reason.

use std::{collections::BTreeMap, fs::File, os::fd::AsFd as _, sync::Arc};

use base::{ContainerId, ErrorKind};
use tracing::error;

use super::{Actor, Outcome, Reply, effects::blocking, events};
use crate::{
    Create, EndpointRequest, EngineError, NetworkMode, NetworkView,
    engine::Shared,
    error::chain,
    gather,
    networks::{Joining, Resolving},
    record::Record,
    step::{Phase, Resource, Run},
};

/// What is to change.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// One more network, by its name.
    Connect(String, EndpointRequest),
    /// One less, by its name.
    Disconnect(String),
}

/// A change that has been carried out, or not.
pub(super) struct Networked {
    run: Run,
    config: Create,
    result: Result<NetworkView, EngineError>,
    reply: Reply,
}

fn refused(kind: ErrorKind, text: impl Into<String>) -> EngineError {
    EngineError::Networking { kind, text: text.into() }
}

/// The network namespace of a process.
fn namespace_of(pid: u32) -> Option<File> {
    File::open(format!("/proc/{pid}/ns/net")).ok()
}

/// The configuration after a change.
///
/// # Errors
/// [`EngineError::Networking`] in Docker's words.
fn changed(config: &Create, name: &str, change: &Change) -> Result<Create, EngineError> {
    let mode = match &config.network {
        NetworkMode::Bridge | NetworkMode::Named(_) => None,
        NetworkMode::None => Some("none"),
        NetworkMode::Host => Some("host"),
        NetworkMode::Container(_) => Some("container"),
    };
    if let Some(mode) = mode {
        let text = match change {
            Change::Connect(..) => {
                format!(
                    "container cannot be connected to multiple networks with one of the networks in private ({mode}) mode"
                )
            }
            Change::Disconnect(_) => {
                format!(
                    "container cannot be disconnected from {mode} network or connected to {mode} network"
                )
            }
        };
        return Err(refused(ErrorKind::PermissionDenied, text));
    }
    let mut places = config.places();
    match change {
        Change::Connect(network, _) if places.contains_key(network) => {
            let text = format!("endpoint with name {name} already exists in network {network}");
            return Err(refused(ErrorKind::PermissionDenied, text));
        }
        Change::Connect(network, request) => drop(places.insert(network.clone(), request.clone())),
        Change::Disconnect(network) => {
            if places.remove(network).is_none() {
                let text = format!("container {name} is not connected to network {network}");
                return Err(refused(ErrorKind::PermissionDenied, text));
            }
        }
    }
    Ok(Create { endpoints: Some(places), ..config.clone() })
}

impl Actor {
    /// The places that it wants.
    pub(super) fn joining(&self, endpoints: BTreeMap<String, EndpointRequest>) -> Joining {
        let config = &self.record.config;
        Joining {
            name: self.record.name.to_string(),
            hostname: config.hostname.clone().filter(|name| !name.is_empty()),
            first: config.network.name().map(str::to_owned),
            endpoints,
            ports: config.ports.clone(),
            resolving: self.resolving(),
        }
    }

    /// Who resolves names for it beside those on its networks.
    fn resolving(&self) -> Resolving {
        let config = &self.record.config;
        let dots = net::files::says_dots(&config.dns_options);
        Resolving { servers: config.dns.clone(), dots }
    }

    /// Resolves names again for one that was found running.
    pub(super) async fn resume_names(&self, pid: u32) {
        if !self.network.has_names() {
            return;
        }
        let (shared, id) = (Arc::clone(&self.shared), self.entry.id.clone());
        let resolving = self.resolving();
        let resume = move || {
            let namespace = namespace_of(pid).ok_or(EngineError::Failed { doing: "finding it" })?;
            shared.networks.resume(&id, &resolving, namespace.as_fd())
        };
        if let Err(failure) = blocking("resolving names for it", resume).await {
            error!(container = %self.entry.id, error = chain(&failure), "it has no names");
        }
    }

    /// Takes a change; it is answered when it is made.
    pub(super) fn change_network(&mut self, change: Change, reply: Reply) {
        match self.begin_change(change) {
            Ok(None) => drop(reply.send(Ok(()))),
            Ok(Some((config, work))) => {
                self.networking = true;
                let run = self.state.run;
                self.tasks.spawn(async move {
                    let result = blocking("changing its networks", work).await;
                    Outcome::Networked(Box::new(Networked { run, config, result, reply }))
                });
            }
            Err(failure) => drop(reply.send(Err(failure))),
        }
    }

    /// What is to be done on the host, and the configuration after that; nothing for one that
    /// does not run, whose configuration is changed at once.
    #[expect(clippy::type_complexity, reason = "it is a function, told in full once")]
    fn begin_change(
        &mut self,
        change: Change,
    ) -> Result<
        Option<(Create, Box<dyn FnOnce() -> Result<NetworkView, EngineError> + Send>)>,
        EngineError,
    > {
        let busy = |state| EngineError::Busy { name: self.record.name.to_string(), state };
        if self.networking {
            return Err(busy("being connected or disconnected"));
        }
        let config = changed(&self.record.config, self.record.name.as_str(), &change)?;
        let pid = match &self.state.phase {
            Phase::Running { pid: Some(pid), .. } => *pid,
            Phase::Running { pid: None, .. } => {
                return Err(EngineError::Unsupported {
                    what: "changing the networks of a container that runs".to_owned(),
                    why: "this isolation cannot".to_owned(),
                });
            }
            Phase::Idle | Phase::Backoff => {
                self.settle(config, None)?;
                return Ok(None);
            }
            Phase::Making | Phase::Starting { .. } | Phase::Clearing(_) => {
                return Err(busy("starting or stopping"));
            }
            Phase::Removing | Phase::Dead | Phase::Gone => {
                return Err(EngineError::Removing(self.record.name.to_string()));
            }
        };
        let gone = || EngineError::NotRunning(self.record.name.to_string());
        let namespace = namespace_of(pid).ok_or_else(gone)?;
        let (shared, id) = (Arc::clone(&self.shared), self.entry.id.clone());
        let (before, own) = (self.network.clone(), config.clone());
        let resolve = move |shared: &Shared, id: &ContainerId, after: &NetworkView| {
            let resolver = shared.networks.resolver();
            gather::resolve_anew(&shared.files, id, &own, (&before, after), resolver)
        };
        Ok(Some(match change {
            Change::Connect(network, request) => {
                let joining = self.joining([(network, request)].into());
                let work = move || {
                    let after = shared.networks.connect(&id, &joining, namespace.as_fd())?;
                    resolve(&shared, &id, &after)?;
                    Ok(after)
                };
                (config, Box::new(work))
            }
            Change::Disconnect(network) => {
                let mut places = self.network.places.clone();
                places.retain(|place| place.network != network);
                let view = NetworkView::of(places, self.network.ports.clone());
                self.settle(config.clone(), Some(view))?;
                let work = move || {
                    let after = shared.networks.disconnect(&id, &network, namespace.as_fd())?;
                    resolve(&shared, &id, &after)?;
                    Ok(after)
                };
                (config, Box::new(work))
            }
        }))
    }

    /// A change has been carried out on the host, or not.
    pub(super) fn networked(&mut self, done: Networked) {
        let Networked { run, config, result, reply } = done;
        self.networking = false;
        let holds = self.state.run == run && self.state.held.contains_key(&Resource::Network);
        let result = match result {
            Ok(view) if holds => self.settle(config, Some(view)),
            // It has ended meanwhile, and with it all its places; the next time it has this one.
            Ok(_) => {
                let (shared, id) = (Arc::clone(&self.shared), self.entry.id.clone());
                let held = self.state.held.contains_key(&Resource::Network);
                if !held {
                    self.tasks.spawn(async move {
                        let detach = move || shared.networks.detach(&id);
                        if let Err(failure) = blocking("unplugging it", detach).await {
                            error!(error = chain(&failure), "a cable is left to its namespace");
                        }
                        Outcome::Quiet
                    });
                }
                self.settle(config, None)
            }
            Err(failure) => Err(failure),
        };
        reply.send(result).ok();
    }

    /// Records a configuration, and the places that go with it.
    fn settle(&mut self, config: Create, view: Option<NetworkView>) -> Result<(), EngineError> {
        let network = view.clone().unwrap_or_else(|| self.record.network.clone());
        let record = Record { config, network, ..self.record.clone() };
        self.shared.records.put(&record)?;
        let before = events::joined(&self.record.network);
        self.record = record;
        if let Some(view) = view {
            self.network = view;
        }
        self.publish();
        self.tell_networks(&before);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_on_a_network_once_and_only_on_those_it_can_be() {
        let config = Create::default();
        let connect = |name: &str| Change::Connect(name.to_owned(), EndpointRequest::default());
        let both = changed(&config, "web", &connect("mine")).unwrap();
        assert_eq!(both.places().keys().collect::<Vec<_>>(), ["bridge", "mine"]);
        assert!(changed(&both, "web", &connect("mine")).is_err());
        let leave = |name: &str| Change::Disconnect(name.to_owned());
        let one = changed(&both, "web", &leave("bridge")).unwrap();
        let none = changed(&one, "web", &leave("mine")).unwrap();
        assert!(none.places().is_empty());
        assert!(changed(&none, "web", &leave("mine")).is_err());
        for network in [NetworkMode::Host, NetworkMode::None] {
            let config = Create { network, ..Create::default() };
            let failure = changed(&config, "web", &connect("mine")).unwrap_err();
            assert_eq!(failure.kind(), ErrorKind::PermissionDenied);
        }
    }
}

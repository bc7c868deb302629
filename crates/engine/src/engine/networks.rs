//! What is asked of networks.

use std::{collections::BTreeMap, sync::Arc};

use base::ErrorKind;
use tracing::warn;

use super::{Engine, Shared};
use crate::{
    Create, EndpointRequest, EngineError, LabelCondition, NetworkCreate, NetworkInfo, NetworkMode,
    Prune,
    actor::{Message, NetworkChange, blocking},
    error::chain,
    events::EventKind,
};

/// Most names that a container has on one network beside its own, and longest of them in bytes
/// (RFC 1035, section 2.3.4).
const ALIASES_MAX: usize = 64;
const ALIAS_LENGTH_MAX: usize = 253;

fn refused(kind: ErrorKind, text: impl Into<String>) -> EngineError {
    EngineError::Networking { kind, text: text.into() }
}

impl Engine {
    /// Makes a network.
    ///
    /// # Errors
    /// [`EngineError::Networking`]; then there is none.
    pub async fn network_create(&self, create: NetworkCreate) -> Result<NetworkInfo, EngineError> {
        self.with_networks("making the network", move |shared| {
            let info = shared.networks.create(create)?;
            shared.tell_network("create", &info);
            Ok(info)
        })
        .await
    }

    /// Every network, by name.
    ///
    /// # Errors
    /// [`EngineError::Failed`].
    pub async fn networks(&self) -> Result<Vec<NetworkInfo>, EngineError> {
        let list = |shared: &Shared| {
            let mut all = shared.networks.list();
            shared.users_of(&mut all);
            Ok(all)
        };
        self.with_networks("listing networks", list).await
    }

    /// One network, by its name, its id or a unique beginning of its id.
    ///
    /// # Errors
    /// [`EngineError::Networking`].
    pub async fn network_inspect(&self, who: &str) -> Result<NetworkInfo, EngineError> {
        let who = who.to_owned();
        self.with_networks("inspecting", move |shared| {
            let mut info = shared.networks.find(&who)?;
            shared.users_of(std::slice::from_mut(&mut info));
            Ok(info)
        })
        .await
    }

    /// Removes a network that nobody is plugged into.
    ///
    /// # Errors
    /// [`EngineError::Networking`].
    pub async fn network_remove(&self, who: &str) -> Result<(), EngineError> {
        let who = who.to_owned();
        self.with_networks("removing the network", move |shared| {
            let info = shared.networks.remove(&who)?;
            shared.tell_network("destroy", &info);
            Ok(())
        })
        .await
    }

    /// Removes networks that no container has, and tells their names.
    ///
    /// # Errors
    /// [`EngineError::Failed`]. One that cannot be removed is named in the log, and stays.
    pub async fn network_prune(&self, prune: Prune) -> Result<Vec<String>, EngineError> {
        self.with_networks("removing networks", move |shared| {
            let mut all = shared.networks.list();
            shared.users_of(&mut all);
            let holds = |condition: &LabelCondition, info: &NetworkInfo| {
                let value = info.labels.get(&condition.key);
                value.is_some_and(|v| condition.value.as_ref().is_none_or(|want| want == v))
            };
            let goes = |info: &NetworkInfo| {
                !info.builtin
                    && info.users.is_empty()
                    && prune.until.is_none_or(|until| info.created.is_some_and(|at| at < until))
                    && prune.with.iter().all(|condition| holds(condition, info))
                    && !prune.without.iter().any(|condition| holds(condition, info))
            };
            let mut gone = Vec::new();
            for info in all.into_iter().filter(goes) {
                match shared.networks.remove(&info.id) {
                    Ok(_) => {
                        shared.tell_network("destroy", &info);
                        gone.push(info.name);
                    }
                    Err(failure) => {
                        warn!(network = info.name, error = chain(&failure), "it is left");
                    }
                }
            }
            let attributes = [("reclaimed".to_owned(), "0".to_owned())].into();
            shared.events.publish(EventKind::Network, "prune", "", attributes);
            Ok(gone)
        })
        .await
    }

    /// Plugs a container into one more network, whether it runs or not.
    ///
    /// # Errors
    /// [`EngineError::Networking`]; then all is as it was.
    pub async fn network_connect(
        &self,
        network: &str,
        who: &str,
        request: EndpointRequest,
    ) -> Result<(), EngineError> {
        let entry = self.find(who)?;
        let name = self.network_inspect(network).await?.name;
        check(&name, &request)?;
        let change = NetworkChange::Connect(name, request);
        self.send(&entry, |reply| Message::Network { change, reply }).await
    }

    /// Takes a container out of a network, whether it runs or not.
    ///
    /// # Errors
    /// [`EngineError::Networking`].
    pub async fn network_disconnect(&self, network: &str, who: &str) -> Result<(), EngineError> {
        // A network that is gone can be left all the same, by its name.
        let name = match self.network_inspect(network).await {
            Ok(info) => info.name,
            Err(failure) => {
                let container = self.find(who)?.container();
                let had = container.config.places().contains_key(network);
                had.then(|| network.to_owned()).ok_or(failure)?
            }
        };
        let entry = self.find(who)?;
        let change = NetworkChange::Disconnect(name);
        self.send(&entry, |reply| Message::Network { change, reply }).await
    }

    /// Names every network of a new container by its name, and refuses what cannot be.
    pub(super) async fn settle_networks(&self, mut config: Create) -> Result<Create, EngineError> {
        if !config.network.is_plugged() {
            if config.endpoints.as_ref().is_some_and(|endpoints| !endpoints.is_empty()) {
                let text = "conflicting options: cannot attach both user-defined and \
                            non-user-defined network-modes";
                return Err(refused(ErrorKind::InvalidInput, text));
            }
            config.endpoints = None;
            return Ok(config);
        }
        if config.network == NetworkMode::Bridge && config.endpoints.is_none() {
            return Ok(config);
        }
        self.with_networks("looking for its networks", move |shared| {
            let mut places = BTreeMap::new();
            for (who, request) in config.places() {
                let name = shared.networks.find(&who)?.name;
                check(&name, &request)?;
                if places.insert(name.clone(), request).is_some() {
                    let text = format!("network {name} is given twice");
                    return Err(refused(ErrorKind::InvalidInput, text));
                }
            }
            if let NetworkMode::Named(who) = &config.network {
                let name = shared.networks.find(who)?.name;
                config.network = match name.as_str() {
                    "bridge" => NetworkMode::Bridge,
                    _ => NetworkMode::Named(name),
                };
            }
            config.endpoints = Some(places);
            Ok(config)
        })
        .await
    }

    async fn with_networks<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Shared) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let shared = Arc::clone(self.shared());
        blocking(doing, move || work(&shared)).await
    }
}

/// Refuses what nobody can have on a network of this name.
fn check(network: &str, request: &EndpointRequest) -> Result<(), EngineError> {
    let invalid = |text: String| Err(refused(ErrorKind::InvalidInput, text));
    match network {
        "bridge" if request.ipv4.is_some() || request.ipv6.is_some() => {
            let text = "user specified IP address is supported on user defined networks only";
            return invalid(text.to_owned());
        }
        "bridge" if !request.aliases.is_empty() => {
            let text =
                "network-scoped alias is supported only for containers in user defined networks";
            return invalid(text.to_owned());
        }
        "host" | "none" => {
            let text = format!(
                "container cannot be connected to multiple networks with one of the networks in \
                 private ({network}) mode"
            );
            return Err(refused(ErrorKind::PermissionDenied, text));
        }
        _ => {}
    }
    if let Some(mac) = &request.mac
        && let Err(error) = mac.parse::<net::Mac>()
    {
        return invalid(error.to_string());
    }
    if request.aliases.len() > ALIASES_MAX {
        return Err(EngineError::TooMany { what: "aliases on one network", most: ALIASES_MAX });
    }
    let bad = |alias: &&String| {
        alias.is_empty()
            || alias.len() > ALIAS_LENGTH_MAX
            || alias.chars().any(|c| c.is_whitespace() || c.is_control())
    };
    match request.aliases.iter().find(bad) {
        Some(alias) => invalid(format!("invalid alias {alias:?}")),
        None => Ok(()),
    }
}

impl Shared {
    /// Notes which containers have these networks.
    fn users_of(&self, all: &mut [NetworkInfo]) {
        for entry in self.registry.entries() {
            let container = entry.container();
            for name in container.config.places().into_keys() {
                let network = all.iter_mut().find(|network| network.name == name);
                network.into_iter().for_each(|info| info.users.push(container.id.clone()));
            }
        }
    }

    fn tell_network(&self, action: &'static str, info: &NetworkInfo) {
        let attributes = [("name", &info.name), ("type", &info.driver)];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value.clone()));
        self.events.publish(EventKind::Network, action, info.id.clone(), attributes.into());
    }
}

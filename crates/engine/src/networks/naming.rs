//! Names of containers on the networks that users make: entered as they come and go, and resolved
//! for each at 127.0.0.11 of its own namespace. The default network has none, as in Docker.

use std::{
    fs,
    net::IpAddr,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use base::ContainerId;
use dns::{Client, HostServers, Names, Place, Server};
use net::{NetworkError, files};

use super::{HostNetworks, Resolving, state::State};
use crate::EngineError;

/// For how long the host's nameservers are known once they have been read. They change when a
/// machine moves, and containers that run then should know of it.
const FRESH: Duration = Duration::from_secs(2);

/// Who has which name, and who answers.
#[derive(Debug, Default)]
pub(super) struct Naming {
    names: Arc<Mutex<Names>>,
    /// There from the first container on that has names.
    server: OnceLock<Server>,
    starting: Mutex<()>,
}

impl Naming {
    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A container is where the state has it, and nowhere else.
    pub(super) fn enter(&self, state: &State, id: &ContainerId, default: &str) {
        let Some(plugged) = state.plugged.get(id) else { return };
        let place = |view: crate::EndpointView| Place {
            addresses: [Some(view.address.into()), view.address6.map(IpAddr::V6)]
                .into_iter()
                .flatten()
                .collect(),
            network: view.network_id,
            network_name: view.network,
            names: [plugged.name.clone()].into_iter().chain(view.names).collect(),
        };
        let views = state.views(id).into_iter().filter(|view| view.network_id != default);
        let places: Vec<_> = views.map(place).collect();
        let mut names = self.names();
        // Whoever has never had names costs nothing.
        if !places.is_empty() || names.knows(id.as_str()) {
            names.set(id.as_str(), places, plugged.way_out(state).is_some());
        }
    }

    /// Resolves names in a container's namespace.
    ///
    /// # Errors
    /// [`EngineError::Network`] if its sockets cannot be had.
    pub(super) fn open(
        &self,
        networks: &HostNetworks,
        id: &ContainerId,
        resolving: &Resolving,
        namespace: BorrowedFd<'_>,
    ) -> Result<(), EngineError> {
        let failed = |source| EngineError::from(NetworkError::Names(source));
        let server = self.server(networks)?;
        let sockets = net::name_sockets(namespace)?;
        server.open(Client {
            who: id.to_string(),
            udp: sockets.udp,
            tcp: sockets.tcp,
            namespace: namespace.try_clone_to_owned().map_err(failed)?,
            servers: resolving.servers.clone(),
            dots: resolving.dots,
        });
        Ok(())
    }

    /// A container is gone, and with it its names and its sockets.
    pub(super) fn close(&self, id: &ContainerId) {
        let known = self.names().remove(id.as_str());
        if let Some(server) = self.server.get().filter(|_| known) {
            server.close(id.as_str());
        }
    }

    fn server(&self, networks: &HostNetworks) -> Result<&Server, EngineError> {
        let _one_at_a_time = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = self.server.get() {
            return Ok(server);
        }
        let start = || {
            let home: OwnedFd = match &networks.namespace {
                Some(namespace) => namespace.as_fd().try_clone_to_owned()?,
                None => sys::netns::current()?,
            };
            let outside = networks.outside.as_ref().and_then(|outside| outside.resolver());
            Server::start(Arc::clone(&self.names), home, host_servers(outside))
        };
        let server = start().map_err(NetworkError::Names)?;
        Ok(self.server.get_or_init(|| server))
    }
}

/// Who resolves names for the host, read when it is needed. `outside`: who does where that is
/// another's business.
fn host_servers(outside: Option<IpAddr>) -> HostServers {
    let read = Mutex::new(None::<(Instant, Vec<IpAddr>)>);
    Arc::new(move || {
        if let Some(outside) = outside {
            return vec![outside];
        }
        let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, servers)) = read.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return servers.clone();
        }
        let servers =
            files::nameservers(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
        *read = Some((Instant::now(), servers.clone()));
        servers
    })
}

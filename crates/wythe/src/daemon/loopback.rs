//! Ports of `::1`, for root's daemon: held and carried by `wythe outside`, which goes on when the
//! daemon ends. It is started with the first such port, and is one for all.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use net::{Forward, Protocol};

use super::rootless::HostPorts;
use crate::outside::Outside;

/// Who carries them, once there are any.
#[derive(Debug)]
pub(super) struct Loopback {
    run: PathBuf,
    shims: PathBuf,
    ports: Mutex<Option<Arc<HostPorts>>>,
}

impl Loopback {
    pub(super) fn new(run: PathBuf, shims: PathBuf) -> Loopback {
        Loopback { run, shims, ports: Mutex::default() }
    }

    fn started(&self) -> Option<Arc<HostPorts>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn start(&self) -> io::Result<Arc<HostPorts>> {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ports) = &*ports {
            return Ok(Arc::clone(ports));
        }
        let outside = Outside::open(&self.run, &self.shims).map_err(io::Error::other)?;
        let new = Arc::new(HostPorts::new(outside, None));
        new.settle(std::process::id());
        Ok(Arc::clone(ports.insert(new)))
    }
}

impl net::Outside for Loopback {
    fn hold(&self, protocol: Protocol, address: SocketAddr) -> io::Result<SocketAddr> {
        self.start()?.hold(protocol, address)
    }

    fn release(&self, protocol: Protocol, address: SocketAddr) {
        if let Some(ports) = self.started() {
            ports.release(protocol, address);
        }
    }

    fn lead(&self, forwards: &[Forward]) -> io::Result<()> {
        self.started().map_or(Ok(()), |ports| ports.lead(forwards))
    }

    fn resolver(&self) -> Option<IpAddr> {
        None
    }
}

//! The host's ports, as the engine of an ordinary user's daemon wants them: held and led by the
//! process that stays on the host.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use net::{Forward, Protocol};
use rustix::io::Errno;
use tracing::warn;

use crate::{
    error::chain,
    outside::{Answer, Outside, OutsideError, Request, Router, resolver},
};

/// The ports, and what carries packets out.
#[derive(Debug)]
pub(in crate::daemon) struct HostPorts {
    outside: Outside,
    /// What shall carry packets out, if it was said.
    router: Option<Router>,
    /// What carries packets out of the daemon's network, or why nothing does; there once the
    /// process serves that network.
    way_out: OnceLock<Result<String, String>>,
    /// Ports that this daemon holds. The process may hold them already, for a daemon that is gone.
    held: Mutex<BTreeSet<(Protocol, SocketAddr)>>,
}

impl HostPorts {
    pub(in crate::daemon) fn new(outside: Outside, router: Option<Router>) -> HostPorts {
        HostPorts { outside, router, way_out: OnceLock::new(), held: Mutex::default() }
    }

    /// Has the process serve the network of this process.
    pub(in crate::daemon) fn settle(&self, pid: u32) {
        let way_out = match self.outside.ask(&Request::Settle { pid, router: self.router }) {
            Ok(Answer::Settled(way_out)) => way_out,
            Ok(Answer::Done | Answer::Held(_) | Answer::Refused(_)) => Err(ODD.to_owned()),
            Err(error) => Err(chain(&error)),
        };
        if let Err(why) = &way_out {
            warn!(why, "containers reach nothing outside");
        }
        // It is asked once.
        let _ = self.way_out.set(way_out);
    }

    /// What is not there, as far as is known.
    pub(super) fn lacks(&self) -> Option<String> {
        let why = self.way_out.get()?.as_ref().err()?;
        Some(format!(
            "network: containers reach each other and are reached by published ports, but reach \
             nothing outside: {why}; once that is mended, start the daemon anew"
        ))
    }

    fn held(&self) -> MutexGuard<'_, BTreeSet<(Protocol, SocketAddr)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is said of a wrong answer.
const ODD: &str = "the process on the host answers what it was not asked";

impl net::Outside for HostPorts {
    fn hold(&self, protocol: Protocol, address: SocketAddr) -> io::Result<SocketAddr> {
        self.way_out.wait();
        if self.held().contains(&(protocol, address)) {
            return Err(Errno::ADDRINUSE.into());
        }
        match self.outside.ask(&Request::Hold { protocol, address }).map_err(kernels)? {
            Answer::Held(address) => {
                self.held().insert((protocol, address));
                Ok(address)
            }
            Answer::Done | Answer::Settled(_) | Answer::Refused(_) => Err(io::Error::other(ODD)),
        }
    }

    fn release(&self, protocol: Protocol, address: SocketAddr) {
        self.held().remove(&(protocol, address));
        if let Err(error) = self.outside.ask(&Request::Release { protocol, address }) {
            warn!(error = chain(&error), %address, "a port of the host stays taken");
        }
    }

    fn lead(&self, forwards: &[Forward]) -> io::Result<()> {
        if forwards.is_empty() && self.held().is_empty() {
            return Ok(());
        }
        self.way_out.wait();
        self.outside.ask(&Request::Lead(forwards.to_vec())).map(drop).map_err(kernels)
    }

    fn resolver(&self) -> Option<IpAddr> {
        resolver(self.way_out.wait().as_ref().ok()?)
    }
}

/// The kernel's own error, where it was the kernel that refused.
fn kernels(error: OutsideError) -> io::Error {
    match &error {
        OutsideError::Refused(refused) => match refused.errno {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::other(chain(&error)),
        },
        OutsideError::Start(_) | OutsideError::Lost(_) => io::Error::other(chain(&error)),
    }
}

//! The namespaces that the containers of a sandbox have in common: those which are the sandbox's,
//! and not each container's own. They are made with its first container and joined by the others.

use std::{
    fs::File,
    os::fd::{AsRawFd as _, OwnedFd},
    path::PathBuf,
};

use workload::{Namespace, Network, SandboxSpec};

/// What was made for the first container.
#[derive(Debug)]
pub(crate) struct Common {
    user: Option<OwnedFd>,
    network: Option<OwnedFd>,
    ipc: Option<OwnedFd>,
    uts: Option<OwnedFd>,
}

impl Common {
    /// What was made for this process, the first of a container; nothing if it has ended already,
    /// and with it what it was in.
    pub(crate) fn of(sandbox: &SandboxSpec, pid: u32) -> Option<Common> {
        let made = |is: bool, name: &str| {
            let open = || File::open(format!("/proc/{pid}/ns/{name}")).map(OwnedFd::from);
            is.then(open).transpose().ok()
        };
        Some(Common {
            user: made(sandbox.user.as_ref().is_some_and(|map| map.join.is_none()), "user")?,
            network: made(sandbox.network == Network::None, "net")?,
            ipc: made(sandbox.ipc == Namespace::Private, "ipc")?,
            uts: made(sandbox.uts == Namespace::Private, "uts")?,
        })
    }

    /// The sandbox as a further container finds it. What it says is true for as long as this is
    /// kept, and in this process.
    pub(crate) fn joined(&self, sandbox: &SandboxSpec) -> SandboxSpec {
        let mut joined = sandbox.clone();
        if let (Some(map), Some(user)) = (&mut joined.user, &self.user) {
            map.join = Some(path(user));
        }
        if let Some(network) = &self.network {
            joined.network = Network::Join(path(network));
        }
        if let Some(ipc) = &self.ipc {
            joined.ipc = Namespace::Join(path(ipc));
        }
        if let Some(uts) = &self.uts {
            joined.uts = Namespace::Join(path(uts));
        }
        joined
    }
}

fn path(namespace: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", namespace.as_raw_fd()).into()
}

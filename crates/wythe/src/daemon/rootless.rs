//! The daemon of an ordinary user: it moves into namespaces of its own, in which it is root, and
//! goes on there as every daemon does.
//!
//! ```text
//!  wythe daemon (uid 1000) ──starts──▶ wythe outside (stays on the host)
//!        │ unshare user                      │
//!        │◀───── newuidmap, newgidmap ───────┤
//!        │ unshare mount, network            │
//!        ▼                                   ▼
//!  root of its namespaces: engine,      what only the host's own network can do:
//!  net, shims as they always are        published ports, the way out
//! ```
//!
//! A daemon that follows another joins the namespaces of the shims it finds. What the host grants
//! is found out once, here; everything below looks at its own user namespace and at nothing else.

mod granted;
mod host_ports;
mod ids;
mod refusal;

use std::{fs, path::Path, sync::Arc};

use clap::ValueEnum as _;
use rustix::{
    mount::{MountPropagationFlags, mount_change},
    process::getpid,
};
use sys::{clone::Namespaces, namespace};
use tracing::warn;

use super::namespace::join;
use crate::{
    error::CliError,
    outside::{Outside, Request, Router},
    paths::Roots,
};
use granted::Granted;
pub(super) use host_ports::HostPorts;
pub(crate) use ids::find;

/// Says who carries packets out, where `--rootless-network` does not.
const ROUTER_VARIABLE: &str = "WYTHE_ROOTLESS_NETWORK";

/// The namespaces that such a daemon and its shims share.
const SHARED: Namespaces = Namespaces(Namespaces::USER | Namespaces::MOUNT | Namespaces::NET);

/// A daemon inside its namespaces.
#[derive(Debug)]
pub(super) struct Entered {
    /// Whether they are those of shims that were there.
    pub(super) joined: bool,
    /// The process on the host.
    outside: Outside,
    /// What the host grants.
    granted: Granted,
}

/// Who shall carry packets out: as was said to the daemon, or to whoever starts it.
///
/// # Errors
/// If the variable names none.
pub(super) fn router(flag: Option<Router>) -> Result<Option<Router>, CliError> {
    let given = std::env::var(ROUTER_VARIABLE).ok().filter(|word| !word.is_empty());
    let (None, Some(word)) = (flag, given) else { return Ok(flag) };
    let known = Router::from_str(&word, false);
    known.map(Some).map_err(|_| {
        CliError::Usage(format!(
            "{ROUTER_VARIABLE} is {word:?}; it may be own, pasta or slirp4netns"
        ))
    })
}

/// Enters them. To be called while the process has one thread.
///
/// # Errors
/// What forbids it, and what would allow it.
pub(super) fn enter(roots: &Roots, shims: &Path) -> Result<Entered, CliError> {
    leave_group();
    let granted = Granted::by_host();
    let uid = rustix::process::geteuid().as_raw();
    let outside = Outside::open(&roots.run, shims)?;
    if join(shims, SHARED) {
        return Ok(Entered { joined: true, outside, granted: granted.inside() });
    }
    let plan = ids::plan(uid, &ids::Host::read());
    namespace::leave(Namespaces(Namespaces::USER)).map_err(|error| refusal::explain(&error))?;
    become_root(&outside, &plan, uid)?;
    let failed = |doing: &str| {
        let doing = doing.to_owned();
        move |error: std::io::Error| CliError::io(doing.clone(), error)
    };
    namespace::leave(Namespaces(Namespaces::MOUNT | Namespaces::NET))
        .map_err(failed("make namespaces for mounts and the network"))?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|error| failed("keep mounts to ourselves")(error.into()))?;
    namespace::loopback_up().map_err(failed("bring up lo"))?;
    Ok(Entered { joined: false, outside, granted: granted.inside().with(plan.lacks) })
}

impl Entered {
    /// Has the process on the host serve the network that this daemon is in now. It takes a
    /// moment until packets have a way out; nobody but published ports has to wait for it.
    pub(super) fn settle(self, router: Option<Router>) -> engine::OrdinaryUser {
        let ports = Arc::new(HostPorts::new(self.outside, router));
        let asking = Arc::clone(&ports);
        let ask = move || asking.settle(pid());
        if let Err(error) = std::thread::Builder::new().name("settle".to_owned()).spawn(ask) {
            warn!(%error, "published ports and the way out of the network are not served");
        }
        let (granted, found) = (self.granted, Arc::clone(&ports));
        let lacks = engine::Lacks::new(move || granted.clone().with(found.lacks()).lacks());
        engine::OrdinaryUser { ports, lacks }
    }
}

/// Gives the new user namespace its ids: this user is root there. With ranges of his own the
/// set-user-id helpers write them, which look at `/etc/subuid` themselves.
fn become_root(outside: &Outside, plan: &ids::Plan, uid: u32) -> Result<(), CliError> {
    if plan.has_ranges() {
        let (uids, gids) = (plan.uids.clone(), plan.gids.clone());
        outside.ask(&Request::Identify { pid: pid(), uids, gids })?;
        return Ok(());
    }
    let put = |file: &str, text: String| {
        let path = format!("/proc/self/{file}");
        fs::write(&path, text).map_err(|error| CliError::io(format!("write {path}"), error))
    };
    // Source: user_namespaces(7): without privileges groups can only be mapped once setgroups(2)
    // is denied.
    put("setgroups", "deny".to_owned())?;
    put("uid_map", format!("0 {uid} 1"))?;
    put("gid_map", format!("0 {} 1", plan.gid))
}

fn pid() -> u32 {
    getpid().as_raw_nonzero().get().unsigned_abs()
}

/// Moves this process into a group below the one that was delegated to the user, if one was, so
/// that the delegated one can hand its controllers down.
fn leave_group() {
    let Ok(own) = fs::read_to_string("/proc/self/cgroup") else { return };
    let Some(own) = own.lines().find_map(|line| line.strip_prefix("0::")) else { return };
    if own.ends_with(linux::DAEMON_GROUP) {
        return;
    }
    for mounted in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        let group = Path::new(mounted).join(own.trim_start_matches('/'));
        let leaf = group.join(linux::DAEMON_GROUP);
        // Where the group is not delegated neither can be done, and limits are refused by name.
        let made = fs::create_dir(&leaf);
        let there = made.is_ok() || leaf.is_dir();
        if there && fs::write(leaf.join("cgroup.procs"), "0").is_ok() {
            return;
        }
    }
}

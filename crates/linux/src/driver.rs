//! The driver: sandboxes of this process, held in its own table.
//!
//! It runs in a process with a single thread (the shim), because a child is made by a clone that
//! executes our code before it becomes the command.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base::{Deadline, SandboxId};
use cgroups::{Cgroup, GroupName, Hierarchy};
use workload::{
    Capabilities, Driver, DriverError, Finding, Isolation, Materials, Network, Pending, Sandbox,
    SandboxHandle, SandboxSpec, Trace,
};

use crate::{ground, host, plan::Facts, sandbox::LinuxSandbox};

/// The container driver of one Linux host, for [`Isolation::Container`] or [`Isolation::Host`].
#[derive(Debug)]
pub struct LinuxDriver {
    shared: Arc<Shared>,
}

/// What all sandboxes of a driver share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) isolation: Isolation,
    pub(crate) hierarchy: Hierarchy,
    pub(crate) facts: Facts,
    pub(crate) init: Option<Arc<OwnedFd>>,
    /// A mount namespace with nothing in it.
    pub(crate) ground: Option<Arc<OwnedFd>>,
    /// Below which group sandboxes have theirs, where their specs name none.
    group: GroupName,
    sandboxes: Mutex<BTreeMap<SandboxId, Arc<LinuxSandbox>>>,
}

/// What a driver needs of its host, looked up once for all drivers of processes that are forked
/// from the same one.
#[derive(Clone, Debug)]
pub struct Prepared {
    hierarchy: Hierarchy,
    facts: Facts,
    init: Option<Arc<OwnedFd>>,
    ground: Option<Arc<OwnedFd>>,
    group: GroupName,
}

impl Prepared {
    /// Looks at the host. `init` is a small static program that, executed as
    /// `init -- COMMAND ARGS`, reaps orphans and passes signals on; without it
    /// [`workload::ContainerSpec::init`] is refused. `group` is the control group below which
    /// sandboxes have theirs, such as `/wythe`, unless their specs name one; it is these drivers'
    /// alone.
    ///
    /// # Errors
    /// `Invalid` for a name that no group can have, `Unsupported` for a kernel before Linux 5.12
    /// and for a host without control groups.
    pub fn new(init: Option<OwnedFd>, group: &str) -> Result<Prepared, DriverError> {
        if !host::mount_api() {
            return Err(DriverError::Unsupported {
                what: "containers".into(),
                why: "the kernel is older than Linux 5.12".into(),
            });
        }
        let (hierarchy, facts, init) = (Hierarchy::detect()?, Facts::read(), init.map(Arc::new));
        Ok(Prepared { hierarchy, facts, init, ground: None, group: group.parse()? })
    }

    /// The same, from which containers start sooner: it makes the mount namespace that theirs
    /// are copied from. To be called by a process with a single thread; where it cannot be made,
    /// containers start as ever.
    #[must_use]
    pub fn with_ground(self) -> Prepared {
        let ground = ground::make();
        if let Err(error) = &ground {
            tracing::warn!(%error, "no mount namespace to begin from");
        }
        let ground = ground.ok().map(Arc::new);
        let facts = Facts { ground: ground.is_some(), ..self.facts };
        Prepared { facts, ground, ..self }
    }

    /// The host's control groups.
    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// The group below which sandboxes have theirs.
    pub fn group(&self) -> &GroupName {
        &self.group
    }

    /// A mount namespace with nothing in it, if one was made.
    pub fn ground(&self) -> Option<&Arc<OwnedFd>> {
        self.ground.as_ref()
    }

    /// A driver, for [`Isolation::Container`] or [`Isolation::Host`].
    ///
    /// # Errors
    /// `Unsupported` for an isolation that is not this driver's.
    pub fn driver(&self, isolation: Isolation) -> Result<LinuxDriver, DriverError> {
        if !matches!(isolation, Isolation::Container | Isolation::Host) {
            return Err(DriverError::Unsupported {
                what: format!("isolation {isolation}"),
                why: "the container driver provides container and host".into(),
            });
        }
        let Prepared { hierarchy, facts, init, ground, group } = self.clone();
        let sandboxes = Mutex::new(BTreeMap::new());
        let shared = Shared { isolation, hierarchy, facts, init, ground, group, sandboxes };
        Ok(LinuxDriver { shared: Arc::new(shared) })
    }
}

impl LinuxDriver {
    /// A driver on this host; `init` and `group` as in [`Prepared::new`].
    ///
    /// # Errors
    /// As [`Prepared::new`] and [`Prepared::driver`].
    pub fn new(
        isolation: Isolation,
        init: Option<OwnedFd>,
        group: &str,
    ) -> Result<LinuxDriver, DriverError> {
        Prepared::new(init, group)?.driver(isolation)
    }

    /// Removes the control group that all sandboxes stood in, if none does.
    pub fn prune(&self) {
        self.shared.hierarchy.prune(&self.shared.group);
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, BTreeMap<SandboxId, Arc<LinuxSandbox>>> {
        self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn forget(&self, id: &SandboxId) {
        self.table().remove(id);
    }

    /// The name of a sandbox's control group where its spec gives none.
    fn default_group(&self, id: &SandboxId) -> String {
        format!("{}/{id}", self.group)
    }

    /// Control groups below ours that bear a sandbox's name.
    fn traces(&self) -> Result<Vec<Trace>, DriverError> {
        let names = self.hierarchy.below(&self.group)?;
        let sandboxes = names.iter().filter_map(|name| name.parse::<SandboxId>().ok());
        Ok(sandboxes
            .map(|sandbox| {
                let token = self.default_group(&sandbox);
                let what = format!("control group {token}");
                let handle = SandboxHandle { isolation: self.isolation, sandbox, token };
                Trace { handle, what }
            })
            .collect())
    }
}

impl Driver for LinuxDriver {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            isolation: self.shared.isolation,
            pause: true,
            files: true,
            fork: false,
            many_containers: true,
            user_map: self.shared.isolation == Isolation::Container,
            layers: false,
        }
    }

    fn probe(&self) -> Pending<'_, Vec<Finding>> {
        Box::pin(async {
            let mut findings = host::findings();
            findings.extend(self.shared.hierarchy.findings());
            findings
        })
    }

    fn traces(&self) -> Pending<'_, Result<Vec<Trace>, DriverError>> {
        Box::pin(async { self.shared.traces() })
    }

    fn create(
        &self,
        spec: SandboxSpec,
        materials: Materials,
        by: Deadline,
    ) -> Pending<'_, Result<Arc<dyn Sandbox>, DriverError>> {
        Box::pin(async move {
            check(&spec, &materials, by)?;
            let what = format!("sandbox {}", spec.id);
            if self.shared.table().contains_key(&spec.id) {
                return Err(DriverError::Exists { what });
            }
            let name = spec.cgroup.clone().unwrap_or_else(|| self.shared.default_group(&spec.id));
            let cgroup = Cgroup::create(&self.shared.hierarchy, &name, &spec.limits)?;
            let id = spec.id.clone();
            let sandbox =
                Arc::new(LinuxSandbox::new(Arc::clone(&self.shared), spec, materials, cgroup));
            self.shared.table().insert(id, Arc::clone(&sandbox));
            Ok(sandbox as Arc<dyn Sandbox>)
        })
    }

    fn recover(
        &self,
        handle: SandboxHandle,
        by: Deadline,
    ) -> Pending<'_, Result<Option<Arc<dyn Sandbox>>, DriverError>> {
        Box::pin(async move {
            let found = self.shared.table().get(&handle.sandbox).cloned();
            if found.is_none() {
                clear(&self.shared, &handle, by)?;
            }
            Ok(found.map(|sandbox| sandbox as Arc<dyn Sandbox>))
        })
    }
}

/// Kills and removes what is left of a sandbox whose keeper was killed: nobody can tell its exit
/// codes or reach its streams any more.
fn clear(shared: &Shared, handle: &SandboxHandle, by: Deadline) -> Result<(), DriverError> {
    let given = (!handle.token.is_empty()).then(|| handle.token.clone());
    for name in given.into_iter().chain([shared.default_group(&handle.sandbox)]) {
        if let Some(group) = Cgroup::open(&shared.hierarchy, &name)? {
            group.kill(by)?;
            group.remove(by)?;
        }
    }
    Ok(())
}

fn check(spec: &SandboxSpec, materials: &Materials, by: Deadline) -> Result<(), DriverError> {
    if by.passed() {
        return Err(DriverError::DeadlinePassed { doing: "creating the sandbox".into() });
    }
    if spec.taken_from.is_some() {
        return Err(DriverError::Unsupported {
            what: "a container that was saved".into(),
            why: "its memory cannot be copied".into(),
        });
    }
    let given = spec.network == Network::Given;
    if given != materials.network.is_some() {
        return Err(DriverError::Invalid {
            what: "network".into(),
            why: "a network namespace must be handed over if and only if it is given".into(),
        });
    }
    Ok(())
}

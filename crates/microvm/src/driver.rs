//! The driver: sandboxes of this process, each with a process that is its machine.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base::{Deadline, SandboxId};
use cgroups::{Cgroup, GroupName, Hierarchy, Join};
use hv::Accel;
use sys::clone::Child;
use workload::{
    Capabilities, Driver, DriverError, Finding, Isolation, Materials, Pending, Sandbox,
    SandboxHandle, SandboxSpec, Trace,
};

use crate::{machine, sandbox::VmSandbox, translate};

/// Starts the program whose `main` calls [`crate::vmm::run`], with this socket as its standard
/// input, in this control group.
pub type StartVmm = dyn Fn(OwnedFd, Option<&Join>) -> io::Result<Child> + Send + Sync;

/// Finds the kernel for a machine: the one that is named, or else the one that is used by default.
pub type FindKernel = dyn Fn(Option<&str>) -> Result<Kernel, DriverError> + Send + Sync;

/// A kernel, and what it needs to boot.
#[derive(Debug)]
pub struct Kernel {
    /// Names it and its modules: a digest.
    pub identity: String,
    /// bzImage or ELF.
    pub image: File,
    /// Modules with their names, each after those it needs, and where they are.
    pub modules: Vec<(String, PathBuf)>,
    /// Whether it reads ACPI's tables.
    pub acpi: bool,
    /// What its command line begins with.
    pub arguments: String,
}

/// What machines' processes are kept in.
#[derive(Clone, Debug)]
pub struct Walls {
    /// The host's control groups.
    pub hierarchy: Hierarchy,
    /// The group below which each machine has one, such as `/wythe`, unless its spec names it.
    pub group: GroupName,
    /// A mount namespace with nothing in it. Without one there are no machines.
    pub ground: Option<Arc<OwnedFd>>,
}

/// What the driver is given.
#[derive(Clone)]
pub struct VmConfig {
    /// Starts a machine's process.
    pub start: Arc<StartVmm>,
    /// Finds its kernel.
    pub kernel: Arc<FindKernel>,
    /// What keeps that process from the host.
    pub walls: Walls,
    /// What carries out its instructions; none for what is best on this host.
    pub accel: Option<Accel>,
    /// Where machines are kept that were booted once, and what was found out about the host; without
    /// it each one is booted.
    pub warm: Option<PathBuf>,
}

impl fmt::Debug for VmConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let VmConfig { start: _, kernel: _, walls, accel, warm } = self;
        let mut all = f.debug_struct("VmConfig");
        all.field("walls", walls).field("accel", accel).field("warm", warm).finish_non_exhaustive()
    }
}

/// The vm driver. Its methods need a tokio runtime with I/O and time, of either kind.
#[derive(Debug)]
pub struct VmDriver {
    shared: Arc<Shared>,
}

/// What its sandboxes share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: VmConfig,
    sandboxes: Mutex<BTreeMap<SandboxId, Arc<VmSandbox>>>,
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, BTreeMap<SandboxId, Arc<VmSandbox>>> {
        self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn forget(&self, id: &SandboxId) {
        self.table().remove(id);
    }

    /// The name of a machine's control group where its spec gives none.
    fn default_group(&self, id: &SandboxId) -> String {
        format!("{}/{id}", self.config.walls.group)
    }

    /// Ends and removes what is left of a machine whose keeper was killed.
    fn clear(&self, handle: &SandboxHandle, by: Deadline) -> Result<(), DriverError> {
        let given = (!handle.token.is_empty()).then(|| handle.token.clone());
        for name in given.into_iter().chain([self.default_group(&handle.sandbox)]) {
            if let Some(group) = Cgroup::open(&self.config.walls.hierarchy, &name)? {
                group.kill(by)?;
                group.remove(by)?;
            }
        }
        Ok(())
    }
}

impl VmDriver {
    /// A driver without sandboxes.
    pub fn new(config: VmConfig) -> VmDriver {
        VmDriver { shared: Arc::new(Shared { config, sandboxes: Mutex::default() }) }
    }
}

impl Driver for VmDriver {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            isolation: Isolation::Vm,
            pause: true,
            files: true,
            fork: true,
            many_containers: true,
            user_map: false,
            layers: true,
        }
    }

    fn probe(&self) -> Pending<'_, Vec<Finding>> {
        let accel = match self.shared.config.accel {
            Some(Accel::Kvm) => "the host's processor, through KVM",
            Some(Accel::Soft) => "the software processor",
            None => "the host's processor where its KVM is usable, else by the software processor",
        };
        let finding = Finding {
            subject: "machines".to_owned(),
            works: true,
            detail: format!("their instructions are carried out by {accel}"),
            mend: None,
        };
        Box::pin(async { vec![finding] })
    }

    fn traces(&self) -> Pending<'_, Result<Vec<Trace>, DriverError>> {
        // A machine ends with the process that holds it. Its control group stands among those of
        // containers, whose driver tells of it.
        Box::pin(async { Ok(Vec::new()) })
    }

    fn create(
        &self,
        spec: SandboxSpec,
        materials: Materials,
        by: Deadline,
    ) -> Pending<'_, Result<Arc<dyn Sandbox>, DriverError>> {
        Box::pin(async move {
            if by.passed() {
                return Err(DriverError::DeadlinePassed { doing: "creating the sandbox".into() });
            }
            let inside = translate::sandbox(&spec)?;
            if self.shared.table().contains_key(&spec.id) {
                return Err(DriverError::Exists { what: format!("sandbox {}", spec.id) });
            }
            let size = machine::size(&spec.limits);
            let name = spec.cgroup.clone().unwrap_or_else(|| self.shared.default_group(&spec.id));
            let limits = machine::outside(&spec.limits, size);
            let group = Cgroup::create(&self.shared.config.walls.hierarchy, &name, &limits)?;
            let shared = Arc::clone(&self.shared);
            let mut sandbox = VmSandbox::new(shared, inside, materials, size, group);
            sandbox.taken_from = spec.taken_from;
            let sandbox = Arc::new(sandbox);
            self.shared.table().insert(spec.id, Arc::clone(&sandbox));
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
                self.shared.clear(&handle, by)?;
            }
            Ok(found.map(|sandbox| sandbox as Arc<dyn Sandbox>))
        })
    }
}

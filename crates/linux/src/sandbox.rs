//! One sandbox: a control group and the processes in it.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base::{Deadline, ProcessId};
use cgroups::{Cgroup, Join};
use files::Identity;
use rustix::fs::{Mode, OFlags};
use seccomp::{AssembleError, Instruction};
use stdio::{ChildStreams, Keeper, StreamSpec};
use sys::seccomp::SockFilter;
use workload::{
    ContainerSpec, DriverError, Files, Forkable, Isolation, Limits, Materials, Pausable, Pending,
    Process, ProcessRoot, ProcessSpec, Sandbox, SandboxHandle, SandboxSpec, Seccomp, Streams,
    Usage,
};

use crate::{
    common::Common,
    descriptor,
    driver::Shared,
    launch::{self, Launched, Progress},
    network,
    plan::{self, Extras, Filter, Input, Joined},
    prepare::{self, Given},
    process::LinuxProcess,
    tree, users,
};

/// Most processes that a sandbox keeps, running or ended and not yet forgotten.
const PROCESSES_MAX: usize = 4096;
/// How often a group that will not go is looked at again.
const RETRY: Duration = Duration::from_millis(5);

/// A sandbox of this host.
#[derive(Debug)]
pub(crate) struct LinuxSandbox {
    shared: Arc<Shared>,
    spec: SandboxSpec,
    network: Option<OwnedFd>,
    cgroup: Cgroup,
    processes: Mutex<BTreeMap<ProcessId, Entry>>,
    /// Two processes are never launched at once: a launch visits other namespaces.
    launching: tokio::sync::Mutex<()>,
    gone: AtomicBool,
    /// What its containers have in common, once there is one.
    common: Mutex<Option<Common>>,
}

#[derive(Clone, Debug)]
struct Entry {
    process: Arc<LinuxProcess>,
    /// The container it lives in, as it was made.
    container: Arc<ContainerSpec>,
    /// Of a container's first process: its mount namespace, so that its processes end without
    /// having to wait for the kernel to take the mounts apart.
    mounts: Option<Arc<OwnedFd>>,
}

/// What is known of a process before it is launched.
struct Ready {
    identity: Identity,
    given: Given,
    container: Arc<ContainerSpec>,
}

impl LinuxSandbox {
    pub(crate) fn new(
        shared: Arc<Shared>,
        spec: SandboxSpec,
        materials: Materials,
        cgroup: Cgroup,
    ) -> LinuxSandbox {
        LinuxSandbox {
            shared,
            spec,
            network: materials.network,
            cgroup,
            processes: Mutex::new(BTreeMap::new()),
            launching: tokio::sync::Mutex::new(()),
            gone: AtomicBool::new(false),
            common: Mutex::new(None),
        }
    }

    fn processes(&self) -> MutexGuard<'_, BTreeMap<ProcessId, Entry>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn isolation(&self) -> Isolation {
        self.shared.isolation
    }

    pub(crate) fn has_user_map(&self) -> bool {
        self.spec.user.is_some()
    }

    /// The number of a process that runs.
    pub(crate) fn pid_of(&self, id: &ProcessId) -> Result<u32, DriverError> {
        self.alive()?;
        let what = || format!("process {id}");
        let entry = self.processes().get(id).cloned();
        let entry = entry.ok_or_else(|| DriverError::Gone { what: what() })?;
        let state = || DriverError::State { what: what(), state: "not running".into() };
        entry.process.running_pid().ok_or_else(state)
    }

    fn common(&self) -> MutexGuard<'_, Option<Common>> {
        self.common.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> Result<(), DriverError> {
        if self.gone.load(Ordering::Acquire) {
            return Err(DriverError::Gone { what: format!("sandbox {}", self.spec.id) });
        }
        Ok(())
    }

    async fn launch(
        &self,
        spec: ProcessSpec,
        streams: Streams,
        by: Deadline,
    ) -> Result<Arc<dyn Process>, DriverError> {
        self.alive()?;
        let _one = self.launching.lock().await;
        self.check_id(&spec)?;
        let (keeper, child) = Keeper::open(&StreamSpec::from(&spec))?;
        let mut ready = self.ready(&spec)?;
        if let ChildStreams::Pipes { stdin, stdout, stderr } = child {
            ready.given.streams = Some([stdin, stdout, stderr]);
        }
        if let Some(attachment) = streams.attached {
            keeper.attach(attachment).await?;
        }
        let launched = self.run(&spec, ready.identity, &ready.given, by).await?;
        for warning in &launched.warnings {
            tracing::warn!(sandbox = %self.spec.id, process = %spec.id, warning, "let go at start");
        }
        if let Some(master) = launched.terminal {
            if let Some(size) = spec.terminal {
                crate::terminal::resize(&master, size)?;
            }
            let copy = master.try_clone();
            let copy = copy.map_err(|error| DriverError::step("duplicate the terminal", &error))?;
            keeper.terminal(master).await?;
            return self.keep(spec, ready.container, launched.child, keeper, Some(copy));
        }
        self.keep(spec, ready.container, launched.child, keeper, None)
    }

    fn keep(
        &self,
        spec: ProcessSpec,
        container: Arc<ContainerSpec>,
        child: sys::clone::Child,
        keeper: Keeper,
        terminal: Option<OwnedFd>,
    ) -> Result<Arc<dyn Process>, DriverError> {
        let mut mounts = None;
        if matches!(spec.root, ProcessRoot::Own(_)) {
            // One that has ended already has none any more.
            let own = File::open(format!("/proc/{}/ns/mnt", child.pid)).ok();
            mounts = own.map(|own| Arc::new(own.into()));
            if self.shared.isolation == Isolation::Container {
                let mut common = self.common();
                *common = common.take().or_else(|| Common::of(&self.spec, child.pid));
            }
        }
        let id = spec.id.clone();
        let process =
            LinuxProcess::new(spec.id, child, keeper, terminal, self.cgroup.clone(), spec.whole)?;
        self.processes().insert(id, Entry { process: Arc::clone(&process), container, mounts });
        Ok(process as Arc<dyn Process>)
    }

    fn check_id(&self, spec: &ProcessSpec) -> Result<(), DriverError> {
        let processes = self.processes();
        if processes.contains_key(&spec.id) {
            return Err(DriverError::Exists { what: format!("process {}", spec.id) });
        }
        if processes.len() >= PROCESSES_MAX {
            let why = format!("a sandbox keeps at most {PROCESSES_MAX}");
            return Err(DriverError::Invalid { what: "processes".into(), why });
        }
        Ok(())
    }

    /// The root, who the process is, and the descriptors it needs.
    fn ready(&self, spec: &ProcessSpec) -> Result<Ready, DriverError> {
        match &spec.root {
            ProcessRoot::Own(container) => {
                let map = self.spec.user.as_ref();
                let map = map.filter(|_| self.shared.isolation == Isolation::Container);
                let root = prepare::root(&container.root, map)?;
                let identity = users::resolve(root.as_fd(), &spec.user)?;
                let Join { into, files } = self.cgroup.join()?;
                let given = Given {
                    cgroup_files: files,
                    cgroup: into,
                    network: self.network.as_ref().map(OwnedFd::try_clone).transpose().map_err(
                        |error| DriverError::step("duplicate the network namespace", &error),
                    )?,
                    init: self.init(container)?,
                    ground: self.ground()?,
                    root: Some(root),
                    ..Given::default()
                };
                Ok(Ready { identity, given, container: Arc::new((**container).clone()) })
            }
            ProcessRoot::Join(id) => self.ready_to_join(spec, id),
        }
    }

    fn ground(&self) -> Result<Option<OwnedFd>, DriverError> {
        let copy = self.shared.ground.as_ref().map(|ground| ground.try_clone()).transpose();
        copy.map_err(|e| DriverError::step("duplicate the empty mount namespace", &e))
    }

    fn init(&self, container: &ContainerSpec) -> Result<Option<OwnedFd>, DriverError> {
        if !container.init {
            return Ok(None);
        }
        let missing = || DriverError::Unsupported {
            what: "init".into(),
            why: "this program was built without one".into(),
        };
        let init = self.shared.init.as_ref().ok_or_else(missing)?;
        let copy = init.try_clone().map_err(|e| DriverError::step("duplicate the init", &e))?;
        Ok(Some(copy))
    }

    fn ready_to_join(&self, spec: &ProcessSpec, id: &ProcessId) -> Result<Ready, DriverError> {
        let entry = self.processes().get(id).cloned();
        let what = || format!("process {id}");
        let entry = entry.ok_or_else(|| DriverError::Gone { what: what() })?;
        let not_running = || DriverError::State { what: what(), state: "not running".into() };
        let pid = entry.process.running_pid().ok_or_else(not_running)?;
        if self.cgroup.is_frozen()? {
            let what = format!("sandbox {}", self.spec.id);
            return Err(DriverError::State { what, state: "paused".into() });
        }
        // It is our child and not reaped, so the number means it.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty())
            .map_err(|_| not_running())?;
        let identity = users::resolve(root.as_fd(), &spec.user)?;
        let Join { into, files } = self.cgroup.join_beside(pid)?;
        let given = Given {
            cgroup_files: files,
            cgroup: into,
            target: Some(entry.process.pidfd().map_err(|_| not_running())?),
            ..Given::default()
        };
        Ok(Ready { identity, given, container: entry.container })
    }

    /// Plans, starts, and follows the child until it is the command, or the deadline passes.
    async fn run(
        &self,
        spec: &ProcessSpec,
        identity: Identity,
        given: &Given,
        by: Deadline,
    ) -> Result<Launched, DriverError> {
        let passed = || DriverError::DeadlinePassed { doing: "starting the process".into() };
        // A timer is looked at only by who waits, and a child may be too quick for that.
        if by.passed() {
            return Err(passed());
        }
        let filter = spec.seccomp.as_ref().map(compile).transpose()?;
        let view = self.cgroup.mount_view();
        let extras = Extras::default();
        let joined = match &spec.root {
            ProcessRoot::Own(_) => self.common().as_ref().map(|common| common.joined(&self.spec)),
            ProcessRoot::Join(_) => None,
        };
        let input = Input {
            isolation: self.shared.isolation,
            sandbox: joined.as_ref().unwrap_or(&self.spec),
            process: spec,
            identity: &identity,
            filter: filter.as_ref(),
            facts: &self.shared.facts,
            cgroup_files: given.cgroup_files.len(),
            view: Some(&view),
            extras: &extras,
        };
        let plan = match &spec.root {
            ProcessRoot::Own(_) => plan::container(input)?,
            ProcessRoot::Join(id) => {
                let entry = self.processes().get(id).cloned();
                let entry =
                    entry.ok_or_else(|| DriverError::Gone { what: format!("process {id}") })?;
                let joined = Joined::of(self.shared.isolation, &self.spec, &entry.container);
                plan::join(input, joined)?
            }
        };
        let mut launching = launch::start(plan, given)?;
        let channel = rustix::io::fcntl_dupfd_cloexec(launching.channel(), 3)
            .map_err(io::Error::from)
            .and_then(descriptor::watch)
            .map_err(|error| DriverError::step("wait for the child", &error))?;
        loop {
            match launching.advance()? {
                Progress::Running => return launching.into_launched(),
                Progress::Told(_) => launching.go()?,
                Progress::Waiting => {
                    let ready = tokio::time::timeout_at(by.instant().into(), channel.readable());
                    let ready = ready.await.map_err(|_| passed())?;
                    let ready = ready.map_err(|e| DriverError::step("wait for the child", &e));
                    ready?.clear_ready();
                }
            }
        }
    }

    fn kill(&self, by: Deadline) -> Result<(), DriverError> {
        if self.shared.hierarchy.has_any() { Ok(self.cgroup.kill(by)?) } else { tree::kill() }
    }

    fn pids(&self) -> Result<Vec<u32>, DriverError> {
        if self.shared.hierarchy.has_any() { Ok(self.cgroup.pids()?) } else { Ok(tree::pids()) }
    }

    async fn remove(&self, by: Deadline) -> Result<(), DriverError> {
        // Nothing is launched into a group that is going away.
        let launching = tokio::time::timeout_at(by.instant().into(), self.launching.lock()).await;
        let _one = launching
            .map_err(|_| DriverError::DeadlinePassed { doing: "destroying the sandbox".into() })?;
        self.gone.store(true, Ordering::Release);
        loop {
            self.kill(by)?;
            let processes: Vec<_> =
                self.processes().values().map(|entry| Arc::clone(&entry.process)).collect();
            for process in processes {
                let ended = tokio::time::timeout_at(by.instant().into(), process.ended());
                ended.await.map_err(|_| DriverError::DeadlinePassed {
                    doing: format!("killing process {}", workload::Process::id(&*process)),
                })?;
            }
            // What these left behind dies by the same kill; reaping it takes the kernel a moment.
            if self.pids()?.is_empty() {
                break;
            }
            if by.passed() {
                return Err(DriverError::DeadlinePassed { doing: "killing processes".into() });
            }
            tokio::time::sleep(RETRY).await;
        }
        self.cgroup.remove(by)?;
        if let Ok(parent) = "wythe".parse()
            && self.spec.cgroup.is_none()
        {
            self.shared.hierarchy.prune(&parent);
        }
        let entries = std::mem::take(&mut *self.processes());
        self.shared.forget(&self.spec.id);
        self.common().take();
        let mounts: Vec<_> = entries.into_values().filter_map(|entry| entry.mounts).collect();
        // The kernel takes milliseconds to take mounts apart, and nobody has to wait for it.
        let thread = std::thread::Builder::new().name("unmount".to_owned());
        // Where there may be no thread they are dropped here.
        drop(thread.spawn(move || drop(mounts)));
        Ok(())
    }
}

/// The program of a filter.
pub(crate) fn compile(filter: &Seccomp) -> Result<Filter, DriverError> {
    let compiled;
    let program = match filter {
        Seccomp::Policy(policy) => {
            compiled = seccomp::assemble(policy).map_err(refused)?;
            &compiled
        }
        Seccomp::Program(program) => program,
    };
    let word = |word: &u64| {
        let Instruction { code, jt, jf, k } = Instruction::of_word(*word);
        SockFilter { code, jt, jf, k }
    };
    Ok(Filter { program: program.instructions.iter().map(word).collect(), flags: program.flags })
}

fn refused(error: AssembleError) -> DriverError {
    let (what, why) = ("seccomp".to_owned(), error.to_string());
    match error {
        AssembleError::Arch | AssembleError::Listener => DriverError::Unsupported { what, why },
        AssembleError::Flag(_) | AssembleError::Compile(_) => DriverError::Invalid { what, why },
    }
}

impl Sandbox for LinuxSandbox {
    fn handle(&self) -> SandboxHandle {
        SandboxHandle {
            isolation: self.shared.isolation,
            sandbox: self.spec.id.clone(),
            token: self.cgroup.name().to_string(),
        }
    }

    fn spawn(
        &self,
        spec: ProcessSpec,
        streams: Streams,
        by: Deadline,
    ) -> Pending<'_, Result<Arc<dyn Process>, DriverError>> {
        Box::pin(self.launch(spec, streams, by))
    }

    fn process(&self, id: &ProcessId) -> Pending<'_, Option<Arc<dyn Process>>> {
        let found = self.processes().get(id).map(|entry| Arc::clone(&entry.process));
        Box::pin(async move { found.map(|process| process as Arc<dyn Process>) })
    }

    fn forget(&self, id: &ProcessId) -> Pending<'_, ()> {
        let mut processes = self.processes();
        if processes.get(id).is_some_and(|entry| entry.process.has_ended()) {
            processes.remove(id);
        }
        Box::pin(async {})
    }

    fn limit(&self, limits: Limits) -> Pending<'_, Result<(), DriverError>> {
        Box::pin(async move {
            self.alive()?;
            Ok(self.cgroup.limit(&limits)?)
        })
    }

    fn usage(&self) -> Pending<'_, Result<Usage, DriverError>> {
        Box::pin(async move {
            self.alive()?;
            let grouped = self.shared.hierarchy.has_any();
            let mut usage = if grouped { self.cgroup.usage()? } else { tree::usage() };
            let own = self.spec.network != workload::Network::Host;
            let running = self.processes().values().find_map(|entry| entry.process.running_pid());
            if let Some(pid) =
                running.filter(|_| own && self.shared.isolation == Isolation::Container)
            {
                usage.network = network::counters(pid);
            }
            Ok(usage)
        })
    }

    fn host_pids(&self) -> Pending<'_, Result<Vec<u32>, DriverError>> {
        Box::pin(async move {
            self.alive()?;
            self.pids()
        })
    }

    fn destroy(&self, by: Deadline) -> Pending<'_, Result<(), DriverError>> {
        Box::pin(self.remove(by))
    }

    fn pausable(&self) -> Option<&dyn Pausable> {
        Some(self)
    }

    fn files(&self) -> Option<&dyn Files> {
        Some(self)
    }

    /// Its memory is the host kernel's, and has parts in all of that.
    fn forkable(&self) -> Option<&dyn Forkable> {
        None
    }
}

impl Pausable for LinuxSandbox {
    fn pause(&self, by: Deadline) -> Pending<'_, Result<(), DriverError>> {
        Box::pin(async move {
            self.alive()?;
            Ok(self.cgroup.freeze(by)?)
        })
    }

    fn resume(&self, by: Deadline) -> Pending<'_, Result<(), DriverError>> {
        Box::pin(async move {
            self.alive()?;
            Ok(self.cgroup.thaw(by)?)
        })
    }
}

//! One sandbox: a machine that is booted with its first container.

mod fork;
mod rooms;

use std::{
    fs::File,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use base::{ByteSize, Deadline, ProcessId, chain};
use cgroups::Cgroup;
use hv::Accel;
use net::machine::{Interface, hand_over};
use rustix::rand::{GetRandomFlags, getrandom};
use shim::{
    Remote,
    protocol::{Chore, Reply, Request},
};
use stdio::{ChildStreams, Keeper, StreamSpec};
use tokio::sync::Mutex;
use workload::{
    ContainerSpec, DriverError, FileStat, Files, Forkable, Isolation, Limits, Materials, Pausable,
    Pending, Process, ProcessRoot, ProcessSpec, Sandbox, SandboxHandle, SandboxSpec, Streams,
    Unpack, Usage,
};

use crate::{
    accel, changes,
    control::{Boot, Order, Places},
    driver::{Kernel, Shared, Walls},
    furniture::{Fitted, Furniture, Wanted},
    link::Link,
    machine::{self, Size},
    process::VmProcess,
    pump::{self, Pipes},
    translate,
    warm::{self, First},
};
use rooms::{Handed, Rooms};

/// How long calls may take to which the contract gives no deadline.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a machine may take to write out what is to be written.
const FAREWELL: Duration = Duration::from_secs(5);

/// Random bytes for a machine that was taken up.
const SEED_BYTES: usize = 64;

/// A sandbox in a machine.
#[derive(Debug)]
pub(crate) struct VmSandbox {
    shared: Arc<Shared>,
    /// As the agent makes it.
    spec: SandboxSpec,
    size: Size,
    /// What the machine's process may use of the host.
    group: Cgroup,
    /// The namespace whose interfaces are to be the machine's.
    network: Option<OwnedFd>,
    /// Where the machine was saved that it is to go on from.
    pub(crate) taken_from: Option<PathBuf>,
    /// Held while it is booted.
    machine: Mutex<Option<Arc<Running>>>,
    gone: AtomicBool,
}

/// A machine that runs, and the way to its agent.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) link: Link,
    pub(crate) agent: Remote,
    rooms: Mutex<Rooms>,
    /// Whether a disk of nobody's is before the one with the changes.
    scratch: bool,
    boot: Boot,
}

/// A machine that runs and knows nothing yet of its container.
struct Begun {
    furniture: Furniture,
    /// What its first container has.
    fitted: Fitted,
    /// To be done before anything else.
    chores: Vec<Chore>,
    /// See [`Running`].
    scratch: bool,
}

impl Running {
    /// Calls the agent.
    pub(crate) async fn call(&self, request: Request) -> Result<Reply, DriverError> {
        self.agent.call(request, None, Some(Deadline::after(PATIENCE))).await
    }
}

impl VmSandbox {
    pub(crate) fn new(
        shared: Arc<Shared>,
        spec: SandboxSpec,
        materials: Materials,
        size: Size,
        group: Cgroup,
    ) -> VmSandbox {
        let Materials { network } = materials;
        let (machine, gone) = (Mutex::new(None), AtomicBool::new(false));
        let taken_from = None;
        VmSandbox { shared, spec, size, group, network, taken_from, machine, gone }
    }

    fn what(&self) -> String {
        format!("sandbox {}", self.spec.id)
    }

    /// The machine, if it was booted.
    async fn running(&self) -> Result<Arc<Running>, DriverError> {
        if self.gone.load(Ordering::Acquire) {
            return Err(DriverError::Gone { what: self.what() });
        }
        let machine = self.machine.lock().await.clone();
        let state = || DriverError::State { what: self.what(), state: "not booted".to_owned() };
        machine.ok_or_else(state)
    }

    async fn start(
        &self,
        spec: ProcessSpec,
        streams: Streams,
        by: Deadline,
    ) -> Result<Arc<dyn Process>, DriverError> {
        let spawn =
            |spec| Request::Spawn { spec: Box::new(spec), attached: true, output_only: false };
        let (running, request) = match &spec.root {
            ProcessRoot::Own(own) => {
                let (running, fitted, there) = self.move_in(&spec, own, by).await?;
                let request = match there {
                    true => Request::Attach {
                        process: spec.id.clone(),
                        output_only: false,
                        mark: false,
                    },
                    false => spawn(translate::container(&spec, own, &fitted)?),
                };
                (running, request)
            }
            ProcessRoot::Join(_) => (self.running().await?, spawn(translate::exec(&spec)?)),
        };
        let (keeper, child) = Keeper::open(&StreamSpec::from(&spec))?;
        if let Some(attachment) = streams.attached {
            keeper.attach(attachment).await?;
        }
        let (ticket, stream) = running.link.stream().await?;
        let carrying = carry(&keeper, child, spec.stdin, stream).await?;
        let reply = running.agent.call(request, Some(ticket), Some(by)).await?;
        if reply == Reply::Done {
            // It was there already, and stands still.
            done(&running.call(Request::Resume).await?)?;
        } else if !matches!(reply, Reply::Process { .. }) {
            return Err(nonsense(&reply));
        }
        let own = matches!(spec.root, ProcessRoot::Own(_));
        let process = VmProcess::watch(spec.id, Arc::clone(&running), keeper, carrying);
        if own {
            running.rooms.lock().await.started(process.id(), process.end());
        }
        Ok(Arc::new(process))
    }

    /// Has a container in the machine, which begins with the first; gives what the container has,
    /// and whether its first process is there already.
    async fn move_in(
        &self,
        spec: &ProcessSpec,
        own: &ContainerSpec,
        by: Deadline,
    ) -> Result<(Arc<Running>, Fitted, bool), DriverError> {
        let wanted = translate::wanted(own)?;
        let mut machine = self.machine.lock().await;
        if self.gone.load(Ordering::Acquire) {
            return Err(DriverError::Gone { what: self.what() });
        }
        if let Some(running) = &*machine {
            let running = Arc::clone(running);
            drop(machine);
            let fitted = running.move_in(&spec.id, &wanted, by).await?;
            let there = running.rooms.lock().await.is_there(&spec.id);
            return Ok((running, fitted, there));
        }
        let (running, fitted) = match &self.taken_from {
            Some(saved) => self.take_up(saved, spec, &wanted, by).await?,
            None => self.boot(spec, own, &wanted, by).await?,
        };
        let running = Arc::new(running);
        *machine = Some(Arc::clone(&running));
        Ok((running, fitted, self.taken_from.is_some()))
    }

    /// Boots the machine around its first container.
    async fn boot(
        &self,
        spec: &ProcessSpec,
        own: &ContainerSpec,
        wanted: &Wanted,
        by: Deadline,
    ) -> Result<(Running, Fitted), DriverError> {
        let kernel = (self.shared.config.kernel)(self.spec.machine.kernel.as_deref())?;
        let link = Link::start(&self.shared.config, Some(&self.group), self.namespace()?)?;
        let interfaces = self.plug_in(&link).await?;
        let accel = match self.spec.machine.accel {
            Some(asked) => accel::of(asked),
            None => accel::best(&self.shared.config).await?,
        };
        let boot = self.machine(&kernel, accel, wanted.layers.len(), interfaces.len());
        let first =
            First { sandbox: &self.spec, process: spec, container: own, layers: &wanted.layers };
        let begun = self.start_machine(&link, &kernel, (first, wanted), &boot, by).await?;
        let Begun { furniture, fitted, mut chores, scratch } = begun;
        if !interfaces.is_empty() {
            chores.push(Chore::Interfaces(interfaces));
        }
        let agent = link.agent(by).await?;
        chores_done(&agent, chores, by).await?;
        let create = Request::Create {
            isolation: Isolation::Vm,
            spec: Box::new(self.spec.clone()),
            network: false,
        };
        agent.call(create, None, Some(by)).await?;
        let rooms = Mutex::new(Rooms::new(furniture, None));
        Ok((Running { link, agent, rooms, scratch, boot }, fitted))
    }

    /// The machine for what it is to have.
    fn machine(&self, kernel: &Kernel, accel: Accel, layers: usize, interfaces: usize) -> Boot {
        Boot {
            memory_bytes: self.size.memory_bytes,
            cpus: self.size.cpus,
            accel,
            acpi: kernel.acpi,
            command_line: machine::command_line(
                &kernel.arguments,
                accel,
                &self.spec.machine.arguments,
            ),
            places: Places::for_these(layers, interfaces),
        }
    }

    /// Has the machine run, from where it was ready once or from its kernel's first instruction.
    async fn start_machine(
        &self,
        link: &Link,
        kernel: &Kernel,
        (first, wanted): (First<'_>, &Wanted),
        boot: &Boot,
        by: Deadline,
    ) -> Result<Begun, DriverError> {
        let (config, container) = (&self.shared.config, &first.process.id);
        let Some(directory) = &config.warm else {
            changes::make(&wanted.changes)?;
            let (furniture, fitted, handed) = furnish(link, container, wanted, boot, false).await?;
            warm::switch_on(link, kernel, boot).await?;
            link.ready(by).await?;
            let chores = [Chore::Names].into_iter().chain(handed.chores(0)?).collect();
            return Ok(Begun { furniture, fitted, chores, scratch: false });
        };
        let template = warm::template(directory, config, kernel, boot, first, by).await?;
        let fresh = template.disk(&wanted.changes)?;
        let (furniture, fitted, handed) = furnish(link, container, wanted, boot, !fresh).await?;
        warm::take_up(link, &template.directory, boot).await?;
        let mut chores = awake()?;
        chores.extend(handed.chores(template.mounted)?);
        Ok(Begun { furniture, fitted, chores, scratch: !fresh })
    }

    /// The network namespace, to be handed on.
    fn namespace(&self) -> Result<Option<OwnedFd>, DriverError> {
        let copy = self.network.as_ref().map(OwnedFd::try_clone).transpose();
        copy.map_err(|error| DriverError::step("keep a network namespace", &error))
    }

    /// Hands over the network; gives the interfaces that the machine is to have.
    async fn plug_in(&self, link: &Link) -> Result<Vec<Interface>, DriverError> {
        let Some(namespace) = self.namespace()? else { return Ok(Vec::new()) };
        let handed = tokio::task::spawn_blocking(move || hand_over(namespace.as_fd())).await;
        let handed = handed.map_err(|_| DriverError::Unreachable { why: "a panic".to_owned() })?;
        let handed = handed.map_err(|error| DriverError::Unsupported {
            what: "a network for a machine".to_owned(),
            why: chain(&error),
        })?;
        let mut interfaces = Vec::new();
        for (interface, tap) in handed {
            let order = Order::Interface { mac: interface.mac, mtu: interface.mtu };
            link.order(&order, &[tap.as_fd()]).await?;
            interfaces.push(interface);
        }
        Ok(interfaces)
    }

    async fn remove(&self, by: Deadline) -> Result<(), DriverError> {
        self.gone.store(true, Ordering::Release);
        let machine = tokio::time::timeout_at(by.instant().into(), self.machine.lock()).await;
        let mut machine = machine
            .map_err(|_| DriverError::DeadlinePassed { doing: "destroying the sandbox".into() })?;
        if let Some(running) = machine.take() {
            // So that the disk is whole; a machine that does not answer is ended as it is.
            let farewell = Deadline::after(FAREWELL).min(by);
            let said = running.agent.call(Request::Destroy, None, Some(farewell)).await;
            // It writes out what is to be written and switches itself off.
            let off = tokio::time::timeout(farewell.remaining(), running.link.ended());
            match said {
                Ok(_) if off.await.is_ok() => {}
                Ok(_) => tracing::warn!(sandbox = %self.spec.id, "a machine does not switch off"),
                Err(error) => {
                    tracing::warn!(sandbox = %self.spec.id, %error, "a machine is ended as it is");
                }
            }
            running.link.kill().await?;
        }
        // The server of its shares ends when it has seen the machine's end.
        self.group.kill(by)?;
        self.group.remove(by)?;
        // The one around it goes with the last.
        let Walls { hierarchy, group, .. } = &self.shared.config.walls;
        hierarchy.prune(group);
        self.shared.forget(&self.spec.id);
        Ok(())
    }

    /// A call with a stream between the agent and a descriptor of ours.
    async fn with_stream(
        &self,
        request: Request,
        copy: impl FnOnce(&mut UnixStream) -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), DriverError> {
        let running = self.running().await?;
        let (ticket, mut stream) = running.link.stream().await?;
        // Who lets go of a stream before the machine has taken it takes back what was written.
        let _kept =
            stream.try_clone().map_err(|error| DriverError::step("keep a stream", &error))?;
        let copying = tokio::task::spawn_blocking(move || copy(&mut stream));
        let reply = running.agent.call(request, Some(ticket), None).await;
        let copied = copying.await;
        done(&reply?)?;
        match copied {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(DriverError::step("carry an archive", &error)),
            Err(_) => Err(DriverError::Unreachable { why: "the copying panicked".to_owned() }),
        }
    }
}

/// Hands over what the first container of a machine is to have. One that is taken up with changes
/// that a template does not know gets their disk beside the one that the template has mounted, which
/// is nobody's then.
pub(crate) async fn furnish(
    link: &Link,
    container: &ProcessId,
    wanted: &Wanted,
    boot: &Boot,
    scratch: bool,
) -> Result<(Furniture, Fitted, Handed), DriverError> {
    let mut furniture = Furniture::new(boot.places.disks, scratch);
    let (fitted, moved) = furniture.fit(container, wanted)?;
    let mut handed = Handed::open(fitted.clone(), &moved)?;
    if scratch {
        let disk = changes::scratch();
        handed.scratch(disk.map_err(|e| DriverError::step("make a disk without a name", &e))?);
    }
    handed.over(link).await?;
    Ok((furniture, fitted, handed))
}

/// Connects a process's stream with its keeper; the task ends with the process's output.
async fn carry(
    keeper: &Keeper,
    child: ChildStreams,
    reads: bool,
    stream: UnixStream,
) -> Result<tokio::task::JoinHandle<std::io::Result<()>>, DriverError> {
    let failed = |error: std::io::Error| DriverError::step("carry standard streams", &error);
    stream.set_nonblocking(true).map_err(failed)?;
    let stream = tokio::net::UnixStream::from_std(stream).map_err(failed)?;
    match child {
        ChildStreams::Pipes { stdin, stdout, stderr } => {
            let pipes = Pipes { stdin: reads.then_some(stdin), stdout, stderr };
            Ok(tokio::spawn(pump::carry(stream, pipes)))
        }
        ChildStreams::Terminal => {
            let (ours, theirs) = UnixStream::pair().map_err(failed)?;
            keeper.terminal(theirs.into()).await?;
            ours.set_nonblocking(true).map_err(failed)?;
            let ours = tokio::net::UnixStream::from_std(ours).map_err(failed)?;
            Ok(tokio::spawn(pump::carry_terminal(stream, ours)))
        }
    }
}

/// What a machine has to be told that slept: the time, and what only it knows.
pub(crate) fn awake() -> Result<Vec<Chore>, DriverError> {
    let mut seed = vec![0; SEED_BYTES];
    getrandom(&mut seed, GetRandomFlags::empty())
        .map_err(|error| DriverError::step("get random bytes", &error.into()))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    Ok(vec![Chore::Clock(now), Chore::Seed(seed)])
}

pub(crate) async fn chores_done(
    agent: &Remote,
    chores: Vec<Chore>,
    by: Deadline,
) -> Result<(), DriverError> {
    done(&agent.call(Request::Chores(chores), None, Some(by)).await?)
}

pub(crate) fn done(reply: &Reply) -> Result<(), DriverError> {
    if *reply == Reply::Done { Ok(()) } else { Err(nonsense(reply)) }
}

pub(crate) fn nonsense(reply: &Reply) -> DriverError {
    DriverError::Unreachable { why: format!("the agent answered nonsense: {reply:?}") }
}

impl Sandbox for VmSandbox {
    fn handle(&self) -> SandboxHandle {
        SandboxHandle {
            isolation: Isolation::Vm,
            sandbox: self.spec.id.clone(),
            token: self.group.name().to_string(),
        }
    }

    fn spawn(
        &self,
        spec: ProcessSpec,
        streams: Streams,
        by: Deadline,
    ) -> Pending<'_, Result<Arc<dyn Process>, DriverError>> {
        Box::pin(self.start(spec, streams, by))
    }

    fn process(&self, _id: &ProcessId) -> Pending<'_, Option<Arc<dyn Process>>> {
        // The shim that holds this sandbox keeps its processes.
        Box::pin(async { None })
    }

    fn forget(&self, id: &ProcessId) -> Pending<'_, ()> {
        let id = id.clone();
        Box::pin(async move {
            let request = Request::Forget { process: id.clone() };
            if let Ok(running) = self.running().await {
                // Where there is no agent any more, there is nothing to forget.
                let _ = running.call(request).await;
                running.move_out(&id).await;
            }
        })
    }

    fn limit(&self, limits: Limits) -> Pending<'_, Result<(), DriverError>> {
        Box::pin(async move {
            let inside = Box::new(machine::inside(&limits)?);
            done(&self.running().await?.call(Request::Limit { limits: inside }).await?)?;
            Ok(self.group.limit(&machine::change(&limits))?)
        })
    }

    fn usage(&self) -> Pending<'_, Result<Usage, DriverError>> {
        Box::pin(async move {
            let running = self.running().await?;
            let reply = running.call(Request::Usage).await?;
            let Reply::Usage(mut usage) = reply else { return Err(nonsense(&reply)) };
            // There is no more than the machine has.
            let most = ByteSize(running.boot.memory_bytes);
            usage.memory.limit = Some(usage.memory.limit.map_or(most, |limit| limit.min(most)));
            Ok(*usage)
        })
    }

    fn host_pids(&self) -> Pending<'_, Result<Vec<u32>, DriverError>> {
        // Those inside are none of this host's.
        Box::pin(async { Ok(Vec::new()) })
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

    fn forkable(&self) -> Option<&dyn Forkable> {
        Some(self)
    }
}

impl Pausable for VmSandbox {
    fn pause(&self, _by: Deadline) -> Pending<'_, Result<(), DriverError>> {
        // Its processes stand still; the machine goes on, so that its files can be read.
        Box::pin(async { done(&self.running().await?.call(Request::Pause).await?) })
    }

    fn resume(&self, _by: Deadline) -> Pending<'_, Result<(), DriverError>> {
        Box::pin(async { done(&self.running().await?.call(Request::Resume).await?) })
    }
}

impl Files for VmSandbox {
    fn stat(&self, process: &ProcessId, path: &str) -> Pending<'_, Result<FileStat, DriverError>> {
        let request = Request::FileStat { process: process.clone(), path: path.to_owned() };
        Box::pin(async move {
            let reply = self.running().await?.call(request).await?;
            let Reply::FileStat(stat) = reply else { return Err(nonsense(&reply)) };
            Ok(*stat)
        })
    }

    fn read(
        &self,
        process: &ProcessId,
        path: &str,
        name: &str,
        to: OwnedFd,
    ) -> Pending<'_, Result<(), DriverError>> {
        let (path, name) = (path.to_owned(), name.to_owned());
        let request = Request::FilesRead { process: process.clone(), path, name };
        Box::pin(self.with_stream(request, move |stream| {
            std::io::copy(stream, &mut File::from(to)).map(drop)
        }))
    }

    fn write(
        &self,
        process: &ProcessId,
        path: &str,
        from: OwnedFd,
        unpack: Unpack,
    ) -> Pending<'_, Result<(), DriverError>> {
        let request =
            Request::FilesWrite { process: process.clone(), path: path.to_owned(), unpack };
        Box::pin(self.with_stream(request, move |stream| {
            std::io::copy(&mut File::from(from), stream)?;
            stream.shutdown(std::net::Shutdown::Write)
        }))
    }
}

//! Carries out effects. Each runs beside the actor and comes back as an event.

use std::{collections::BTreeMap, future::Future, path::PathBuf, sync::Arc, time::Duration};

use base::{ContainerId, Deadline, clock};
use workload::{
    Driver, DriverError, Materials, Process, Sandbox, SandboxHandle, SandboxSpec, Signal, Streams,
    TerminalSize,
};

use super::{Actor, Carry, Done};
use crate::{
    Create, EngineError, NamespaceMode, NetworkMode,
    engine::Shared,
    gather::{self, Start},
    pool,
    spec::{self, Facts},
    step::{AskId, Effect, Event, Maybe, Resource, Run},
};

/// How long a driver may take for a sandbox.
const CREATE_WAIT: Duration = Duration::from_secs(30);
/// How long a driver may take to start a process.
pub(super) const SPAWN_WAIT: Duration = Duration::from_secs(30);
/// How long a driver may take to clear a sandbox away.
const DESTROY_WAIT: Duration = Duration::from_secs(30);
/// How long signals, pausing and the like may take.
const SHORT_WAIT: Duration = Duration::from_secs(10);
/// How long a driver that misses its deadline is waited for beyond it.
const MARGIN: Duration = Duration::from_secs(2);

impl Actor {
    /// Begins an effect. Answers with last effects if an answer led to the container's end.
    pub(super) fn execute(&mut self, effect: Effect) -> Option<Vec<Effect>> {
        match effect {
            Effect::Acquire(resource) => self.acquire(resource),
            Effect::Release(resource) => self.release(resource),
            Effect::Spawn(run) => self.spawn(run),
            Effect::Watch(run) => self.watch(run),
            Effect::Signal(signal, id) => self.signal(signal, id),
            Effect::Pause(run) => self.freeze(run, true),
            Effect::Resume(run) => self.freeze(run, false),
            Effect::Timer(time) => self.timer = Some(clock::monotonic() + time),
            Effect::NoTimer => self.timer = None,
            Effect::Answer(id, answer) => return self.answered(id, answer),
        }
        None
    }

    fn acquire(&mut self, resource: Resource) {
        let failure = EngineError::Failed { doing: "acquiring it" };
        let fallback = Event::NotAcquired(resource, failure, Maybe::Left);
        let (shared, id) = (Arc::clone(&self.shared), self.entry.id.clone());
        let config = &self.record.config;
        match resource {
            Resource::Directory => self.begin(fallback, async move {
                let made = blocking("making the directory", move || shared.files.make(&id));
                got(resource, made.await.map(|()| Carry::Nothing))
            }),
            Resource::Network => {
                let plugged = config.network.is_plugged();
                let joining = self.joining(config.places());
                self.begin(fallback, async move {
                    if !plugged {
                        return Event::Acquired(resource).into();
                    }
                    let plug = move || shared.networks.attach(&id, &joining);
                    got(resource, blocking("plugging it in", plug).await.map(Carry::Network))
                });
            }
            Resource::Root => {
                let layers = self.record.layers.clone();
                // A copy goes on with the volumes of the other one as they are.
                let first = self.record.started.is_none() && self.record.forked_from.is_none();
                let config = config.clone();
                let (entry, name) = (Arc::clone(&self.entry), self.record.name.to_string());
                self.begin(fallback, async move {
                    // Files may be being copied into it at this moment.
                    let rooted = tokio::time::timeout(SHORT_WAIT, entry.rooted.lock()).await;
                    let Ok(mut rooted) = rooted else {
                        let state = "having files copied into it";
                        return got(resource, Err(EngineError::Busy { name, state }));
                    };
                    *rooted = true;
                    drop(rooted);
                    let mount = move || {
                        let lower = shared.images.mount(&id, &layers)?;
                        let volumes = shared.volumes.mount(&id, &config, first, &lower);
                        let volumes = volumes.inspect_err(|_| shared.images.unmount(&id))?;
                        Ok(Carry::Root(lower, volumes))
                    };
                    got(resource, blocking("mounting the image", mount).await)
                });
            }
            Resource::Sandbox => {
                let driver = self.driver();
                let isolation = config.isolation;
                let network = self.namespace.take();
                let taken_from = self.taken_from.take();
                let layers = self.record.layers.clone();
                let start = self.start();
                self.begin(fallback, async move {
                    let start = match start {
                        Ok(start) => start,
                        Err(failure) => return got(resource, Err(failure)),
                    };
                    let Some(driver) = driver else {
                        return got(resource, Err(EngineError::NoDriver(isolation)));
                    };
                    let materials = Materials { network };
                    make_sandbox(shared, driver, start, &layers, materials, taken_from).await
                });
            }
        }
    }

    /// What is known for this start.
    fn start(&self) -> Result<Start, EngineError> {
        Ok(Start {
            id: self.entry.id.clone(),
            name: self.record.name.to_string(),
            image_id: self.record.image_id.clone(),
            config: self.record.config.clone(),
            network: self.network.clone(),
            lower: self.lower.clone(),
            images: None,
            volumes: self.volumes.clone(),
            joined: joined(&self.shared, &self.record.config)?,
        })
    }

    fn release(&mut self, resource: Resource) {
        let failure = EngineError::Failed { doing: "giving it back" };
        let fallback = Event::NotReleased(resource, failure);
        let (shared, id) = (Arc::clone(&self.shared), self.entry.id.clone());
        match resource {
            Resource::Directory => {
                let with = self.record.remove_volumes || self.record.config.auto_remove;
                let own = with.then(|| self.record.config.clone());
                self.begin(fallback, async move {
                    let remove = move || {
                        shared.files.discard(&id)?;
                        shared.volumes.forget(&id, own.as_ref());
                        Ok(())
                    };
                    gave(resource, blocking("removing", remove).await)
                });
            }
            Resource::Network => self.begin(fallback, async move {
                let unplug = move || shared.networks.detach(&id);
                gave(resource, blocking("unplugging it", unplug).await)
            }),
            Resource::Root => {
                let entry = Arc::clone(&self.entry);
                self.begin(fallback, async move {
                    *entry.rooted.lock().await = false;
                    let unmount = move || {
                        shared.volumes.unmount(&id);
                        shared.images.unmount(&id);
                        Ok(())
                    };
                    gave(resource, blocking("unmounting the image", unmount).await)
                })
            }
            Resource::Sandbox => {
                let sandbox = self.entry.live().sandbox;
                let recorded = self.handle.clone();
                let isolation = self.record.config.isolation;
                let driver = self.driver().ok_or(EngineError::NoDriver(isolation));
                self.begin(fallback, async move {
                    let destroyed = match (sandbox, driver) {
                        (Some(sandbox), _) => destroy(&*sandbox).await,
                        (None, Ok(driver)) => destroy_lost(&*driver, recorded, &id).await,
                        (None, Err(failure)) => Err(failure),
                    };
                    gave(resource, destroyed)
                });
            }
        }
    }

    fn spawn(&mut self, run: Run) {
        let fallback = Event::NotSpawned(run, EngineError::Failed { doing: "starting it" });
        let attached = if self.attach.is_empty() { None } else { Some(self.attach.remove(0)) };
        let (sandbox, facts, size) = (self.entry.live().sandbox, self.facts.take(), self.size);
        let (id, config) = (self.entry.id.clone(), self.record.config.clone());
        let shared = Arc::clone(&self.shared);
        self.begin(fallback, async move {
            let attached = match attached {
                Some(attach) => attach.here().await,
                None => None,
            };
            let (attached, told) = attached.unzip();
            let streams = Streams { attached };
            // Before it says anything.
            let mark = clock::Timestamp::now();
            match spawn(sandbox, facts, &id, &config, size, streams).await {
                Ok(process) => {
                    if let Some(told) = told {
                        told.tell(mark);
                    }
                    if config.network == NetworkMode::Bridge {
                        // Beside what this one does now.
                        tokio::task::spawn_blocking(move || shared.networks.prepare());
                    }
                    let event = Event::Spawned(run, process.host_pid());
                    Done { event, carry: Carry::Process(process) }
                }
                Err(failure) => Event::NotSpawned(run, failure).into(),
            }
        });
    }

    fn watch(&mut self, run: Run) {
        let Some(process) = self.entry.live().process else { return };
        let exit = workload::Exit {
            status: workload::ExitStatus::Lost,
            out_of_memory: false,
            at: clock::Timestamp::now(),
        };
        self.begin(Event::Ended(run, exit), async move {
            Event::Ended(run, process.wait().await).into()
        });
    }

    fn signal(&mut self, signal: Signal, id: Option<AskId>) {
        // Before it is sent: what comes of it is told later.
        self.tell_signal(signal);
        let process = self.entry.live().process;
        let name = self.record.name.to_string();
        let work = async move {
            let Some(process) = process else { return Err(EngineError::NotRunning(name)) };
            let by = Deadline::after(SHORT_WAIT);
            match within(by, "sending the signal", process.signal(signal)).await {
                // It ended meanwhile.
                Err(EngineError::Driver(DriverError::State { .. })) => {
                    Err(EngineError::NotRunning(name))
                }
                other => other,
            }
        };
        match id {
            Some(id) => {
                let failure = EngineError::Failed { doing: "sending the signal" };
                let fallback = Event::Signalled(id, Err(failure));
                self.begin(fallback, async move { Event::Signalled(id, work.await).into() });
            }
            // Part of a stop: if it does not arrive, the timer sees to the rest.
            None => {
                self.tasks.spawn(async move {
                    work.await.ok();
                    super::Outcome::Quiet
                });
            }
        }
    }

    fn freeze(&mut self, run: Run, pause: bool) {
        let sandbox = self.entry.live().sandbox;
        let name = self.record.name.to_string();
        let event = move |result| match pause {
            true => Event::Paused(run, result),
            false => Event::Resumed(run, result),
        };
        let fallback = event(Err(EngineError::Failed { doing: "freezing it" }));
        self.begin(fallback, async move { event(freeze(sandbox, pause, name).await).into() });
    }
}

async fn freeze(
    sandbox: Option<Arc<dyn Sandbox>>,
    pause: bool,
    name: String,
) -> Result<(), EngineError> {
    let sandbox = sandbox.ok_or(EngineError::NotRunning(name))?;
    let pausable = sandbox.pausable().ok_or_else(|| EngineError::Unsupported {
        what: "pausing".to_owned(),
        why: "this isolation cannot".to_owned(),
    })?;
    let by = Deadline::after(SHORT_WAIT);
    match pause {
        true => within(by, "pausing it", pausable.pause(by)).await,
        false => within(by, "resuming it", pausable.resume(by)).await,
    }
}

async fn make_sandbox(
    shared: Arc<Shared>,
    driver: Arc<dyn Driver>,
    mut start: Start,
    layers: &[base::Digest],
    materials: Materials,
    taken_from: Option<PathBuf>,
) -> Done {
    let resource = Resource::Sandbox;
    let by = Deadline::after(CREATE_WAIT);
    let layers = driver.capabilities().layers.then(|| layers.to_vec());
    let prepare = move || {
        start.images = layers.map(|layers| shared.images.files(&layers)).transpose()?;
        let facts = gather::gather(shared.host, &shared.files, &start, shared.networks.resolver())?;
        let spec = spec::sandbox(&start.id, &start.config, &facts)?;
        Ok((facts, SandboxSpec { taken_from, ..spec }))
    };
    let (facts, spec) = match blocking("preparing the sandbox", prepare).await {
        Ok(prepared) => prepared,
        Err(failure) => return got(resource, Err(failure)),
    };
    match within(by, "making the sandbox", driver.create(spec, materials, by)).await {
        Ok(sandbox) => got(resource, Ok(Carry::Sandbox(sandbox, Box::new(facts)))),
        // A driver that was not heard of again may have made it all the same.
        Err(failure) if is_silence(&failure) => {
            Event::NotAcquired(resource, failure, Maybe::Left).into()
        }
        Err(failure) => got(resource, Err(failure)),
    }
}

async fn spawn(
    sandbox: Option<Arc<dyn Sandbox>>,
    facts: Option<Box<Facts>>,
    id: &ContainerId,
    config: &Create,
    size: Option<TerminalSize>,
    streams: Streams,
) -> Result<Arc<dyn Process>, EngineError> {
    let missing = EngineError::Failed { doing: "starting it" };
    let (Some(sandbox), Some(facts)) = (sandbox, facts) else { return Err(missing) };
    let spec = spec::process(id, config, &facts, size.or(config.terminal_size))?;
    let by = Deadline::after(SPAWN_WAIT);
    within(by, "starting the process", sandbox.spawn(spec, streams, by)).await
}

async fn destroy(sandbox: &dyn Sandbox) -> Result<(), EngineError> {
    let by = Deadline::after(DESTROY_WAIT);
    match within(by, "destroying the sandbox", sandbox.destroy(by)).await {
        Err(EngineError::Driver(DriverError::Gone { .. })) => Ok(()),
        other => other,
    }
}

/// Destroys what an earlier daemon, or a driver that fell silent, may have left.
async fn destroy_lost(
    driver: &dyn Driver,
    recorded: Option<SandboxHandle>,
    id: &ContainerId,
) -> Result<(), EngineError> {
    let certain = recorded.is_some();
    let handle = recorded.unwrap_or_else(|| SandboxHandle {
        isolation: driver.capabilities().isolation,
        sandbox: id.sandbox(),
        token: String::new(),
    });
    let by = Deadline::after(SHORT_WAIT);
    match within(by, "finding the sandbox", driver.recover(handle, by)).await {
        Ok(Some(sandbox)) => destroy(&*sandbox).await,
        Ok(None) => Ok(()),
        // There is no sign that it was ever made, and the driver does not know it.
        Err(failure) if !certain && !is_silence(&failure) => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Whether the other side was not heard of, so that nothing is known.
fn is_silence(failure: &EngineError) -> bool {
    use base::ErrorKind::{DeadlineExceeded, Unavailable};
    matches!(failure.kind(), DeadlineExceeded | Unavailable)
}

/// The processes of the containers whose namespaces this one uses.
fn joined(
    shared: &Shared,
    config: &Create,
) -> Result<BTreeMap<String, (ContainerId, u32)>, EngineError> {
    let network = match &config.network {
        NetworkMode::Container(name) => Some(name),
        NetworkMode::Bridge | NetworkMode::Named(_) | NetworkMode::None | NetworkMode::Host => None,
    };
    let modes = [&config.pid, &config.ipc, &config.uts, &config.cgroupns];
    let others = modes.into_iter().filter_map(|mode| match mode {
        NamespaceMode::Container(name) => Some(name),
        NamespaceMode::Private | NamespaceMode::Host => None,
    });
    let find = |name: &String| {
        let container = shared.registry.find(name)?.container();
        let pid = container.state.pid.ok_or_else(|| EngineError::JoinsStopped(name.clone()))?;
        Ok((name.clone(), (container.id.clone(), pid)))
    };
    network.into_iter().chain(others).map(find).collect()
}

fn got(resource: Resource, result: Result<Carry, EngineError>) -> Done {
    match result {
        Ok(carry) => Done { event: Event::Acquired(resource), carry },
        Err(failure) => Event::NotAcquired(resource, failure, Maybe::Nothing).into(),
    }
}

fn gave(resource: Resource, result: Result<(), EngineError>) -> Done {
    match result {
        Ok(()) => Event::Released(resource).into(),
        Err(failure) => Event::NotReleased(resource, failure).into(),
    }
}

/// Runs what blocks where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    pool::run(work).await.unwrap_or(Err(EngineError::Failed { doing }))
}

/// Waits for a driver until its deadline and a little longer.
pub(crate) async fn within<T>(
    by: Deadline,
    doing: &'static str,
    work: impl Future<Output = Result<T, DriverError>>,
) -> Result<T, EngineError> {
    let until = tokio::time::Instant::from_std(by.instant() + MARGIN);
    match tokio::time::timeout_at(until, work).await {
        Ok(result) => result.map_err(EngineError::Driver),
        Err(_) => Err(EngineError::DeadlinePassed { doing }),
    }
}

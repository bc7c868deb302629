//! What is asked of containers.

use std::{sync::Arc, time::Duration};

use base::{ContainerId, ContainerName, Deadline, clock::Timestamp};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;
use workload::{Attachment, DriverError, Exit, Isolation, Process, Sandbox, Signal, TerminalSize};

use super::Engine;
use crate::{
    Create, Created, Ending, EngineError, ImageView, LogKind, LogQuery, NamespaceMode, NetworkMode,
    Remove, Seat, Stop, Update, WaitFor,
    actor::{
        Actor, MAILBOX, Message, Reply, StartArgs, blocking, first_record, first_view, within,
    },
    error::chain,
    logs::LogStream,
    plan::{self, Plan, platforms},
    record::Record,
    registry::{Entry, Snapshot},
    step::{Ask, StopPlan},
    userns::{self, Pool},
};

/// Time between a stop's signal and the kill where nobody says otherwise. Source: Docker,
/// `DefaultStopTimeout`.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// How long a driver may take to list processes or to attach.
const SHORT_WAIT: Duration = Duration::from_secs(10);

impl Engine {
    /// Makes a container.
    ///
    /// # Errors
    /// [`EngineError`]; then there is no container.
    pub async fn create(&self, create: Create) -> Result<Created, EngineError> {
        let (entry, mut created, auto_remove) = self.enter(create).await?;
        self.ask(&entry, Ask::Make, StartArgs::default()).await?;
        if !auto_remove {
            created.warnings.extend(self.durable().await);
        }
        Ok(created)
    }

    /// Makes a container and starts it, in one go. If it cannot be started it stays as one that
    /// was made, unless it removes itself.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn run(
        &self,
        create: Create,
        attach: Option<Attachment>,
        size: Option<TerminalSize>,
    ) -> Result<Created, EngineError> {
        Ok(self.run_watched(create, attach, size).await?.0)
    }

    /// As [`Engine::run`], and looks out for its end: its removal, if it removes itself.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn run_watched(
        &self,
        create: Create,
        attach: Option<Attachment>,
        size: Option<TerminalSize>,
    ) -> Result<(Created, Ending), EngineError> {
        let (entry, created, auto_remove) = self.enter(create).await?;
        let until = if auto_remove { WaitFor::Removed } else { WaitFor::NextExit };
        let ending = Ending::of(&entry, until, &self.inner.shared.closing);
        let args = StartArgs { attach, size, taken_from: None };
        self.send(&entry, |reply| Message::Run { args, reply }).await?;
        Ok((created, ending))
    }

    /// Starts a container, with a socket attached from its first byte on. One that runs is left
    /// as it is.
    ///
    /// # Errors
    /// [`EngineError`]; then it does not run.
    pub async fn start(
        &self,
        who: &str,
        attach: Option<Attachment>,
        size: Option<TerminalSize>,
    ) -> Result<(), EngineError> {
        let entry = self.find(who)?;
        self.ask(&entry, Ask::Start, StartArgs { attach, size, taken_from: None }).await
    }

    /// Connects a socket to the container's standard streams; see [`Process::attach`].
    ///
    /// # Errors
    /// [`EngineError::NotRunning`].
    pub async fn attach(&self, who: &str, attachment: Attachment) -> Result<(), EngineError> {
        let process = self.process(who)?;
        let by = Deadline::after(SHORT_WAIT);
        within(by, "attaching", process.attach(attachment)).await?;
        self.tell(who, "attach", &[]);
        Ok(())
    }

    /// Takes a place at the container's standard streams: from now on if it runs, else from the
    /// first byte of its next run on.
    ///
    /// # Errors
    /// [`EngineError::Paused`], [`EngineError::Restarting`], [`EngineError::Removing`];
    /// [`EngineError::TooMany`] if a crowd waits for it to start.
    pub async fn seat(&self, who: &str) -> Result<Seat, EngineError> {
        let entry = self.find(who)?;
        let (seat, attach) = Seat::new();
        self.send(&entry, |reply| Message::Attach { attach, reply }).await?;
        Ok(seat)
    }

    /// Gives the container's terminal another size.
    ///
    /// # Errors
    /// [`EngineError::NotRunning`].
    pub async fn resize(&self, who: &str, size: TerminalSize) -> Result<(), EngineError> {
        let process = self.process(who)?;
        let by = Deadline::after(SHORT_WAIT);
        within(by, "resizing its terminal", process.resize(size)).await?;
        let (height, width) = (size.rows.to_string(), size.columns.to_string());
        self.tell(who, "resize", &[("height", &height), ("width", &width)]);
        Ok(())
    }

    /// Asks the container to end, and kills it when the time is up. One that does not run is left
    /// as it is.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn stop(&self, who: &str, stop: Stop) -> Result<(), EngineError> {
        let entry = self.find(who)?;
        let plan = stop_plan(&entry, stop);
        self.ask(&entry, Ask::Stop(plan), StartArgs::default()).await
    }

    /// Sends the container's process a signal.
    ///
    /// # Errors
    /// [`EngineError::NotRunning`].
    pub async fn kill(&self, who: &str, signal: Signal) -> Result<(), EngineError> {
        let entry = self.find(who)?;
        let for_good = ends_it(entry.container().config.stop_signal, signal);
        self.ask(&entry, Ask::Kill { signal, for_good }, StartArgs::default()).await
    }

    /// Stops the container in its tracks.
    ///
    /// # Errors
    /// [`EngineError::NotRunning`], [`EngineError::AlreadyPaused`].
    pub async fn pause(&self, who: &str) -> Result<(), EngineError> {
        let entry = self.find(who)?;
        self.ask(&entry, Ask::Pause, StartArgs::default()).await
    }

    /// Lets the container go on.
    ///
    /// # Errors
    /// [`EngineError::NotPaused`].
    pub async fn resume(&self, who: &str) -> Result<(), EngineError> {
        let entry = self.find(who)?;
        self.ask(&entry, Ask::Resume, StartArgs::default()).await
    }

    /// Waits, and tells how the container ended; one that never ran ended with code 0.
    ///
    /// # Errors
    /// [`EngineError::NoSuchContainer`], [`EngineError::Closed`].
    pub async fn wait(&self, who: &str, until: WaitFor) -> Result<Exit, EngineError> {
        self.ending(who, until)?.exit().await
    }

    /// The container's end, looked out for from now on.
    ///
    /// # Errors
    /// [`EngineError::NoSuchContainer`], [`EngineError::AmbiguousId`].
    pub fn ending(&self, who: &str, until: WaitFor) -> Result<Ending, EngineError> {
        Ok(Ending::of(&*self.find(who)?, until, &self.inner.shared.closing))
    }

    /// Removes the container and everything that is only its.
    ///
    /// # Errors
    /// [`EngineError::RemoveRunning`] unless forced.
    pub async fn remove(&self, who: &str, remove: Remove) -> Result<(), EngineError> {
        let entry = self.find(who)?;
        let auto_remove = entry.container().config.auto_remove;
        // In this order: what was asked before is forgotten, and the mailbox keeps the order.
        entry.mailbox.send(Message::RemoveVolumes(remove.volumes)).await.ok();
        let ask = Ask::Remove { force: remove.force };
        self.ask(&entry, ask, StartArgs::default()).await?;
        if !auto_remove {
            self.durable().await;
        }
        Ok(())
    }

    /// Gives the container another name.
    ///
    /// # Errors
    /// [`EngineError::NameTaken`].
    pub async fn rename(&self, who: &str, name: ContainerName) -> Result<(), EngineError> {
        let entry = self.find(who)?;
        self.send(&entry, |reply| Message::Rename { name, reply }).await?;
        self.durable().await;
        Ok(())
    }

    /// Gives the container new limits and another restart policy, whether it runs or not.
    ///
    /// # Errors
    /// [`EngineError::CannotUpdate`]; then all is as it was.
    pub async fn update(&self, who: &str, update: Update) -> Result<(), EngineError> {
        let entry = self.find(who)?;
        let update = Box::new(update);
        self.send(&entry, |reply| Message::Update { update, reply }).await?;
        self.durable().await;
        Ok(())
    }

    /// Stops the container if it runs, then starts it.
    ///
    /// # Errors
    /// As [`Engine::stop`] and [`Engine::start`].
    pub async fn restart(&self, who: &str, stop: Stop) -> Result<(), EngineError> {
        let entry = self.find(who)?;
        let plan = stop_plan(&entry, stop);
        self.ask(&entry, Ask::Restart(plan), StartArgs::default()).await
    }

    /// The container's log. Following ends when the container has ended and all is read.
    ///
    /// # Errors
    /// [`EngineError::LogUnreadable`] if it keeps none here.
    pub async fn logs(&self, who: &str, query: LogQuery) -> Result<LogStream, EngineError> {
        let entry = self.find(who)?;
        let container = entry.container();
        let log = &container.config.log;
        if !log.can_be_read() {
            return Err(EngineError::LogUnreadable);
        }
        let form = match log.kind {
            LogKind::JsonFile => stdio::log::Form::Json,
            LogKind::Local | LogKind::Syslog => stdio::log::Form::Local,
        };
        let path = self.inner.shared.files.log(&container.id, log.kind);
        LogStream::open(path, form, query, entry.snapshot.subscribe()).await
    }

    /// Host process ids of everything in the container.
    ///
    /// # Errors
    /// [`EngineError::NotRunning`]; [`EngineError::Driver`] for a machine, whose processes are none of
    /// this host's.
    pub async fn host_pids(&self, who: &str) -> Result<Vec<u32>, EngineError> {
        let sandbox: Arc<dyn Sandbox> = self
            .find(who)?
            .live()
            .sandbox
            .ok_or_else(|| EngineError::NotRunning(who.to_owned()))?;
        if sandbox.handle().isolation == Isolation::Vm {
            return Err(EngineError::Driver(DriverError::Unsupported {
                what: "a list of a machine's processes".to_owned(),
                why: "they are none of this host's; exec ps inside".to_owned(),
            }));
        }
        let by = Deadline::after(SHORT_WAIT);
        let pids = within(by, "listing processes", sandbox.host_pids()).await?;
        self.tell(who, "top", &[]);
        Ok(pids)
    }

    pub(super) fn find(&self, who: &str) -> Result<Arc<Entry>, EngineError> {
        self.inner.shared.registry.find(who)
    }

    fn process(&self, who: &str) -> Result<Arc<dyn Process>, EngineError> {
        let process = self.find(who)?.live().process;
        process.ok_or_else(|| EngineError::NotRunning(who.to_owned()))
    }

    async fn ask(&self, entry: &Entry, ask: Ask, args: StartArgs) -> Result<(), EngineError> {
        self.send(entry, |reply| Message::Ask { ask, args, reply }).await
    }

    pub(super) async fn send(
        &self,
        entry: &Entry,
        message: impl FnOnce(Reply) -> Message,
    ) -> Result<(), EngineError> {
        let (reply, answer) = oneshot::channel();
        match entry.mailbox.send(message(reply)).await {
            Ok(()) => answer.await.unwrap_or(Err(self.silence(entry))),
            Err(_) => Err(self.silence(entry)),
        }
    }

    /// Why a container's task does not answer.
    fn silence(&self, entry: &Entry) -> EngineError {
        match entry.snapshot.borrow().gone {
            true => EngineError::NoSuchContainer(entry.id.to_string()),
            false => EngineError::Closed,
        }
    }

    /// Waits until what was recorded so far would survive a power cut; a warning if it may not.
    async fn durable(&self) -> Option<String> {
        let records = &self.inner.shared.records;
        match records.durable(records.latest()).await {
            Ok(()) => None,
            Err(failure) => {
                let failure = chain(&failure);
                warn!(error = failure, "a change may not survive a power cut");
                Some(failure)
            }
        }
    }

    /// What keeps packets of such a container from arriving, by the host's own rules.
    async fn network_warnings(&self, config: &Create) -> Vec<String> {
        if config.network != NetworkMode::Bridge {
            return Vec::new();
        }
        let networks = Arc::clone(&self.inner.shared.networks);
        let publishes = !config.ports.is_empty() || config.publish_all;
        let look = move || Ok(networks.warnings(publishes));
        blocking("looking at the host's rules", look).await.unwrap_or_default()
    }

    /// Enters a new container, with its task, and nothing of it made yet.
    async fn enter(&self, mut create: Create) -> Result<(Arc<Entry>, Created, bool), EngineError> {
        let shared = &self.inner.shared;
        if !shared.drivers.contains_key(&create.isolation) {
            return Err(EngineError::NoDriver(create.isolation));
        }
        if *shared.closing.borrow() {
            return Err(EngineError::Closed);
        }
        host_has_no_walls(&mut create);
        let image = self.image_for(&create).await?;
        let name = create.name.take();
        platforms::check(&create, &image)?;
        let foreign = platforms::warning(&create, &image, &image::Platform::host());
        let Plan { mut config, mut warnings } = plan::plan(create, &image.config)?;
        config = Box::pin(self.settle_networks(config)).await?;
        warnings.extend(foreign);
        warnings.extend(self.network_warnings(&config).await);
        let layers = layers(&image)?;
        let id = ContainerId::from_random(random()?);
        if config.user_map.is_some() {
            let all = shared.registry.entries();
            let maps = all.iter().map(|entry| entry.container());
            let maps: Vec<_> = maps.filter_map(|other| other.config.user_map.clone()).collect();
            let confined = shared.config.user.is_some();
            let seed = u64::from(u32::from_ne_bytes(random()?));
            userns::choose(&mut config, confined, Pool::read(), maps.iter(), seed)?;
        }
        let auto_remove = config.auto_remove;
        let held = Box::pin(self.hold_volumes(&id, config, image.config)).await?;
        let config = held.config.clone();
        let origin = Origin { image_id: image.id, layers, forked_from: None };
        let entry = self.spawn(&id, name, origin, config)?;
        held.keep();
        Ok((entry, Created { id, warnings }, auto_remove))
    }

    /// Enters a container and begins its task.
    pub(super) fn spawn(
        &self,
        id: &ContainerId,
        name: Option<ContainerName>,
        origin: Origin,
        config: Create,
    ) -> Result<Arc<Entry>, EngineError> {
        let shared = &self.inner.shared;
        let Origin { image_id, layers, forked_from } = origin;
        let (sender, mailbox) = mpsc::channel(MAILBOX);
        let mut record = None;
        let random = std::iter::from_fn(|| random().ok().map(u64::from_ne_bytes));
        let entry = shared.registry.enter(id, name, random, |name| {
            let config = Create { name: Some(name.clone()), ..config };
            let now = Timestamp::now();
            let first = first_record(id.clone(), name, image_id, layers.clone(), config, now);
            let first = Record { forked_from, ..first };
            let container = Arc::new(first_view(&first));
            record = Some(first);
            let snapshot = Snapshot {
                container,
                made: false,
                alive: false,
                logs: false,
                ends: 0,
                exit: None,
                gone: false,
            };
            Entry::new(id.clone(), layers, sender, snapshot)
        })?;
        let record = record.expect("whoever is entered has a record");
        let actor = Actor::new(Arc::clone(shared), Arc::clone(&entry), mailbox, record, false);
        self.inner.spawn(actor.run());
        Ok(entry)
    }

    /// The image of this name; one that this build brings along is loaded when it is asked for.
    async fn image_for(&self, create: &Create) -> Result<ImageView, EngineError> {
        let shared = Arc::clone(&self.inner.shared);
        let (name, platform) = (create.image.clone(), create.platform.clone());
        let find = move || {
            let find = || shared.images.find_for(&name, platform.as_deref());
            let found = find();
            let plain = name.strip_suffix(":latest").unwrap_or(&name);
            match (found, shared.config.embedded.get(plain)) {
                (Err(EngineError::NoSuchImage(_)), Some(embedded)) => {
                    let archive = super::images::memory_file(&embedded.archive())?;
                    let changes = shared.images.load(archive, &[], Box::new(|_| ()))?;
                    shared.tell_loaded(&changes);
                    find()
                }
                (found, _) => found,
            }
        };
        blocking("looking for the image", find).await
    }
}

/// What a container is made of beside its configuration.
pub(super) struct Origin {
    pub(super) image_id: String,
    pub(super) layers: Vec<base::Digest>,
    pub(super) forked_from: Option<ContainerId>,
}

/// How long and with which signal: as asked, else as the container has it, else ten seconds.
fn stop_plan(entry: &Entry, stop: Stop) -> StopPlan {
    let config = &entry.container().config;
    let own = config.stop_timeout_s.map(|seconds| Duration::from_secs(seconds.into()));
    StopPlan {
        signal: stop.signal.or(config.stop_signal).unwrap_or(Signal::TERM),
        grace: stop.grace.unwrap_or(Some(own.unwrap_or(STOP_GRACE))),
    }
}

/// Whether whoever sends this wants the container to end, so that no policy starts it again.
fn ends_it(own: Option<Signal>, signal: Signal) -> bool {
    let asks = ["INT", "QUIT", "TERM", "KILL"].into_iter().filter_map(Signal::parse);
    own == Some(signal) || asks.into_iter().any(|ask| ask == signal)
}

/// Isolation `host` has a control group and nothing else: every namespace is the host's.
fn host_has_no_walls(create: &mut Create) {
    if create.isolation == Isolation::Host {
        if create.network == NetworkMode::Bridge {
            create.network = NetworkMode::Host;
        }
        for mode in [&mut create.pid, &mut create.ipc, &mut create.uts, &mut create.cgroupns] {
            if *mode == NamespaceMode::Private {
                *mode = NamespaceMode::Host;
            }
        }
    }
}

pub(super) fn layers(image: &ImageView) -> Result<Vec<base::Digest>, EngineError> {
    let digest = |text: &String| {
        text.parse().map_err(|error: base::DigestError| plan::invalid("image", error.to_string()))
    };
    image.layers.iter().map(digest).collect()
}

/// Bytes from the kernel. Source: getrandom(2).
pub(crate) fn random<const N: usize>() -> Result<[u8; N], EngineError> {
    let mut bytes = [0; N];
    let filled = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
    match filled {
        Ok(length) if length == N => Ok(bytes),
        Ok(_) | Err(_) => Err(EngineError::Failed { doing: "asking for random numbers" }),
    }
}

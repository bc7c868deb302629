//! One task per container: it owns the state, records every change before acting on it, and
//! carries out the effects.
//!
//! Whoever asks gets an answer through a channel and may stop listening at any time: what began
//! goes on here, and is finished or undone.

mod effects;
mod end;
mod events;
mod execs;
mod health;
mod networks;
mod recover;
mod rename;
mod update;
mod view;

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use base::{ContainerName, clock};
use stdio::ATTACHED_MAX;
use tokio::{
    sync::{mpsc, oneshot},
    task::{self, JoinSet},
};
use tracing::{error, warn};
use workload::{Attachment, Driver, Exit, Process, Sandbox, SandboxHandle, TerminalSize};

pub(crate) use effects::{blocking, within};
use events::Told;
pub(crate) use networks::Change as NetworkChange;
pub(crate) use view::{first_record, first_view};

use crate::{
    EngineError, HealthResult, NetworkView, Update,
    engine::Shared,
    error::chain,
    execs::Exec,
    networks::Attached,
    record::{Record, Stage},
    registry::{Entry, Live, Snapshot},
    seat::Attach,
    spec::Facts,
    step::{self, Answer, Ask, AskId, Cleared, Effect, Event, Phase, Run, State},
    volume::Places,
};

/// Requests that may wait for one container; beyond that, callers wait.
pub(crate) const MAILBOX: usize = 64;

/// Where an answer goes.
pub(crate) type Reply = oneshot::Sender<Result<(), EngineError>>;

/// What one container's task can be asked.
#[derive(Debug)]
pub(crate) enum Message {
    Ask {
        ask: Ask,
        args: StartArgs,
        reply: Reply,
    },
    /// Make it, and start it then.
    Run {
        args: StartArgs,
        reply: Reply,
    },
    MayExec {
        reply: Reply,
    },
    /// Connects a socket: now if it runs, else when it does.
    Attach {
        attach: Attach,
        reply: Reply,
    },
    Exec {
        exec: Arc<Exec>,
        attach: Option<OwnedFd>,
        reply: Reply,
    },
    /// Whether its anonymous volumes go when it is next removed.
    RemoveVolumes(bool),
    Rename {
        name: ContainerName,
        reply: Reply,
    },
    /// Another network, or one less.
    Network {
        change: networks::Change,
        reply: Reply,
    },
    Update {
        update: Box<Update>,
        reply: Reply,
    },
}

/// What a start may bring along.
#[derive(Debug, Default)]
pub(crate) struct StartArgs {
    pub(crate) attach: Option<Attachment>,
    pub(crate) size: Option<TerminalSize>,
    /// Where the container was saved from which it is to go on.
    pub(crate) taken_from: Option<PathBuf>,
}

/// Who waits, and what for.
#[derive(Debug)]
struct Asker {
    reply: Reply,
    /// It is to be started when it is made.
    then_start: Option<StartArgs>,
    /// What the world is told when it is done.
    then_tell: Option<&'static str>,
}

/// What an effect came to, with what it made.
struct Done {
    event: Event,
    carry: Carry,
}

/// What an effect made.
enum Carry {
    Nothing,
    Network(Attached),
    Root(Vec<PathBuf>, Places),
    Sandbox(Arc<dyn Sandbox>, Box<Facts>),
    Process(Arc<dyn Process>),
}

impl From<Event> for Done {
    fn from(event: Event) -> Done {
        Done { event, carry: Carry::Nothing }
    }
}

/// What a finished task of the actor means.
enum Outcome {
    Done(Done),
    ExecStarted(Arc<Exec>, Result<Arc<dyn Process>, EngineError>, Reply),
    ExecEnded(Arc<Exec>, Exit),
    Checked(Run, HealthResult, bool),
    Limited(Result<(), EngineError>),
    Networked(Box<networks::Networked>),
    /// Nobody needs to know.
    Quiet,
}

/// One container's task.
pub(crate) struct Actor {
    shared: Arc<Shared>,
    entry: Arc<Entry>,
    mailbox: mpsc::Receiver<Message>,
    state: State,
    /// As it was last recorded.
    record: Record,
    ends: u64,
    tasks: JoinSet<Outcome>,
    /// What is said of a task that panicked.
    fallbacks: HashMap<task::Id, Event>,
    timer: Option<Instant>,
    /// When its process was started, if this daemon did it.
    began: Option<Instant>,
    asks: HashMap<AskId, Asker>,
    next_ask: u64,
    /// Sockets to attach from the first byte on, and the terminal's size.
    attach: Vec<Attach>,
    size: Option<TerminalSize>,
    /// See [`StartArgs::taken_from`]; of the next start alone.
    taken_from: Option<PathBuf>,
    namespace: Option<OwnedFd>,
    network: NetworkView,
    lower: Vec<PathBuf>,
    volumes: Places,
    remove_volumes: bool,
    facts: Option<Box<Facts>>,
    handle: Option<SandboxHandle>,
    execs: BTreeMap<String, Arc<Exec>>,
    checks: Option<health::Checks>,
    updates: update::Updates,
    /// Its networks are being changed.
    networking: bool,
    told: Told,
}

impl Actor {
    /// A container that is to be made, or one that the records know.
    pub(crate) fn new(
        shared: Arc<Shared>,
        entry: Arc<Entry>,
        mailbox: mpsc::Receiver<Message>,
        record: Record,
        known: bool,
    ) -> Actor {
        let state = match known {
            true => State::of(&record),
            false => State::new(record.config.auto_remove, record.config.restart),
        };
        Actor {
            shared,
            entry,
            mailbox,
            state,
            ends: 0,
            tasks: JoinSet::new(),
            fallbacks: HashMap::new(),
            timer: None,
            began: None,
            asks: HashMap::new(),
            next_ask: 0,
            attach: Vec::new(),
            size: None,
            taken_from: None,
            namespace: None,
            network: record.network.clone(),
            lower: Vec::new(),
            volumes: Places::new(),
            remove_volumes: false,
            facts: None,
            handle: record.handle.clone(),
            execs: BTreeMap::new(),
            checks: health::Checks::new(record.config.health.as_ref(), record.health),
            updates: update::Updates::default(),
            networking: false,
            told: Told::new(known && record.stage != Stage::Making),
            record,
        }
    }

    /// Runs until the container is gone or the engine closes.
    pub(crate) async fn run(mut self) {
        let mut closing = self.shared.closing.subscribe();
        let mut last = None;
        while last.is_none() {
            if *closing.borrow() && !self.state.in_flight() {
                return;
            }
            self.tend_updates();
            let (timer, check) = (self.timer, self.check_due());
            tokio::select! {
                Some(message) = self.mailbox.recv() => last = self.message(message),
                Some(done) = self.tasks.join_next_with_id() => last = self.done(done),
                () = sleep_until(timer), if timer.is_some() => {
                    self.timer = None;
                    last = self.fact(Event::TimeUp);
                }
                () = sleep_until(check), if check.is_some() => self.begin_check(),
                _ = closing.changed() => {}
            }
        }
        self.finish(last.unwrap_or_default(), &mut closing).await;
    }

    fn driver(&self) -> Option<Arc<dyn Driver>> {
        self.shared.drivers.get(&self.record.config.isolation).cloned()
    }

    /// Takes a message; answers with the last effects when the container is gone.
    fn message(&mut self, message: Message) -> Option<Vec<Effect>> {
        match message {
            Message::Ask { ask, args, reply } => {
                let then_tell = events::done_word(&ask);
                self.ask(ask, args, Asker { reply, then_start: None, then_tell })
            }
            Message::Run { args, reply } => {
                let asker = Asker { reply, then_start: Some(args), then_tell: None };
                self.ask(Ask::Make, StartArgs::default(), asker)
            }
            Message::MayExec { reply } => {
                let name = &self.record.name;
                reply.send(self.state.may_exec().map_err(|refusal| refusal.about(name))).ok();
                None
            }
            Message::Attach { attach, reply } => {
                reply.send(self.seat(attach)).ok();
                None
            }
            Message::Exec { exec, attach, reply } => {
                self.start_exec(exec, attach, reply);
                None
            }
            Message::RemoveVolumes(remove) => {
                self.remove_volumes = remove;
                None
            }
            Message::Rename { name, reply } => {
                reply.send(self.rename(name)).ok();
                None
            }
            Message::Network { change, reply } => {
                self.change_network(change, reply);
                None
            }
            Message::Update { update, reply } => {
                self.queue_update(*update, reply);
                None
            }
        }
    }

    fn ask(&mut self, ask: Ask, args: StartArgs, asker: Asker) -> Option<Vec<Effect>> {
        self.next_ask += 1;
        let id = AskId(self.next_ask);
        let starts = matches!(ask, Ask::Start | Ask::Restart(_));
        let runs = matches!(self.state.phase, Phase::Running { .. });
        self.note_ask(&ask);
        if starts && args.attach.is_some() {
            self.tell("attach", &[]);
        }
        match (starts, runs, args.attach) {
            (true, true, Some(socket)) if matches!(ask, Ask::Start) => {
                self.attach_now(Attach::Now(socket));
            }
            (true, _, socket) => {
                self.attach.extend(socket.map(Attach::Now));
                self.size = args.size.or(self.size);
                self.taken_from = args.taken_from;
            }
            (false, _, _) => {}
        }
        self.asks.insert(id, asker);
        match self.apply(Event::Ask(id, ask), true) {
            Ok(last) => last,
            Err(failure) => {
                self.answer(id, Err(failure));
                if starts && !runs && !self.state.in_flight() {
                    self.attach.clear();
                }
                None
            }
        }
    }

    /// Takes what an effect came to.
    fn done(&mut self, done: Result<(task::Id, Outcome), task::JoinError>) -> Option<Vec<Effect>> {
        match done {
            Ok((id, outcome)) => {
                self.fallbacks.remove(&id);
                match outcome {
                    Outcome::Done(Done { event, carry }) => {
                        self.keep(carry);
                        if let Event::Released(resource) = &event {
                            self.let_go(*resource);
                        }
                        return self.fact(event);
                    }
                    Outcome::ExecStarted(exec, result, reply) => {
                        self.exec_started(&exec, result, reply);
                    }
                    Outcome::ExecEnded(exec, exit) => self.exec_ended(&exec, exit),
                    Outcome::Checked(run, result, ended) => self.checked(run, result, ended),
                    Outcome::Limited(result) => self.limited(result),
                    Outcome::Networked(done) => self.networked(*done),
                    Outcome::Quiet => {}
                }
                None
            }
            Err(failure) => {
                error!(container = %self.entry.id, error = %failure, "a task failed");
                self.update_failed(failure.id());
                let event = self.fallbacks.remove(&failure.id())?;
                self.fact(event)
            }
        }
    }

    /// Keeps what an effect made.
    fn keep(&mut self, carry: Carry) {
        match carry {
            Carry::Nothing => {}
            Carry::Network(attached) => {
                self.namespace = Some(attached.namespace);
                self.network = attached.view;
            }
            Carry::Root(lower, volumes) => (self.lower, self.volumes) = (lower, volumes),
            Carry::Sandbox(sandbox, facts) => {
                self.handle = Some(sandbox.handle());
                self.facts = Some(facts);
                self.entry.set_live(Live { sandbox: Some(sandbox), process: None });
            }
            Carry::Process(process) => {
                let live = Live { process: Some(process), ..self.entry.live() };
                self.entry.set_live(live);
                for socket in std::mem::take(&mut self.attach) {
                    self.attach_now(socket);
                }
            }
        }
    }

    /// Something has happened: it is not refused.
    fn fact(&mut self, event: Event) -> Option<Vec<Effect>> {
        self.apply(event, false).unwrap_or_else(|failure| {
            error!(container = %self.entry.id, error = chain(&failure), "a fact was refused");
            None
        })
    }

    /// The next state, recorded, shown, and its effects begun. Answers with the effects that are
    /// left when the container is gone.
    fn apply(&mut self, event: Event, asked: bool) -> Result<Option<Vec<Effect>>, EngineError> {
        // On a disk that takes nothing any more, a container can still be ended or let go on: the
        // next daemon finds it ended, whatever the records say, or stops it once more where they
        // say that it is paused.
        let relieves =
            matches!(&event, Event::Ask(_, Ask::Stop(_) | Ask::Kill { .. } | Ask::Resume));
        if let Event::Spawned(..) = &event {
            self.began = Some(clock::monotonic());
        }
        self.state.lasted = self.lasted();
        let (next, effects) = step::step(&self.state, event, clock::Timestamp::now())
            .map_err(|refusal| refusal.about(&self.record.name))?;
        let ran = self.state.runs();
        let Some(record) = self.describe(&next) else {
            let before = std::mem::replace(&mut self.state, next);
            self.ends += u64::from(ran);
            let plugged = events::joined(&self.record.network);
            self.tell_change(&before, &plugged);
            return Ok(Some(effects));
        };
        if record != self.record {
            match asked && !relieves {
                // Without a record nothing is done: the state stays as it is.
                true => drop(self.shared.records.put(&record)?),
                false => self.note(&record),
            }
        }
        let plugged = events::joined(&self.record.network);
        self.record = record;
        let before = std::mem::replace(&mut self.state, next);
        self.ends += u64::from(ran && !self.state.runs());
        if matches!(self.state.phase, Phase::Clearing(Cleared::Failed(_)) | Phase::Removing) {
            // Whoever attached learns that nothing will come.
            self.attach.clear();
        }
        self.tend_checks(&before);
        self.publish();
        self.tell_change(&before, &plugged);
        for effect in effects {
            if let Some(last) = self.execute(effect) {
                return Ok(Some(last));
            }
        }
        Ok(None)
    }

    /// How long ago its process was started, if this daemon did it. No jump of the civil clock
    /// changes that.
    fn lasted(&self) -> Option<Duration> {
        self.began.map(|began| clock::monotonic().saturating_duration_since(began))
    }

    /// How it last ended: known on, when it has been started again.
    fn last_exit(&self) -> Option<Exit> {
        self.state.exit.or_else(|| self.entry.snapshot.borrow().exit)
    }

    fn note(&self, record: &Record) {
        if let Err(failure) = self.shared.records.note(record) {
            error!(container = %self.entry.id, error = chain(&failure), "it is not recorded");
        }
    }

    fn publish(&self) {
        let snapshot = Snapshot {
            container: Arc::new(self.view()),
            made: !matches!(self.state.phase, Phase::Making),
            alive: self.state.alive(),
            logs: self.state.alive()
                || self.state.will_start()
                || matches!(self.state.phase, Phase::Starting { .. } | Phase::Backoff),
            ends: self.ends,
            exit: self.last_exit(),
            gone: false,
        };
        self.entry.snapshot.send_replace(snapshot);
    }

    fn answer(&mut self, id: AskId, result: Result<(), EngineError>) -> Option<Vec<Effect>> {
        let asker = self.asks.remove(&id)?;
        match (result, asker.then_start) {
            (Ok(()), Some(args)) => {
                let asker = Asker { reply: asker.reply, then_start: None, then_tell: None };
                self.ask(Ask::Start, args, asker)
            }
            (result, _) => {
                if let (Ok(()), Some(word)) = (&result, asker.then_tell) {
                    self.tell(word, &[]);
                }
                // Nobody listens any more: that is theirs to decide.
                asker.reply.send(result).ok();
                None
            }
        }
    }

    fn answered(&mut self, id: AskId, answer: Answer) -> Option<Vec<Effect>> {
        let result = match answer {
            Answer::Done => Ok(()),
            Answer::Refused(refusal) => Err(refusal.about(&self.record.name)),
            Answer::Failed(failure) => Err(failure),
        };
        self.answer(id, result)
    }

    /// Connects a socket as soon as there is a process.
    fn seat(&mut self, attach: Attach) -> Result<(), EngineError> {
        self.state.may_attach().map_err(|refusal| refusal.about(&self.record.name))?;
        if self.attach.len() >= ATTACHED_MAX {
            let what = "attached to a container that does not run";
            return Err(EngineError::TooMany { what, most: ATTACHED_MAX });
        }
        if matches!(self.state.phase, Phase::Running { .. }) {
            self.attach_now(attach);
        } else {
            self.attach.push(attach);
        }
        self.tell("attach", &[]);
        Ok(())
    }

    /// Connects a socket to the running process.
    fn attach_now(&mut self, attach: Attach) {
        let Some(process) = self.entry.live().process else { return };
        self.tasks.spawn(async move {
            let Some((attachment, told)) = attach.here().await else { return Outcome::Quiet };
            match process.attach(attachment).await {
                // A shim of an earlier build does not tell: then this is as near as can be.
                Ok(at) => told.tell(at.unwrap_or_else(clock::Timestamp::now)),
                Err(failure) => {
                    warn!(error = chain(&failure), "it ended before it could be attached to");
                }
            }
            Outcome::Quiet
        });
    }

    /// Runs an effect beside the actor. Its answer is an event; `fallback` if it panics.
    fn begin(&mut self, fallback: Event, work: impl Future<Output = Done> + Send + 'static) {
        let handle = self.tasks.spawn(async { Outcome::Done(work.await) });
        self.fallbacks.insert(handle.id(), fallback);
    }
}

async fn sleep_until(timer: Option<Instant>) {
    match timer {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

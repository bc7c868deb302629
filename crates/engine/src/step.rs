//! What a container does next: the one place that knows what is legal.
//!
//! ```text
//!  Making ─▶ Idle ─start─▶ Starting: Preparing ─▶ Boxing ─▶ Spawning ─▶ Running ◀─pause, resume
//!             ▲  ▲           ▲ │ any of it fails                          │ ends, or will not
//!             │  │      timer│ └───────────▶ Clearing ◀───────────────────┘
//!             │  ├──stop── Backoff ◀──policy──┤ │
//!             │  └────────────────────────────┘ │
//!          stuck                                 │ auto-remove
//!             └──────── Dead ◀── Removing ◀──────┴── remove, from anywhere
//!                                   └─▶ Gone
//! ```
//!
//! Pure: no clock, no I/O. The actor records the state that [`step`] answers with *before* it
//! carries out the effects, so that an intent is on record before anything is done about it, and a
//! request whose intent cannot be recorded changes nothing. A new daemon rebuilds the state with
//! [`State::recovered`] and goes on through the same function.

mod ask;
mod fact;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use base::{ContainerName, clock::Timestamp};
use workload::{Exit, Signal};

use crate::{
    EngineError, RestartPolicy,
    record::{Record, Stage},
    restart::Restarts,
};

/// How long a killed process may take to end before its sandbox is destroyed around it.
pub(crate) const KILL_WAIT: Duration = Duration::from_secs(10);

/// How long after it could not be given back something is tried again, the first time.
const CLEAR_AGAIN: Duration = Duration::from_secs(1);
/// The longest such time; it doubles until then.
const CLEAR_AGAIN_MAX: Duration = Duration::from_secs(60);

/// Something that a container holds of the host. Each is acquired and given back exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Resource {
    /// Its directory, with the files it wrote.
    Directory,
    /// Its network namespace, address and published ports.
    Network,
    /// Its image's layers, mounted.
    Root,
    /// Its sandbox.
    Sandbox,
}

impl Resource {
    const ALL: [Resource; 4] =
        [Resource::Directory, Resource::Network, Resource::Root, Resource::Sandbox];
}

/// How far a resource is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    Acquiring,
    Held,
    Releasing,
}

/// Who asked; answered exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AskId(pub(crate) u64);

/// What can be asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask {
    Make,
    Start,
    Stop(StopPlan),
    Restart(StopPlan),
    /// `for_good` if it is to end by it, and not to be started again.
    Kill {
        signal: Signal,
        for_good: bool,
    },
    Pause,
    Resume,
    Remove {
        force: bool,
    },
}

/// How a container is to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StopPlan {
    pub(crate) signal: Signal,
    /// Time until the kill; `None` waits for ever.
    pub(crate) grace: Option<Duration>,
}

/// What happens to a container.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Ask(AskId, Ask),
    Acquired(Resource),
    /// It could not be acquired; if `maybe`, something of it may be there all the same.
    NotAcquired(Resource, EngineError, Maybe),
    Released(Resource),
    NotReleased(Resource, EngineError),
    Spawned(Run, Option<u32>),
    NotSpawned(Run, EngineError),
    Ended(Run, Exit),
    Signalled(AskId, Result<(), EngineError>),
    Paused(Run, Result<(), EngineError>),
    Resumed(Run, Result<(), EngineError>),
    TimeUp,
    Recovered(Found),
}

/// Whether something may have been left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Maybe {
    Left,
    Nothing,
}

/// Which run of the container: answers about an earlier one are passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Run(pub(crate) u32);

/// What a new daemon found of a container that ran.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// Its process, running or ended: waiting for it tells.
    Process(Option<u32>),
    /// Nothing, or nobody who answers.
    Nothing(Option<EngineError>),
    /// It was not looked for: by the records it did not run.
    NotSought,
}

/// What is to be done about it. Each but [`Effect::Answer`] and the timers is answered by an event.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    Acquire(Resource),
    Release(Resource),
    Spawn(Run),
    /// Wait for the process.
    Watch(Run),
    Signal(Signal, Option<AskId>),
    Pause(Run),
    Resume(Run),
    /// [`Event::TimeUp`] after this time, in place of any earlier timer.
    Timer(Duration),
    NoTimer,
    Answer(AskId, Answer),
}

/// What the one who asked is told.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Done,
    Refused(Refusal),
    Failed(EngineError),
}

/// Why a request is not legal now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NotRunning,
    Paused,
    AlreadyPaused,
    NotPaused,
    RemoveRunning,
    Restarting,
    RemoveRestarting,
    Removing,
    Busy(&'static str),
}

/// A container's state.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    pub(crate) held: BTreeMap<Resource, Hold>,
    /// Those that would not be given back, in this attempt.
    stuck: BTreeSet<Resource>,
    /// Why something would not, the last time.
    trouble: Option<EngineError>,
    /// For how long the next attempt at what would not be given back is put off.
    put_off: Option<Duration>,
    pub(crate) run: Run,
    /// Whether the process is being started although the container is on its way out.
    spawning: bool,
    /// Whether the exit of this run is known.
    ended: bool,
    waiting: Vec<(AskId, Question)>,
    pub(crate) auto_remove: bool,
    pub(crate) restarts: Restarts,
    pub(crate) started: Option<Timestamp>,
    /// How long ago that was on the clock that never jumps; the actor says so, for runs that this
    /// daemon began.
    pub(crate) lasted: Option<Duration>,
    pub(crate) exit: Option<Exit>,
    pub(crate) error: Option<String>,
}

/// Where a container stands.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    Making,
    Idle,
    Starting {
        step: Starting,
        then_stop: Option<StopPlan>,
    },
    Running {
        pid: Option<u32>,
        frozen: Frozen,
        stopping: Option<Stopping>,
    },
    /// It ended, and is started again when the timer says so.
    Backoff,
    Clearing(Cleared),
    Removing,
    Dead,
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Starting {
    /// Network and root are made ready, side by side.
    Preparing,
    /// The sandbox is made.
    Boxing,
    /// The process is started.
    Spawning,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frozen {
    No,
    Pausing,
    Yes,
    Resuming,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopping {
    Asked,
    Killed,
}

/// Why a container gives back what it held for running.
#[derive(Clone, Debug)]
pub(crate) enum Cleared {
    Ended,
    /// It could not be started.
    Failed(EngineError),
    /// An earlier attempt left something, and it is to be started.
    Leftover,
    /// It has ended, and something was left that would not go: another attempt.
    Late,
}

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Make,
    Start,
    Stop,
    Kill,
    Pause,
    Resume,
    Remove,
}

/// Next state and what to do about it. Does no I/O and reads no clock.
///
/// # Errors
/// [`Refusal`] only for [`Event::Ask`]; nothing changes then, and the caller answers.
pub(crate) fn step(
    state: &State,
    event: Event,
    now: Timestamp,
) -> Result<(State, Vec<Effect>), Refusal> {
    let mut next = Next { state: state.clone(), effects: Vec::new(), now };
    match event {
        Event::Ask(id, ask) => next.asked(id, ask)?,
        Event::Acquired(resource) => next.acquired(resource),
        Event::NotAcquired(resource, error, maybe) => next.not_acquired(resource, error, maybe),
        Event::Released(resource) => next.released(resource),
        Event::NotReleased(resource, error) => next.not_released(resource, error),
        Event::Spawned(run, pid) => next.spawned(run, pid),
        Event::NotSpawned(run, error) => next.not_spawned(run, error),
        Event::Ended(run, exit) => next.ended(run, exit),
        Event::Signalled(id, result) => next.answer(id, result.into()),
        Event::Paused(run, result) => next.paused(run, result),
        Event::Resumed(run, result) => next.resumed(run, result),
        Event::TimeUp => next.time_up(),
        Event::Recovered(found) => next.recovered(found),
    }
    Ok((next.state, next.effects))
}

/// A state on its way to the next, with the effects so far.
struct Next {
    state: State,
    effects: Vec<Effect>,
    now: Timestamp,
}

impl State {
    /// A container that is to be made.
    pub(crate) fn new(auto_remove: bool, policy: RestartPolicy) -> State {
        State {
            phase: Phase::Making,
            held: BTreeMap::new(),
            stuck: BTreeSet::new(),
            trouble: None,
            put_off: None,
            run: Run(0),
            spawning: false,
            ended: true,
            waiting: Vec::new(),
            auto_remove,
            restarts: Restarts { policy, ..Restarts::default() },
            started: None,
            lasted: None,
            exit: None,
            error: None,
        }
    }

    /// A container that the records know.
    pub(crate) fn of(record: &Record) -> State {
        let Record { stage, exit, started, ref error, ref config, .. } = *record;
        let restarts = Restarts::recorded(config.restart, record.restarts, record.stopped);
        let recovered =
            State::recovered(stage, record.leftover(), config.auto_remove, restarts, exit);
        State { started, error: error.clone(), ..recovered }
    }

    /// A container as the records have it. It may hold everything that it held at that stage;
    /// giving back what is not there is legal. `leftover` if it does not run and something would
    /// not be given back.
    fn recovered(
        stage: Stage,
        leftover: bool,
        auto_remove: bool,
        restarts: Restarts,
        exit: Option<Exit>,
    ) -> State {
        let everything: &[Resource] = &Resource::ALL;
        let running = |frozen| Phase::Running { pid: None, frozen, stopping: None };
        let (phase, held) = match stage {
            Stage::Making | Stage::Removing => (Phase::Removing, everything),
            Stage::Idle if leftover => (Phase::Idle, everything),
            Stage::Idle => (Phase::Idle, &[Resource::Directory][..]),
            Stage::Starting => (
                Phase::Clearing(Cleared::Failed(EngineError::Interrupted { doing: "starting it" })),
                everything,
            ),
            Stage::Running => (running(Frozen::No), everything),
            Stage::Pausing => (running(Frozen::Pausing), everything),
            Stage::Paused => (running(Frozen::Yes), everything),
            Stage::Resuming => (running(Frozen::Resuming), everything),
            Stage::Clearing => (Phase::Clearing(Cleared::Ended), everything),
        };
        let ended = !matches!(phase, Phase::Running { .. });
        let held = held.iter().map(|resource| (*resource, Hold::Held)).collect();
        let mut state = State {
            phase,
            held,
            ended,
            restarts,
            exit,
            ..State::new(auto_remove, restarts.policy)
        };
        let wanted = exit.is_some_and(|exit| restarts.at_daemon_start(&exit));
        // A start that was cut short is tried again if it is the policy's to start it.
        state.restarts.again = stage == Stage::Starting && wanted;
        state
    }

    /// What the records say of it; `None` when it is gone and so is its record.
    pub(crate) fn stage(&self) -> Option<Stage> {
        Some(match &self.phase {
            Phase::Making => Stage::Making,
            // A new daemon decides anew whether it is to be started again.
            Phase::Idle | Phase::Backoff | Phase::Clearing(Cleared::Late) => Stage::Idle,
            Phase::Starting { .. } => Stage::Starting,
            Phase::Running { frozen, .. } => match frozen {
                Frozen::No => Stage::Running,
                Frozen::Pausing => Stage::Pausing,
                Frozen::Yes => Stage::Paused,
                Frozen::Resuming => Stage::Resuming,
            },
            Phase::Clearing(_) => Stage::Clearing,
            Phase::Removing | Phase::Dead => Stage::Removing,
            Phase::Gone => return None,
        })
    }

    /// Whether it runs, or will again by itself.
    pub(crate) fn alive(&self) -> bool {
        self.runs() || self.restarting()
    }

    /// Whether it has ended and is about to run again by itself.
    pub(crate) fn restarting(&self) -> bool {
        match &self.phase {
            Phase::Backoff => true,
            Phase::Starting { .. } | Phase::Clearing(Cleared::Failed(_) | Cleared::Leftover) => {
                self.restarts.again
            }
            Phase::Making
            | Phase::Idle
            | Phase::Running { .. }
            | Phase::Clearing(Cleared::Ended | Cleared::Late)
            | Phase::Removing
            | Phase::Dead
            | Phase::Gone => false,
        }
    }

    /// Whether a process of it runs, or is not yet known to have ended with all it held.
    pub(crate) fn runs(&self) -> bool {
        match &self.phase {
            Phase::Running { .. } | Phase::Clearing(Cleared::Ended) => true,
            Phase::Removing => !self.ended,
            Phase::Making
            | Phase::Idle
            | Phase::Starting { .. }
            | Phase::Backoff
            | Phase::Clearing(_)
            | Phase::Dead
            | Phase::Gone => false,
        }
    }

    /// Whether the exit of its last run is known, if there was one.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether it holds more than what it holds while it does not run.
    pub(crate) fn holds_of_a_run(&self) -> bool {
        self.held.keys().any(|resource| *resource != Resource::Directory)
    }

    /// Whether something is being done, whose answer will come as an event.
    pub(crate) fn in_flight(&self) -> bool {
        let spawning = matches!(self.phase, Phase::Starting { step: Starting::Spawning, .. });
        spawning || self.spawning || self.held.values().any(|hold| *hold != Hold::Held)
    }

    /// Whether an exec may be started.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn may_exec(&self) -> Result<(), Refusal> {
        match &self.phase {
            Phase::Running { frozen: Frozen::No, .. } => Ok(()),
            Phase::Running { .. } => Err(Refusal::Paused),
            _ if self.restarting() => Err(Refusal::Restarting),
            Phase::Making
            | Phase::Idle
            | Phase::Starting { .. }
            | Phase::Backoff
            | Phase::Clearing(_)
            | Phase::Removing
            | Phase::Dead
            | Phase::Gone => Err(Refusal::NotRunning),
        }
    }

    /// Whether somebody waits for its next start: it is being restarted.
    pub(crate) fn will_start(&self) -> bool {
        self.waiting.iter().any(|(_, question)| *question == Question::Start)
    }

    /// Whether somebody may be attached, now or when it runs.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn may_attach(&self) -> Result<(), Refusal> {
        match &self.phase {
            Phase::Running { frozen: Frozen::No, .. } => Ok(()),
            Phase::Running { .. } => Err(Refusal::Paused),
            _ if self.restarting() => Err(Refusal::Restarting),
            Phase::Making
            | Phase::Idle
            | Phase::Starting { .. }
            | Phase::Backoff
            | Phase::Clearing(_) => Ok(()),
            Phase::Removing | Phase::Dead | Phase::Gone => Err(Refusal::Removing),
        }
    }
}

impl Refusal {
    /// What the one who asked is told about the container of this name.
    pub(crate) fn about(self, name: &ContainerName) -> EngineError {
        let text = || name.to_string();
        match self {
            Refusal::NotRunning => EngineError::NotRunning(text()),
            Refusal::Paused => EngineError::Paused(text()),
            Refusal::AlreadyPaused => EngineError::AlreadyPaused(text()),
            Refusal::NotPaused => EngineError::NotPaused(text()),
            Refusal::RemoveRunning => EngineError::RemoveRunning(name.clone()),
            Refusal::Restarting => EngineError::Restarting(text()),
            Refusal::RemoveRestarting => EngineError::RemoveRestarting(name.clone()),
            Refusal::Removing => EngineError::Removing(text()),
            Refusal::Busy(state) => EngineError::Busy { name: text(), state },
        }
    }
}

impl From<Result<(), EngineError>> for Answer {
    fn from(result: Result<(), EngineError>) -> Answer {
        result.map_or_else(Answer::Failed, |()| Answer::Done)
    }
}

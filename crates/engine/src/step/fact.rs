//! What has happened: never refused.

use std::time::Duration;

use workload::{Exit, ExitStatus, Signal};

use super::{
    Answer, AskId, CLEAR_AGAIN, CLEAR_AGAIN_MAX, Cleared, Effect, Found, Frozen, Hold, KILL_WAIT,
    Maybe, Next, Phase, Question, Refusal, Resource, Run, Starting, Stopping,
};
use crate::EngineError;

impl Next {
    pub(super) fn acquired(&mut self, resource: Resource) {
        self.state.held.insert(resource, Hold::Held);
        match &mut self.state.phase {
            Phase::Making => {
                self.state.phase = Phase::Idle;
                self.answer_all(Question::Make, &Answer::Done);
            }
            Phase::Starting { step, .. } => match step {
                Starting::Preparing => {
                    let ready =
                        |resource| self.state.held.get(&resource).copied() == Some(Hold::Held);
                    if ready(Resource::Network) && ready(Resource::Root) {
                        *step = Starting::Boxing;
                        self.acquire(Resource::Sandbox);
                    }
                }
                Starting::Boxing => {
                    *step = Starting::Spawning;
                    let Run(run) = self.state.run;
                    self.state.run = Run(run.wrapping_add(1));
                    self.effects.push(Effect::Spawn(self.state.run));
                }
                Starting::Spawning => {}
            },
            Phase::Clearing(_) | Phase::Removing => self.clear(),
            Phase::Idle | Phase::Backoff | Phase::Running { .. } | Phase::Dead | Phase::Gone => {}
        }
    }

    pub(super) fn not_acquired(&mut self, resource: Resource, error: EngineError, maybe: Maybe) {
        match maybe {
            Maybe::Left => self.state.held.insert(resource, Hold::Held),
            Maybe::Nothing => self.state.held.remove(&resource),
        };
        match &self.state.phase {
            Phase::Making => {
                self.state.trouble = Some(error);
                self.state.phase = Phase::Removing;
                self.clear();
            }
            Phase::Starting { .. } => self.fail_start(error),
            Phase::Clearing(_) | Phase::Removing => self.clear(),
            Phase::Idle | Phase::Backoff | Phase::Running { .. } | Phase::Dead | Phase::Gone => {}
        }
    }

    pub(super) fn released(&mut self, resource: Resource) {
        self.state.held.remove(&resource);
        if resource == Resource::Sandbox && !self.state.ended {
            self.note_exit(ExitStatus::Signal(Signal::KILL));
        }
        self.clear();
    }

    pub(super) fn not_released(&mut self, resource: Resource, error: EngineError) {
        self.state.held.insert(resource, Hold::Held);
        self.state.stuck.insert(resource);
        self.state.trouble = Some(error);
        self.clear();
    }

    pub(super) fn spawned(&mut self, run: Run, pid: Option<u32>) {
        self.state.spawning = false;
        self.state.ended = false;
        self.state.restarts.again = false;
        if let Phase::Starting { then_stop, .. } = self.state.phase {
            self.state.phase = Phase::Running { pid, frozen: Frozen::No, stopping: None };
            self.state.started = Some(self.now);
            self.state.exit = None;
            self.effects.push(Effect::Watch(run));
            self.answer_all(Question::Start, &Answer::Done);
            if let Some(plan) = then_stop {
                self.begin_stop(plan);
            }
        } else {
            self.clear();
        }
    }

    pub(super) fn not_spawned(&mut self, _run: Run, error: EngineError) {
        self.state.spawning = false;
        if let Phase::Starting { .. } = self.state.phase {
            self.fail_start(error);
        } else {
            self.clear();
        }
    }

    pub(super) fn ended(&mut self, run: Run, exit: Exit) {
        if run != self.state.run || self.state.ended {
            return;
        }
        self.state.ended = true;
        self.state.exit = Some(exit);
        if matches!(self.state.phase, Phase::Running { .. }) {
            self.leave_running();
        }
    }

    pub(super) fn paused(&mut self, run: Run, result: Result<(), EngineError>) {
        let Phase::Running { frozen: frozen @ Frozen::Pausing, stopping, .. } =
            &mut self.state.phase
        else {
            return;
        };
        if run != self.state.run {
            return;
        }
        *frozen = if result.is_ok() { Frozen::Yes } else { Frozen::No };
        let stopping = stopping.is_some();
        self.answer_all(Question::Pause, &result.into());
        if stopping {
            self.thaw();
        }
    }

    pub(super) fn resumed(&mut self, run: Run, result: Result<(), EngineError>) {
        let Phase::Running { frozen: frozen @ Frozen::Resuming, .. } = &mut self.state.phase else {
            return;
        };
        if run != self.state.run {
            return;
        }
        *frozen = if result.is_ok() { Frozen::No } else { Frozen::Yes };
        self.answer_all(Question::Resume, &result.into());
    }

    pub(super) fn time_up(&mut self) {
        if matches!(self.state.phase, Phase::Backoff) {
            return self.begin_again();
        }
        if matches!(self.state.phase, Phase::Idle) {
            return self.clear_late();
        }
        let Phase::Running { stopping: Some(stopping), .. } = &mut self.state.phase else {
            return;
        };
        match *stopping {
            Stopping::Asked => {
                *stopping = Stopping::Killed;
                self.effects.push(Effect::Signal(Signal::KILL, None));
                self.effects.push(Effect::Timer(KILL_WAIT));
                self.thaw();
            }
            // It is destroyed with its sandbox, which tells how it ended.
            Stopping::Killed => self.leave_running(),
        }
    }

    pub(super) fn recovered(&mut self, found: Found) {
        let run = self.state.run;
        match (&mut self.state.phase, found) {
            (Phase::Running { pid, frozen, .. }, Found::Process(process)) => {
                *pid = process;
                match *frozen {
                    // It may have been resumed while nothing could be recorded.
                    Frozen::Pausing | Frozen::Yes => self.effects.push(Effect::Pause(run)),
                    Frozen::Resuming => self.effects.push(Effect::Resume(run)),
                    Frozen::No => {}
                }
                self.effects.push(Effect::Watch(run));
            }
            (Phase::Running { .. }, Found::Nothing(error)) => {
                self.note_exit(ExitStatus::Lost);
                self.state.error = error.map(|error| error.to_string());
                self.leave_running();
            }
            (Phase::Clearing(Cleared::Failed(error)), _) => {
                self.state.error = Some(error.to_string());
                self.clear();
            }
            (Phase::Clearing(_) | Phase::Removing, _) => self.clear(),
            (Phase::Idle, _) => {
                let exit = self.state.exit.as_ref();
                if exit.is_some_and(|exit| self.state.restarts.at_daemon_start(exit)) {
                    self.begin_again();
                } else {
                    self.clear_late();
                }
            }
            (
                Phase::Making
                | Phase::Backoff
                | Phase::Starting { .. }
                | Phase::Dead
                | Phase::Gone
                | Phase::Running { .. },
                _,
            ) => {}
        }
    }

    /// The process has ended, or will with its sandbox.
    fn leave_running(&mut self) {
        self.effects.push(Effect::NoTimer);
        self.answer_all(Question::Pause, &Answer::Refused(Refusal::NotRunning));
        self.answer_all(Question::Resume, &Answer::Refused(Refusal::NotRunning));
        self.state.trouble = None;
        self.state.phase = Phase::Clearing(Cleared::Ended);
        self.clear();
    }

    fn fail_start(&mut self, error: EngineError) {
        self.state.error = Some(error.to_string());
        self.state.phase = Phase::Clearing(Cleared::Failed(error));
        self.clear();
    }

    fn note_exit(&mut self, status: ExitStatus) {
        self.state.ended = true;
        self.state.exit = Some(Exit { status, out_of_memory: false, at: self.now });
    }

    pub(super) fn acquire(&mut self, resource: Resource) {
        let before = self.state.held.insert(resource, Hold::Acquiring);
        debug_assert!(before.is_none(), "{resource:?} is acquired twice");
        self.effects.push(Effect::Acquire(resource));
    }

    /// Gives back whatever can be now; when nothing is under way any more, goes on.
    pub(super) fn clear(&mut self) {
        let all = matches!(self.state.phase, Phase::Removing);
        if !all && !matches!(self.state.phase, Phase::Clearing(_)) {
            return;
        }
        for resource in Resource::ALL {
            let held = self.state.held.get(&resource).copied() == Some(Hold::Held);
            if held && !self.state.stuck.contains(&resource) && !self.needed(resource, all) {
                self.state.held.insert(resource, Hold::Releasing);
                self.effects.push(Effect::Release(resource));
            }
        }
        if !self.state.in_flight() {
            self.state.stuck.clear();
            if all { self.removed() } else { self.cleared() }
        }
    }

    /// Whether something that is still held stands on this.
    fn needed(&self, resource: Resource, all: bool) -> bool {
        let held = |resource| self.state.held.contains_key(&resource);
        match resource {
            Resource::Sandbox => self.state.spawning,
            Resource::Network => false,
            Resource::Root => held(Resource::Sandbox),
            Resource::Directory => {
                !all || held(Resource::Sandbox) || held(Resource::Root) || held(Resource::Network)
            }
        }
    }

    /// All that could be given back is.
    fn cleared(&mut self) {
        let Phase::Clearing(why) = std::mem::replace(&mut self.state.phase, Phase::Idle) else {
            return;
        };
        let trouble = self.state.trouble.take();
        if let Some(trouble) = &trouble {
            self.state.error = Some(trouble.to_string());
        }
        let stopped = match &trouble {
            // A process that could not be destroyed with its sandbox may still run.
            Some(trouble) if !self.state.ended => {
                self.note_exit(ExitStatus::Lost);
                Answer::Failed(trouble.clone())
            }
            Some(_) | None => Answer::Done,
        };
        self.answer_all(Question::Stop, &stopped);
        let auto_remove = self.state.auto_remove;
        match (why, trouble) {
            (Cleared::Failed(error), _) => {
                self.answer_all(Question::Start, &Answer::Failed(error));
                if auto_remove {
                    self.begin_remove();
                } else {
                    self.not_started();
                }
            }
            (Cleared::Leftover, Some(trouble)) => {
                self.answer_all(Question::Start, &Answer::Failed(trouble));
                self.not_started();
            }
            (Cleared::Leftover, None) => self.begin_start(),
            (Cleared::Late, _) if self.awaits(Question::Start) => self.begin_user_start(),
            (Cleared::Late, _) => {}
            (Cleared::Ended, _) if self.awaits(Question::Start) => self.begin_user_start(),
            (Cleared::Ended, _) if auto_remove => self.begin_remove(),
            (Cleared::Ended, _) => {
                let exit = self.state.exit;
                let began = self.state.started.map_or(0, |started| started.0);
                let ended = exit.map_or(0, |exit| exit.at.0);
                let civil = Duration::from_nanos(ended.saturating_sub(began));
                let ran = self.state.lasted.unwrap_or(civil);
                let next = self.state.restarts.next(exit.as_ref(), ran);
                self.back_off(next);
            }
        }
        self.put_off();
    }

    /// What it still holds of a run is given back, now that it does not run.
    fn clear_late(&mut self) {
        if self.state.holds_of_a_run() {
            self.state.phase = Phase::Clearing(Cleared::Late);
            self.clear();
        }
    }

    /// If it is at rest and something would not go, that is tried again later.
    fn put_off(&mut self) {
        let at_rest = matches!(self.state.phase, Phase::Idle);
        self.state.put_off = (at_rest && self.state.holds_of_a_run()).then(|| {
            let last = self.state.put_off.unwrap_or(CLEAR_AGAIN / 2);
            (last * 2).min(CLEAR_AGAIN_MAX)
        });
        self.effects.extend(self.state.put_off.map(Effect::Timer));
    }

    /// A start came to nothing: one that was not the user's is tried again.
    fn not_started(&mut self) {
        if self.state.restarts.again {
            let next = self.state.restarts.next(None, Duration::ZERO);
            self.back_off(next);
        }
    }

    fn back_off(&mut self, next: Option<Duration>) {
        if let Some(delay) = next {
            self.state.phase = Phase::Backoff;
            self.effects.push(Effect::Timer(delay));
        }
    }

    /// It is started again by itself.
    fn begin_again(&mut self) {
        self.state.restarts.again = true;
        self.begin_start();
    }

    /// All is given back, or something would not be.
    fn removed(&mut self) {
        let trouble = self.state.trouble.take();
        let gone = self.state.held.is_empty();
        self.state.phase = if gone { Phase::Gone } else { Phase::Dead };
        let failed = trouble.map_or(Answer::Refused(Refusal::Removing), Answer::Failed);
        let done = if gone { Answer::Done } else { failed.clone() };
        if let (false, Answer::Failed(trouble)) = (gone, &failed) {
            self.state.error = Some(trouble.to_string());
        }
        self.answer_all(Question::Remove, &done);
        self.answer_all(Question::Stop, &done);
        self.answer_all(Question::Make, &failed);
    }

    pub(super) fn wait(&mut self, id: AskId, question: Question) {
        self.state.waiting.push((id, question));
    }

    fn awaits(&self, question: Question) -> bool {
        self.state.waiting.iter().any(|(_, other)| *other == question)
    }

    pub(super) fn answer(&mut self, id: AskId, answer: Answer) {
        if let Some(at) = self.state.waiting.iter().position(|(other, _)| *other == id) {
            self.state.waiting.remove(at);
            self.effects.push(Effect::Answer(id, answer));
        }
    }

    pub(super) fn answer_all(&mut self, question: Question, answer: &Answer) {
        let effects = &mut self.effects;
        self.state.waiting.retain(|(id, other)| {
            let asked = *other == question;
            if asked {
                effects.push(Effect::Answer(*id, answer.clone()));
            }
            !asked
        });
    }
}

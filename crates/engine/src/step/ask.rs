//! What is asked: accepted with its effects, or refused with nothing changed.

use workload::Signal;

use crate::RestartPolicy;

use super::{
    Answer, Ask, AskId, Cleared, Effect, Frozen, KILL_WAIT, Next, Phase, Question, Refusal,
    Resource, Starting, State, StopPlan, Stopping,
};

impl State {
    /// The same under another restart policy: one that starts nothing ends a wait for a restart.
    pub(crate) fn with_policy(&self, policy: RestartPolicy) -> State {
        let mut state = self.clone();
        state.restarts.policy = policy;
        if policy == RestartPolicy::No && matches!(state.phase, Phase::Backoff) {
            state.phase = Phase::Idle;
        }
        state
    }
}

impl Next {
    pub(super) fn asked(&mut self, id: AskId, ask: Ask) -> Result<(), Refusal> {
        match ask {
            Ask::Make => self.make(id),
            Ask::Start => self.start(id),
            Ask::Stop(plan) => self.stop(id, plan),
            Ask::Restart(plan) => self.restart(id, plan),
            Ask::Kill { signal, for_good } => self.kill(id, signal, for_good),
            Ask::Pause => self.pause(id),
            Ask::Resume => self.resume(id),
            Ask::Remove { force } => self.remove(id, force),
        }
    }

    fn make(&mut self, id: AskId) -> Result<(), Refusal> {
        if !matches!(self.state.phase, Phase::Making) || !self.state.held.is_empty() {
            return Err(Refusal::Busy("made already"));
        }
        self.wait(id, Question::Make);
        self.acquire(Resource::Directory);
        Ok(())
    }

    fn start(&mut self, id: AskId) -> Result<(), Refusal> {
        match &self.state.phase {
            Phase::Making => return Err(Refusal::Busy("being made")),
            Phase::Removing | Phase::Dead | Phase::Gone => return Err(Refusal::Removing),
            Phase::Running { frozen: Frozen::No, .. } => {
                self.effects.push(Effect::Answer(id, Answer::Done));
            }
            Phase::Running { .. } => return Err(Refusal::Paused),
            // It is being started, or will be when all is given back.
            Phase::Starting { .. } | Phase::Clearing(_) => {
                self.state.restarts.user_starts();
                self.wait(id, Question::Start);
            }
            Phase::Idle | Phase::Backoff => {
                self.wait(id, Question::Start);
                self.begin_user_start();
            }
        }
        Ok(())
    }

    fn stop(&mut self, id: AskId, plan: StopPlan) -> Result<(), Refusal> {
        match &mut self.state.phase {
            Phase::Making => return Err(Refusal::Busy("being made")),
            Phase::Removing | Phase::Gone => return Err(Refusal::Removing),
            Phase::Idle | Phase::Dead => {
                self.state.restarts.user_stops();
                self.effects.push(Effect::Answer(id, Answer::Done));
            }
            Phase::Backoff => {
                self.end_backoff();
                self.effects.push(Effect::Answer(id, Answer::Done));
            }
            Phase::Starting { then_stop, .. } => {
                *then_stop = Some(plan);
                self.state.restarts.user_stops();
                self.wait(id, Question::Stop);
            }
            Phase::Clearing(_) => {
                self.state.restarts.user_stops();
                self.wait(id, Question::Stop);
            }
            Phase::Running { .. } => {
                self.state.restarts.user_stops();
                self.wait(id, Question::Stop);
                self.begin_stop(plan);
            }
        }
        Ok(())
    }

    fn restart(&mut self, id: AskId, plan: StopPlan) -> Result<(), Refusal> {
        if let Phase::Running { .. } = self.state.phase {
            self.wait(id, Question::Start);
            self.begin_stop(plan);
            return Ok(());
        }
        self.start(id)
    }

    fn kill(&mut self, id: AskId, signal: Signal, for_good: bool) -> Result<(), Refusal> {
        if matches!(self.state.phase, Phase::Backoff) && for_good {
            self.end_backoff();
            self.effects.push(Effect::Answer(id, Answer::Done));
            return Ok(());
        }
        if self.state.restarting() {
            return Err(Refusal::Restarting);
        }
        let Phase::Running { .. } = self.state.phase else { return Err(Refusal::NotRunning) };
        if for_good {
            self.state.restarts.user_stops();
        }
        self.wait(id, Question::Kill);
        self.effects.push(Effect::Signal(signal, Some(id)));
        if signal == Signal::KILL {
            self.thaw();
        }
        Ok(())
    }

    fn pause(&mut self, id: AskId) -> Result<(), Refusal> {
        let run = self.state.run;
        if self.state.restarting() {
            return Err(Refusal::Restarting);
        }
        let Phase::Running { frozen, stopping, .. } = &mut self.state.phase else {
            return Err(Refusal::NotRunning);
        };
        match (*frozen, *stopping) {
            (Frozen::Yes, _) => return Err(Refusal::AlreadyPaused),
            (Frozen::Pausing, _) => return Err(Refusal::Busy("being paused")),
            (Frozen::Resuming, _) => return Err(Refusal::Busy("being resumed")),
            (Frozen::No, Some(_)) => return Err(Refusal::Busy("being stopped")),
            (Frozen::No, None) => *frozen = Frozen::Pausing,
        }
        self.wait(id, Question::Pause);
        self.effects.push(Effect::Pause(run));
        Ok(())
    }

    fn resume(&mut self, id: AskId) -> Result<(), Refusal> {
        let run = self.state.run;
        let Phase::Running { frozen, .. } = &mut self.state.phase else {
            return Err(Refusal::NotPaused);
        };
        match *frozen {
            Frozen::No => return Err(Refusal::NotPaused),
            Frozen::Pausing => return Err(Refusal::Busy("being paused")),
            Frozen::Resuming => return Err(Refusal::Busy("being resumed")),
            Frozen::Yes => *frozen = Frozen::Resuming,
        }
        self.wait(id, Question::Resume);
        self.effects.push(Effect::Resume(run));
        Ok(())
    }

    fn remove(&mut self, id: AskId, force: bool) -> Result<(), Refusal> {
        match &self.state.phase {
            Phase::Making => return Err(Refusal::Busy("being made")),
            Phase::Removing | Phase::Gone => return Err(Refusal::Removing),
            Phase::Running { .. } if !force => return Err(Refusal::RemoveRunning),
            _ if !force && self.state.restarting() => return Err(Refusal::RemoveRestarting),
            Phase::Starting { .. } if !force => return Err(Refusal::Busy("being started")),
            Phase::Running { .. }
            | Phase::Backoff
            | Phase::Starting { .. }
            | Phase::Idle
            | Phase::Clearing(_)
            | Phase::Dead => {}
        }
        self.wait(id, Question::Remove);
        self.begin_remove();
        Ok(())
    }

    /// Its user starts it, which ends any row of restarts.
    pub(super) fn begin_user_start(&mut self) {
        if matches!(self.state.phase, Phase::Backoff) {
            self.effects.push(Effect::NoTimer);
        }
        self.state.restarts.user_starts();
        self.begin_start();
    }

    /// It is not started again after all.
    fn end_backoff(&mut self) {
        self.state.restarts.user_stops();
        self.state.phase = Phase::Idle;
        self.effects.push(Effect::NoTimer);
    }

    pub(super) fn begin_start(&mut self) {
        self.state.error = None;
        self.state.trouble = None;
        if self.state.holds_of_a_run() {
            self.state.phase = Phase::Clearing(Cleared::Leftover);
            self.clear();
        } else {
            self.state.phase = Phase::Starting { step: Starting::Preparing, then_stop: None };
            self.acquire(Resource::Network);
            self.acquire(Resource::Root);
        }
    }

    /// Signals a running process, and sets the time after which it is killed.
    pub(super) fn begin_stop(&mut self, plan: StopPlan) {
        let Phase::Running { stopping, .. } = &mut self.state.phase else { return };
        let kill = plan.signal == Signal::KILL;
        *stopping = Some(if kill { Stopping::Killed } else { Stopping::Asked });
        self.effects.push(Effect::Signal(plan.signal, None));
        self.effects.push(match (kill, plan.grace) {
            (true, _) => Effect::Timer(KILL_WAIT),
            (false, Some(grace)) => Effect::Timer(grace),
            (false, None) => Effect::NoTimer,
        });
        self.thaw();
    }

    /// Lets a paused process go on, so that it can end.
    pub(super) fn thaw(&mut self) {
        let run = self.state.run;
        if let Phase::Running { frozen: frozen @ Frozen::Yes, .. } = &mut self.state.phase {
            *frozen = Frozen::Resuming;
            self.effects.push(Effect::Resume(run));
        }
    }

    pub(super) fn begin_remove(&mut self) {
        if matches!(self.state.phase, Phase::Running { .. } | Phase::Backoff) {
            self.effects.push(Effect::NoTimer);
        }
        // A process that is still being started is waited for: see `clear`.
        if matches!(self.state.phase, Phase::Starting { step: Starting::Spawning, .. }) {
            self.state.spawning = true;
        }
        self.state.phase = Phase::Removing;
        self.state.trouble = None;
        self.answer_all(Question::Start, &Answer::Refused(Refusal::Removing));
        self.answer_all(Question::Pause, &Answer::Refused(Refusal::Removing));
        self.answer_all(Question::Resume, &Answer::Refused(Refusal::Removing));
        self.clear();
    }
}

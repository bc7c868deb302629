//! The state machine against a host that answers in any order, late, badly or twice asked.

use std::collections::BTreeSet;

use base::clock::Timestamp;
use proptest::prelude::*;
use workload::ExitStatus;

use super::*;
use crate::record::Stage;

const NOW: Timestamp = Timestamp(1);

fn broken() -> EngineError {
    EngineError::Closed
}

/// What stands on the host and what is under way, with the rules that must never be broken.
struct World {
    state: State,
    here: BTreeSet<Resource>,
    under_way: Vec<Effect>,
    process: Option<Run>,
    timer: bool,
    asked: u64,
    open: BTreeSet<AskId>,
    answered: Vec<(AskId, Answer)>,
}

impl World {
    fn new(auto_remove: bool, policy: RestartPolicy) -> World {
        World {
            state: State::new(auto_remove, policy),
            here: BTreeSet::new(),
            under_way: Vec::new(),
            process: None,
            timer: false,
            asked: 0,
            open: BTreeSet::new(),
            answered: Vec::new(),
        }
    }

    fn ask(&mut self, ask: Ask) -> AskId {
        self.asked += 1;
        let id = AskId(self.asked);
        self.open.insert(id);
        if self.event(Event::Ask(id, ask)).is_err() {
            self.open.remove(&id);
        }
        id
    }

    fn event(&mut self, event: Event) -> Result<(), Refusal> {
        let (next, effects) = step(&self.state, event, NOW)?;
        self.state = next;
        for effect in effects {
            self.effect(effect);
        }
        Ok(())
    }

    fn effect(&mut self, effect: Effect) {
        match &effect {
            Effect::Acquire(resource) => {
                assert!(!self.here.contains(resource), "{resource:?} acquired twice");
                assert!(!self.busy(*resource), "{resource:?} acquired while under way");
            }
            Effect::Release(resource) => {
                assert!(self.here.contains(resource), "{resource:?} released but not held");
                assert!(!self.busy(*resource), "{resource:?} released while under way");
                if *resource == Resource::Root || *resource == Resource::Directory {
                    assert!(!self.here.contains(&Resource::Sandbox), "pulled away under it");
                }
            }
            Effect::Answer(id, answer) => {
                assert!(self.open.remove(id), "{id:?} answered twice");
                self.answered.push((*id, answer.clone()));
                return;
            }
            Effect::Timer(_) => {
                self.timer = true;
                return;
            }
            Effect::NoTimer => {
                self.timer = false;
                return;
            }
            Effect::Watch(run) => {
                assert_eq!(self.process, Some(*run), "watched but not spawned");
                return;
            }
            Effect::Spawn(_) => {
                assert!(self.here.contains(&Resource::Sandbox), "spawned nowhere");
                assert!(self.process.is_none(), "two processes");
            }
            Effect::Signal(..) | Effect::Pause(_) | Effect::Resume(_) => {}
        }
        self.under_way.push(effect);
    }

    fn busy(&self, resource: Resource) -> bool {
        self.under_way.iter().any(|effect| match effect {
            Effect::Acquire(other) | Effect::Release(other) => *other == resource,
            Effect::Spawn(_)
            | Effect::Watch(_)
            | Effect::Signal(..)
            | Effect::Pause(_)
            | Effect::Resume(_)
            | Effect::Timer(_)
            | Effect::NoTimer
            | Effect::Answer(..) => false,
        })
    }

    /// One of the things under way comes to its end, well or badly.
    fn finish(&mut self, which: usize, well: bool, left: bool) {
        if self.under_way.is_empty() {
            return;
        }
        let effect = self.under_way.remove(which % self.under_way.len());
        let result = || if well { Ok(()) } else { Err(broken()) };
        let event = match effect {
            Effect::Acquire(resource) if well => {
                self.here.insert(resource);
                Event::Acquired(resource)
            }
            Effect::Acquire(resource) => {
                if left {
                    self.here.insert(resource);
                }
                let maybe = if left { Maybe::Left } else { Maybe::Nothing };
                Event::NotAcquired(resource, broken(), maybe)
            }
            Effect::Release(resource) if well => {
                self.here.remove(&resource);
                if resource == Resource::Sandbox {
                    self.process = None;
                }
                Event::Released(resource)
            }
            Effect::Release(resource) => Event::NotReleased(resource, broken()),
            Effect::Spawn(run) if well => {
                self.process = Some(run);
                Event::Spawned(run, Some(7))
            }
            Effect::Spawn(run) => Event::NotSpawned(run, broken()),
            Effect::Signal(_, Some(id)) => Event::Signalled(id, result()),
            Effect::Signal(_, None) => return,
            Effect::Pause(run) => Event::Paused(run, result()),
            Effect::Resume(run) => Event::Resumed(run, result()),
            Effect::Watch(_) | Effect::Timer(_) | Effect::NoTimer | Effect::Answer(..) => return,
        };
        self.event(event).expect("a fact is never refused");
    }

    fn end(&mut self) {
        self.end_with(0);
    }

    fn end_with(&mut self, code: u8) {
        if let Some(run) = self.process {
            let exit = Exit { status: ExitStatus::Code(code), out_of_memory: false, at: NOW };
            self.event(Event::Ended(run, exit)).expect("a fact is never refused");
        }
    }

    fn time_up(&mut self) {
        if std::mem::take(&mut self.timer) {
            self.event(Event::TimeUp).expect("a fact is never refused");
        }
    }

    /// Everything under way ends well.
    fn settle(&mut self) {
        for _ in 0..100 {
            if self.under_way.is_empty() {
                return;
            }
            self.finish(0, true, false);
        }
        panic!("it never comes to rest: {:?}", self.state);
    }

    fn running() -> World {
        World::running_with(RestartPolicy::No)
    }

    fn running_with(policy: RestartPolicy) -> World {
        let mut world = World::new(false, policy);
        world.ask(Ask::Make);
        world.settle();
        world.ask(Ask::Start);
        world.settle();
        assert_eq!(world.state.stage(), Some(Stage::Running));
        world
    }
}

/// Effects that may still be under way when the run they belong to is over.
fn loose(effect: &Effect) -> bool {
    matches!(effect, Effect::Signal(..) | Effect::Pause(_) | Effect::Resume(_))
}

#[derive(Clone, Debug)]
enum Move {
    Ask(Ask),
    Finish(usize, bool, bool),
    End(u8),
    TimeUp,
}

fn asks() -> impl Strategy<Value = Ask> {
    let plan = (prop_oneof![Just(Signal::TERM), Just(Signal::KILL)], any::<bool>())
        .prop_map(|(signal, ever)| StopPlan { signal, grace: ever.then_some(KILL_WAIT) });
    prop_oneof![
        3 => Just(Ask::Start),
        2 => plan.clone().prop_map(Ask::Stop),
        1 => plan.prop_map(Ask::Restart),
        1 => (prop_oneof![Just(Signal::TERM), Just(Signal::KILL)], any::<bool>())
            .prop_map(|(signal, for_good)| Ask::Kill { signal, for_good }),
        1 => Just(Ask::Pause),
        1 => Just(Ask::Resume),
        1 => any::<bool>().prop_map(|force| Ask::Remove { force }),
    ]
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        3 => asks().prop_map(Move::Ask),
        6 => (any::<usize>(), prop::bool::weighted(0.8), any::<bool>())
            .prop_map(|(which, well, left)| Move::Finish(which, well, left)),
        1 => prop_oneof![Just(0), Just(1)].prop_map(Move::End),
        1 => Just(Move::TimeUp),
    ]
}

/// Whether it removes itself, and its restart policy: never both.
fn kinds() -> impl Strategy<Value = (bool, RestartPolicy)> {
    prop_oneof![
        Just((true, RestartPolicy::No)),
        Just((false, RestartPolicy::No)),
        Just((false, RestartPolicy::Always)),
        Just((false, RestartPolicy::UnlessStopped)),
        Just((false, RestartPolicy::OnFailure { most: None })),
        Just((false, RestartPolicy::OnFailure { most: Some(2) })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_resource_is_given_back_once_and_everyone_is_answered_once(
        (auto_remove, policy) in kinds(),
        moves in prop::collection::vec(moves(), 0..60),
    ) {
        let mut world = World::new(auto_remove, policy);
        world.ask(Ask::Make);
        for one in moves {
            match one {
                Move::Ask(ask) => { world.ask(ask); }
                Move::Finish(which, well, left) => world.finish(which, well, left),
                Move::End(code) => world.end_with(code),
                Move::TimeUp => world.time_up(),
            }
            // What waits to be started again has a timer, and nothing of a run but what would not
            // go.
            let backoff = matches!(world.state.phase, Phase::Backoff);
            prop_assert!(!backoff || world.timer, "nothing starts it again");
            prop_assert!(!backoff || world.under_way.iter().all(loose), "{:?}", world.under_way);
            let gone = matches!(world.state.phase, Phase::Gone);
            prop_assert!(!gone || world.here.is_empty(), "gone, but {:?} is left", world.here);
        }
        // From wherever it is, a forced removal ends with nothing left and nobody waiting.
        world.settle();
        world.ask(Ask::Remove { force: true });
        world.settle();
        prop_assert!(matches!(world.state.phase, Phase::Gone), "{:?}", world.state);
        prop_assert!(world.here.is_empty());
        prop_assert!(world.open.is_empty(), "never answered: {:?} {:?}", world.open, world.state);
    }

    #[test]
    fn a_stop_with_a_grace_always_ends(
        (_, policy) in kinds(),
        before in prop::collection::vec(moves(), 0..30),
    ) {
        let mut world = World::running_with(policy);
        for one in before {
            match one {
                Move::Ask(Ask::Restart(_) | Ask::Start) | Move::TimeUp => {}
                Move::Ask(ask) => { world.ask(ask); }
                Move::Finish(which, well, left) => world.finish(which, well, left),
                Move::End(code) => world.end_with(code),
            }
        }
        world.settle();
        let plan = StopPlan { signal: Signal::TERM, grace: Some(KILL_WAIT) };
        let id = world.ask(Ask::Stop(plan));
        // The process does not listen: only the timer moves on.
        for _ in 0..3 {
            world.settle();
            world.time_up();
        }
        world.settle();
        let running = matches!(world.state.phase, Phase::Running { .. } | Phase::Backoff);
        prop_assert!(!running, "{:?}", world.state);
        prop_assert!(!world.open.contains(&id));
        prop_assert!(!world.timer, "it would be started again");
    }

    #[test]
    fn a_killed_daemon_finds_its_way_from_every_stage(
        (auto_remove, policy) in kinds(),
        moves in prop::collection::vec(moves(), 0..40),
        alive in any::<bool>(),
    ) {
        let mut world = World::new(auto_remove, policy);
        world.ask(Ask::Make);
        for one in moves {
            match one {
                Move::Ask(ask) => { world.ask(ask); }
                Move::Finish(which, well, left) => world.finish(which, well, left),
                Move::End(code) => world.end_with(code),
                Move::TimeUp => world.time_up(),
            }
        }
        let Some(stage) = world.state.stage() else { return Ok(()) };
        let leftover = matches!(stage, Stage::Idle)
            && world.here.iter().any(|resource| *resource != Resource::Directory);
        let process = world.process.filter(|_| alive);
        // What the old daemon had under way may have come to pass or not; the new one assumes
        // the worst, which the world shows by everything being there.
        let old = &world.state;
        let Restarts { count, stopped, .. } = old.restarts;
        let restarts = Restarts::recorded(policy, count, stopped);
        let state = State::recovered(stage, leftover, auto_remove, restarts, old.exit);
        let here = state.held.keys().copied().collect();
        let running = matches!(state.phase, Phase::Running { .. });
        let mut world = World { state, here, ..World::new(auto_remove, policy) };
        let found = match (running, process) {
            (true, Some(_)) => {
                world.process = Some(Run(0));
                Found::Process(Some(7))
            }
            (true, None) => Found::Nothing(None),
            (false, _) => Found::NotSought,
        };
        world.event(Event::Recovered(found)).unwrap();
        world.settle();
        world.ask(Ask::Remove { force: true });
        world.settle();
        prop_assert!(matches!(world.state.phase, Phase::Gone), "{:?}", world.state);
        prop_assert!(world.here.is_empty());
    }
}

#[test]
fn network_and_root_are_made_ready_side_by_side() {
    let mut world = World::new(false, RestartPolicy::No);
    world.ask(Ask::Make);
    world.settle();
    world.ask(Ask::Start);
    assert_eq!(world.under_way.len(), 2, "{:?}", world.under_way);
}

#[test]
fn a_start_that_fails_gives_everything_back_and_says_why() {
    let mut world = World::new(false, RestartPolicy::No);
    world.ask(Ask::Make);
    world.settle();
    let start = world.ask(Ask::Start);
    world.finish(0, true, false);
    world.finish(0, false, false);
    world.settle();
    assert_eq!(world.state.stage(), Some(Stage::Idle));
    assert_eq!(world.here.iter().collect::<Vec<_>>(), [&Resource::Directory]);
    let (id, answer) = world.answered.last().unwrap();
    assert!(*id == start && matches!(answer, Answer::Failed(_)), "{answer:?}");
}

#[test]
fn a_process_that_does_not_listen_is_killed_and_then_destroyed() {
    let mut world = World::running();
    let plan = StopPlan { signal: Signal::TERM, grace: Some(KILL_WAIT) };
    world.ask(Ask::Stop(plan));
    assert!(matches!(world.under_way.last(), Some(Effect::Signal(Signal::TERM, None))));
    world.settle();
    world.time_up();
    assert!(matches!(world.under_way.last(), Some(Effect::Signal(Signal::KILL, None))));
    world.settle();
    world.time_up();
    world.settle();
    assert_eq!(world.state.exit.unwrap().status, ExitStatus::Signal(Signal::KILL));
    assert!(world.open.is_empty());
}

#[test]
fn what_is_not_legal_is_refused() {
    let mut world = World::running();
    let refused = |world: &World, ask| step(&world.state, Event::Ask(AskId(99), ask), NOW).err();
    assert_eq!(refused(&world, Ask::Remove { force: false }), Some(Refusal::RemoveRunning));
    assert_eq!(refused(&world, Ask::Resume), Some(Refusal::NotPaused));
    world.ask(Ask::Pause);
    world.settle();
    assert_eq!(refused(&world, Ask::Pause), Some(Refusal::AlreadyPaused));
    assert_eq!(refused(&world, Ask::Start), Some(Refusal::Paused));
    assert_eq!(world.state.may_exec(), Err(Refusal::Paused));
    world.end();
    world.settle();
    assert_eq!(
        refused(&world, Ask::Kill { signal: Signal::TERM, for_good: true }),
        Some(Refusal::NotRunning)
    );
    assert_eq!(world.state.may_exec(), Err(Refusal::NotRunning));
}

#[test]
fn one_that_ends_is_started_again_and_a_stop_cancels_it() {
    let mut world = World::running_with(RestartPolicy::Always);
    for count in 1..4 {
        world.end();
        world.settle();
        assert!(matches!(world.state.phase, Phase::Backoff) && world.state.alive());
        assert_eq!((world.state.restarts.count, world.state.stage()), (count, Some(Stage::Idle)));
        assert_eq!(world.here.iter().collect::<Vec<_>>(), [&Resource::Directory]);
        assert_eq!(world.state.may_exec(), Err(Refusal::Restarting));
        world.time_up();
        assert!(world.state.restarting(), "it is being started");
        world.settle();
        assert_eq!(world.state.stage(), Some(Stage::Running));
    }
    world.end();
    world.settle();
    let plan = StopPlan { signal: Signal::TERM, grace: None };
    world.ask(Ask::Stop(plan));
    assert!(matches!(world.state.phase, Phase::Idle) && !world.timer && world.open.is_empty());
}

#[test]
fn a_restart_that_fails_is_tried_again_a_users_start_is_not() {
    let mut world = World::running_with(RestartPolicy::UnlessStopped);
    world.end();
    world.settle();
    world.time_up();
    world.finish(0, false, false);
    world.settle();
    assert!(matches!(world.state.phase, Phase::Backoff) && world.timer);
    assert!(world.state.error.is_some());
    let start = world.ask(Ask::Start);
    world.finish(0, false, false);
    world.settle();
    assert!(matches!(world.state.phase, Phase::Idle) && !world.timer);
    assert_eq!(world.answered.last().unwrap().0, start);
}

#[test]
fn a_new_daemon_starts_what_its_policy_says() {
    use RestartPolicy::{Always, No, OnFailure, UnlessStopped};
    let most = Some(3);
    for (policy, code, stopped, starts) in [
        (No, 1, false, false),
        (Always, 0, false, true),
        (Always, 0, true, true),
        (UnlessStopped, 0, false, true),
        (UnlessStopped, 0, true, false),
        (OnFailure { most }, 0, false, false),
        (OnFailure { most }, 1, false, true),
        (OnFailure { most }, 1, true, false),
    ] {
        let exit = Exit { status: ExitStatus::Code(code), out_of_memory: false, at: NOW };
        let restarts = Restarts::recorded(policy, 0, stopped);
        let state = State::recovered(Stage::Idle, false, false, restarts, Some(exit));
        let mut world =
            World { state, here: [Resource::Directory].into(), ..World::new(false, policy) };
        world.event(Event::Recovered(Found::NotSought)).unwrap();
        world.settle();
        let runs = world.state.stage() == Some(Stage::Running);
        assert_eq!(runs, starts, "{policy:?} {code} {stopped}");
    }
}

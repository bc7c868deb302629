//! Containers that are started again.

use workload::{Exit, ExitStatus, Signal};

use super::harness::{World, named, soon};
use crate::{ContainerState, Create, EngineError, Remove, RestartPolicy, Stop, WaitFor};

const FORCE: Remove = Remove { force: true, volumes: false };

fn policy(name: &str, policy: &str, command: &[&str]) -> Create {
    Create { restart: policy.parse().unwrap(), ..named(name, command) }
}

fn exit(code: u8) -> Exit {
    Exit { status: ExitStatus::Code(code), out_of_memory: false, at: base::clock::Timestamp::now() }
}

#[tokio::test]
async fn one_that_fails_is_started_again_as_often_as_it_may() {
    let world = World::new();
    let engine = world.engine().await;
    engine.run(policy("job", "on-failure:2", &["exit", "7"]), None, None).await.unwrap();
    soon("it gives up", || {
        let state = engine.inspect("job").unwrap().state.clone();
        (state.state, state.restarts) == (ContainerState::Exited, 2)
    })
    .await;
    let exit = engine.wait("job", WaitFor::NotRunning).await.unwrap();
    assert_eq!(exit.status, ExitStatus::Code(7));
    let spawns = world.fake.calls().iter().filter(|call| *call == "spawn main").count();
    assert_eq!(spawns, 3);
    engine.remove("job", Remove::default()).await.unwrap();
    world.assert_clean().await;
}

#[tokio::test]
async fn a_stop_between_two_runs_is_for_good() {
    let world = World::new();
    let engine = world.engine().await;
    engine.run(policy("web", "always", &["exit", "1"]), None, None).await.unwrap();
    let restarting = || engine.inspect("web").unwrap().state.state == ContainerState::Restarting;
    soon("it waits", restarting).await;
    let refused = engine.remove("web", Remove::default()).await;
    // It may be between two runs, or in one.
    assert!(matches!(
        refused,
        Err(EngineError::RemoveRestarting(_) | EngineError::RemoveRunning(_))
    ));
    engine.stop("web", Stop::default()).await.unwrap();
    let stopped = engine.inspect("web").unwrap().state.clone();
    assert_eq!(stopped.state, ContainerState::Exited);
    assert_eq!(stopped.exit.unwrap().status, ExitStatus::Code(1));
    engine.remove("web", Remove::default()).await.unwrap();
    world.assert_clean().await;
}

#[tokio::test]
async fn whoever_waits_hears_of_every_end_and_a_signal_to_reload_is_no_end() {
    let world = World::new();
    let engine = world.engine().await;
    let id = engine.run(policy("web", "always", &["sleep"]), None, None).await.unwrap().id;
    let ending = engine.ending("web", WaitFor::NotRunning).unwrap();
    assert!(world.fake.end(&id.sandbox(), "main", exit(3)));
    assert_eq!(ending.exit().await.unwrap().status, ExitStatus::Code(3));
    let runs = || engine.inspect("web").unwrap().state.state == ContainerState::Running;
    soon("it runs again", runs).await;
    // A signal that is not to end it, and does.
    let ending = engine.ending("web", WaitFor::NextExit).unwrap();
    engine.kill("web", Signal::parse("HUP").unwrap()).await.unwrap();
    ending.exit().await.unwrap();
    soon("it runs once more", runs).await;
    engine.kill("web", Signal::TERM).await.unwrap();
    let done = || engine.inspect("web").unwrap().state.state == ContainerState::Exited;
    soon("it has ended for good", done).await;
    engine.remove("web", FORCE).await.unwrap();
    world.assert_clean().await;
}

#[tokio::test]
async fn a_new_daemon_starts_what_ended_or_was_lost_unless_its_user_stopped_it() {
    let world = World::new();
    let engine = world.engine().await;
    for (name, kind) in [
        ("always", "always"),
        ("lost", "unless-stopped"),
        ("stopped", "unless-stopped"),
        ("no", "no"),
    ] {
        engine.run(policy(name, kind, &["sleep"]), None, None).await.unwrap();
    }
    engine.stop("always", Stop::default()).await.unwrap();
    engine.stop("stopped", Stop::default()).await.unwrap();
    let id = |name: &str| engine.inspect(name).unwrap().id.clone();
    let (lost, no) = (id("lost"), id("no"));
    drop(engine);
    world.fake.lose(&lost.sandbox());
    world.fake.lose(&no.sandbox());
    let engine = world.engine().await;
    let state = |name: &str| engine.inspect(name).unwrap().state.state;
    for name in ["always", "lost"] {
        soon(name, || state(name) == ContainerState::Running).await;
    }
    for name in ["stopped", "no"] {
        soon(name, || state(name) == ContainerState::Exited).await;
    }
    for name in ["always", "lost", "stopped", "no"] {
        engine.remove(name, FORCE).await.unwrap();
    }
    world.assert_clean().await;
}

#[tokio::test]
async fn one_that_removes_itself_is_not_restarted() {
    let world = World::new();
    let engine = world.engine().await;
    let both = Create {
        auto_remove: true,
        restart: RestartPolicy::Always,
        ..named("both", &["exit", "0"])
    };
    let failure = engine.create(both).await.unwrap_err();
    assert!(failure.to_string().contains("'AutoRemove' container with restart policy"));
}

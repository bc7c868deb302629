//! New limits and policies for containers, and drivers that will not have them.

use std::time::Duration;

use base::{ByteSize, ErrorKind};
use testkit::fake::{Fault, Point};
use workload::{DriverError, Exit, ExitStatus, Limits};

use super::harness::{World, named, soon, transient};
use crate::{
    ContainerState, Create, Engine, EngineError, Remove, RestartPolicy, StatsQuery, Stop, Update,
};

const FORCE: Remove = Remove { force: true, volumes: false };

fn pids(most: u64) -> Update {
    Update { limits: Limits { pids: Some(most), ..Limits::default() }, restart: None }
}

fn restart(policy: &str) -> Update {
    Update { restart: Some(policy.parse().unwrap()), ..Update::default() }
}

fn recorded(engine: &crate::Engine, who: &str) -> Option<u64> {
    engine.inspect(who).unwrap().config.limits.pids
}

fn exit(code: u8) -> Exit {
    let at = base::clock::Timestamp(0);
    Exit { status: ExitStatus::Code(code), out_of_memory: false, at }
}

/// The limit that the driver has in force.
async fn pids_limit(engine: &Engine, who: &str) -> Option<u64> {
    let query = StatsQuery { who: vec![who.to_owned()], all: false };
    let stats = engine.stats(&query).await.unwrap();
    stats.containers.first().unwrap().usage.as_ref().unwrap().pids_limit
}

#[tokio::test]
async fn one_that_runs_is_limited_at_once_and_one_that_does_not_when_it_starts() {
    let world = World::new();
    let engine = world.engine().await;
    let id = engine.create(named("web", &["sleep"])).await.unwrap().id;
    engine.update("web", pids(7)).await.unwrap();
    assert_eq!(recorded(&engine, "web"), Some(7));
    engine.start("web", None, None).await.unwrap();
    assert_eq!(world.fake.spec(&id.sandbox()).unwrap().limits.pids, Some(7));
    assert!(!world.fake.calls().contains(&"limit".to_owned()), "it did not run");
    engine.update("web", pids(8)).await.unwrap();
    assert!(world.fake.calls().contains(&"limit".to_owned()));
    assert_eq!(pids_limit(&engine, "web").await, Some(8));
    // A new daemon knows it, and the next start has it.
    drop(engine);
    let engine = world.engine().await;
    assert_eq!(recorded(&engine, "web"), Some(8));
    engine.restart("web", Stop::default()).await.unwrap();
    assert_eq!(world.fake.spec(&id.sandbox()).unwrap().limits.pids, Some(8));
    engine.remove("web", FORCE).await.unwrap();
    world.assert_clean().await;
}

#[tokio::test]
async fn what_the_driver_refuses_is_undone_and_not_recorded() {
    let world = World::new();
    let engine = world.engine().await;
    let limits = Limits { pids: Some(5), ..Limits::default() };
    let create = Create { limits, ..named("web", &["sleep"]) };
    engine.run(create, None, None).await.unwrap();
    let unsupported = DriverError::Unsupported { what: "pids".into(), why: "no controller".into() };
    world.fake.inject(Point::Limit, Fault::FailOnce(unsupported));
    let both = Update { restart: Some(RestartPolicy::Always), ..pids(9) };
    let failure = engine.update("web", both).await.unwrap_err();
    assert_eq!(failure.kind(), ErrorKind::Unsupported);
    assert!(matches!(failure, EngineError::CannotUpdate { .. }), "{failure}");
    assert_eq!(recorded(&engine, "web"), Some(5));
    assert_eq!(engine.inspect("web").unwrap().config.restart, RestartPolicy::No);
    // What was in force is in force again.
    assert_eq!(pids_limit(&engine, "web").await, Some(5));
    // What makes no sense does not even get to the driver.
    let calls = world.fake.calls().len();
    let mut small = Update::default();
    small.limits.memory.limit = Some(ByteSize(1));
    let failure = engine.update("web", small).await.unwrap_err();
    assert_eq!(failure.kind(), ErrorKind::InvalidInput);
    assert!(!world.fake.calls()[calls..].contains(&"limit".to_owned()));
    engine.remove("web", FORCE).await.unwrap();
    world.assert_clean().await;
}

#[tokio::test]
async fn one_that_ends_meanwhile_has_its_new_limits_the_next_time() {
    let world = World::new();
    let engine = world.engine().await;
    let id = engine.run(named("web", &["sleep"]), None, None).await.unwrap().id;
    world.fake.inject(Point::Limit, Fault::Delay(Duration::from_millis(60)));
    let update = engine.update("web", pids(6));
    let stop = async {
        let asked = || world.fake.calls().contains(&"limit".to_owned());
        soon("the driver is asked", asked).await;
        engine.restart("web", Stop::default()).await.unwrap();
    };
    let (updated, ()) = tokio::join!(update, stop);
    updated.unwrap();
    assert_eq!(recorded(&engine, "web"), Some(6));
    let started = world.fake.spec(&id.sandbox()).unwrap().limits.pids;
    let used = pids_limit(&engine, "web").await;
    assert!(started == Some(6) || used == Some(6), "{started:?} {used:?}");
    engine.remove("web", FORCE).await.unwrap();
    world.assert_clean().await;
}

#[tokio::test]
async fn a_policy_counts_from_the_next_end_on_and_one_that_starts_nothing_at_once() {
    let world = World::new();
    let engine = world.engine().await;
    let id = engine.run(named("web", &["sleep"]), None, None).await.unwrap().id;
    engine.update("web", restart("always")).await.unwrap();
    let first = engine.inspect("web").unwrap().state.pid;
    assert!(world.fake.end(&id.sandbox(), "main", exit(1)));
    let state = || engine.inspect("web").unwrap().state.clone();
    soon("it runs again", || state().pid.is_some_and(|pid| Some(pid) != first)).await;
    engine.update("web", restart("no")).await.unwrap();
    assert!(world.fake.end(&id.sandbox(), "main", exit(1)));
    soon("it has ended", || state().state == ContainerState::Exited).await;
    engine.update("web", restart("always")).await.unwrap();
    // One that waits for its next attempt makes none.
    let job = Create { restart: RestartPolicy::Always, ..named("job", &["exit", "1"]) };
    engine.run(job, None, None).await.unwrap();
    let job = || engine.inspect("job").unwrap().state.clone();
    soon("it has a row of failures", || {
        job().restarts > 2 && job().state == ContainerState::Restarting
    })
    .await;
    engine.update("job", restart("no")).await.unwrap();
    soon("it is not started again", || job().state == ContainerState::Exited).await;
    engine.run(transient(&["sleep"]), None, None).await.unwrap();
    let transient = engine.list().last().unwrap().id.clone();
    let failure = engine.update(transient.as_str(), restart("always")).await.unwrap_err();
    assert!(crate::error::chain(&failure).contains("AutoRemove is enabled"), "{failure}");
    for who in ["web", "job", transient.as_str()] {
        engine.remove(who, FORCE).await.unwrap();
    }
    world.assert_clean().await;
}

//! The daemon is killed at every step, and the next one finds its way.

use std::time::Duration;

use base::clock::Timestamp;
use testkit::fake::{Fault, Point};
use workload::{DriverError, Exit, ExitStatus, Signal};

use super::harness::{STUCK, World, named, soon, transient};
use crate::{ContainerState, Create, Engine, ExecCreate, Remove, Stop, WaitFor};

const FORCE: Remove = Remove { force: true, volumes: false };

/// The daemon is killed: nothing is closed, nothing is waited for.
fn kill(engine: Engine) {
    drop(engine);
}

#[tokio::test]
async fn a_running_container_is_taken_over_and_obeys() {
    let world = World::new();
    let engine = world.engine().await;
    let id = engine.run(named("web", &["sleep"]), None, None).await.unwrap().id;
    let before = engine.inspect("web").unwrap();
    kill(engine);
    let engine = world.engine().await;
    let after = engine.inspect("web").unwrap();
    assert_eq!((&after.id, after.state.state), (&id, ContainerState::Running));
    assert_eq!((after.state.pid, &after.network), (before.state.pid, &before.network));
    assert_eq!(world.networks.plugged().len(), 1);
    engine.stop("web", Stop::default()).await.unwrap();
    engine.remove("web", Remove::default()).await.unwrap();
    world.assert_clean().await;
}

#[tokio::test]
async fn an_exit_while_no_daemon_ran_is_not_lost() {
    let world = World::new();
    let engine = world.engine().await;
    let id = engine.run(named("job", &["sleep"]), None, None).await.unwrap().id;
    let rm = Create { name: Some("rm".parse().unwrap()), ..transient(&["sleep"]) };
    let rm = engine.run(rm, None, None).await.unwrap().id;
    kill(engine);
    let at = Timestamp(1_700_000_000_000_000_000);
    let exit = Exit { status: ExitStatus::Code(42), out_of_memory: true, at };
    assert!(world.fake.end(&id.sandbox(), "main", exit));
    assert!(world.fake.end(&rm.sandbox(), "main", exit));
    let engine = world.engine().await;
    assert_eq!(engine.wait("job", WaitFor::NotRunning).await.unwrap(), exit);
    assert_eq!(engine.inspect("job").unwrap().state.state, ContainerState::Exited);
    soon("the other removes itself", || engine.list().len() == 1).await;
    engine.remove("job", Remove::default()).await.unwrap();
    world.assert_clean().await;
}

#[tokio::test]
async fn a_shim_that_was_lost_meanwhile_is_an_exit_that_nobody_knows() {
    let world = World::new();
    let engine = world.engine().await;
    let id = engine.run(named("web", &["sleep"]), None, None).await.unwrap().id;
    kill(engine);
    world.fake.lose(&id.sandbox());
    let engine = world.engine().await;
    let exit = engine.wait("web", WaitFor::NotRunning).await.unwrap();
    assert_eq!(exit.status, ExitStatus::Lost);
    engine.start("web", None, None).await.unwrap();
    engine.remove("web", FORCE).await.unwrap();
    world.assert_clean().await;
}

#[tokio::test]
async fn a_shim_that_does_not_answer_costs_the_container_not_the_daemon() {
    let world = World::new();
    let engine = world.engine().await;
    engine.run(named("web", &["sleep"]), None, None).await.unwrap();
    kill(engine);
    let why = "it is silent".to_owned();
    world.fake.inject(Point::Recover, Fault::Fail(DriverError::Unreachable { why }));
    let engine = world.engine().await;
    let exit = engine.wait("web", WaitFor::NotRunning).await.unwrap();
    assert_eq!(exit.status, ExitStatus::Lost);
    assert!(engine.inspect("web").unwrap().state.error.is_some());
    // It answers again: what it holds is cleared away.
    world.fake.heal();
    engine.remove("web", FORCE).await.unwrap();
    world.assert_clean().await;
}

#[tokio::test]
async fn what_an_earlier_daemon_could_not_clear_away_is_cleared_by_the_next() {
    let world = World::new();
    let engine = world.engine().await;
    engine.run(named("web", &["sleep"]), None, None).await.unwrap();
    let failure = DriverError::Step { step: "test".to_owned(), errno: 16 };
    world.fake.inject(Point::Destroy, Fault::Fail(failure));
    engine.kill("web", Signal::KILL).await.unwrap();
    engine.wait("web", WaitFor::NotRunning).await.unwrap();
    assert_eq!(world.fake.sandboxes().len(), 1);
    assert!(engine.start("web", None, None).await.is_err());
    kill(engine);
    world.fake.heal();
    let engine = world.engine().await;
    assert_eq!(engine.inspect("web").unwrap().state.state, ContainerState::Exited);
    soon("it is cleared away", || world.fake.sandboxes().is_empty()).await;
    soon("its lease is given back", || world.networks.plugged().is_empty()).await;
    engine.start("web", None, None).await.unwrap();
    engine.remove("web", FORCE).await.unwrap();
    world.assert_clean().await;
}

#[tokio::test]
async fn what_would_not_go_is_tried_again_by_the_same_daemon() {
    let world = World::new();
    let engine = world.engine().await;
    engine.run(named("web", &["sleep"]), None, None).await.unwrap();
    let failure = DriverError::Step { step: "test".to_owned(), errno: 28 };
    world.fake.inject(Point::Destroy, Fault::FailOnce(failure));
    engine.stop("web", Stop::default()).await.unwrap();
    assert_eq!(world.fake.sandboxes().len(), 1);
    soon("it is cleared away", || world.fake.sandboxes().is_empty()).await;
    engine.remove("web", Remove::default()).await.unwrap();
    world.assert_clean().await;
}

#[tokio::test]
async fn a_paused_container_stays_paused() {
    let world = World::new();
    let engine = world.engine().await;
    engine.run(named("web", &["sleep"]), None, None).await.unwrap();
    engine.pause("web").await.unwrap();
    kill(engine);
    let engine = world.engine().await;
    assert_eq!(engine.inspect("web").unwrap().state.state, ContainerState::Paused);
    engine.resume("web").await.unwrap();
    engine.remove("web", FORCE).await.unwrap();
    world.assert_clean().await;
}

#[tokio::test]
async fn execs_are_taken_over() {
    let world = World::new();
    let engine = world.engine().await;
    let id = engine.run(named("web", &["sleep"]), None, None).await.unwrap().id;
    let exec = ExecCreate { command: vec!["sleep".to_owned()], ..ExecCreate::default() };
    let exec = engine.exec_create("web", exec).await.unwrap();
    engine.exec_start(&exec, None).await.unwrap();
    kill(engine);
    let exit = Exit { status: ExitStatus::Code(9), out_of_memory: false, at: Timestamp::now() };
    assert!(world.fake.end(&id.sandbox(), &exec, exit));
    let engine = world.engine().await;
    assert_eq!(engine.exec_wait(&exec).await.unwrap(), exit);
    engine.remove("web", FORCE).await.unwrap();
    world.assert_clean().await;
}

#[tokio::test]
async fn names_and_stopped_containers_outlive_the_daemon() {
    let world = World::new();
    let engine = world.engine().await;
    engine.create(named("a1", &["exit", "5"])).await.unwrap();
    engine.rename("a1", "b1".parse().unwrap()).await.unwrap();
    engine.start("b1", None, None).await.unwrap();
    engine.wait("b1", WaitFor::NotRunning).await.unwrap();
    kill(engine);
    let engine = world.engine().await;
    assert!(engine.inspect("a1").is_err());
    let found = engine.inspect("b1").unwrap();
    assert_eq!(found.state.exit.unwrap().status, ExitStatus::Code(5));
    assert!(engine.create(named("b1", &[])).await.is_err());
}

/// Kills the daemon so many milliseconds into a life of this container, which every step of
/// prolongs, and sees that the next daemon puts everything in order.
async fn killed_after(milliseconds: u64, auto_remove: bool) {
    let world = World::new();
    let engine = world.engine().await;
    let delay = Fault::Delay(Duration::from_millis(3));
    for point in [Point::Create, Point::Spawn, Point::Destroy, Point::Signal, Point::Pause] {
        world.fake.inject(point, delay.clone());
    }
    let life = async {
        let create = Create { auto_remove, ..named("web", &["sleep"]) };
        engine.run(create, None, None).await.unwrap();
        engine.pause("web").await.unwrap();
        engine.resume("web").await.unwrap();
        engine.stop("web", Stop::default()).await.unwrap();
        engine.remove("web", Remove::default()).await.ok();
    };
    tokio::time::timeout(Duration::from_millis(milliseconds), life).await.ok();
    kill(engine);
    world.fake.heal();

    let engine = world.engine().await;
    let containers = engine.list();
    assert!(containers.len() <= 1);
    let settled = || {
        engine.inspect("web").map_or(true, |container| match container.state.state {
            ContainerState::Running => {
                container.state.pid.is_some() && world.fake.sandboxes().len() == 1
            }
            ContainerState::Paused => world.fake.sandboxes().len() == 1,
            ContainerState::Created | ContainerState::Exited | ContainerState::Restarting => {
                world.fake.sandboxes().is_empty() && world.networks.plugged().is_empty()
            }
            ContainerState::Removing | ContainerState::Dead => false,
        })
    };
    soon(&format!("records and driver agree, killed after {milliseconds} ms"), settled).await;
    if engine.inspect("web").is_ok() {
        tokio::time::timeout(STUCK, engine.remove("web", FORCE)).await.unwrap().ok();
    }
    soon("it is gone", || engine.list().is_empty()).await;
    // The name is free, and a container of it lives.
    let exit = engine.run(named("web", &["exit", "0"]), None, None).await;
    exit.unwrap();
    engine.wait("web", WaitFor::NotRunning).await.unwrap();
    engine.remove("web", Remove::default()).await.unwrap();
    world.assert_clean().await;
}

#[tokio::test]
async fn killed_at_any_time_records_and_driver_agree_afterwards() {
    for milliseconds in (0..30).chain([40, 60]) {
        killed_after(milliseconds, false).await;
        killed_after(milliseconds, true).await;
    }
}

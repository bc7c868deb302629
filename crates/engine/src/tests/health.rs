//! Health checks over the fake driver.

use std::time::Duration;

use workload::Signal;

use super::harness::{World, named, soon};
use crate::{Create, Engine, Health, HealthCheck, HealthStatus, HealthTest, Remove, Stop};

const FORCE: Remove = Remove { force: true, volumes: false };

fn checked(name: &str, test: &[&str]) -> Create {
    let test = HealthTest::Command(test.iter().map(|&word| word.to_owned()).collect());
    let interval = Some(Duration::from_millis(5));
    let health = HealthCheck { test, interval, ..HealthCheck::default() };
    Create { health: Some(health), ..named(name, &["sleep"]) }
}

fn health(engine: &Engine, name: &str) -> Health {
    engine.inspect(name).unwrap().state.health.clone().expect("it is checked")
}

fn probes(world: &World) -> usize {
    world.fake.calls().iter().filter(|call| *call == "spawn health").count()
}

#[tokio::test]
async fn a_success_makes_it_healthy_and_five_results_are_kept() {
    let world = World::new();
    let engine = world.engine().await;
    engine.create(checked("web", &["echo", "fine"])).await.unwrap();
    assert_eq!(engine.inspect("web").unwrap().state.health, None);
    engine.start("web", None, None).await.unwrap();
    soon("it is healthy", || health(&engine, "web").status == HealthStatus::Healthy).await;
    soon("it was checked often", || probes(&world) > 7).await;
    let found = health(&engine, "web");
    assert_eq!((found.results.len(), found.streak), (5, 0));
    assert!(found.results.iter().all(|result| result.code == 0 && result.output == "fine\n"));
    assert!(engine.inspect("web").unwrap().execs.is_empty(), "checks are not listed");
    engine.stop("web", Stop::default()).await.unwrap();
    assert_eq!(health(&engine, "web").status, HealthStatus::Unhealthy);
    engine.remove("web", FORCE).await.unwrap();
    world.assert_clean().await;
}

#[tokio::test]
async fn failures_in_a_row_make_it_unhealthy_and_a_restart_begins_anew() {
    let world = World::new();
    let engine = world.engine().await;
    engine.run(checked("web", &["exit", "3"]), None, None).await.unwrap();
    soon("it is not", || health(&engine, "web").status == HealthStatus::Unhealthy).await;
    assert!(health(&engine, "web").streak >= 3);
    assert!(health(&engine, "web").results.iter().all(|result| result.code == 3));
    // What cannot be run at all is a failure too.
    engine.run(checked("none", &["missing"]), None, None).await.unwrap();
    soon("it is not", || health(&engine, "none").status == HealthStatus::Unhealthy).await;
    let output = health(&engine, "none").results[0].output.clone();
    assert!(output.contains("not found"), "{output}");
    engine.remove("web", FORCE).await.unwrap();
    engine.remove("none", FORCE).await.unwrap();
    world.assert_clean().await;
}

#[tokio::test]
async fn a_check_that_takes_too_long_is_killed() {
    let world = World::new();
    let engine = world.engine().await;
    let mut create = checked("web", &["stubborn"]);
    create.health.as_mut().unwrap().timeout = Some(Duration::from_millis(20));
    engine.run(create, None, None).await.unwrap();
    soon("it failed", || health(&engine, "web").streak > 1).await;
    let result = health(&engine, "web").results[0].clone();
    assert_eq!(result.code, -1);
    assert!(result.output.starts_with("Health check exceeded timeout (20ms)"), "{result:?}");
    assert!(world.fake.calls().contains(&"signal health SIGKILL".to_owned()));
    engine.remove("web", FORCE).await.unwrap();
    world.assert_clean().await;
}

#[tokio::test]
async fn a_paused_container_is_not_checked_and_a_new_daemon_goes_on() {
    let world = World::new();
    let engine = world.engine().await;
    engine.run(checked("web", &["exit", "0"]), None, None).await.unwrap();
    soon("it is healthy", || health(&engine, "web").status == HealthStatus::Healthy).await;
    engine.pause("web").await.unwrap();
    // One that is under way comes to its end.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let before = probes(&world);
    tokio::time::sleep(Duration::from_millis(40)).await;
    assert_eq!(probes(&world), before);
    assert_eq!(health(&engine, "web").status, HealthStatus::Healthy);
    engine.resume("web").await.unwrap();
    soon("it is checked again", || probes(&world) > before).await;
    drop(engine);
    let engine = world.engine().await;
    assert_eq!(health(&engine, "web").status, HealthStatus::Healthy, "it is remembered");
    let before = probes(&world);
    soon("the new daemon checks", || probes(&world) > before + 1).await;
    engine.kill("web", Signal::KILL).await.unwrap();
    engine.remove("web", FORCE).await.unwrap();
    world.assert_clean().await;
}

#[tokio::test]
async fn a_check_that_changes_nothing_writes_nothing() {
    let world = World::new();
    let engine = world.engine().await;
    engine.run(checked("web", &["exit", "0"]), None, None).await.unwrap();
    soon("it is healthy", || health(&engine, "web").status == HealthStatus::Healthy).await;
    let before = engine.latest_record();
    let count = probes(&world);
    soon("it is checked", || probes(&world) > count + 5).await;
    assert_eq!(engine.latest_record(), before);
    engine.remove("web", FORCE).await.unwrap();
    world.assert_clean().await;
}

//! What containers use is told of all at once.

use testkit::fake::{Fault, Point};
use workload::{DriverError, Signal};

use super::harness::{World, named};
use crate::{ContainerState, Engine, Remove, StatsQuery, WaitFor};

/// Name, state and whether there are figures.
async fn told(engine: &Engine, who: &[&str], all: bool) -> Vec<(String, ContainerState, bool)> {
    let who = who.iter().map(|name| (*name).to_owned()).collect();
    let stats = engine.stats(&StatsQuery { who, all }).await.unwrap();
    assert!(stats.host.cpu_ns > 0 && stats.host.online_cpus > 0);
    let rows = stats.containers.into_iter();
    rows.map(|row| (row.name.to_string(), row.state, row.usage.is_some())).collect()
}

fn row(name: &str, state: ContainerState, counted: bool) -> (String, ContainerState, bool) {
    (name.to_owned(), state, counted)
}

#[tokio::test]
async fn those_that_run_are_counted_and_the_others_are_told_of_when_asked() {
    let world = World::new();
    let engine = world.engine().await;
    engine.create(named("idle", &["sleep"])).await.unwrap();
    engine.run(named("web", &["sleep"]), None, None).await.unwrap();
    engine.run(named("db", &["sleep"]), None, None).await.unwrap();
    engine.pause("db").await.unwrap();
    let (idle, web, db) = (
        row("idle", ContainerState::Created, false),
        row("web", ContainerState::Running, true),
        row("db", ContainerState::Paused, true),
    );
    assert_eq!(told(&engine, &[], false).await, [web.clone(), db.clone()]);
    assert_eq!(told(&engine, &[], true).await, [idle.clone(), web, db.clone()]);
    assert_eq!(told(&engine, &["db", "nobody", "idle"], false).await, [db, idle]);

    engine.kill("web", Signal::KILL).await.unwrap();
    engine.wait("web", WaitFor::NotRunning).await.unwrap();
    let ended = row("web", ContainerState::Exited, false);
    assert_eq!(told(&engine, &["web"], false).await, [ended]);
    engine.remove("web", Remove::default()).await.unwrap();
    assert_eq!(told(&engine, &["web"], false).await, []);
}

#[tokio::test]
async fn one_that_cannot_be_counted_does_not_hide_the_others() {
    let world = World::new();
    let engine = world.engine().await;
    engine.run(named("one", &["sleep"]), None, None).await.unwrap();
    engine.run(named("two", &["sleep"]), None, None).await.unwrap();
    let failure = DriverError::Step { step: "count".to_owned(), errno: 5 };
    world.fake.inject(Point::Usage, Fault::FailOnce(failure));
    let rows = told(&engine, &[], false).await;
    assert_eq!(rows.len(), 2);
    assert_eq!(rows.iter().filter(|(_, _, counted)| *counted).count(), 1, "{rows:?}");
}

//! Copies of running containers, and what is left when one cannot be made.

use testkit::fake::{Fault, Point};
use workload::DriverError;

use super::harness::{World, named, soon, transient};
use crate::{ContainerState, Create, Engine, EngineError, Fork, Remove};

const FORCE: Remove = Remove { force: true, volumes: false };

fn several(count: u32) -> Fork {
    Fork { count, ..Fork::default() }
}

fn broken() -> DriverError {
    DriverError::Step { step: "test".to_owned(), errno: 5 }
}

/// How often the driver was asked for this.
fn asked(world: &World, what: &str) -> usize {
    world.fake.calls().iter().filter(|call| *call == what).count()
}

fn saved(world: &World) -> usize {
    std::fs::read_dir(world.dir.path().join("data/forks")).unwrap().count()
}

fn states(engine: &Engine) -> Vec<ContainerState> {
    engine.list().iter().map(|container| container.state.state).collect()
}

#[tokio::test]
async fn a_container_is_saved_once_and_taken_up_by_each_copy() {
    let world = World::new();
    let engine = world.engine().await;
    let one = Create { hostname: Some("one".to_owned()), ..named("one", &["sleep"]) };
    engine.run(one, None, None).await.unwrap();
    let copies = engine.fork("one", several(3)).await.unwrap();
    assert_eq!((asked(&world, "save"), asked(&world, "take up"), saved(&world)), (1, 3, 0));
    assert_eq!(states(&engine), [ContainerState::Running; 4]);
    let mut addresses: Vec<_> =
        engine.list().iter().map(|container| container.network.address.unwrap()).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 4);
    for copy in &copies {
        let spec = world.fake.spec(&copy.id.sandbox()).unwrap();
        assert_eq!(spec.hostname.as_deref(), Some(copy.id.short()));
        assert!(spec.taken_from.is_some());
        // Stopped and started, it begins as every other.
        let who = copy.id.as_str();
        engine.restart(who, crate::Stop::default()).await.unwrap();
        assert_eq!(world.fake.spec(&copy.id.sandbox()).unwrap().taken_from, None);
        engine.remove(who, FORCE).await.unwrap();
    }
    engine.remove("one", FORCE).await.unwrap();
    world.assert_clean().await;
}

#[tokio::test]
async fn what_is_not_saved_goes_on_and_leaves_nothing() {
    let world = World::new();
    let engine = world.engine().await;
    engine.run(named("one", &["sleep"]), None, None).await.unwrap();
    world.fake.inject(Point::Save, Fault::Fail(broken()));
    engine.fork("one", several(2)).await.unwrap_err();
    assert_eq!((states(&engine), saved(&world)), (vec![ContainerState::Running], 0));
    world.fake.heal();
    engine.pause("one").await.unwrap();
    let refused = engine.fork("one", several(1)).await.unwrap_err();
    assert!(matches!(refused, EngineError::Paused(_)), "{refused}");
    engine.remove("one", FORCE).await.unwrap();
    world.assert_clean().await;
}

#[tokio::test]
async fn if_one_copy_fails_there_is_none() {
    for point in [Point::Create, Point::Spawn] {
        let world = World::new();
        let engine = world.engine().await;
        for one in [named("one", &["sleep"]), transient(&["sleep"])] {
            let one = engine.run(one, None, None).await.unwrap().id;
            world.fake.inject(point, Fault::FailOnce(broken()));
            engine.fork(one.as_str(), several(3)).await.unwrap_err();
            soon("the copies are gone", || engine.list().len() == 1).await;
            assert_eq!((states(&engine), saved(&world)), (vec![ContainerState::Running], 0));
            engine.remove(one.as_str(), FORCE).await.unwrap();
        }
        world.assert_clean().await;
    }
}

#[tokio::test]
async fn a_name_that_is_taken_is_refused() {
    let world = World::new();
    let engine = world.engine().await;
    engine.run(named("one", &["sleep"]), None, None).await.unwrap();
    let fork = Fork { name: Some("one".parse().unwrap()), count: 1 };
    let refused = engine.fork("one", fork).await.unwrap_err();
    assert!(matches!(refused, EngineError::NameTaken { .. }), "{refused}");
    assert_eq!(engine.list().len(), 1);
    engine.remove("one", FORCE).await.unwrap();
    world.assert_clean().await;
}

#[test]
fn a_copy_that_has_not_run_is_undone_by_the_next_daemon() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let world = World::new();
    // The daemon is killed with its runtime: nothing is closed, nothing is waited for.
    let killed = runtime();
    killed.block_on(async {
        let engine = world.engine().await;
        engine.run(named("one", &["sleep"]), None, None).await.unwrap();
        world.fake.inject(Point::Spawn, Fault::HangForEver);
        tokio::spawn(async move { engine.fork("one", several(2)).await });
        soon("the copies begin", || asked(&world, "take up") == 2).await;
    });
    killed.shutdown_background();
    world.fake.heal();
    runtime().block_on(async {
        let engine = world.engine().await;
        soon("the copies are gone", || engine.list().len() == 1).await;
        assert_eq!((states(&engine), saved(&world)), (vec![ContainerState::Running], 0));
        engine.remove("one", FORCE).await.unwrap();
        world.assert_clean().await;
    });
}

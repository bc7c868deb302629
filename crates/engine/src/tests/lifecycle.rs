//! What users do with containers, and what must hold afterwards.

use std::{
    io::Read as _,
    os::{fd::OwnedFd, unix::net::UnixStream},
    time::Duration,
};

use base::ErrorKind;
use testkit::fake::{Fault, Point};
use workload::{DriverError, ExitStatus, Isolation, Signal};

use super::harness::{STUCK, World, named, of, soon, transient};
use crate::{ContainerState, Create, EngineError, ExecCreate, NetworkMode, Remove, Stop, WaitFor};

const FORCE: Remove = Remove { force: true, volumes: false };

fn state(engine: &crate::Engine, who: &str) -> ContainerState {
    engine.inspect(who).unwrap().state.state
}

fn broken() -> DriverError {
    DriverError::Step { step: "test".to_owned(), errno: 5 }
}

#[tokio::test]
async fn a_container_is_made_runs_ends_and_is_removed() {
    let world = World::new();
    let engine = world.engine().await;
    let created = engine.create(named("web", &["sleep"])).await.unwrap();
    assert_eq!(state(&engine, "web"), ContainerState::Created);
    engine.start("web", None, None).await.unwrap();
    let running = engine.inspect("web").unwrap();
    assert_eq!(running.state.state, ContainerState::Running);
    assert!(running.state.pid.is_some() && running.state.started.is_some());
    assert!(running.network.address.is_some());
    engine.kill("web", Signal::TERM).await.unwrap();
    let exit = engine.wait("web", WaitFor::NotRunning).await.unwrap();
    assert_eq!(exit.status, ExitStatus::Signal(Signal::TERM));
    assert_eq!(state(&engine, "web"), ContainerState::Exited);
    // All it held for running is free; what it wrote stays.
    assert!(world.fake.sandboxes().is_empty() && world.networks.plugged().is_empty());
    engine.remove(created.id.as_str(), Remove::default()).await.unwrap();
    assert!(matches!(engine.inspect("web"), Err(EngineError::NoSuchContainer(_))));
    world.assert_clean().await;
}

#[tokio::test]
async fn exit_codes_come_through_and_a_container_can_be_started_again() {
    let world = World::new();
    let engine = world.engine().await;
    engine.create(named("job", &["exit", "7"])).await.unwrap();
    for _ in 0..3 {
        engine.start("job", None, None).await.unwrap();
        let exit = engine.wait("job", WaitFor::NotRunning).await.unwrap();
        assert_eq!(exit.status, ExitStatus::Code(7));
    }
    engine.remove("job", Remove::default()).await.unwrap();
    world.assert_clean().await;
}

#[tokio::test]
async fn two_who_wait_get_the_same_answer() {
    let world = World::new();
    let engine = world.engine().await;
    engine.run(named("job", &["sleep"]), None, None).await.unwrap();
    let (a, b) = (engine.clone(), engine.clone());
    let waits = async {
        tokio::join!(a.wait("job", WaitFor::NotRunning), b.wait("job", WaitFor::NextExit))
    };
    let kill = async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        engine.kill("job", Signal::KILL).await.unwrap();
    };
    let ((one, two), ()) = tokio::join!(waits, kill);
    assert_eq!(one.unwrap(), two.unwrap());
}

#[tokio::test]
async fn a_container_that_never_ran_has_ended_with_code_0() {
    let world = World::new();
    let engine = world.engine().await;
    engine.create(named("idle", &[])).await.unwrap();
    let exit = engine.wait("idle", WaitFor::NotRunning).await.unwrap();
    assert_eq!(exit.status, ExitStatus::Code(0));
}

#[tokio::test]
async fn one_that_removes_itself_leaves_nothing_but_its_exit_code() {
    let world = World::new();
    let engine = world.engine().await;
    let id = engine.run(transient(&["sleep", "20"]), None, None).await.unwrap().id;
    let exit = engine.wait(id.as_str(), WaitFor::Removed).await.unwrap();
    assert_eq!(exit.status, ExitStatus::Code(0));
    assert!(engine.list().is_empty());
    world.assert_clean().await;
}

#[tokio::test]
async fn a_stop_asks_waits_and_kills() {
    let world = World::new();
    let engine = world.engine().await;
    engine.run(named("deaf", &["stubborn"]), None, None).await.unwrap();
    let grace = Some(Some(Duration::from_millis(30)));
    engine.stop("deaf", Stop { signal: None, grace }).await.unwrap();
    let exit = engine.inspect("deaf").unwrap().state.exit.unwrap();
    assert_eq!(exit.status, ExitStatus::Signal(Signal::KILL));
    let calls = world.fake.calls();
    let signals: Vec<_> = calls.iter().filter(|call| call.starts_with("signal")).collect();
    assert_eq!(signals, ["signal main SIGTERM", "signal main SIGKILL"]);
    // Stopping what does not run changes nothing.
    engine.stop("deaf", Stop::default()).await.unwrap();
}

#[tokio::test]
async fn a_stop_that_listens_is_not_killed_and_its_own_signal_is_used() {
    let world = World::new();
    let engine = world.engine().await;
    let create = Create { stop_signal: Signal::parse("INT"), ..named("polite", &["sleep"]) };
    engine.run(create, None, None).await.unwrap();
    engine.stop("polite", Stop::default()).await.unwrap();
    let exit = engine.inspect("polite").unwrap().state.exit.unwrap();
    assert_eq!(exit.status, ExitStatus::Signal(Signal::parse("INT").unwrap()));
}

#[tokio::test]
async fn a_restart_ends_one_run_and_begins_another() {
    let world = World::new();
    let engine = world.engine().await;
    let create = Create { name: Some("web".parse().unwrap()), ..transient(&["sleep"]) };
    engine.run(create, None, None).await.unwrap();
    let first = engine.inspect("web").unwrap().state.pid;
    engine.restart("web", Stop::default()).await.unwrap();
    let second = engine.inspect("web").unwrap().state.pid;
    assert!(second.is_some() && first != second, "it removed itself, or was not restarted");
}

#[tokio::test]
async fn a_paused_container_waits_and_is_stopped_all_the_same() {
    let world = World::new();
    let engine = world.engine().await;
    engine.run(named("web", &["sleep"]), None, None).await.unwrap();
    engine.pause("web").await.unwrap();
    assert_eq!(state(&engine, "web"), ContainerState::Paused);
    assert!(matches!(engine.pause("web").await, Err(EngineError::AlreadyPaused(_))));
    let exec = ExecCreate { command: vec!["sleep".to_owned()], ..ExecCreate::default() };
    assert!(matches!(engine.exec_create("web", exec).await, Err(EngineError::Paused(_))));
    engine.resume("web").await.unwrap();
    assert!(matches!(engine.resume("web").await, Err(EngineError::NotPaused(_))));
    engine.pause("web").await.unwrap();
    tokio::time::timeout(STUCK, engine.stop("web", Stop::default())).await.unwrap().unwrap();
    assert_eq!(state(&engine, "web"), ContainerState::Exited);
}

#[tokio::test]
async fn a_start_that_fails_leaves_nothing_and_says_why() {
    let world = World::new();
    let engine = world.engine().await;
    for (command, kind) in
        [("missing", ErrorKind::CommandNotFound), ("forbidden", ErrorKind::CommandNotRunnable)]
    {
        let failure = engine.run(transient(&[command]), None, None).await.unwrap_err();
        assert_eq!(failure.kind(), kind, "{failure}");
        soon("it removes itself", || engine.list().is_empty()).await;
        world.assert_clean().await;
        engine.run(named("stays", &[command]), None, None).await.unwrap_err();
        let stays = engine.inspect("stays").unwrap();
        assert_eq!(stays.state.state, ContainerState::Created);
        assert!(stays.state.error.as_ref().unwrap().contains(command));
        assert!(world.fake.sandboxes().is_empty() && world.networks.plugged().is_empty());
        engine.remove("stays", Remove::default()).await.unwrap();
    }
    world.assert_clean().await;
}

#[tokio::test]
async fn whatever_fails_on_the_way_up_is_undone() {
    let world = World::new();
    let engine = world.engine().await;
    engine.create(named("web", &["sleep"])).await.unwrap();
    *world.networks.broken.lock().unwrap() = true;
    engine.start("web", None, None).await.unwrap_err();
    *world.networks.broken.lock().unwrap() = false;
    *world.images.broken.lock().unwrap() = true;
    engine.start("web", None, None).await.unwrap_err();
    *world.images.broken.lock().unwrap() = false;
    for point in [Point::Create, Point::Spawn] {
        world.fake.inject(point, Fault::FailOnce(broken()));
        let failure = engine.start("web", None, None).await.unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::Internal);
        assert!(world.networks.plugged().is_empty() && world.images.mounted().is_empty());
        assert!(world.fake.sandboxes().is_empty());
    }
    engine.start("web", None, None).await.unwrap();
    engine.remove("web", FORCE).await.unwrap();
    world.assert_clean().await;
}

#[tokio::test]
async fn what_cannot_be_destroyed_is_tried_again_by_the_next_removal() {
    let world = World::new();
    let engine = world.engine().await;
    engine.run(named("web", &["sleep"]), None, None).await.unwrap();
    world.fake.inject(Point::Destroy, Fault::Fail(broken()));
    engine.remove("web", FORCE).await.unwrap_err();
    assert_eq!(state(&engine, "web"), ContainerState::Dead);
    world.fake.heal();
    engine.remove("web", Remove::default()).await.unwrap();
    world.assert_clean().await;
}

#[tokio::test]
async fn names_are_unique_until_they_are_given_up() {
    let world = World::new();
    let engine = world.engine().await;
    let web = engine.create(named("web", &[])).await.unwrap().id;
    let taken = engine.create(named("web", &[])).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Conflict);
    assert_eq!(
        taken.to_string(),
        format!(
            "Conflict. The container name \"/web\" is already in use by container \"{web}\". You \
             have to remove (or rename) that container to be able to reuse that name."
        )
    );
    engine.create(named("other", &[])).await.unwrap();
    let rename = engine.rename("other", "web".parse().unwrap()).await.unwrap_err();
    assert_eq!(rename.kind(), ErrorKind::Conflict);
    engine.rename("web", "old".parse().unwrap()).await.unwrap();
    engine.create(named("web", &[])).await.unwrap();
    assert_eq!(engine.inspect("/old").unwrap().id, web);
    assert_eq!(engine.list().len(), 3);
}

#[tokio::test]
async fn a_container_is_found_by_the_beginning_of_its_id() {
    let world = World::new();
    let engine = world.engine().await;
    let mut ids = Vec::new();
    for _ in 0..17 {
        ids.push(engine.create(of(&[])).await.unwrap().id);
    }
    assert_eq!(engine.inspect(ids[0].short()).unwrap().id, ids[0]);
    // Of seventeen, two begin with the same of sixteen digits.
    let digits = "0123456789abcdef".chars();
    let ambiguous = digits
        .filter(|digit| {
            let found = engine.inspect(&digit.to_string());
            matches!(found, Err(EngineError::AmbiguousId(_)))
        })
        .count();
    assert!(ambiguous > 0);
    let nobody = engine.inspect("nobody").unwrap_err();
    assert_eq!(nobody.to_string(), "No such container: nobody");
    assert_eq!(nobody.kind(), ErrorKind::NotFound);
    let missing = Create { image: "nothing".to_owned(), ..of(&[]) };
    let missing = engine.create(missing).await.unwrap_err();
    assert_eq!(missing.to_string(), "No such image: nothing");
}

#[tokio::test]
async fn a_running_container_is_removed_only_by_force() {
    let world = World::new();
    let engine = world.engine().await;
    engine.run(named("web", &["stubborn"]), None, None).await.unwrap();
    let refused = engine.remove("web", Remove::default()).await.unwrap_err();
    assert!(matches!(refused, EngineError::RemoveRunning(_)));
    let waits = engine.wait("web", WaitFor::Removed);
    let (exit, removed) = tokio::join!(waits, engine.remove("web", FORCE));
    removed.unwrap();
    assert_eq!(exit.unwrap().status, ExitStatus::Signal(Signal::KILL));
    world.assert_clean().await;
}

#[tokio::test]
async fn whoever_stops_listening_leaves_nothing_half_made() {
    let world = World::new();
    let engine = world.engine().await;
    world.fake.inject(Point::Create, Fault::Delay(Duration::from_millis(30)));
    let run = engine.run(named("web", &["sleep"]), None, None);
    // The caller gives up while the sandbox is being made.
    tokio::time::timeout(Duration::from_millis(10), run).await.unwrap_err();
    let running = || engine.inspect("web").is_ok_and(|c| c.state.state == ContainerState::Running);
    soon("what began is finished", running).await;
    engine.remove("web", FORCE).await.unwrap();
    world.assert_clean().await;
}

#[tokio::test]
async fn output_reaches_one_who_attached_before_the_start() {
    let world = World::new();
    let engine = world.engine().await;
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let attach = Some(OwnedFd::from(theirs).into());
    engine.run(transient(&["echo", "hello"]), attach, None).await.unwrap();
    let mut output = Vec::new();
    tokio::task::spawn_blocking(move || ours.read_to_end(&mut output).map(|_| output))
        .await
        .unwrap()
        .map(|output| assert_eq!(output, b"\x01\0\0\0\0\0\0\x06hello\n"))
        .unwrap();
}

#[tokio::test]
async fn an_exec_runs_ends_and_is_remembered() {
    let world = World::new();
    let engine = world.engine().await;
    let exec = |words: &[&str]| ExecCreate {
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        ..ExecCreate::default()
    };
    engine.create(named("web", &["sleep"])).await.unwrap();
    let early = engine.exec_create("web", exec(&["sleep"])).await.unwrap_err();
    assert!(matches!(early, EngineError::NotRunning(_)));
    engine.start("web", None, None).await.unwrap();

    let id = engine.exec_create("web", exec(&["exit", "3"])).await.unwrap();
    engine.exec_start(&id, None).await.unwrap();
    assert_eq!(engine.exec_wait(&id).await.unwrap().status, ExitStatus::Code(3));
    assert!(!engine.exec_inspect(&id).unwrap().running);
    assert!(matches!(engine.exec_start(&id, None).await, Err(EngineError::ExecRan(_))));

    let missing = engine.exec_create("web", exec(&["missing"])).await.unwrap();
    let failure = engine.exec_start(&missing, None).await.unwrap_err();
    assert_eq!(failure.kind(), ErrorKind::CommandNotFound);
    assert_eq!(engine.exec_wait(&missing).await.unwrap_err().kind(), ErrorKind::CommandNotFound);

    let long = engine.exec_create("web", exec(&["sleep"])).await.unwrap();
    engine.exec_start(&long, None).await.unwrap();
    assert_eq!(engine.inspect("web").unwrap().execs, std::slice::from_ref(&long));
    assert_eq!(engine.host_pids("web").await.unwrap().len(), 2);
    let (ended, stopped) =
        tokio::join!(engine.exec_wait(&long), engine.stop("web", Stop::default()));
    stopped.unwrap();
    ended.unwrap();
    engine.remove("web", Remove::default()).await.unwrap();
    assert!(engine.exec_inspect(&long).is_err());
}

#[tokio::test]
async fn one_containers_network_can_be_anothers() {
    let world = World::new();
    let engine = world.engine().await;
    let join = |name: &str| Create {
        network: NetworkMode::Container("web".to_owned()),
        ..named(name, &["sleep"])
    };
    engine.create(named("web", &["sleep"])).await.unwrap();
    let stopped = engine.run(join("early"), None, None).await.unwrap_err();
    assert!(matches!(stopped, EngineError::JoinsStopped(_)));
    engine.start("web", None, None).await.unwrap();
    let id = engine.run(join("late"), None, None).await.unwrap().id;
    let pid = engine.inspect("web").unwrap().state.pid.unwrap();
    let spec = world.fake.spec(&id.sandbox()).unwrap();
    assert_eq!(spec.network, workload::Network::Join(format!("/proc/{pid}/ns/net").into()));
    assert_eq!(world.networks.plugged().len(), 1);
}

#[tokio::test]
async fn an_isolation_without_a_driver_is_named() {
    let world = World::new();
    let engine = world.engine().await;
    let vm = Create { isolation: Isolation::Vm, ..of(&[]) };
    let refused = engine.create(vm).await.unwrap_err();
    assert_eq!(refused.to_string(), "this build has no driver for isolation vm");
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_lost_shim_ends_its_container() {
    let world = World::new();
    let engine = world.engine().await;
    let id = engine.run(named("web", &["sleep"]), None, None).await.unwrap().id;
    world.fake.lose(&id.sandbox());
    let exit = engine.wait("web", WaitFor::NotRunning).await.unwrap();
    assert_eq!(exit.status, ExitStatus::Lost);
    engine.start("web", None, None).await.unwrap();
    engine.remove("web", FORCE).await.unwrap();
    world.assert_clean().await;
}

#[tokio::test]
async fn a_closed_engine_lets_containers_go_on_and_takes_no_more() {
    let world = World::new();
    let engine = world.engine().await;
    engine.run(named("web", &["sleep"]), None, None).await.unwrap();
    engine.close().await;
    assert!(matches!(engine.create(of(&[])).await, Err(EngineError::Closed)));
    assert!(matches!(engine.stop("web", Stop::default()).await, Err(EngineError::Closed)));
    assert_eq!(world.fake.sandboxes().len(), 1);
    drop(engine);
    let engine = world.engine().await;
    assert_eq!(state(&engine, "web"), ContainerState::Running);
    engine.remove("web", FORCE).await.unwrap();
    world.assert_clean().await;
}

/// Prints what the engine itself costs around a driver that costs nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, and asserts nothing"]
#[expect(clippy::print_stderr, reason = "it is what it is for")]
async fn engine_cost() {
    let world = World::new();
    let engine = world.engine().await;
    let begin = std::time::Instant::now();
    const TIMES: u32 = 300;
    for _ in 0..TIMES {
        let id = engine.run(transient(&["exit", "0"]), None, None).await.unwrap().id;
        engine.wait(id.as_str(), WaitFor::Removed).await.ok();
    }
    eprintln!("run --rm to its removal: {:?}", begin.elapsed() / TIMES);
}

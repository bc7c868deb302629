//! What every driver does, through a shim.

use std::{os::fd::AsFd as _, time::Duration};

use base::{ErrorKind, ProcessId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use workload::{
    Driver as _, DriverError, ExitStatus, Limits, Materials, Network, Signal, Streams, TerminalSize,
};

use crate::{
    host::{REFUSED, sandbox, script},
    world::{LONG, World, socket, soon},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_process_runs_and_everybody_who_waits_hears_of_its_end() {
    let world = World::new();
    let driver = world.driver();
    let sandbox =
        driver.create(sandbox(world.path(), "web"), Materials::default(), soon()).await.unwrap();
    let spec = script(world.path(), "main", "echo out; echo err >&2; exit 7");
    let process = sandbox.spawn(spec, Streams::default(), soon()).await.unwrap();
    assert_eq!(process.id(), &ProcessId::main());
    let (first, second) = tokio::join!(process.wait(), process.wait());
    assert_eq!(first.status, ExitStatus::Code(7));
    assert_eq!(first, second);
    assert_eq!(process.host_pid(), None);
    let again = sandbox.process(&ProcessId::main()).await.unwrap();
    assert_eq!(again.wait().await, first);
    let mut lines: Vec<_> = world.log("main").lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["err", "out"]);
    let error = process.signal(Signal::TERM).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    sandbox.destroy(soon()).await.unwrap();
    sandbox.destroy(soon()).await.unwrap();
    world.assert_empty().await;
}

#[tokio::test]
async fn those_attached_early_and_late_read_and_write() {
    let world = World::new();
    let sandbox = world
        .driver()
        .create(sandbox(world.path(), "web"), Materials::default(), soon())
        .await
        .unwrap();
    let mut spec = script(world.path(), "main", "echo early; while read x; do echo got $x; done");
    (spec.stdin, spec.stdin_once) = (true, true);
    let (mut early, theirs) = socket();
    let streams = Streams { attached: Some(theirs.into()) };
    let process = sandbox.spawn(spec, streams, soon()).await.unwrap();
    let mut frame = [0; 14];
    early.read_exact(&mut frame).await.unwrap();
    assert_eq!(&frame, b"\x01\0\0\0\0\0\0\x06early\n");
    let (mut late, theirs) = socket();
    process.attach(theirs.into()).await.unwrap();
    late.write_all(b"this\n").await.unwrap();
    late.shutdown().await.unwrap();
    assert_eq!(process.wait().await.status, ExitStatus::Code(0));
    for stream in [&mut early, &mut late] {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"\x01\0\0\0\0\0\0\x09got this\n");
    }
    sandbox.destroy(soon()).await.unwrap();
    world.assert_empty().await;
}

#[tokio::test]
async fn everything_else_that_can_be_asked_is_answered() {
    let world = World::new();
    let driver = world.driver();
    let mut spec = sandbox(world.path(), "web");
    spec.network = Network::Given;
    let file = tempfile::NamedTempFile::new_in(world.path()).unwrap();
    let network = file.as_file().as_fd().try_clone_to_owned().unwrap();
    let materials = Materials { network: Some(network) };
    let sandbox = driver.create(spec, materials, soon()).await.unwrap();
    let given = std::fs::read_to_string(world.path().join("sandbox-web/network")).unwrap();
    assert!(given.contains(file.path().file_name().unwrap().to_str().unwrap()), "{given}");
    assert_eq!(sandbox.handle(), world.handle("web"));
    let mut spec = script(world.path(), "main", "");
    // Not through a shell, whose vfork(2) waits for a child that is stopped.
    spec.args = ["/bin/sleep", "60"].map(str::to_owned).to_vec();
    let process = sandbox.spawn(spec, Streams::default(), soon()).await.unwrap();
    let pid = process.host_pid().unwrap();
    assert_eq!(sandbox.host_pids().await.unwrap(), [pid]);
    assert_eq!(sandbox.usage().await.unwrap().pids, Some(1));
    sandbox.limit(Limits { pids: Some(9), ..Limits::default() }).await.unwrap();
    let limits = std::fs::read_to_string(world.path().join("sandbox-web/limits")).unwrap();
    assert_eq!(limits, "Some(9)");
    let error = process.resize(TerminalSize::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "process main is without a terminal");
    let pausable = sandbox.pausable().unwrap();
    pausable.pause(soon()).await.unwrap();
    // SIGSTOP takes effect a moment after it is sent.
    let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    tokio::time::timeout(LONG, async {
        while !state().contains(") T ") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("it is not paused");
    pausable.resume(soon()).await.unwrap();
    process.signal(Signal::TERM).await.unwrap();
    assert_eq!(process.wait().await.status, ExitStatus::Signal(Signal::TERM));
    sandbox.forget(&ProcessId::main()).await;
    assert!(sandbox.process(&ProcessId::main()).await.is_none());
    sandbox.destroy(soon()).await.unwrap();
    assert_eq!(sandbox.usage().await.unwrap_err().kind(), ErrorKind::NotFound);
    world.assert_empty().await;
}

#[tokio::test]
async fn a_drivers_errors_arrive_whole_and_leave_nothing() {
    let world = World::new();
    let driver = world.driver();
    let mut refused = sandbox(world.path(), "web");
    refused.hostname = Some(REFUSED.to_owned());
    let error = driver.create(refused, Materials::default(), soon()).await.unwrap_err();
    let what = "host name".to_owned();
    assert_eq!(error, DriverError::Invalid { what, why: "it is refused".to_owned() });
    world.assert_empty().await;
    let good = sandbox(world.path(), "web");
    let sandbox = driver.create(good.clone(), Materials::default(), soon()).await.unwrap();
    let error = driver.create(good, Materials::default(), soon()).await.unwrap_err();
    assert!(matches!(error, DriverError::Exists { .. }), "{error:?}");
    let mut spec = script(world.path(), "main", "");
    spec.args = vec!["/no/such/program".to_owned()];
    let error = sandbox.spawn(spec, Streams::default(), soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommandNotFound);
    sandbox.destroy(soon()).await.unwrap();
    world.assert_empty().await;
}

#[tokio::test]
async fn who_waits_during_and_after_destruction_hears_the_truth() {
    let world = World::new();
    let sandbox = world
        .driver()
        .create(sandbox(world.path(), "web"), Materials::default(), soon())
        .await
        .unwrap();
    let spec = script(world.path(), "main", "sleep 60");
    let process = sandbox.spawn(spec, Streams::default(), soon()).await.unwrap();
    let spec = script(world.path(), "other", "exit 5");
    let other = sandbox.spawn(spec, Streams::default(), soon()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (exit, destroyed) = tokio::join!(process.wait(), sandbox.destroy(soon()));
    destroyed.unwrap();
    assert_eq!(exit.status, ExitStatus::Signal(Signal::KILL));
    assert_eq!(other.wait().await.status, ExitStatus::Code(5), "although nobody waited before");
    assert_eq!(other.host_pid(), None);
    let (_ours, theirs) = socket();
    let error = other.attach(theirs.into()).await.unwrap_err();
    assert!(matches!(error, DriverError::State { .. }), "{error:?}");
    world.assert_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_sandboxes_leave_no_process_descriptor_or_socket() {
    let world = World::new();
    let driver = std::sync::Arc::new(world.driver());
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    let mut running = tokio::task::JoinSet::new();
    for number in 0..100 {
        let (driver, root) = (std::sync::Arc::clone(&driver), world.path().to_owned());
        running.spawn(async move {
            let id = format!("box-{number}");
            let spec = sandbox(&root, &id);
            let sandbox = driver.create(spec, Materials::default(), soon()).await.unwrap();
            let spec = script(&root, &id, "echo here; sleep 0.2; exit 4");
            let (mut ours, theirs) = socket();
            let streams = Streams { attached: Some(theirs.into()) };
            let process = sandbox.spawn(spec, streams, soon()).await.unwrap();
            if number % 2 == 0 {
                assert_eq!(process.wait().await.status, ExitStatus::Code(4));
            }
            sandbox.destroy(soon()).await.unwrap();
            let mut output = Vec::new();
            ours.read_to_end(&mut output).await.unwrap();
            assert!(number % 2 == 1 || output.ends_with(b"here\n"));
        });
    }
    while let Some(one) = tokio::time::timeout(2 * LONG, running.join_next()).await.unwrap() {
        one.unwrap();
    }
    world.assert_empty().await;
    assert_eq!(descriptors(), before);
    assert_eq!(world.named("wythe-fork").len(), 1);
    let fork_server = world.named("wythe-fork")[0].as_raw_pid();
    let open: Vec<_> = std::fs::read_dir(format!("/proc/{fork_server}/fd")).unwrap().collect();
    // Its standard streams, itself, the listener, and the two of tokio's table of signals.
    assert!(open.len() <= 7, "the fork server holds {} descriptors", open.len());
    driver.stop_fork_server(soon()).await.unwrap();
    driver.stop_fork_server(soon()).await.unwrap();
    world.assert_empty().await;
    assert_eq!(world.named("wythe-fork"), []);
    assert_eq!(world.sockets(), [""; 0]);
}

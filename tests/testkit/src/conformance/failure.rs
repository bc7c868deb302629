//! Wrong requests, deadlines, and callers that are killed at awkward moments.

use std::time::Duration;

use base::{Deadline, ErrorKind, ProcessId};
use tokio::io::AsyncWriteExt as _;
use workload::{ExitStatus, Materials, Signal, Streams};

use super::{
    Bench, PATIENCE,
    bench::{destroy, ended, read_until, refused, socket_pair, start},
    soon,
};

pub(super) async fn missing_commands_are_told_apart(b: &Bench<'_>) {
    let sandbox = b.sandbox().await;
    for (args, kind) in [
        (["no-such-command"], ErrorKind::CommandNotFound),
        (["/no/such/path"], ErrorKind::CommandNotFound),
        (["/etc/passwd"], ErrorKind::CommandNotRunnable),
        (["/tmp"], ErrorKind::CommandNotRunnable),
    ] {
        let error = refused(&*sandbox, b.main(&*sandbox, &args)).await;
        assert_eq!(error.kind(), kind, "{args:?}: {error}");
        assert!(error.to_string().contains(args[0]), "{error} names {args:?}");
    }
    // The sandbox and the name are as good as before.
    let spec = b.main(&*sandbox, &["true"]);
    assert_eq!(ended(&*start(&*sandbox, spec).await).await.status, ExitStatus::Code(0));
    destroy(&*sandbox).await;
}

pub(super) async fn names_are_taken_once(b: &Bench<'_>) {
    let sandbox = b.idle().await;
    let spec = b.main(&*sandbox, &["true"]);
    let error = refused(&*sandbox, spec).await;
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let id = sandbox.handle().sandbox;
    let again = b.driver().create(b.host.sandbox(&id), Materials::default(), soon()).await;
    let error = again.map(|_| ()).expect_err("the id is taken");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    // The first one did not suffer.
    let (text, _) = b.output(&*sandbox, b.exec("alive", &["echo", "alive"])).await;
    assert_eq!(text, "alive\n");
    destroy(&*sandbox).await;
}

pub(super) async fn a_passed_deadline_leaves_nothing(b: &Bench<'_>) {
    let passed = Deadline::after(Duration::ZERO);
    // Clocks of two processors may differ by some nanoseconds.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let spec = b.host.sandbox(&b.id());
    let made = b.driver().create(spec, Materials::default(), passed).await;
    let error = made.map(|_| ()).expect_err("there is no time");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");

    let sandbox = b.sandbox().await;
    let spec = b.main(&*sandbox, &["sleep", "infinity"]);
    let spawned = sandbox.spawn(spec, Streams::default(), passed).await;
    let error = spawned.map(|_| ()).expect_err("there is no time");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
    destroy(&*sandbox).await;
}

/// Callers that stop listening in the middle of a create, at many different moments.
pub(super) async fn a_cancelled_create_leaves_nothing(b: &Bench<'_>) {
    for step in 0..12 {
        let id = b.id();
        let driver = b.driver();
        let create = driver.create(b.host.sandbox(&id), Materials::default(), soon());
        let made = tokio::time::timeout(Duration::from_micros(step * step * 40), create).await;
        if let Ok(made) = made {
            made.expect("nothing is in its way");
        }
        // Whoever comes next finds it, or finds nothing: then there is nothing.
        match driver.recover(b.host.handle(&id), soon()).await {
            Ok(Some(sandbox)) => destroy(&*sandbox).await,
            Ok(None) => {}
            Err(error) => panic!("recover: {error}"),
        }
    }
}

pub(super) async fn a_killed_client_loses_nothing(b: &Bench<'_>) {
    let sandbox = b.sandbox().await;
    let mut spec = b.main(&*sandbox, &["sh", "-c", "echo before; cat; echo after; exit 9"]);
    (spec.stdin, spec.stdin_once) = (true, true);
    let log = b.log();
    spec.log = Some(log.clone());
    let (mut ours, theirs) = socket_pair();
    let streams = Streams { attached: Some(theirs.into()) };
    sandbox.spawn(spec, streams, soon()).await.expect("sh is there");
    read_until(&mut ours, "before").await;
    // The input of one who typed ends with him.
    ours.write_all(b"typed\n").await.expect("it reads");
    let handle = sandbox.handle();
    drop(sandbox);

    // With nobody there to see it, it goes on and ends.
    let next = b.host.restarted();
    drop(ours);
    let found = next.recover(handle, soon()).await.expect("it answers");
    let found = found.expect("it is still there");
    let main = found.process(&ProcessId::main()).await.expect("it was started");
    assert_eq!(ended(&*main).await.status, ExitStatus::Code(9));
    let logged = String::from_utf8_lossy(&std::fs::read(&log.path).expect("a log")).into_owned();
    assert!(logged.contains("before\n") && logged.contains("after\n"), "{logged:?}");
    destroy(&*found).await;
}

pub(super) async fn what_was_never_there_is_not_recovered(b: &Bench<'_>) {
    let handle = b.host.handle(&b.id());
    let found = b.driver().recover(handle, soon()).await.expect("the question is fair");
    assert!(found.is_none());
    // What was there and ended, but was not destroyed, is found.
    let sandbox = b.idle().await;
    let main = sandbox.process(&ProcessId::main()).await.expect("it runs");
    main.signal(Signal::KILL).await.expect("it runs");
    let waited = tokio::time::timeout(PATIENCE, main.wait()).await;
    assert!(waited.is_ok(), "it was killed");
    let handle = sandbox.handle();
    destroy(&*sandbox).await;
    let found = b.driver().recover(handle, soon()).await.expect("the question is fair");
    assert!(found.is_none(), "a destroyed sandbox is gone");
}

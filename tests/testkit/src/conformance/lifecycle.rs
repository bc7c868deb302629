//! Starting, ending, joining, pausing.

use std::time::Duration;

use base::ErrorKind;
use workload::{ExitStatus, Signal, UserSpec};

use super::{
    Bench,
    bench::{destroy, ended, refused, start, within},
    soon,
};

pub(super) async fn exit_codes_are_reported(b: &Bench<'_>) {
    for code in [0_u8, 1, 7, 255] {
        let sandbox = b.sandbox().await;
        let spec = b.main(&*sandbox, &["sh", "-c", &format!("exit {code}")]);
        let exit = ended(&*start(&*sandbox, spec).await).await;
        assert_eq!(exit.status, ExitStatus::Code(code));
        assert!(!exit.out_of_memory);
        destroy(&*sandbox).await;
    }
}

pub(super) async fn signals_end_processes(b: &Bench<'_>) {
    let sandbox = b.idle().await;
    let exec = start(&*sandbox, b.exec("victim", &["sleep", "infinity"])).await;
    exec.signal(Signal::TERM).await.expect("it runs");
    assert_eq!(ended(&*exec).await.status, ExitStatus::Signal(Signal::TERM));
    let late = exec.signal(Signal::TERM).await.expect_err("it has ended");
    assert_eq!(late.kind(), ErrorKind::Conflict, "{late}");

    let main = sandbox.process(&base::ProcessId::main()).await.expect("it was started");
    main.signal(Signal::KILL).await.expect("it runs");
    assert_eq!(ended(&*main).await.status, ExitStatus::Signal(Signal::KILL));
    destroy(&*sandbox).await;
}

pub(super) async fn two_callers_wait(b: &Bench<'_>) {
    let sandbox = b.idle().await;
    let exec = start(&*sandbox, b.exec("waited", &["sleep", "infinity"])).await;
    let again = sandbox.process(exec.id()).await.expect("it runs");
    let waiting = async { tokio::join!(exec.wait(), again.wait(), exec.wait()) };
    let ending = async {
        tokio::task::yield_now().await;
        exec.signal(Signal::KILL).await.expect("it runs");
    };
    let ((one, two, three), ()) = within("waiting", async { tokio::join!(waiting, ending) }).await;
    assert_eq!((one, two), (two, three));
    assert_eq!(ended(&*again).await, one, "a wait after the end gives the same");
    destroy(&*sandbox).await;
}

pub(super) async fn exec_shares_the_container(b: &Bench<'_>) {
    let sandbox = b.idle().await;
    let (_, status) =
        b.output(&*sandbox, b.exec("write", &["sh", "-c", "echo hello > /note"])).await;
    assert_eq!(status, ExitStatus::Code(0));
    let (text, _) = b.output(&*sandbox, b.exec("read", &["cat", "/note"])).await;
    assert_eq!(text, "hello\n");
    destroy(&*sandbox).await;
}

pub(super) async fn exec_without_main_is_refused(b: &Bench<'_>) {
    let sandbox = b.sandbox().await;
    let error = refused(&*sandbox, b.exec("early", &["true"])).await;
    assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Conflict), "{error}");
    let spec = b.main(&*sandbox, &["true"]);
    ended(&*start(&*sandbox, spec).await).await;
    let error = refused(&*sandbox, b.exec("late", &["true"])).await;
    assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Conflict), "{error}");
    destroy(&*sandbox).await;
}

pub(super) async fn forgotten_processes_are_gone(b: &Bench<'_>) {
    let sandbox = b.idle().await;
    let exec = start(&*sandbox, b.exec("short", &["true"])).await;
    ended(&*exec).await;
    assert!(sandbox.process(exec.id()).await.is_some(), "kept until it is forgotten");
    sandbox.forget(exec.id()).await;
    assert!(sandbox.process(exec.id()).await.is_none());
    // The name is free again.
    ended(&*start(&*sandbox, b.exec("short", &["true"])).await).await;
    destroy(&*sandbox).await;
}

pub(super) async fn destroy_kills_and_can_be_repeated(b: &Bench<'_>) {
    let sandbox = b.idle().await;
    let exec = start(&*sandbox, b.exec("other", &["sleep", "infinity"])).await;
    destroy(&*sandbox).await;
    assert_eq!(ended(&*exec).await.status, ExitStatus::Signal(Signal::KILL));
    destroy(&*sandbox).await;
    let error = sandbox.usage().await.expect_err("it is destroyed");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

pub(super) async fn pause_stops_and_resume_goes_on(b: &Bench<'_>) {
    let sandbox = b.idle().await;
    let Some(pausable) = sandbox.pausable() else {
        assert!(!b.driver().capabilities().pause, "a driver that says so can pause");
        return destroy(&*sandbox).await;
    };
    pausable.pause(soon()).await.expect("it runs");
    pausable.pause(soon()).await.expect("pausing twice is pausing once");
    let main = sandbox.process(&base::ProcessId::main()).await.expect("it was started");
    let waiting = tokio::time::timeout(Duration::from_millis(50), main.wait()).await;
    assert!(waiting.is_err(), "a paused process does not end by itself");
    pausable.resume(soon()).await.expect("it is paused");
    let (text, _) = b.output(&*sandbox, b.exec("after", &["echo", "awake"])).await;
    assert_eq!(text, "awake\n");
    pausable.pause(soon()).await.expect("it runs");
    // A paused sandbox can be destroyed.
    destroy(&*sandbox).await;
}

pub(super) async fn environment_user_and_directory(b: &Bench<'_>) {
    let sandbox = b.idle().await;
    let mut spec = b.exec("who", &["sh", "-c", "echo $GREETING; pwd; id"]);
    spec.env.push("GREETING=good day".to_owned());
    spec.cwd = "/tmp".into();
    spec.user = UserSpec::Ids { uid: 1000, gid: 1001, groups: vec![1002] };
    let (text, status) = b.output(&*sandbox, spec).await;
    assert_eq!(status, ExitStatus::Code(0), "{text}");
    assert_eq!(text, "good day\n/tmp\nuid=1000 gid=1001 groups=1002\n");
    destroy(&*sandbox).await;
}

//! Standard streams, terminals, logs.

use tokio::io::AsyncWriteExt as _;
use workload::{ExitStatus, Streams, TerminalSize};

use super::{
    Bench,
    bench::{destroy, ended, read_all, read_until, socket_pair, start, within},
    soon,
};

pub(super) async fn output_is_logged_and_attached(b: &Bench<'_>) {
    let sandbox = b.sandbox().await;
    let mut spec = b.main(&*sandbox, &["sh", "-c", "echo first; echo second"]);
    let log = b.log();
    spec.log = Some(log.clone());
    let (text, status) = b.output(&*sandbox, spec).await;
    assert_eq!((text.as_str(), status), ("first\nsecond\n", ExitStatus::Code(0)));
    let logged = std::fs::read(&log.path).expect("a log was written");
    let logged = String::from_utf8_lossy(&logged);
    assert!(logged.contains("first\n") && logged.contains("second\n"), "{logged:?}");
    destroy(&*sandbox).await;
}

pub(super) async fn standard_input_reaches_the_process(b: &Bench<'_>) {
    let sandbox = b.sandbox().await;
    let mut spec = b.main(&*sandbox, &["cat"]);
    (spec.stdin, spec.stdin_once) = (true, true);
    let (mut ours, theirs) = socket_pair();
    let streams = Streams { attached: Some(theirs.into()) };
    let process = sandbox.spawn(spec, streams, soon()).await.expect("cat is there");
    // More than any pipe or socket holds, so that both directions must flow at once.
    let sent = "0123456789abcdef".repeat(64 << 10);
    let (read, mut write) = ours.split();
    let writing = async {
        write.write_all(sent.as_bytes()).await.expect("it reads");
        write.shutdown().await.expect("the socket is open");
    };
    let both = async { tokio::join!(writing, read_all(read, false)) };
    let ((), text) = within("echoing", both).await;
    assert_eq!(text.len(), sent.len());
    assert!(text == sent, "the bytes are the same");
    assert_eq!(ended(&*process).await.status, ExitStatus::Code(0));
    destroy(&*sandbox).await;
}

pub(super) async fn without_standard_input_it_reads_as_empty(b: &Bench<'_>) {
    let sandbox = b.sandbox().await;
    let spec = b.main(&*sandbox, &["cat"]);
    assert_eq!(ended(&*start(&*sandbox, spec).await).await.status, ExitStatus::Code(0));
    destroy(&*sandbox).await;
}

pub(super) async fn a_terminal_has_a_size_that_changes(b: &Bench<'_>) {
    let sandbox = b.sandbox().await;
    let mut spec = b.main(&*sandbox, &["tty", "-f"]);
    spec.terminal = Some(TerminalSize { rows: 30, columns: 100 });
    spec.stdin = true;
    let (mut ours, theirs) = socket_pair();
    let streams = Streams { attached: Some(theirs.into()) };
    let process = sandbox.spawn(spec, streams, soon()).await.expect("tty is there");
    read_until(&mut ours, "30 rows, 100 columns").await;
    process.resize(TerminalSize { rows: 11, columns: 22 }).await.expect("it has a terminal");
    read_until(&mut ours, "11 rows, 22 columns").await;
    // What the terminal makes of ^C, not a signal that we send.
    ours.write_all(b"\x03").await.expect("it reads");
    assert_eq!(ended(&*process).await.status, ExitStatus::Code(130));
    destroy(&*sandbox).await;
}

pub(super) async fn late_attachers_see_what_comes(b: &Bench<'_>) {
    let sandbox = b.sandbox().await;
    let mut spec = b.main(&*sandbox, &["cat"]);
    spec.stdin = true;
    let process = start(&*sandbox, spec).await;
    let (mut one, theirs) = socket_pair();
    process.attach(theirs.into()).await.expect("it runs");
    let (mut two, theirs) = socket_pair();
    process.attach(theirs.into()).await.expect("it runs");
    one.write_all(b"to both\n").await.expect("it reads");
    read_until(&mut one, "to both\n").await;
    read_until(&mut two, "to both\n").await;
    // One who leaves takes nobody along.
    drop(one);
    two.write_all(b"still here\n").await.expect("it reads");
    read_until(&mut two, "still here\n").await;
    destroy(&*sandbox).await;
    within("the end of the stream", read_all(two, false)).await;
    let (_ours, theirs) = socket_pair();
    process.attach(theirs.into()).await.expect_err("it has ended");
}

pub(super) async fn no_descriptor_is_leaked_inside(b: &Bench<'_>) {
    let sandbox = b.idle().await;
    let (text, _) = b.output(&*sandbox, b.exec("list", &["ls", "/proc/self/fd"])).await;
    // The fourth is the directory that is being listed.
    assert_eq!(text, "0\n1\n2\n3\n");
    destroy(&*sandbox).await;
    let sandbox = b.sandbox().await;
    let (text, _) = b.output(&*sandbox, b.main(&*sandbox, &["ls", "/proc/self/fd"])).await;
    assert_eq!(text, "0\n1\n2\n3\n");
    destroy(&*sandbox).await;
}

//! Logs, read while they are written and afterwards.

use testkit::fake::Source;
use workload::Signal;

use super::harness::{STUCK, World, named};
use crate::{Create, EngineError, LogOptions, LogQuery, LogSource, LogStream, WaitFor};

async fn text(mut log: LogStream) -> String {
    let mut text = String::new();
    while let Some(entry) = log.next().await.unwrap() {
        text += match entry.stream {
            LogSource::Stdout => "out: ",
            LogSource::Stderr => "err: ",
        };
        text += &String::from_utf8(entry.bytes).unwrap();
    }
    text
}

#[tokio::test]
async fn a_log_is_read_as_it_was_written() {
    let world = World::new();
    let engine = world.engine().await;
    let id = engine.run(named("web", &["sleep"]), None, None).await.unwrap().id;
    for line in 0..600 {
        let source = if line % 2 == 0 { Source::Stdout } else { Source::Stderr };
        assert!(world.fake.write(&id.sandbox(), "main", source, &format!("{line}\n")));
    }
    let all = text(engine.logs("web", LogQuery::default()).await.unwrap()).await;
    assert_eq!(all.lines().count(), 600);
    assert!(all.starts_with("out: 0\nerr: 1\n") && all.ends_with("err: 599\n"), "{all}");
    let last = LogQuery { tail: Some(3), stderr: false, ..LogQuery::default() };
    assert_eq!(text(engine.logs("web", last).await.unwrap()).await, "out: 598\n");
}

#[tokio::test]
async fn following_ends_with_the_container_and_misses_nothing() {
    let world = World::new();
    let engine = world.engine().await;
    let id = engine.run(named("web", &["sleep"]), None, None).await.unwrap().id;
    let say = |line: &str| world.fake.write(&id.sandbox(), "main", Source::Stdout, line);
    say("first\n");
    let query = LogQuery { follow: true, ..LogQuery::default() };
    let mut log = engine.logs("web", query.clone()).await.unwrap();
    let first = log.next().await.unwrap().unwrap();
    assert_eq!(first.bytes, b"first\n");
    let rest = tokio::spawn(text(log));
    say("second\n");
    say("last");
    engine.kill("web", Signal::KILL).await.unwrap();
    let rest = tokio::time::timeout(STUCK, rest).await.unwrap().unwrap();
    assert_eq!(rest, "out: second\nout: last");
    // Of one that has ended, following is reading.
    engine.wait("web", WaitFor::NotRunning).await.unwrap();
    let again = text(engine.logs("web", query).await.unwrap());
    let again = tokio::time::timeout(STUCK, again).await.unwrap();
    assert_eq!(again, "out: first\nout: second\nout: last");
}

#[tokio::test]
async fn a_container_without_a_log_says_so() {
    let world = World::new();
    let engine = world.engine().await;
    let log = LogOptions { none: true, ..LogOptions::default() };
    engine.run(Create { log, ..named("web", &["echo", "hello"]) }, None, None).await.unwrap();
    let refused = engine.logs("web", LogQuery::default()).await.unwrap_err();
    assert!(matches!(refused, EngineError::LogUnreadable));
    // One that was never started has an empty one.
    engine.create(named("idle", &[])).await.unwrap();
    let query = LogQuery { follow: true, ..LogQuery::default() };
    assert_eq!(text(engine.logs("idle", query).await.unwrap()).await, "");
}

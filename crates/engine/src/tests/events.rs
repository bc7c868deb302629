//! What the world is told of containers and images.

use std::time::Duration;

use workload::Signal;

use super::harness::{STUCK, World, named};
use crate::{EventFilter, EventKind, EventQuery, EventStream, ExecCreate, Remove, Stop, WaitFor};

/// Actions up to this one, with what a test wants to see of their attributes.
async fn until(stream: &mut EventStream, last: &str) -> Vec<String> {
    let mut told = Vec::new();
    loop {
        let next = tokio::time::timeout(STUCK, stream.next()).await;
        let event = next.unwrap_or_else(|_| panic!("no {last} after {told:?}")).unwrap().unwrap();
        let shown = ["exitCode", "signal", "oldName"];
        let shown = shown.iter().filter_map(|name| event.attributes.get(*name));
        let words = std::iter::once(&event.action).chain(shown);
        told.push(words.map(String::as_str).collect::<Vec<_>>().join(" "));
        if event.action == last {
            return told;
        }
    }
}

fn containers() -> EventQuery {
    let filter = EventFilter { kinds: vec!["container".to_owned()], ..EventFilter::default() };
    EventQuery { filter, ..EventQuery::default() }
}

#[tokio::test]
async fn a_life_is_told_from_create_to_destroy() {
    let world = World::new();
    let engine = world.engine().await;
    let mut stream = engine.events(containers());
    engine.create(named("web", &["sleep"])).await.unwrap();
    engine.start("web", None, None).await.unwrap();
    engine.pause("web").await.unwrap();
    engine.resume("web").await.unwrap();
    engine.rename("web", "db".parse().unwrap()).await.unwrap();
    let stop = Stop { signal: None, grace: Some(Some(Duration::ZERO)) };
    engine.restart("db", stop).await.unwrap();
    engine.kill("db", Signal::KILL).await.unwrap();
    engine.wait("db", WaitFor::NotRunning).await.unwrap();
    engine.remove("db", Remove::default()).await.unwrap();
    let told = until(&mut stream, "destroy").await;
    let told: Vec<_> = told.iter().map(String::as_str).filter(|word| *word != "kill 9").collect();
    assert_eq!(
        told,
        [
            "create",
            "start",
            "pause",
            "unpause",
            "rename /web",
            "kill 15",
            "die 143",
            "stop",
            "start",
            "restart",
            "die 137",
            "destroy"
        ]
    );
}

#[tokio::test]
async fn a_forced_removal_tells_of_the_kill_and_an_exec_of_its_end() {
    let world = World::new();
    let engine = world.engine().await;
    engine.run(named("web", &["sleep"]), None, None).await.unwrap();
    let mut stream = engine.events(containers());
    let command = vec!["echo".to_owned(), "hello".to_owned()];
    let exec = ExecCreate { command, ..ExecCreate::default() };
    let id = engine.exec_create("web", exec).await.unwrap();
    engine.exec_start(&id, None).await.unwrap();
    engine.exec_wait(&id).await.unwrap();
    let told = until(&mut stream, "exec_die").await;
    assert_eq!(told, ["exec_create: echo hello", "exec_start: echo hello", "exec_die 0"]);
    engine.remove("web", Remove { force: true, ..Remove::default() }).await.unwrap();
    assert_eq!(until(&mut stream, "destroy").await, ["kill 9", "die 137", "destroy"]);
}

#[tokio::test]
async fn events_know_their_container_and_the_daemon_tells_of_itself() {
    let world = World::new();
    let engine = world.engine().await;
    let mut stream = engine.events(EventQuery { since: Some(0), ..EventQuery::default() });
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!((first.kind, first.action.as_str()), (EventKind::Daemon, "start"));
    let mut create = named("web", &["sleep"]);
    create.labels.insert("tier".to_owned(), "front".to_owned());
    let id = engine.create(create).await.unwrap().id;
    let made = stream.next().await.unwrap().unwrap();
    let of = |name: &str| made.attributes.get(name).map(String::as_str);
    assert_eq!((made.actor.as_str(), made.action.as_str()), (id.as_str(), "create"));
    let told = (of("name"), of("image"), of("tier"));
    assert_eq!(told, (Some("web"), Some("image"), Some("front")));
    engine.close().await;
    assert_eq!(stream.next().await.unwrap().unwrap().action, "shutdown");
    assert!(stream.next().await.unwrap().is_none());
}

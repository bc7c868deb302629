//! The bus: nobody is held up, nothing is lost unknowingly, filters are Docker's.

use std::time::Duration;

use super::*;
use crate::EngineError;

fn attributes(pairs: &[(&str, &str)]) -> Attributes {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn tell(events: &Events, action: &str) {
    events.publish(EventKind::Container, action, "c0ffee", attributes(&[("name", "web")]));
}

fn open() -> (Events, watch::Sender<bool>) {
    (Events::default(), watch::Sender::new(false))
}

async fn actions(mut stream: EventStream) -> Vec<String> {
    let mut actions = Vec::new();
    while let Some(event) = stream.next().await.unwrap() {
        actions.push(event.action.clone());
    }
    actions
}

#[tokio::test]
async fn who_listens_hears_what_happens_from_then_on() {
    let (events, closing) = open();
    tell(&events, "before");
    let listener = events.listen(EventQuery::default(), closing.subscribe());
    tell(&events, "create");
    tell(&events, "start");
    let heard = tokio::spawn(actions(listener));
    tokio::task::yield_now().await;
    tell(&events, "die");
    closing.send_replace(true);
    assert_eq!(heard.await.unwrap(), ["create", "start", "die"]);
}

#[tokio::test]
async fn what_is_kept_is_told_again_between_two_times() {
    let (events, closing) = open();
    tell(&events, "one");
    let since = Timestamp::now().0 + 1;
    tokio::time::sleep(Duration::from_millis(2)).await;
    tell(&events, "two");
    tell(&events, "three");
    let until = Timestamp::now().0;
    tokio::time::sleep(Duration::from_millis(2)).await;
    tell(&events, "four");
    let ask = |since, until| {
        let query = EventQuery { since, until, ..EventQuery::default() };
        actions(events.listen(query, closing.subscribe()))
    };
    assert_eq!(ask(Some(since), Some(until)).await, ["two", "three"]);
    assert_eq!(ask(None, Some(until)).await, ["one", "two", "three"]);
    let soon = Timestamp::now().0 + 20_000_000;
    assert_eq!(ask(Some(since), Some(soon)).await, ["two", "three", "four"]);
}

#[tokio::test]
async fn who_falls_behind_is_told_and_a_thousand_cost_nothing() {
    let (events, closing) = open();
    let mut slow: Vec<_> =
        (0..1000).map(|_| events.listen(EventQuery::default(), closing.subscribe())).collect();
    for _ in 0..KEPT_MAX + 5 {
        tell(&events, "tick");
    }
    for listener in &mut slow {
        let lost = listener.next().await.unwrap_err();
        assert!(matches!(lost, EngineError::EventsLost { missed: 5 }), "{lost:?}");
    }
    assert_eq!(events.bus.ring().kept(), KEPT_MAX);
}

#[test]
fn long_labels_do_not_fill_the_memory() {
    let (events, _closing) = open();
    let long = "x".repeat(100 << 10);
    for _ in 0..100 {
        events.publish(EventKind::Image, "tag", "sha256:1", attributes(&[("label", &long)]));
    }
    let ring = events.bus.ring();
    assert!(ring.bytes <= KEPT_BYTES_MAX && ring.kept() > 30, "{}", ring.bytes);
    assert_eq!(ring.end(), 100);
}

#[test]
fn filters_are_dockers() {
    let event = |kind, action: &str, actor: &str, pairs: &[(&str, &str)]| Event {
        at: Timestamp(1),
        kind,
        action: action.to_owned(),
        actor: actor.to_owned(),
        attributes: attributes(pairs),
    };
    let own = [("name", "web"), ("image", "host:5000/nginx:1"), ("tier", "front")];
    let exec = event(EventKind::Container, "exec_start: sh -c true", "c0ffee", &own);
    let tag = event(EventKind::Image, "tag", "sha256:1", &[("name", "nginx:1")]);
    let text = |text: &str| vec![text.to_owned()];
    let label = |name: &str, value: Option<&str>| {
        vec![LabelFilter { name: name.to_owned(), value: value.map(ToOwned::to_owned) }]
    };
    let none = EventFilter::default;
    for (filter, wants_exec, wants_tag) in [
        (none(), true, true),
        (EventFilter { containers: text("c0f"), ..none() }, true, false),
        (EventFilter { containers: text("/web"), ..none() }, true, false),
        (EventFilter { containers: text("db"), ..none() }, false, false),
        (EventFilter { images: text("host:5000/nginx"), ..none() }, true, false),
        (EventFilter { images: text("nginx"), ..none() }, false, true),
        (EventFilter { images: text("nginx:2"), ..none() }, false, false),
        (EventFilter { actions: text("exec_start"), ..none() }, true, false),
        (EventFilter { actions: text("exec"), ..none() }, false, false),
        (EventFilter { actions: vec!["die".into(), "tag".into()], ..none() }, false, true),
        (EventFilter { kinds: text("image"), ..none() }, false, true),
        (EventFilter { labels: label("tier", None), ..none() }, true, false),
        (EventFilter { labels: label("tier", Some("back")), ..none() }, false, false),
        (EventFilter { isolations: text("container"), ..none() }, true, false),
        (EventFilter { isolations: text("vm"), ..none() }, false, false),
        (EventFilter { scopes: vec![EventScope::Swarm], ..none() }, false, false),
        (EventFilter { of_nothing: true, ..none() }, false, false),
        (EventFilter { daemons: text("host"), ..none() }, false, false),
    ] {
        assert_eq!(
            (filter.wants(&exec), filter.wants(&tag)),
            (wants_exec, wants_tag),
            "{filter:?}"
        );
    }
}

//! Which events are wanted.

use serde::{Deserialize, Serialize};

use super::{Event, EventKind};

/// Which events, and from when until when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventQuery {
    /// Begin with those kept that are not older, unix nanoseconds.
    pub since: Option<u64>,
    /// End at this time, unix nanoseconds. With neither bound, only what happens from now on.
    pub until: Option<u64>,
    /// Which of them.
    pub filter: EventFilter,
}

/// Which events are wanted: each list that is not empty must have something that matches, of
/// labels all must.
///
/// Source: moby, `daemon/events/filter.go`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventFilter {
    /// Names, ids or their beginnings.
    pub containers: Vec<String>,
    /// Images, with or without tag, or their ids.
    pub images: Vec<String>,
    /// Names of volumes or their beginnings.
    pub volumes: Vec<String>,
    /// Networks: names, ids or their beginnings.
    pub networks: Vec<String>,
    /// Daemons: names, ids or their beginnings.
    pub daemons: Vec<String>,
    /// Actions: `die`; of `exec_start: true` the part before the colon is enough.
    pub actions: Vec<String>,
    /// Kinds, in Docker's words; some of Docker's never happen here.
    pub kinds: Vec<String>,
    /// Labels of the actor.
    pub labels: Vec<LabelFilter>,
    /// Isolations, by name, of containers.
    pub isolations: Vec<String>,
    /// Where they come from.
    pub scopes: Vec<EventScope>,
    /// Something of which there are no events here: plug-ins, Swarm's services, nodes, secrets.
    pub of_nothing: bool,
}

/// A label, with a value if that matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelFilter {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
}

/// Where an event comes from. Ours all come from this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventScope {
    /// This machine.
    Local,
    /// A swarm, of which there is none.
    Swarm,
}

/// Actions with more behind a colon, which are asked for by what stands before it.
const COLON_ACTIONS: [&str; 3] = ["exec_create", "exec_start", "health_status"];

impl EventFilter {
    /// Whether this one is wanted.
    pub fn wants(&self, event: &Event) -> bool {
        let kind = |kind, names: &[String]| {
            names.is_empty() || (event.kind == kind && named(event, names))
        };
        !self.of_nothing
            && some(&self.kinds, |kind| kind == event.kind.word())
            && some(&self.actions, |action| is_action(&event.action, action))
            && some(&self.scopes, |scope| *scope == EventScope::Local)
            && kind(EventKind::Container, &self.containers)
            && kind(EventKind::Volume, &self.volumes)
            && kind(EventKind::Network, &self.networks)
            && kind(EventKind::Daemon, &self.daemons)
            && some(&self.images, |image| of_image(event, image))
            && some(&self.isolations, |isolation| of_isolation(event, isolation))
            && self.labels.iter().all(|label| {
                let value = event.attributes.get(&label.name);
                value.is_some_and(|value| label.value.as_ref().is_none_or(|want| want == value))
            })
    }
}

/// No list is no wish.
fn some<T>(list: &[T], matches: impl Fn(&T) -> bool) -> bool {
    list.is_empty() || list.iter().any(matches)
}

fn is_action(action: &str, want: &str) -> bool {
    let before = action.split(':').next().unwrap_or(action);
    action == want || (before == want && COLON_ACTIONS.contains(&before))
}

fn named(event: &Event, names: &[String]) -> bool {
    let own = event.attributes.get("name").map(String::as_str).unwrap_or_default();
    names.iter().any(|name| {
        let name = name.strip_prefix('/').unwrap_or(name);
        event.actor.starts_with(name) || own.starts_with(name)
    })
}

fn of_image(event: &Event, image: &str) -> bool {
    let attribute = match event.kind {
        EventKind::Image => "name",
        EventKind::Container | EventKind::Volume | EventKind::Network | EventKind::Daemon => {
            "image"
        }
    };
    let own = event.attributes.get(attribute).map(String::as_str).unwrap_or_default();
    let names = [event.actor.as_str(), own];
    names.iter().any(|name| !name.is_empty() && (*name == image || without_tag(name) == image))
}

/// A reference without its tag or digest.
fn without_tag(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    match name.rsplit_once(':') {
        // A port of the registry is no tag.
        Some((before, tag)) if !tag.contains('/') => before,
        Some(_) | None => name,
    }
}

/// Of a container that has one; the usual isolation is not told.
fn of_isolation(event: &Event, isolation: &str) -> bool {
    let own = event.attributes.get("isolation").map_or("container", String::as_str);
    event.kind == EventKind::Container && own == isolation
}

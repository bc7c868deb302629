//! Which containers a list shows: `ps` with its flags and filters. Conditions of one kind are
//! alternatives, except for labels; those of different kinds all hold.
//!
//! Source: Docker's documentation, `docker ps`, "Filtering"; moby, `daemon/list.go`.

use base::clock::Timestamp;
use engine::{ContainerState, MountKind, Summary};
use regex::{Regex, RegexBuilder};

use crate::shape::{host_config::network_name, image::familiar, ports, status};

/// The kinds of conditions.
pub const KINDS: [&str; 15] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

/// Docker's words for states.
const STATES: [&str; 7] =
    ["created", "restarting", "running", "removing", "paused", "exited", "dead"];

/// Docker's words for how a container is.
const HEALTHS: [&str; 4] = ["starting", "healthy", "unhealthy", "none"];

/// Most memory that a pattern of names may take, compiled.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Why nothing is selected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// There is no such condition.
    #[error("invalid filter '{kind}={value}': {why}")]
    Invalid {
        /// Of which kind.
        kind: String,
        /// What was given.
        value: String,
        /// What would be right.
        why: String,
    },
    /// A condition names a container that is not there.
    #[error("No such container: {0}")]
    NoSuchContainer(String),
}

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Those too that do not run.
    all: bool,
    /// Only so many of the youngest, whether they run or not.
    last: Option<usize>,
    conditions: Vec<Condition>,
}

/// One of them.
#[derive(Clone, Debug)]
struct Condition {
    kind: String,
    value: String,
    /// What names are compared with.
    pattern: Option<Regex>,
}

/// Between which moments of creation.
#[derive(Debug, Default)]
struct Bounds {
    after: Option<Timestamp>,
    before: Option<Timestamp>,
}

impl Bounds {
    fn contain(&self, container: &Summary) -> bool {
        self.after.is_none_or(|after| container.created > after)
            && self.before.is_none_or(|before| container.created < before)
    }
}

impl Selection {
    /// Without conditions.
    pub fn new(all: bool, last: Option<usize>) -> Selection {
        Selection { all, last, conditions: Vec::new() }
    }

    /// Adds a condition.
    ///
    /// # Errors
    /// [`SelectionError::Invalid`].
    pub fn add(&mut self, kind: &str, value: &str) -> Result<(), SelectionError> {
        let bad = |why: String| SelectionError::Invalid {
            kind: kind.to_owned(),
            value: value.to_owned(),
            why,
        };
        if !KINDS.contains(&kind) {
            return Err(bad(format!("use one of {}", KINDS.join(", "))));
        }
        let known = match kind {
            "status" => STATES.contains(&value),
            "health" => HEALTHS.contains(&value),
            "exited" => value.parse::<u8>().is_ok(),
            "is-task" => ["true", "false", "1", "0"].contains(&value),
            _ => true,
        };
        if !known {
            return Err(bad(format!("there is no {kind} \"{value}\"")));
        }
        let pattern = match kind {
            "name" => Some(pattern(value).map_err(|error| bad(error.to_string()))?),
            _ => None,
        };
        let (kind, value) = (kind.to_owned(), value.to_owned());
        self.conditions.push(Condition { kind, value, pattern });
        Ok(())
    }

    /// Those that are meant, the youngest first.
    ///
    /// # Errors
    /// [`SelectionError::NoSuchContainer`].
    pub fn pick(&self, mut containers: Vec<Summary>) -> Result<Vec<Summary>, SelectionError> {
        containers.sort_by_key(|container| std::cmp::Reverse(container.created));
        let every = self.all || self.last.is_some() || self.name_states();
        let bounds = self.bounds(&containers)?;
        containers.retain(|container| {
            (every || runs(container)) && self.accept(container) && bounds.contain(container)
        });
        containers.truncate(self.last.unwrap_or(usize::MAX));
        Ok(containers)
    }

    /// Whether containers that do not run are asked for by name.
    fn name_states(&self) -> bool {
        self.conditions.iter().any(|one| one.kind == "status" || one.kind == "exited")
    }

    /// The moments of the containers that `before` and `since` name.
    fn bounds(&self, all: &[Summary]) -> Result<Bounds, SelectionError> {
        let mut bounds = Bounds::default();
        for Condition { kind, value, .. } in &self.conditions {
            let place = match kind.as_str() {
                "before" => &mut bounds.before,
                "since" => &mut bounds.after,
                _ => continue,
            };
            let name = value.trim_start_matches('/');
            let named = |c: &&Summary| c.name.as_str() == name || c.id.as_str().starts_with(name);
            let missing = || SelectionError::NoSuchContainer(value.clone());
            *place = Some(all.iter().find(named).ok_or_else(missing)?.created);
        }
        Ok(bounds)
    }

    /// Whether the container meets the conditions.
    fn accept(&self, container: &Summary) -> bool {
        KINDS.iter().all(|kind| {
            let mut of_kind = self.conditions.iter().filter(|one| one.kind == *kind).peekable();
            if of_kind.peek().is_none() {
                return true;
            }
            match *kind {
                "label" => of_kind.all(|one| one.holds(container)),
                _ => of_kind.any(|one| one.holds(container)),
            }
        })
    }
}

impl Condition {
    fn holds(&self, container: &Summary) -> bool {
        match &self.pattern {
            // A name may be written with Docker's slash.
            Some(pattern) => {
                let name = format!("/{}", container.name);
                pattern.is_match(&name) || pattern.is_match(container.name.as_str())
            }
            None => meets(&self.kind, &self.value, container),
        }
    }
}

/// A regular expression, found anywhere in a name unless it says otherwise.
fn pattern(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build()
}

fn runs(container: &Summary) -> bool {
    match container.state.state {
        ContainerState::Running | ContainerState::Paused | ContainerState::Restarting => true,
        ContainerState::Created
        | ContainerState::Exited
        | ContainerState::Removing
        | ContainerState::Dead => false,
    }
}

fn meets(kind: &str, value: &str, container: &Summary) -> bool {
    match kind {
        "id" => container.id.as_str().starts_with(value),
        "label" => match value.split_once('=') {
            Some((key, value)) => container.labels.get(key).is_some_and(|v| v == value),
            None => container.labels.contains_key(value),
        },
        "status" => status::word(container.state.state) == value,
        "exited" => {
            container.state.exit.is_some()
                && status::exit_code(&container.state).to_string() == value
        }
        "ancestor" => {
            let image = familiar(&container.image);
            let id = container.image_id.strip_prefix("sha256:").unwrap_or(&container.image_id);
            image == value
                || image.strip_suffix(":latest") == Some(value)
                || image.split_once(':').is_some_and(|(name, _)| name == value)
                || container.image_id == value
                || (value.len() >= 4 && id.starts_with(value))
        }
        "network" => network_name(&container.network) == value,
        "publish" => {
            let port = value.split('/').next().unwrap_or(value);
            container.ports.iter().any(|bound| {
                let tcp_or_same =
                    !value.contains('/') || value.ends_with(ports::protocol(bound.protocol));
                tcp_or_same
                    && (bound.host_port.to_string() == port
                        || bound.container_port.to_string() == port)
            })
        }
        "expose" => {
            let keys = ports::bound(&container.expose, &container.ports).into_keys();
            let full = if value.contains('/') { value.to_owned() } else { format!("{value}/tcp") };
            keys.into_iter().any(|key| key == full)
        }
        "volume" => container.mounts.iter().any(|mount| {
            let source = match &mount.kind {
                MountKind::Bind { source, .. } => source.to_str(),
                MountKind::Volume(volume) => Some(volume.name.as_str()),
                MountKind::Tmpfs { .. } => None,
            };
            mount.target.to_str() == Some(value) || source == Some(value)
        }),
        "health" => {
            let health = container.state.health.as_ref();
            health.map_or("none", |health| health.status.word()) == value
        }
        // There is no swarm, and so no task.
        "is-task" => matches!(value, "false" | "0"),
        "isolation" => container.isolation.to_string() == value,
        // Those that bounds have taken.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn accepts(filters: &[&str]) -> bool {
        let mut selection = Selection::default();
        for text in filters {
            let (kind, value) = text.split_once('=').unwrap();
            selection.add(kind, value).unwrap();
        }
        selection.accept(&fixture::summary())
    }

    #[test]
    fn conditions_hold_as_docker_documents_them() {
        for (filters, want) in [
            (&["name=we"][..], true),
            (&["name=^/web$"], true),
            (&["name=^eb"], false),
            (&["name=^/eb"], false),
            (&["name=w.b"], true),
            (&["name=^(db|web)$"], true),
            (&["name=web_[0-9]+"], false),
            (&["name=db", "name=web"], true),
            (&["label=tier"], true),
            (&["label=tier=front"], true),
            (&["label=tier", "label=none"], false),
            (&["status=running"], true),
            (&["status=exited"], false),
            (&["exited=0"], false),
            (&["ancestor=web"], true),
            (&["ancestor=web:1"], true),
            (&["ancestor=abababab"], true),
            (&["ancestor=debian"], false),
            (&["network=bridge"], true),
            (&["publish=8080"], true),
            (&["publish=80/udp"], false),
            (&["expose=53/udp"], true),
            (&["volume=/srv"], true),
            (&["name=web", "status=paused"], false),
            (&["is-task=false", "isolation=container"], true),
            (&["is-task=true"], false),
            (&["isolation=vm"], false),
        ] {
            assert_eq!(accepts(filters), want, "{filters:?}");
        }
    }

    #[test]
    fn unknown_conditions_are_refused() {
        let mut selection = Selection::default();
        for (kind, bad) in [("colour", "red"), ("status", "happy"), ("exited", "often")] {
            let error = selection.add(kind, bad).unwrap_err().to_string();
            assert!(error.starts_with(&format!("invalid filter '{kind}={bad}'")), "{error}");
        }
    }

    #[test]
    fn the_youngest_that_run_are_shown_unless_more_is_asked_for() {
        let web = fixture::summary();
        let mut old = web.clone();
        old.name = "old".parse().unwrap();
        old.created = Timestamp(web.created.0 - 1);
        old.state.state = ContainerState::Exited;
        let all = vec![old, web];
        let names = |selection: &Selection| -> Vec<String> {
            let picked = selection.pick(all.clone()).unwrap();
            picked.iter().map(|one| one.name.to_string()).collect()
        };
        let mut selection = Selection::default();
        assert_eq!(names(&selection), ["web"]);
        assert_eq!(names(&Selection { all: true, ..selection.clone() }), ["web", "old"]);
        assert_eq!(names(&Selection { last: Some(1), ..selection.clone() }), ["web"]);
        selection.add("status", "exited").unwrap();
        assert_eq!(names(&selection), ["old"]);
        selection.add("since", "nobody").unwrap();
        assert!(selection.pick(all.clone()).is_err());
    }
}

//! `ps --filter`: conditions on containers. Conditions of one kind are alternatives, except for
//! labels; those of different kinds all hold.
//!
//! Source: Docker's documentation, `docker ps`, "Filtering".

use base::clock::Timestamp;
use engine::{MountKind, Summary};

use crate::{
    error::CliError,
    show::{familiar, host_config::network_name, ports, status},
};

/// The kinds of conditions that are built.
const KINDS: [&str; 13] = [
    "ancestor", "before", "exited", "expose", "id", "label", "name", "network", "publish", "since",
    "status", "volume", "health",
];

/// Docker's words for states.
const STATES: [&str; 7] =
    ["created", "restarting", "running", "removing", "paused", "exited", "dead"];

/// Docker's words for how a container is.
const HEALTHS: [&str; 4] = ["starting", "healthy", "unhealthy", "none"];

/// What was asked for, as kind and value.
#[derive(Debug, Default)]
pub(super) struct Filters(Vec<(String, String)>);

/// Between which moments of creation.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    after: Option<Timestamp>,
    before: Option<Timestamp>,
}

impl Bounds {
    pub(super) fn contain(&self, container: &Summary) -> bool {
        self.after.is_none_or(|after| container.created > after)
            && self.before.is_none_or(|before| container.created < before)
    }
}

impl Filters {
    /// Reads `kind=value` each.
    pub(super) fn parse(texts: &[String]) -> Result<Filters, CliError> {
        let mut filters = Vec::new();
        for text in texts {
            let bad = |why: String| CliError::Usage(format!("invalid filter \"{text}\": {why}"));
            let (kind, value) =
                text.split_once('=').ok_or_else(|| bad("write kind=value".to_owned()))?;
            if !KINDS.contains(&kind) {
                return Err(bad(format!("use one of {}", KINDS.join(", "))));
            }
            let known = match kind {
                "status" => STATES.contains(&value),
                "health" => HEALTHS.contains(&value),
                "exited" => value.parse::<u8>().is_ok(),
                _ => true,
            };
            if !known {
                return Err(bad(format!("there is no {kind} \"{value}\"")));
            }
            filters.push((kind.to_owned(), value.to_owned()));
        }
        Ok(Filters(filters))
    }

    /// Whether containers that do not run are asked for by name.
    pub(super) fn name_states(&self) -> bool {
        self.0.iter().any(|(kind, _)| kind == "status" || kind == "exited")
    }

    /// The moments of the containers that `before` and `since` name.
    pub(super) fn bounds(&self, all: &[Summary]) -> Result<Bounds, CliError> {
        let mut bounds = Bounds::default();
        for (kind, value) in &self.0 {
            let place = match kind.as_str() {
                "before" => &mut bounds.before,
                "since" => &mut bounds.after,
                _ => continue,
            };
            let named = |c: &&Summary| c.name.as_str() == value || c.id.as_str().starts_with(value);
            let missing = || CliError::Usage(format!("No such container: {value}"));
            *place = Some(all.iter().find(named).ok_or_else(missing)?.created);
        }
        Ok(bounds)
    }

    /// Whether the container meets the conditions.
    pub(super) fn accept(&self, container: &Summary) -> bool {
        KINDS.iter().all(|kind| {
            let mut of_kind = self.0.iter().filter(|(k, _)| k == kind).peekable();
            if of_kind.peek().is_none() {
                return true;
            }
            match *kind {
                "label" => of_kind.all(|(_, value)| meets(kind, value, container)),
                _ => of_kind.any(|(_, value)| meets(kind, value, container)),
            }
        })
    }
}

fn meets(kind: &str, value: &str, container: &Summary) -> bool {
    match kind {
        "id" => container.id.as_str().starts_with(value),
        "name" => name_matches(container.name.as_str(), value),
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
        // Those that bounds have taken.
        _ => true,
    }
}

/// Part of a name; `^` and `$` hold on to its ends, and a name may be written with Docker's slash.
fn name_matches(name: &str, pattern: &str) -> bool {
    let (pattern, start) = match pattern.strip_prefix('^') {
        Some(rest) => (rest, true),
        None => (pattern, false),
    };
    let pattern = pattern.strip_prefix('/').unwrap_or(pattern);
    match (start, pattern.strip_suffix('$')) {
        (true, Some(whole)) => name == whole,
        (true, None) => name.starts_with(pattern),
        (false, Some(end)) => name.ends_with(end),
        (false, None) => name.contains(pattern),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::fixture;

    fn accepts(filters: &[&str]) -> bool {
        let filters: Vec<String> = filters.iter().map(|text| (*text).to_owned()).collect();
        Filters::parse(&filters).unwrap().accept(&fixture::summary())
    }

    #[test]
    fn conditions_hold_as_docker_documents_them() {
        for (filters, want) in [
            (&["name=we"][..], true),
            (&["name=^/web$"], true),
            (&["name=^eb"], false),
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
        ] {
            assert_eq!(accepts(filters), want, "{filters:?}");
        }
    }

    #[test]
    fn unknown_conditions_are_refused() {
        for bad in ["colour=red", "name", "status=happy", "exited=often"] {
            assert!(Filters::parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}

//! `events --filter`: which events are wanted.
//!
//! Source: Docker's documentation, `docker system events`, "Filtering".

use engine::{EventFilter, EventScope, LabelFilter};
use workload::Isolation;

use crate::error::CliError;

/// Docker's words for what an event can be about.
const KINDS: [&str; 11] = [
    "builder",
    "config",
    "container",
    "daemon",
    "image",
    "network",
    "node",
    "plugin",
    "secret",
    "service",
    "volume",
];

/// Reads `key=value` each.
///
/// # Errors
/// [`CliError::Usage`] with what would be right.
pub(super) fn parse(texts: &[String]) -> Result<EventFilter, CliError> {
    let mut filter = EventFilter::default();
    for text in texts {
        let bad = |why: &str| CliError::Usage(format!("invalid filter \"{text}\": {why}"));
        let (key, value) = text.split_once('=').ok_or_else(|| bad("write key=value"))?;
        add(&mut filter, key.trim(), value.trim()).map_err(|why| bad(&why))?;
    }
    Ok(filter)
}

fn add(filter: &mut EventFilter, key: &str, value: &str) -> Result<(), String> {
    let text = value.to_owned();
    match key {
        "container" => filter.containers.push(text),
        "image" => filter.images.push(text),
        "volume" => filter.volumes.push(text),
        "network" => filter.networks.push(text),
        "daemon" => filter.daemons.push(text),
        "event" => filter.actions.push(text),
        "label" => filter.labels.push(label(value)),
        "type" if KINDS.contains(&value) => filter.kinds.push(text),
        "type" => return Err(format!("use one of {}", KINDS.join(", "))),
        "scope" => filter.scopes.push(match value {
            "local" => EventScope::Local,
            "swarm" => EventScope::Swarm,
            _ => return Err("use local or swarm".to_owned()),
        }),
        "isolation" => {
            let isolation: Isolation = value.parse().map_err(|error| format!("{error}"))?;
            filter.isolations.push(isolation.to_string());
        }
        "config" | "node" | "plugin" | "secret" | "service" => filter.of_nothing = true,
        _ => {
            let known = "container, daemon, event, image, isolation, label, network, scope, type \
                         or volume";
            return Err(format!("use {known}"));
        }
    }
    Ok(())
}

fn label(text: &str) -> LabelFilter {
    match text.split_once('=') {
        Some((name, value)) => LabelFilter { name: name.to_owned(), value: Some(value.to_owned()) },
        None => LabelFilter { name: text.to_owned(), value: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_and_typos_refused() {
        let text = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let filter = parse(&text(&[
            "container=web",
            "event=die",
            "event=oom",
            "label=tier=front",
            "label=x",
            "isolation=process",
        ]))
        .unwrap();
        assert_eq!(filter.actions, ["die", "oom"]);
        assert_eq!(filter.labels, [label("tier=front"), label("x")]);
        assert_eq!(filter.isolations, ["container"]);
        assert!(parse(&text(&["plugin=x"])).unwrap().of_nothing);
        for bad in ["die", "kind=container", "type=containers", "isolation=jail", "scope=moon"] {
            assert!(parse(&text(&[bad])).is_err(), "{bad}");
        }
    }
}

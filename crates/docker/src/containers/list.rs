//! The list of containers.

use std::{collections::BTreeMap, sync::Arc};

use base::{ContainerId, clock::Timestamp};
use engine::{Container, ContainerSize, Summary};
use serde_json::{Value, json};

use crate::{
    call::Call,
    error::ApiError,
    reply::{self, Answer},
    shape::{
        container::{endpoints, mount},
        host_config::network_name,
        image::familiar,
        ports, status,
    },
    spec::selection::{KINDS, Selection, SelectionError},
};

/// `GET /containers/json`.
pub(crate) async fn list(call: &Call) -> Answer {
    let selection = selection(call)?;
    let containers = call.engine().list();
    let summaries = containers.iter().map(|container| Summary::from(&**container)).collect();
    let picked = selection.pick(summaries)?;
    let sizes = match call.query.flag("size") {
        true => {
            let ids: Vec<_> = picked.iter().map(|one| one.id.to_string()).collect();
            call.engine().container_sizes(&ids).await?
        }
        false => Vec::new(),
    };
    let by_id: BTreeMap<&ContainerId, &Arc<Container>> =
        containers.iter().map(|container| (&container.id, container)).collect();
    let now = Timestamp::now();
    let shapes = picked.iter().filter_map(|summary| {
        let size = sizes.iter().find(|size| size.id == summary.id);
        Some(shape(by_id.get(&summary.id)?, summary, size, now))
    });
    reply::json(&shapes.collect::<Vec<_>>())
}

/// `all`, `limit` and `filters`.
fn selection(call: &Call) -> Result<Selection, ApiError> {
    let limit = call.query.number::<i64>("limit")?;
    let last = limit.and_then(|limit| usize::try_from(limit).ok()).filter(|last| *last > 0);
    let filters = call.query.filters()?;
    filters.only(&KINDS)?;
    let mut selection = Selection::new(call.query.flag("all"), last);
    for kind in KINDS {
        for value in filters.of(kind) {
            selection.add(kind, value)?;
        }
    }
    Ok(selection)
}

impl From<SelectionError> for ApiError {
    fn from(error: SelectionError) -> ApiError {
        match error {
            SelectionError::Invalid { .. } => ApiError::bad(error.to_string()),
            SelectionError::NoSuchContainer(_) => ApiError::missing(error.to_string()),
        }
    }
}

/// Docker's `ContainerSummary`.
pub(crate) fn shape(
    container: &Container,
    summary: &Summary,
    size: Option<&ContainerSize>,
    now: Timestamp,
) -> Value {
    let mut shape = json!({
        "Id": summary.id.as_str(),
        "Names": [format!("/{}", summary.name)],
        "Image": familiar(&summary.image),
        "ImageID": summary.image_id,
        "Command": command(&summary.command),
        "Created": summary.created.seconds(),
        "Ports": ports(summary),
        "Labels": summary.labels,
        "State": status::word(summary.state.state),
        "Status": status::sentence(&summary.state, now),
        "HostConfig": { "NetworkMode": network_name(&summary.network) },
        "NetworkSettings": { "Networks": endpoints(container) },
        "Mounts": summary.mounts.iter().map(mount).collect::<Vec<_>>(),
        "Health": {
            "Status": summary.state.health.as_ref().map_or("none", |health| health.status.word()),
            "FailingStreak": summary.state.health.as_ref().map_or(0, |health| health.streak),
        },
    });
    if let Some(size) = size {
        shape["SizeRw"] = size.written.into();
        shape["SizeRootFs"] = size.root.into();
    }
    shape
}

/// The command in one line. Source: moby, `daemon/container/view.go`.
fn command(words: &[String]) -> String {
    let word = |(at, word): (usize, &String)| match at > 0 && word.contains(' ') {
        true => format!("'{word}'"),
        false => word.clone(),
    };
    words.iter().enumerate().map(word).collect::<Vec<_>>().join(" ")
}

fn ports(summary: &Summary) -> Vec<Value> {
    let bound = summary.ports.iter().map(|port| {
        json!({
            "IP": port.host_ip.to_string(),
            "PrivatePort": port.container_port,
            "PublicPort": port.host_port,
            "Type": ports::protocol(port.protocol),
        })
    });
    let open = summary.expose.iter().filter(|(port, protocol)| {
        !summary.ports.iter().any(|b| b.container_port == *port && b.protocol == *protocol)
    });
    let open = open
        .map(|(port, protocol)| json!({ "PrivatePort": port, "Type": ports::protocol(*protocol) }));
    bound.chain(open).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn a_container_is_listed_in_dockers_json() {
        let container = fixture::container();
        let shape = shape(&container, &fixture::summary(), None, fixture::NOW);
        let at = |path: &str| shape.pointer(path).cloned().unwrap();
        assert_eq!(at("/Names"), json!(["/web"]));
        assert_eq!(at("/Command"), "/bin/server --port 80");
        assert_eq!(at("/NetworkSettings/Networks/bridge/IPAddress"), "172.17.0.2");
        assert_eq!(at("/Mounts/0/Source"), "/srv/a-rather-long-path");
        assert_eq!(at("/Ports/0/PublicPort"), 8080);
        assert_eq!(at("/Ports/1"), json!({ "PrivatePort": 53, "Type": "udp" }));
        assert!(shape.get("SizeRw").is_none());
        assert_eq!(command(&["sh".into(), "-c".into(), "a b".into()]), "sh -c 'a b'");
    }
}

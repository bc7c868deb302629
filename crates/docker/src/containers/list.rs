//! The list of containers.

use base::clock::Timestamp;
use engine::{ContainerState, Summary};
use serde_json::{Value, json};

use crate::{
    call::Call,
    reply::{self, Answer},
    shape::{host_config::network_name, image::familiar, ports, status},
};

/// `GET /containers/json`.
pub(crate) async fn list(call: &Call) -> Answer {
    let (all, now) = (call.query.flag("all"), Timestamp::now());
    let mut containers = call.engine().list();
    // The youngest first.
    containers.reverse();
    let shown = containers.iter().filter(|container| {
        all || matches!(
            container.state.state,
            ContainerState::Running | ContainerState::Paused | ContainerState::Restarting
        )
    });
    let shapes = shown.map(|container| shape(&Summary::from(&**container), now));
    reply::json(&shapes.collect::<Vec<_>>())
}

/// Docker's `ContainerSummary`.
fn shape(summary: &Summary, now: Timestamp) -> Value {
    let network = network_name(&summary.network);
    json!({
        "Id": summary.id.as_str(),
        "Names": [format!("/{}", summary.name)],
        "Image": familiar(&summary.image),
        "ImageID": summary.image_id,
        "Command": summary.command.join(" "),
        "Created": summary.created.seconds(),
        "Ports": ports(summary),
        "Labels": summary.labels,
        "State": status::word(summary.state.state),
        "Status": status::sentence(&summary.state, now),
        "HostConfig": { "NetworkMode": network },
        "NetworkSettings": { "Networks": { network: {} } },
        "Mounts": [],
    })
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

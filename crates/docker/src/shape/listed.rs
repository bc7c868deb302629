//! A container in a list.
//!
//! Source: Docker Engine API 1.52, `ContainerSummary`.

use std::collections::BTreeMap;

use base::clock::Timestamp;
use engine::{Container, ContainerSize, Summary};
use serde::Serialize;

use super::{
    container::{Endpoint, Mount, endpoints, mount},
    host_config::network_name,
    image::familiar,
    ports, status,
};

/// Docker's `ContainerSummary`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Listed {
    id: String,
    names: [String; 1],
    image: String,
    #[serde(rename = "ImageID")]
    image_id: String,
    command: String,
    created: u64,
    ports: Vec<Port>,
    labels: BTreeMap<String, String>,
    state: &'static str,
    status: String,
    host_config: HostConfig,
    network_settings: NetworkSettings,
    mounts: Vec<Mount>,
    health: Health,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_rw: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_root_fs: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    network_mode: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    networks: BTreeMap<String, Endpoint>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    status: &'static str,
    failing_streak: u32,
}

/// Docker's `Port`: exposed, or published too.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Port {
    #[serde(rename = "IP", skip_serializing_if = "Option::is_none")]
    ip: Option<String>,
    private_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_port: Option<u16>,
    r#type: &'static str,
}

impl Listed {
    /// A container in Docker's words, `now`; with its sizes if they were asked for.
    pub(crate) fn of(
        container: &Container,
        summary: Summary,
        size: Option<&ContainerSize>,
        now: Timestamp,
    ) -> Listed {
        let health = summary.state.health.as_ref();
        Listed {
            id: summary.id.to_string(),
            names: [format!("/{}", summary.name)],
            image: familiar(&summary.image).to_owned(),
            command: command(&summary.command),
            created: summary.created.seconds(),
            ports: ports(&summary),
            state: status::word(summary.state.state),
            status: status::sentence(&summary.state, now),
            host_config: HostConfig { network_mode: network_name(&summary.network) },
            network_settings: NetworkSettings { networks: endpoints(container) },
            mounts: summary.mounts.iter().map(mount).collect(),
            health: Health {
                status: health.map_or("none", |health| health.status.word()),
                failing_streak: health.map_or(0, |health| health.streak),
            },
            image_id: summary.image_id,
            labels: summary.labels,
            size_rw: size.map(|size| size.written),
            size_root_fs: size.map(|size| size.root),
        }
    }
}

/// The command in one line. Source: moby, `daemon/container/view.go`.
fn command(words: &[String]) -> String {
    let word = |(at, word): (usize, &String)| match at > 0 && word.contains(' ') {
        true => format!("'{word}'"),
        false => word.clone(),
    };
    words.iter().enumerate().map(word).collect::<Vec<_>>().join(" ")
}

fn ports(summary: &Summary) -> Vec<Port> {
    let bound = summary.ports.iter().map(|port| Port {
        ip: Some(port.host_ip.to_string()).filter(|_| port.host_port != 0),
        private_port: port.container_port,
        public_port: Some(port.host_port).filter(|number| *number != 0),
        r#type: ports::protocol(port.protocol),
    });
    let open = summary.expose.iter().filter(|(port, protocol)| {
        !summary.ports.iter().any(|b| b.container_port == *port && b.protocol == *protocol)
    });
    let open = open.map(|(port, protocol)| Port {
        ip: None,
        private_port: *port,
        public_port: None,
        r#type: ports::protocol(*protocol),
    });
    bound.chain(open).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixture;

    #[test]
    fn a_container_is_listed_in_dockers_json() {
        let container = fixture::container();
        let listed = Listed::of(&container, fixture::summary(), None, fixture::NOW);
        let listed = serde_json::to_value(listed).unwrap();
        let at = |path: &str| listed.pointer(path).cloned().unwrap();
        assert_eq!(at("/Names"), json!(["/web"]));
        assert_eq!(at("/Command"), "/bin/server --port 80");
        assert_eq!(at("/NetworkSettings/Networks/bridge/IPAddress"), "172.17.0.2");
        assert_eq!(at("/HostConfig/NetworkMode"), "bridge");
        assert_eq!(at("/Mounts/0/Source"), "/srv/a-rather-long-path");
        assert_eq!(at("/Ports/0/PublicPort"), 8080);
        assert_eq!(at("/Ports/1"), json!({ "PrivatePort": 53, "Type": "udp" }));
        assert_eq!(at("/Health"), json!({ "Status": "none", "FailingStreak": 0 }));
        assert!(listed.get("SizeRw").is_none());
        assert_eq!(command(&["sh".into(), "-c".into(), "a b".into()]), "sh -c 'a b'");
    }
}

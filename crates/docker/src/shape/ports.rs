//! Published ports as Docker writes them.

use std::collections::BTreeMap;

use engine::{PortBinding, Protocol};
use serde::Serialize;

/// Docker's word for the protocol.
pub fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// `80/tcp`.
pub fn key(port: u16, of: Protocol) -> String {
    format!("{port}/{}", protocol(of))
}

/// Where a published port is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Binding {
    /// Host address.
    pub host_ip: String,
    /// Host port.
    pub host_port: String,
}

/// Every exposed port of a running container, with where it is reached, or `null`.
pub fn bound(
    exposed: &[(u16, Protocol)],
    published: &[PortBinding],
) -> BTreeMap<String, Option<Vec<Binding>>> {
    let exposed = exposed.iter();
    let mut ports: BTreeMap<String, Option<Vec<Binding>>> =
        exposed.map(|(port, protocol)| (key(*port, *protocol), None)).collect();
    for port in published {
        // One that is reached at the container's own address has none.
        let host_port = match port.host_port {
            0 => String::new(),
            number => number.to_string(),
        };
        let binding = Binding { host_ip: port.host_ip.to_string(), host_port };
        ports
            .entry(key(port.container_port, port.protocol))
            .or_default()
            .get_or_insert_default()
            .push(binding);
    }
    ports
}

/// `0.0.0.0:8080->80/tcp, 53/udp`: what `ps` shows.
pub fn column(exposed: &[(u16, Protocol)], published: &[PortBinding]) -> String {
    let mut parts = Vec::new();
    let mut ports: Vec<_> = bound(exposed, published).into_iter().collect();
    ports.sort_by_key(|(key, _)| key.split('/').next().and_then(|port| port.parse::<u16>().ok()));
    for (key, bindings) in ports {
        let Some(bindings) = bindings else {
            parts.push(key);
            continue;
        };
        if bindings.iter().all(|binding| binding.host_port.is_empty()) {
            parts.push(key);
            continue;
        }
        for Binding { host_ip, host_port } in bindings {
            if host_port.is_empty() {
                continue;
            }
            match host_ip.contains(':') {
                true => parts.push(format!("[{host_ip}]:{host_port}->{key}")),
                false => parts.push(format!("{host_ip}:{host_port}->{key}")),
            }
        }
    }
    parts.join(", ")
}

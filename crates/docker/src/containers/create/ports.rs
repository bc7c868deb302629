//! `ExposedPorts` and `PortBindings`.

use std::{collections::BTreeMap, net::IpAddr};

use engine::{PortRequest, Protocol};
use serde::de::IgnoredAny;

use crate::{error::ApiError, fields::Fields, spec::port};

/// `80/tcp` and the like, which are keys of an object.
pub(super) fn exposed(body: &mut Fields<'_>) -> Result<Vec<(u16, Protocol)>, ApiError> {
    let keys: BTreeMap<String, IgnoredAny> = body.take("ExposedPorts")?;
    let mut all = Vec::new();
    for key in keys.keys() {
        let bad = |why| body.wrong("ExposedPorts", format!("invalid port {key:?}: {why}"));
        all.extend(port::exposed(key).map_err(bad)?);
    }
    Ok(all)
}

/// By port inside, where it is published on the host.
pub(super) fn bindings(given: &mut Fields<'_>) -> Result<Vec<PortRequest>, ApiError> {
    const FIELD: &str = "PortBindings";
    let mut ports = Vec::new();
    for (key, bindings) in given.named_lists(FIELD)? {
        let bad = |why: String| given.wrong(FIELD, format!("invalid port {key:?}: {why}"));
        let inside = port::exposed(&key).map_err(bad)?;
        for mut binding in bindings {
            let ip = match binding.text("HostIp")? {
                None => None,
                Some(text) => {
                    let bad = |_| binding.wrong("HostIp", format!("invalid IP address: {text}"));
                    Some(text.parse().map_err(bad)?)
                }
            };
            let host = binding.text("HostPort")?;
            binding.done()?;
            ports.extend(publish(&inside, ip, host.as_deref()).map_err(bad)?);
        }
    }
    Ok(ports)
}

/// Ports of the host for those inside: none said, one or a range for one, or as many.
fn publish(
    inside: &[(u16, Protocol)],
    host_ip: Option<IpAddr>,
    host: Option<&str>,
) -> Result<Vec<PortRequest>, String> {
    let range = host.map(port::range).transpose()?;
    // As with Docker, 0 is any that is free.
    let range = range.filter(|range| *range != (0, 0));
    let request = |&(container_port, protocol): &(u16, Protocol), first, last| PortRequest {
        container_port,
        protocol,
        host_ip,
        host_port: first,
        host_port_end: last,
    };
    match (range, inside) {
        (None, _) => Ok(inside.iter().map(|port| request(port, None, None)).collect()),
        (Some((first, last)), [one]) => {
            let last = Some(last).filter(|last| *last != first);
            Ok(vec![request(one, Some(first), last)])
        }
        (Some((first, last)), many) if usize::from(last - first) + 1 == many.len() => {
            let pairs = many.iter().zip(first..=last);
            Ok(pairs.map(|(port, host)| request(port, Some(host), None)).collect())
        }
        (Some((first, last)), _) => {
            Err(format!("invalid ranges specified for container and host Ports: {first}-{last}"))
        }
    }
}

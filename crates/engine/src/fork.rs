//! What a copy of a running container is asked to be. Pure.

use base::ContainerName;

use crate::{Create, EngineError, Fork, PortRequest, plan::invalid};

/// Most copies at once.
const COPIES_MAX: u32 = 256;

/// The copies' names, as many as there are to be.
///
/// # Errors
/// [`EngineError::Invalid`] for none or too many, or a name that gets too long.
pub(crate) fn names(fork: &Fork) -> Result<Vec<Option<ContainerName>>, EngineError> {
    if !(1..=COPIES_MAX).contains(&fork.count) {
        let why = format!("{} is not between 1 and {COPIES_MAX}", fork.count);
        return Err(invalid("the number of copies", why));
    }
    let Some(name) = &fork.name else {
        return Ok((0..fork.count).map(|_| None).collect());
    };
    if fork.count == 1 {
        return Ok(vec![Some(name.clone())]);
    }
    let numbered = |n: u32| {
        let name = format!("{name}-{n}").parse();
        name.map(Some).map_err(|error: base::IdError| invalid("name", error.to_string()))
    };
    (1..=fork.count).map(numbered).collect()
}

/// The configuration of a copy, and what of the other one's it does not have, in sentences: what
/// only one can have at a time.
pub(crate) fn configuration(of: &Create) -> (Create, Vec<String>) {
    let mut config = Create { name: None, hostname: None, ..of.clone() };
    for place in config.endpoints.iter_mut().flat_map(|places| places.values_mut()) {
        (place.ipv4, place.ipv6, place.mac) = (None, None, None);
    }
    // A port of the host that was asked for is taken.
    let (free, taken) = config.ports.into_iter().partition(|port| port.host_port.is_none());
    config.ports = free;
    (config, taken.iter().map(not_published).collect())
}

fn not_published(port: &PortRequest) -> String {
    let host = port.host_port.unwrap_or_default();
    let inside = port.container_port;
    format!(
        "port {host} of the host leads to the other container, not to port {inside} of the copy"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{EndpointRequest, NetworkMode, Protocol};

    fn fork(name: Option<&str>, count: u32) -> Result<Vec<Option<String>>, String> {
        let name = name.map(|name| name.parse().unwrap());
        let names = names(&Fork { name, count }).map_err(|error| error.to_string())?;
        Ok(names.into_iter().map(|name| name.map(|name| name.to_string())).collect())
    }

    #[test]
    fn several_copies_are_numbered() {
        assert_eq!(fork(None, 2), Ok(vec![None, None]));
        assert_eq!(fork(Some("web"), 1), Ok(vec![Some("web".into())]));
        assert_eq!(fork(Some("web"), 2), Ok(vec![Some("web-1".into()), Some("web-2".into())]));
        assert!(fork(None, 0).is_err() && fork(None, COPIES_MAX + 1).is_err());
    }

    #[test]
    fn what_only_one_can_have_is_not_copied() {
        let place = EndpointRequest {
            aliases: vec!["web".to_owned()],
            ipv4: Some([10, 0, 0, 5].into()),
            mac: Some("02:00:00:00:00:05".to_owned()),
            ..EndpointRequest::default()
        };
        let port = |container_port, host_port| PortRequest {
            container_port,
            protocol: Protocol::Tcp,
            host_ip: None,
            host_port,
            host_port_end: None,
        };
        let of = Create {
            name: Some("one".parse().unwrap()),
            hostname: Some("one".to_owned()),
            image: "demo".to_owned(),
            env: vec!["A=1".to_owned()],
            network: NetworkMode::Named("net".to_owned()),
            endpoints: Some([("net".to_owned(), place)].into()),
            ports: vec![port(80, Some(8080)), port(81, None)],
            ..Create::default()
        };
        let (copy, lacks) = configuration(&of);
        assert_eq!((copy.name, copy.hostname), (None, None));
        assert_eq!((copy.image, copy.env, copy.network), (of.image, of.env, of.network));
        let aliases = EndpointRequest { aliases: vec!["web".to_owned()], ..Default::default() };
        assert_eq!(copy.endpoints, Some(BTreeMap::from([("net".to_owned(), aliases)])));
        assert_eq!(copy.ports, [port(81, None)]);
        let [lack] = lacks.as_slice() else { panic!("{lacks:?}") };
        assert!(lack.contains("8080") && lack.contains("80 "), "{lack}");
    }
}

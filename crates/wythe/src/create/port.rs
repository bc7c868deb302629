//! The little language of `-p` and `--expose`.
//!
//! `-p [[address:][host port[-end]]:]container port[-end][/protocol]`. Ranges have equal lengths
//! and pair up. Source: docker/go-connections, `nat.ParsePortSpec`.

use std::net::IpAddr;

use engine::{PortRequest, Protocol};

/// What one `-p` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Publish(pub(super) Vec<PortRequest>);

/// What one `--expose` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expose(pub(super) Vec<(u16, Protocol)>);

/// Parses the value of `-p`.
pub(super) fn publish(text: &str) -> Result<Publish, String> {
    let (rest, protocol) = protocol(text)?;
    let (address, host, container) = split(rest)?;
    let host_ip = match address {
        None | Some("") => None,
        Some(address) => {
            let address: IpAddr =
                address.parse().map_err(|_| format!("\"{address}\" is not an IP address"))?;
            Some(address)
        }
    };
    let container = range(container)?;
    let host = match host {
        None | Some("") => None,
        Some(host) => Some(range(host)?),
    };
    if host.is_some_and(|host| host.1 - host.0 != container.1 - container.0) {
        return Err("the host's and the container's range differ in length".to_owned());
    }
    let offset = |port: u16| port - container.0;
    let request = |port: u16| PortRequest {
        container_port: port,
        protocol,
        host_ip,
        host_port: host.map(|(first, _)| first + offset(port)).filter(|port| *port != 0),
    };
    Ok(Publish((container.0..=container.1).map(request).collect()))
}

/// Parses the value of `--expose`.
pub(super) fn expose(text: &str) -> Result<Expose, String> {
    let (rest, protocol) = protocol(text)?;
    let (first, last) = range(rest)?;
    Ok(Expose((first..=last).map(|port| (port, protocol)).collect()))
}

fn protocol(text: &str) -> Result<(&str, Protocol), String> {
    let Some((rest, name)) = text.rsplit_once('/') else { return Ok((text, Protocol::Tcp)) };
    match name.to_ascii_lowercase().as_str() {
        "tcp" => Ok((rest, Protocol::Tcp)),
        "udp" => Ok((rest, Protocol::Udp)),
        "sctp" => Err("sctp is not built yet: use tcp or udp".to_owned()),
        _ => Err(format!("\"{name}\" is not a protocol: use tcp or udp")),
    }
}

/// Address, host port and container port, from the right; an IPv6 address stands in brackets.
fn split(text: &str) -> Result<(Option<&str>, Option<&str>, &str), String> {
    let Some((rest, container)) = text.rsplit_once(':') else { return Ok((None, None, text)) };
    if let Some(inner) = rest.strip_prefix('[') {
        let (address, host) = inner.split_once(']').ok_or("the \"[\" has no \"]\"")?;
        return match host.strip_prefix(':') {
            Some(host) => Ok((Some(address), Some(host), container)),
            None if host.is_empty() => Ok((Some(address), None, container)),
            None => Err(format!("\"{host}\" stands between address and port")),
        };
    }
    match rest.split_once(':') {
        None if rest.contains('.') => Ok((Some(rest), None, container)),
        None => Ok((None, Some(rest), container)),
        Some((_, host)) if host.contains(':') => {
            Err("an IPv6 address stands in brackets: [::1]:8080:80".to_owned())
        }
        Some((address, host)) => Ok((Some(address), Some(host), container)),
    }
}

fn range(text: &str) -> Result<(u16, u16), String> {
    let port = |text: &str| {
        let bad = || format!("\"{text}\" is not a port: use a number from 1 to 65535");
        text.parse::<u16>().map_err(|_| bad())
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    if first > last {
        return Err(format!("the range {first}-{last} runs backwards"));
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(host_ip: Option<&str>, host_port: Option<u16>, container_port: u16) -> PortRequest {
        let host_ip = host_ip.map(|ip| ip.parse().unwrap());
        PortRequest { container_port, protocol: Protocol::Tcp, host_ip, host_port }
    }

    #[test]
    fn ports_are_published_as_docker_reads_them() {
        let udp = PortRequest { protocol: Protocol::Udp, ..one(None, Some(53), 53) };
        for (text, want) in [
            ("80", vec![one(None, None, 80)]),
            ("8080:80", vec![one(None, Some(8080), 80)]),
            (":80", vec![one(None, None, 80)]),
            ("0:80", vec![one(None, None, 80)]),
            ("127.0.0.1:8080:80", vec![one(Some("127.0.0.1"), Some(8080), 80)]),
            ("127.0.0.1::80", vec![one(Some("127.0.0.1"), None, 80)]),
            ("127.0.0.1:80", vec![one(Some("127.0.0.1"), None, 80)]),
            ("[::1]:8080:80/tcp", vec![one(Some("::1"), Some(8080), 80)]),
            ("[::1]::80", vec![one(Some("::1"), None, 80)]),
            ("53:53/udp", vec![udp]),
            ("8000-8001:80-81", vec![one(None, Some(8000), 80), one(None, Some(8001), 81)]),
        ] {
            assert_eq!(publish(text), Ok(Publish(want)), "{text}");
        }
    }

    #[test]
    fn wrong_ports_are_refused_with_what_is_wrong() {
        for (text, want) in [
            ("", "not a port"),
            ("http:80", "not a port"),
            ("70000:80", "not a port"),
            ("80:80/icmp", "not a protocol"),
            ("80:80/sctp", "not built yet"),
            ("1-2:80", "differ in length"),
            ("2-1:80-81", "backwards"),
            ("localhost:80:80", "not an IP address"),
            ("::1:80:80", "brackets"),
            ("[::1:80:80", "no \"]\""),
        ] {
            let error = publish(text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_parsed_or_refused(text in "[0-9a-f:.\\[\\]/tcpud-]{0,24}") {
            let _ = publish(&text);
            let _ = expose(&text);
        }
    }
}

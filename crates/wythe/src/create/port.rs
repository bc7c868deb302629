//! The little language of `-p` and `--expose`.
//!
//! `-p` itself is read by `net`, in Docker's words.

use engine::{PortRequest, Protocol};

/// What one `-p` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Publish(pub(super) Vec<PortRequest>);

/// What one `--expose` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expose(pub(super) Vec<(u16, Protocol)>);

/// Parses the value of `-p`.
pub(super) fn publish(text: &str) -> Result<Publish, String> {
    let asked = net::parse_published(text).map_err(|error| error.to_string())?;
    let request = |one: net::PublishedPort| PortRequest {
        container_port: one.container_port,
        protocol: match one.protocol {
            net::Protocol::Tcp => Protocol::Tcp,
            net::Protocol::Udp => Protocol::Udp,
        },
        host_ip: one.host_ip,
        host_port: one.host_ports.map(net::PortRange::first),
        host_port_end: one
            .host_ports
            .filter(|range| range.first() != range.last())
            .map(net::PortRange::last),
    };
    Ok(Publish(asked.into_iter().map(request).collect()))
}

/// Parses the value of `--expose`.
pub(super) fn expose(text: &str) -> Result<Expose, String> {
    docker::spec::port::exposed(text).map(Expose)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(host_ip: Option<&str>, host_port: Option<u16>, container_port: u16) -> PortRequest {
        let host_ip = host_ip.map(|ip| ip.parse().unwrap());
        PortRequest {
            container_port,
            protocol: Protocol::Tcp,
            host_ip,
            host_port,
            host_port_end: None,
        }
    }

    #[test]
    fn ports_are_published_as_docker_reads_them() {
        let udp = PortRequest { protocol: Protocol::Udp, ..one(None, Some(53), 53) };
        let any_of = PortRequest { host_port_end: Some(8005), ..one(None, Some(8000), 80) };
        for (text, want) in [
            ("80", vec![one(None, None, 80)]),
            ("8080:80", vec![one(None, Some(8080), 80)]),
            (":80", vec![one(None, None, 80)]),
            ("0:80", vec![one(None, None, 80)]),
            ("127.0.0.1:8080:80", vec![one(Some("127.0.0.1"), Some(8080), 80)]),
            ("127.0.0.1::80", vec![one(Some("127.0.0.1"), None, 80)]),
            ("[::1]:8080:80/tcp", vec![one(Some("::1"), Some(8080), 80)]),
            ("8000-8005:80", vec![any_of.clone()]),
            (
                "127.0.0.1:8000-8001:80-81",
                vec![
                    one(Some("127.0.0.1"), Some(8000), 80),
                    one(Some("127.0.0.1"), Some(8001), 81),
                ],
            ),
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
            ("", "no port specified: <empty>"),
            ("http:80", "invalid hostPort: http"),
            ("70000:80", "invalid hostPort: 70000"),
            ("80:80/icmp", "invalid proto: icmp"),
            ("80:80/sctp", "publishing sctp ports is not supported"),
            ("1-3:80-81", "invalid ranges specified for container and host Ports: 80-81 and 1-3"),
            ("2-1:80-81", "invalid hostPort: 2-1"),
            ("localhost:80:80", "invalid IP address: localhost"),
            ("127.0.0.1:80", "invalid hostPort: 127.0.0.1"),
            ("[::1:80:80", "invalid IP address: [::1"),
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

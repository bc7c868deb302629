//! Tests of `-p`.

use proptest::prelude::*;

use super::*;

/// Writes ports as `docker port` would: `ip:host->port/protocol`.
fn written(ports: &[PublishedPort]) -> String {
    let one = |port: &PublishedPort| {
        let ip = port.host_ip.map_or("*".to_owned(), |ip| ip.to_string());
        let host = match port.host_ports {
            None => "*".to_owned(),
            Some(range) if range.first == range.last => range.first.to_string(),
            Some(range) => format!("{}-{}", range.first, range.last),
        };
        format!("{ip}:{host}->{}/{}", port.container_port, port.protocol)
    };
    ports.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn specs_read_as_docker_reads_them() {
    let cases = [
        ("80", "*:*->80/tcp"),
        ("8080:80", "*:8080->80/tcp"),
        (":80", "*:*->80/tcp"),
        ("0:80", "*:*->80/tcp"),
        ("127.0.0.1:8080:80", "127.0.0.1:8080->80/tcp"),
        ("127.0.0.1::80", "127.0.0.1:*->80/tcp"),
        ("[::1]:8080:80", "::1:8080->80/tcp"),
        ("::1:8080:80", "::1:8080->80/tcp"),
        ("53:53/udp", "*:53->53/udp"),
        ("53:53/UDP", "*:53->53/udp"),
        ("80/", "*:*->80/tcp"),
        ("8000-8001:80-81", "*:8000->80/tcp *:8001->81/tcp"),
        ("8000-8010:80", "*:8000-8010->80/tcp"),
        ("80-81", "*:*->80/tcp *:*->81/tcp"),
        ("65535:65535", "*:65535->65535/tcp"),
    ];
    for (spec, expected) in cases {
        assert_eq!(written(&parse_published(spec).unwrap()), expected, "{spec}");
    }
}

#[test]
fn errors_are_in_dockers_words() {
    let cases = [
        ("", "no port specified: <empty>"),
        ("8080:", "no port specified: 8080:<empty>"),
        ("8080:/udp", "no port specified: 8080:/udp<empty>"),
        ("abc", "invalid containerPort: abc"),
        ("0", "invalid containerPort: 0"),
        ("+80", "invalid containerPort: +80"),
        ("65536", "invalid containerPort: 65536"),
        ("82-80", "invalid containerPort: 82-80"),
        ("1-2-3", "invalid containerPort: 1-2-3"),
        ("x:80", "invalid hostPort: x"),
        ("1.2.3:80:80", "invalid IP address: 1.2.3"),
        ("localhost:80:80", "invalid IP address: localhost"),
        ("80/abc", "invalid proto: abc"),
        ("80/sctp", "publishing sctp ports is not supported: use tcp or udp"),
        (
            "8000-8005:80-81",
            "invalid ranges specified for container and host Ports: 80-81 and 8000-8005",
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(parse_published(spec).unwrap_err().to_string(), expected, "{spec}");
    }
}

#[test]
fn the_longest_range_is_taken_whole() {
    let ports = parse_published("1-65535:1-65535").unwrap();
    assert_eq!(ports.len(), 65_535);
    assert_eq!(ports.last().map(|port| port.container_port), Some(65_535));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(spec in "[0-9:./\\-\\[\\]a-z]{0,40}") {
        if let Ok(ports) = parse_published(&spec) {
            prop_assert!(!ports.is_empty());
            prop_assert!(ports.iter().all(|port| port.container_port != 0));
        }
    }

    #[test]
    fn what_is_written_is_read(
        ip in prop::option::of(any::<IpAddr>()),
        host in prop::option::of(1u16..=60_000),
        port in 1u16..=60_000,
        more in 0u16..20,
        udp: bool,
    ) {
        let ip_text = match ip {
            None => String::new(),
            Some(IpAddr::V4(v4)) => format!("{v4}:"),
            Some(IpAddr::V6(v6)) => format!("[{v6}]:"),
        };
        let host_text = host.map_or(String::new(), |h| format!("{h}-{}", h + more));
        let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
        let spec = format!("{ip_text}{host_text}:{port}-{}/{protocol}", port + more);
        let ports = parse_published(&spec).unwrap();
        prop_assert_eq!(ports.len(), usize::from(more) + 1);
        for (offset, read) in (0..).zip(&ports) {
            prop_assert_eq!(read, &PublishedPort {
                host_ip: ip,
                host_ports: host.and_then(|h| PortRange::new(h + offset, h + offset)),
                container_port: port + offset,
                protocol,
            });
        }
    }
}

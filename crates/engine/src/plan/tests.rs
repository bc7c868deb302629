//! Docker's merging rules, and what is refused.

use super::*;
use crate::{MountRequest, Protocol};

fn words(text: &[&str]) -> Vec<String> {
    text.iter().map(|word| (*word).to_owned()).collect()
}

fn image() -> ImageConfig {
    ImageConfig {
        entrypoint: Some(words(&["/entry"])),
        command: Some(words(&["default"])),
        env: words(&["PATH=/bin", "A=1"]),
        working_dir: Some("/srv".to_owned()),
        user: Some("www".to_owned()),
        labels: [("a".to_owned(), "image".to_owned()), ("b".to_owned(), "image".to_owned())].into(),
        stop_signal: Some("SIGQUIT".to_owned()),
        expose: vec![(80, Protocol::Tcp)],
        volumes: Vec::new(),
        health: None,
    }
}

fn merged(create: Create) -> Create {
    plan(create, &image()).unwrap().config
}

fn command_line(config: &Create) -> String {
    let words = config.entrypoint.iter().flatten().chain(&config.command);
    words.cloned().collect::<Vec<_>>().join(" ")
}

#[test]
fn command_and_entrypoint_merge_as_dockers_do() {
    let none = Create::default();
    let command = Create { command: words(&["own"]), ..Create::default() };
    let entrypoint = Create { entrypoint: Some(words(&["/own"])), ..Create::default() };
    let both = Create { command: words(&["arg"]), ..entrypoint.clone() };
    let cleared =
        Create { entrypoint: Some(words(&[""])), command: words(&["sh"]), ..Create::default() };
    let emptied = Create { entrypoint: Some(Vec::new()), ..Create::default() };
    for (create, want) in [
        (none, "/entry default"),
        (emptied, "default"),
        (command, "/entry own"),
        (entrypoint, "/own"),
        (both, "/own arg"),
        (cleared, "sh"),
    ] {
        assert_eq!(command_line(&merged(create)), want);
    }
    let nothing = plan(Create::default(), &ImageConfig::default()).unwrap_err();
    assert_eq!(nothing.to_string(), "command: no command specified");
}

#[test]
fn the_request_stands_above_the_image() {
    let config = merged(Create {
        env: words(&["A=2", "B=3", "PATH"]),
        labels: [("a".to_owned(), "own".to_owned())].into(),
        ..Create::default()
    });
    assert_eq!(config.env, words(&["A=2", "B=3"]));
    assert_eq!(config.labels["a"], "own");
    assert_eq!(config.labels["b"], "image");
    assert_eq!(config.user.as_deref(), Some("www"));
    assert_eq!(config.working_dir.as_deref(), Some("/srv"));
    assert_eq!(config.stop_signal, Signal::parse("QUIT"));
}

#[test]
fn publish_all_publishes_what_is_exposed_and_not_yet_published() {
    let config = merged(Create {
        publish_all: true,
        expose: vec![(53, Protocol::Udp)],
        ports: vec![PortRequest {
            container_port: 80,
            protocol: Protocol::Tcp,
            host_ip: None,
            host_port: Some(8080),
            host_port_end: None,
        }],
        ..Create::default()
    });
    let ports: Vec<_> = config.ports.iter().map(|p| (p.container_port, p.host_port)).collect();
    assert_eq!(ports, [(80, Some(8080)), (53, None)]);
}

#[test]
fn ports_of_a_host_network_are_dropped_with_a_warning() {
    let ports = vec![PortRequest {
        container_port: 80,
        protocol: Protocol::Tcp,
        host_ip: None,
        host_port: None,
        host_port_end: None,
    }];
    let create = Create { network: NetworkMode::Host, ports, ..Create::default() };
    let plan = plan(create, &image()).unwrap();
    assert!(plan.config.ports.is_empty());
    assert_eq!(plan.warnings.len(), 1);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let mount = |target: &str| MountRequest {
        target: target.into(),
        kind: MountKind::Tmpfs { size: None, mode: None, options: Vec::new() },
        read_only: false,
        idmap: None,
    };
    let mut little_memory = Create::default();
    little_memory.limits.memory.limit = Some(ByteSize(1 << 20));
    let mut capability = Create::default();
    capability.security.cap_add = words(&["FLY"]);
    let mut filter = Create::default();
    filter.security.seccomp = Some("{".to_owned());
    let cases = [
        (Create { working_dir: Some("srv".to_owned()), ..Create::default() }, "absolute path"),
        (Create { mounts: vec![mount("/a"), mount("/a/")], ..Create::default() }, "Duplicate"),
        (Create { mounts: vec![mount("/")], ..Create::default() }, "can't be '/'"),
        (Create { mounts: vec![mount("/a/../b")], ..Create::default() }, "absolute"),
        (Create { hostname: Some("a b".to_owned()), ..Create::default() }, "host name"),
        (Create { device_rules: words(&["x 1:3 r"]), ..Create::default() }, "x 1:3 r"),
        (little_memory, "6MB"),
        (capability, "FLY"),
        (filter, "seccomp"),
        (
            Create {
                network: NetworkMode::Host,
                sysctls: [("net.core.somaxconn".to_owned(), "1".to_owned())].into(),
                ..Create::default()
            },
            "net.core.somaxconn",
        ),
    ];
    for (create, want) in cases {
        let error = plan(create, &image()).unwrap_err();
        assert_eq!(error.kind(), base::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(want), "{error} does not say {want}");
    }
}

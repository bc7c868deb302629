//! A container with something in every field, for golden tests.

use std::net::Ipv4Addr;

use base::{ByteSize, ContainerId, clock::Timestamp};
use engine::{
    Container, ContainerState, Create, EndpointView, ImageConfig, ImageView, MountKind,
    MountRequest, NetworkView, PortBinding, PortRequest, Protocol, StateView, Summary,
};
use workload::{CpuLimits, MemorySwap};

/// When the golden tests take place: the first of January 2026.
pub const NOW: Timestamp = Timestamp(1_767_225_600_000_000_000);

/// The same in a list.
pub fn summary() -> Summary {
    Summary::from(&container())
}

/// It runs.
pub fn container() -> Container {
    let ago = |seconds: u64| Timestamp(NOW.0 - seconds * 1_000_000_000);
    let binding = PortBinding {
        host_ip: Ipv4Addr::UNSPECIFIED.into(),
        host_port: 8080,
        container_port: 80,
        protocol: Protocol::Tcp,
    };
    Container {
        id: ContainerId::from_random([0xc0; 32]),
        name: "web".parse().expect("it is a name"),
        image_id: format!("sha256:{}", "ab".repeat(32)),
        config: create(),
        created: ago(150),
        state: StateView {
            state: ContainerState::Running,
            pid: Some(4711),
            started: Some(ago(5)),
            exit: None,
            error: None,
            restarts: 0,
            health: None,
        },
        network: NetworkView {
            address: Some(Ipv4Addr::new(172, 17, 0, 2)),
            prefix: 16,
            gateway: Some(Ipv4Addr::new(172, 17, 0, 1)),
            address6: None,
            prefix6: 0,
            gateway6: None,
            mac: Some("02:42:ac:11:00:02".to_owned()),
            ports: vec![binding],
            places: vec![EndpointView {
                network: "bridge".to_owned(),
                network_id: "b1".repeat(32),
                interface: 0,
                address: Ipv4Addr::new(172, 17, 0, 2),
                prefix: 16,
                gateway: Some(Ipv4Addr::new(172, 17, 0, 1)),
                address6: None,
                prefix6: 0,
                gateway6: None,
                mac: "02:42:ac:11:00:02".to_owned(),
                names: vec!["c0c0c0c0c0c0".to_owned()],
                leads_out: true,
                priority: 0,
            }],
        },
        log_path: Some("/data/log".to_owned()),
        log_attributes: Default::default(),
        execs: vec!["e1".to_owned()],
    }
}

fn create() -> Create {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut create = Create {
        name: Some("web".parse().expect("it is a name")),
        image: "docker.io/library/web:1".to_owned(),
        entrypoint: Some(words(&["/bin/server"])),
        command: words(&["--port", "80"]),
        env: words(&["PATH=/bin", "K=V"]),
        working_dir: Some("/srv".to_owned()),
        user: Some("www".to_owned()),
        labels: [("tier".to_owned(), "front".to_owned())].into(),
        stop_timeout_s: Some(3),
        hostname: Some("web".to_owned()),
        expose: vec![(80, Protocol::Tcp), (53, Protocol::Udp)],
        ports: vec![PortRequest {
            container_port: 80,
            protocol: Protocol::Tcp,
            host_ip: None,
            host_port: Some(8080),
            host_port_end: None,
        }],
        mounts: vec![
            MountRequest {
                target: "/srv".into(),
                kind: MountKind::Bind {
                    source: "/srv/a-rather-long-path".into(),
                    create: true,
                    non_recursive: false,
                    propagation: None,
                },
                read_only: true,
                idmap: None,
            },
            MountRequest {
                target: "/run".into(),
                kind: MountKind::Tmpfs {
                    size: Some(ByteSize(1 << 20)),
                    mode: None,
                    options: Vec::new(),
                },
                read_only: false,
                idmap: None,
            },
        ],
        ..Create::default()
    };
    create.limits.memory.limit = Some(ByteSize(256 << 20));
    create.limits.memory.swap = Some(MemorySwap::Total(ByteSize(512 << 20)));
    create.limits.cpu = CpuLimits::nano_cpus(500_000_000);
    create.security.cap_add = words(&["NET_ADMIN"]);
    create.security.no_new_privileges = true;
    create
}

/// An image with two names.
pub fn image() -> ImageView {
    ImageView {
        id: format!("sha256:{}", "ab".repeat(32)),
        manifest: format!("sha256:{}", "cd".repeat(32)),
        references: vec![
            "docker.io/library/debian:bookworm".to_owned(),
            "localhost:5000/a/b:1".to_owned(),
        ],
        created: Some("2025-12-01T00:00:00Z".to_owned()),
        os: "linux".to_owned(),
        architecture: "amd64".to_owned(),
        variant: None,
        target: format!("sha256:{}", "cd".repeat(32)),
        layer_bytes: vec![116_953_321],
        variants: Vec::new(),
        size: 116_953_321,
        containers: 1,
        layers: vec!["sha256:ef".to_owned()],
        config: ImageConfig { command: Some(vec!["bash".to_owned()]), ..ImageConfig::default() },
        history: Vec::new(),
        about: engine::ImageAbout {
            digests: vec![format!("debian@sha256:{}", "cd".repeat(32))],
            tagged: Some(NOW),
            media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
            target_bytes: 480,
            author: Some("Ada".to_owned()),
            form: "erofs".to_owned(),
            ..engine::ImageAbout::default()
        },
    }
}

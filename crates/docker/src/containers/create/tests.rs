use engine::{MountKind, MountRequest, NamespaceMode, NetworkMode, PortRequest, Protocol};
use proptest::prelude::*;
use serde_json::{Value, json};
use workload::{Isolation, MemorySwap};

use super::*;

fn created(body: &Value) -> Create {
    request(None, None, body.to_string().as_bytes()).map_err(|error| error.message).unwrap().create
}

fn refused(body: &Value) -> (u16, String) {
    let error = request(None, None, body.to_string().as_bytes()).unwrap_err();
    (error.status.as_u16(), error.message)
}

fn host(config: Value) -> Create {
    created(&json!({ "Image": "demo", "HostConfig": config }))
}

fn host_refused(config: Value) -> (u16, String) {
    refused(&json!({ "Image": "demo", "HostConfig": config }))
}

/// What `docker run -d --name web demo sleep 1000` of version 28.2 sends.
const STOCK: &str = r#"{"Hostname":"","Domainname":"","User":"","AttachStdin":false,
"AttachStdout":true,"AttachStderr":true,"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,
"Cmd":["sleep","1000"],"Image":"demo","Volumes":{},"WorkingDir":"","Entrypoint":null,"Labels":{},
"HostConfig":{"Binds":null,"ContainerIDFile":"","LogConfig":{"Type":"","Config":{}},
"NetworkMode":"default","PortBindings":{},"RestartPolicy":{"Name":"no","MaximumRetryCount":0},
"AutoRemove":false,"VolumeDriver":"","VolumesFrom":null,"ConsoleSize":[24,80],"CapAdd":null,
"CapDrop":null,"CgroupnsMode":"","Dns":null,"DnsOptions":[],"DnsSearch":[],"ExtraHosts":null,
"GroupAdd":null,"IpcMode":"","Cgroup":"","Links":null,"OomScoreAdj":0,"PidMode":"",
"Privileged":false,"PublishAllPorts":false,"ReadonlyRootfs":false,"SecurityOpt":null,"UTSMode":"",
"UsernsMode":"","ShmSize":0,"Isolation":"","CpuShares":0,"Memory":0,"NanoCpus":0,"CgroupParent":"",
"BlkioWeight":0,"BlkioWeightDevice":[],"BlkioDeviceReadBps":[],"BlkioDeviceWriteBps":[],
"BlkioDeviceReadIOps":[],"BlkioDeviceWriteIOps":[],"CpuPeriod":0,"CpuQuota":0,
"CpuRealtimePeriod":0,"CpuRealtimeRuntime":0,"CpusetCpus":"","CpusetMems":"","Devices":[],
"DeviceCgroupRules":null,"DeviceRequests":null,"MemoryReservation":0,"MemorySwap":0,
"MemorySwappiness":-1,"OomKillDisable":false,"PidsLimit":0,"Ulimits":[],"CpuCount":0,
"CpuPercent":0,"IOMaximumIOps":0,"IOMaximumBandwidth":0,"MaskedPaths":null,"ReadonlyPaths":null},
"NetworkingConfig":{"EndpointsConfig":{"default":{"IPAMConfig":null,"Links":null,"Aliases":null,
"MacAddress":"","DriverOpts":null,"NetworkID":"","EndpointID":"","Gateway":"","IPAddress":"",
"IPPrefixLen":0,"IPv6Gateway":"","GlobalIPv6Address":"","GlobalIPv6PrefixLen":0,"DNSNames":null}}}}"#;

#[test]
fn what_the_stock_client_sends_is_a_plain_container() {
    let Request { create, warnings } = request(Some("web"), None, STOCK.as_bytes()).unwrap();
    let want = Create {
        name: Some("web".parse().unwrap()),
        image: "demo".to_owned(),
        command: vec!["sleep".to_owned(), "1000".to_owned()],
        terminal_size: Some(workload::TerminalSize { rows: 24, columns: 80 }),
        log: engine::LogOptions {
            kind: engine::LogKind::JsonFile,
            ..engine::LogOptions::default()
        },
        ..Create::default()
    };
    assert_eq!(create, want);
    assert!(warnings.is_empty());
}

#[test]
fn an_empty_request_and_a_bad_name_are_refused_in_dockers_words() {
    assert!(refused(&json!({})).1.contains("Config cannot be empty"));
    for bad in ["a", "-x", "a b", "_a"] {
        let error = request(Some(bad), None, STOCK.as_bytes()).unwrap_err();
        let want = format!("Invalid container name ({bad}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are");
        assert!(error.message.starts_with(&want), "{}", error.message);
        assert_eq!(error.status, 400);
    }
}

#[test]
fn limits_are_read_in_the_kernels_units() {
    let limits = host(json!({
        "Memory": 64 << 20, "MemoryReservation": 32 << 20, "MemorySwappiness": 7,
        "NanoCpus": 500_000_000, "CpuShares": 9, "CpusetCpus": "0", "PidsLimit": 5,
        "BlkioWeight": 300,
    }))
    .limits;
    assert_eq!(limits.memory.swap, Some(MemorySwap::Total(base::ByteSize(128 << 20))));
    assert_eq!((limits.cpu.quota_us, limits.cpu.period_us), (Some(50_000), Some(100_000)));
    assert_eq!((limits.pids, limits.memory.swappiness), (Some(5), Some(7)));
    assert_eq!(host(json!({ "MemorySwap": -1, "PidsLimit": -1 })).limits, Create::default().limits);
    for (config, want) in [
        (json!({ "Memory": -1 }), "HostConfig.Memory: -1 is below 0"),
        (json!({ "Memory": "1g" }), "HostConfig.Memory: invalid type"),
        (json!({ "MemorySwappiness": 101 }), "valid memory swappiness range is 0-100"),
        (json!({ "NanoCpus": 1, "CpuQuota": 5000 }), "Nano CPUs and CPU Quota cannot both be set"),
        (json!({ "NanoCpus": 1_000_000_000_000_000_i64 }), "CPUs available"),
        (
            json!({ "BlkioDeviceReadBps": [{ "Path": "/dev/null", "Rate": 1 }] }),
            "not a block device",
        ),
        (json!({ "Ulimits": [{ "Name": "nofile", "Most": 1 }] }), "HostConfig.Ulimits[].Most"),
    ] {
        let (status, message) = host_refused(config);
        assert_eq!(status, 400, "{message}");
        assert!(message.contains(want), "{message}");
    }
}

#[test]
fn ports_are_published_one_by_one() {
    let ports = |bindings: Value| host(json!({ "PortBindings": bindings })).ports;
    let port = |container_port, host_port, host_port_end| PortRequest {
        container_port,
        protocol: Protocol::Tcp,
        host_ip: None,
        host_port,
        host_port_end,
    };
    assert_eq!(
        ports(json!({ "80/tcp": [{ "HostIp": "", "HostPort": "8080" }] })),
        [port(80, Some(8080), None)]
    );
    assert_eq!(ports(json!({ "80": [{ "HostPort": "" }] })), [port(80, None, None)]);
    assert_eq!(ports(json!({ "80/tcp": null, "81/tcp": [] })), []);
    assert_eq!(
        ports(json!({ "80/tcp": [{ "HostPort": "8000-8009" }] })),
        [port(80, Some(8000), Some(8009))]
    );
    assert_eq!(
        ports(json!({ "80-81/tcp": [{ "HostPort": "90-91" }] })),
        [port(80, Some(90), None), port(81, Some(91), None)]
    );
    for bad in [
        json!({ "x/tcp": [] }),
        json!({ "80/sctp": [{ "HostPort": "1" }] }),
        json!({ "80/tcp": [{ "HostPort": "x" }] }),
        json!({ "80/tcp": [{ "HostIp": "localhost" }] }),
        json!({ "80-82/tcp": [{ "HostPort": "1-2" }] }),
        json!({ "80/tcp": [{ "Port": "1" }] }),
    ] {
        assert_eq!(host_refused(json!({ "PortBindings": bad })).0, 400);
    }
    let body = json!({ "Image": "demo", "ExposedPorts": { "80/tcp": {}, "53/udp": null } });
    assert_eq!(created(&body).expose, [(53, Protocol::Udp), (80, Protocol::Tcp)]);
}

#[test]
fn every_way_to_mount_is_read() {
    let body = json!({
        "Image": "demo",
        "Volumes": { "/cache": {}, "/b": {} },
        "HostConfig": {
            "Binds": ["/a:/b:ro,rslave", "data:/data", "/anonymous"],
            "Tmpfs": { "/run": "size=1m,noexec" },
            "Mounts": [
                { "Type": "bind", "Source": "/s", "Target": "/t", "ReadOnly": true,
                  "BindOptions": { "Propagation": "rshared", "CreateMountpoint": true } },
                { "Type": "volume", "Source": "v", "Target": "/v",
                  "VolumeOptions": { "NoCopy": true, "Labels": { "a": "b" }, "Subpath": "x",
                    "DriverConfig": { "Name": "local", "Options": { "o": "size=1m" } } } },
                { "Type": "tmpfs", "Target": "/m", "TmpfsOptions": { "SizeBytes": 4096, "Mode": 511,
                  "Options": [["uid", "7"], ["noexec"]] } },
            ],
        },
    });
    let mounts = created(&body).mounts;
    let targets: Vec<_> = mounts.iter().map(|mount| mount.target.to_str().unwrap()).collect();
    assert_eq!(targets, ["/b", "/data", "/anonymous", "/t", "/v", "/m", "/run", "/cache"]);
    let kind = |at: usize| &mounts[at].kind;
    assert!(mounts[0].read_only);
    assert!(matches!(kind(1), MountKind::Volume(volume) if volume.name == "data"));
    let MountKind::Bind { create: true, propagation: Some(word), .. } = kind(3) else { panic!() };
    assert_eq!(word, "rshared");
    let MountKind::Volume(volume) = kind(4) else { panic!() };
    assert_eq!((volume.no_copy, volume.driver.as_deref()), (true, Some("local")));
    let want = MountKind::Tmpfs {
        size: Some(base::ByteSize(4096)),
        mode: Some(0o777),
        options: vec!["uid=7".to_owned(), "noexec".to_owned()],
    };
    assert_eq!(*kind(5), want);
    for (config, want) in [
        (json!({ "Binds": ["./a:/b"] }), "a path of the host is absolute"),
        (json!({ "Binds": ["/a:/b:fast"] }), "invalid volume specification: '/a:/b:fast'"),
        (
            json!({ "Mounts": [{ "Type": "bind", "Target": "/t" }] }),
            "field Source must not be empty",
        ),
        (json!({ "Mounts": [{ "Type": "fast", "Target": "/t" }] }), "mount type unknown: \"fast\""),
        (
            json!({ "Mounts": [{ "Type": "tmpfs", "Target": "/t", "BindOptions": { "NonRecursive": true } }] }),
            "field BindOptions must not be specified",
        ),
    ] {
        let (status, message) = host_refused(config);
        assert_eq!(status, 400, "{message}");
        assert!(message.contains(want), "{message}");
    }
    assert_eq!(host_refused(json!({ "Mounts": [{ "Type": "image", "Target": "/t" }] })).0, 501);
}

#[test]
fn security_is_as_asked() {
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#;
    let security = host(json!({
        "CapAdd": ["net_admin"], "CapDrop": ["ALL"], "MaskedPaths": [], "ReadonlyPaths": [],
        "SecurityOpt": [format!("seccomp={profile}"), "no-new-privileges"],
    }))
    .security;
    assert_eq!(security.seccomp.as_deref(), Some(profile));
    assert_eq!(
        (security.cap_add, security.cap_drop),
        (vec!["NET_ADMIN".to_owned()], vec!["ALL".to_owned()])
    );
    assert!(security.unmasked && security.no_new_privileges);
    assert_eq!(host_refused(json!({ "SecurityOpt": ["seccomp=/etc/passwd"] })).0, 400);
    assert_eq!(host_refused(json!({ "MaskedPaths": ["/proc/mine"] })).0, 501);
    // What `inspect` shows can be sent back.
    let shown = json!({ "MaskedPaths": ["/proc/kcore"], "ReadonlyPaths": ["/proc/sys"] });
    assert!(!host(shown).security.unmasked);
}

#[test]
fn isolation_and_runtime_choose_the_driver() {
    for (config, want) in [
        (json!({}), Isolation::Container),
        (json!({ "Isolation": "default", "Runtime": "runc" }), Isolation::Container),
        (json!({ "Runtime": "io.containerd.runc.v2" }), Isolation::Container),
        (json!({ "Isolation": "vm" }), Isolation::Vm),
        (json!({ "Runtime": "wasm" }), Isolation::Wasm),
        (json!({ "Runtime": "host", "Isolation": "host" }), Isolation::Host),
    ] {
        assert_eq!(host(config.clone()).isolation, want, "{config}");
    }
    assert_eq!(created(&json!({ "Image": "demo", "Runtime": "vm" })).isolation, Isolation::Vm);
    for (config, want) in [
        (json!({ "Isolation": "hyperv" }), "invalid isolation 'hyperv' on linux"),
        (json!({ "Runtime": "kata" }), "unknown or invalid runtime name: kata"),
        (json!({ "Runtime": "vm", "Isolation": "wasm" }), "contradicts"),
    ] {
        assert!(host_refused(config).1.contains(want));
    }
}

#[test]
fn networks_are_the_engines_own_or_users() {
    for (mode, want) in [
        ("default", NetworkMode::Bridge),
        ("none", NetworkMode::None),
        ("host", NetworkMode::Host),
        ("container:web", NetworkMode::Container("web".to_owned())),
    ] {
        assert_eq!(host(json!({ "NetworkMode": mode })).network, want);
    }
    let mine = host(json!({ "NetworkMode": "mine" }));
    assert_eq!(mine.network, NetworkMode::Named("mine".to_owned()));
    let of = |mode: &str, endpoints: Value| {
        json!({
            "Image": "demo",
            "HostConfig": { "NetworkMode": mode },
            "NetworkingConfig": { "EndpointsConfig": endpoints },
        })
    };
    let both = created(&of(
        "mine",
        json!({
            "mine": { "IPAMConfig": { "IPv4Address": "10.5.0.7" } },
            "other": { "MacAddress": "02:00:00:00:00:07", "GwPriority": 3 },
        }),
    ));
    let places = both.endpoints.unwrap();
    assert_eq!(places["mine"].ipv4, Some("10.5.0.7".parse().unwrap()));
    assert_eq!((places["other"].priority, places.len()), (3, 2));
    assert_eq!(created(&of("default", json!({ "default": {} }))).endpoints, None);
    assert_eq!(created(&of("host", json!({ "host": {} }))).endpoints, None);
    assert_eq!(refused(&of("host", json!({ "mine": {} }))).0, 400);
    let bad = json!({ "mine": { "IPAMConfig": { "IPv4Address": "10.5" } } });
    assert!(refused(&of("mine", bad)).1.contains("invalid IP address: 10.5"));
    // A container's own hardware address is that of its first network.
    let with = |mode: &str, mac: &str, endpoints: Value| {
        let mut body = of(mode, endpoints);
        body["MacAddress"] = mac.into();
        body
    };
    let own = "02:00:00:00:00:09";
    let first = created(&with("default", own, json!({}))).endpoints.unwrap();
    assert_eq!(first["bridge"].mac.as_deref(), Some(own));
    let same = json!({ "mine": { "MacAddress": own }, "other": {} });
    let first = created(&with("mine", own, same)).endpoints.unwrap();
    assert_eq!((first["mine"].mac.as_deref(), &first["other"].mac), (Some(own), &None));
    let other = json!({ "mine": { "MacAddress": "02:00:00:00:00:07" } });
    assert!(refused(&with("mine", own, other)).1.contains("must match"));
    assert!(refused(&with("host", own, json!({}))).1.contains("mac-address and the network mode"));
    let body = json!({ "Image": "demo", "NetworkDisabled": true });
    assert_eq!(created(&body).network, NetworkMode::None);
}

#[test]
fn the_rest_is_read_too() {
    let create = created(&json!({
        "Image": "demo", "Cmd": "true", "Entrypoint": ["sh"], "StopTimeout": -1, "Shell": ["ash"],
        "Healthcheck": { "Test": ["CMD-SHELL", "x"], "Interval": 5_000_000_000_u64 },
        "HostConfig": {
            "RestartPolicy": { "Name": "on-failure", "MaximumRetryCount": 3 },
            "PidMode": "host", "IpcMode": "container:a", "ExtraHosts": ["a:1.2.3.4"],
            "Dns": ["9.9.9.9"], "Ulimits": [{ "Name": "core", "Soft": -1, "Hard": -1 }],
            "LogConfig": { "Type": "json-file", "Config": { "max-size": "1m" } },
        },
    }));
    assert_eq!(create.command, ["true"]);
    assert_eq!(create.stop_timeout_s, Some(u32::MAX));
    let health = create.health.unwrap();
    assert_eq!(health.interval, Some(std::time::Duration::from_secs(5)));
    assert_eq!(health.shell, Some(vec!["ash".to_owned()]));
    assert_eq!(create.restart, engine::RestartPolicy::OnFailure { most: Some(3) });
    assert_eq!(
        (create.pid, create.ipc),
        (NamespaceMode::Host, NamespaceMode::Container("a".to_owned()))
    );
    assert_eq!(create.ulimits[0].hard, u64::MAX);
    assert_eq!(create.log.bytes_max, 1 << 20);
    for (body, want) in [
        (json!({ "Env": ["=x"] }), "invalid environment variable: =x"),
        (json!({ "StopSignal": "SIGNONE" }), "invalid signal: SIGNONE"),
        (json!({ "Healthcheck": { "Test": ["RUN"] } }), "Unknown healthcheck type 'RUN'"),
        (json!({ "Healthcheck": { "Interval": -1 } }), "Healthcheck.Interval: -1 is below 0"),
        (json!({ "HostConfig": { "RestartPolicy": { "Name": "x" } } }), "unknown policy 'x'"),
        (json!({ "HostConfig": { "LogConfig": { "Type": "fluentd" } } }), "fluentd"),
        (json!({ "HostConfig": { "UTSMode": "container:a" } }), "HostConfig.UTSMode: invalid mode"),
        (json!({ "Colour": "red" }), "unknown field in the request: Colour"),
    ] {
        let (status, message) = refused(&body);
        assert_eq!(status, 400, "{message}");
        assert!(message.contains(want), "{message}");
    }
}

#[test]
fn updates_say_what_changes_and_nothing_else() {
    let text = json!({ "Memory": 64 << 20, "MemorySwap": -1, "CpuQuota": -1, "PidsLimit": -1,
        "RestartPolicy": { "Name": "", "MaximumRetryCount": 0 }, "Devices": [] });
    let update = super::update(text.to_string().as_bytes()).unwrap();
    assert_eq!(update.limits.memory.swap, Some(MemorySwap::Unlimited));
    assert_eq!((update.limits.cpu.quota_us, update.limits.pids), (Some(u64::MAX), Some(u64::MAX)));
    assert_eq!(update.restart, None);
    let policy = br#"{"RestartPolicy":{"Name":"always"}}"#;
    assert_eq!(super::update(policy).unwrap().restart, Some(engine::RestartPolicy::Always));
    assert!(super::update(br#"{"Ulimits":[{"Name":"core"}]}"#).is_err());
    assert!(super::update(br#"{"Image":"x"}"#).is_err());
}

#[test]
fn what_inspect_shows_can_be_sent_back() {
    let container = crate::fixture::container();
    let shown = crate::shape::container::ContainerJson::of(&container);
    let shown = serde_json::to_value(shown).unwrap();
    let mut body = shown["Config"].clone();
    body["HostConfig"] = shown["HostConfig"].clone();
    let again = created(&body);
    let first = container.config;
    assert_eq!((again.limits, again.security), (first.limits, first.security));
    assert_eq!((again.mounts, again.ports), (first.mounts, first.ports));
    assert_eq!((again.entrypoint, again.command), (first.entrypoint, first.command));
    assert_eq!((again.env, again.labels), (first.env, first.labels));
}

/// JSON of any shape.
fn json_of_any_shape() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z0-9:/,=.-]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[A-Za-z/0-9]{0,8}", inner, 0..4)
                .prop_map(|map| Value::from(map.into_iter().collect::<serde_json::Map<_, _>>())),
        ]
    })
}

proptest! {
    /// One field of the stock client's request has any value: it is read, or refused by name.
    #[test]
    fn anything_is_read_or_refused_by_name(at in 0_usize..200, value in json_of_any_shape()) {
        let mut body: Value = serde_json::from_str(STOCK).unwrap();
        let host = body["HostConfig"].as_object().unwrap().keys().cloned();
        let keys: Vec<String> = host.map(|key| format!("/HostConfig/{key}"))
            .chain(body.as_object().unwrap().keys().map(|key| format!("/{key}"))).collect();
        let pointer = &keys[at % keys.len()];
        *body.pointer_mut(pointer).unwrap() = value;
        if let Err(error) = request(None, None, body.to_string().as_bytes()) {
            prop_assert!([400, 501].contains(&error.status.as_u16()), "{}", error.message);
            prop_assert!(!error.message.is_empty());
        }
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = request(Some("web"), None, &bytes);
        let _ = super::update(&bytes);
    }
}

#[test]
fn a_volume_of_the_image_gives_way_to_a_mount() {
    let body = json!({ "Image": "demo", "Volumes": { "/a/": {} },
        "HostConfig": { "Binds": ["/srv:/a"] } });
    let mounts: Vec<MountRequest> = created(&body).mounts;
    assert_eq!(mounts.len(), 1);
}

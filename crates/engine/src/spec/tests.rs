//! Specs of typical containers, and the rules behind them.

use insta::assert_debug_snapshot;
use workload::{MountSource, Signal};

use super::*;
use crate::{MountKind, MountRequest};

fn id() -> ContainerId {
    ContainerId::from_random([0xab; 32])
}

fn facts() -> Facts {
    Facts {
        kernel: (6, 18),
        capabilities: (1 << 41) - 1,
        last_group: i32::MAX.unsigned_abs(),
        hostname: "host".to_owned(),
        root: Some(RootFs::Overlay {
            lower: vec!["/layers/b".into(), "/layers/a".into()],
            upper: "/c/upper".into(),
            work: "/c/work".into(),
        }),
        files: vec![("/etc/hosts".into(), "/c/hosts".into())],
        log: Some(workload::LogSpec {
            path: "/c/log/output".into(),
            bytes_max: 20 << 20,
            files_max: 5,
            ..Default::default()
        }),
        ..Facts::default()
    }
}

fn config() -> Create {
    let mut config = Create {
        command: vec!["sh".to_owned(), "-c".to_owned(), "true".to_owned()],
        env: vec!["K=V".to_owned()],
        ..Create::default()
    };
    // The policy is the seccomp crate's to test, and long.
    config.security.seccomp = Some("unconfined".to_owned());
    config
}

fn targets(config: &Create) -> Vec<String> {
    let spec = container(config, &facts()).unwrap();
    spec.mounts.iter().map(|mount| mount.target.display().to_string()).collect()
}

fn tmpfs(target: &str, options: &[&str]) -> MountRequest {
    MountRequest {
        target: target.into(),
        kind: MountKind::Tmpfs {
            size: None,
            mode: None,
            options: options.iter().map(|option| (*option).to_owned()).collect(),
        },
        read_only: false,
        idmap: None,
    }
}

#[test]
fn a_plain_container_has_dockers_defaults() {
    let sandbox = sandbox(&id(), &config(), &facts()).unwrap();
    assert_debug_snapshot!("plain-sandbox", sandbox);
    let process = process(&id(), &config(), &facts(), None).unwrap();
    assert_debug_snapshot!("plain-process", process);
}

#[test]
fn a_privileged_container_is_held_back_by_nothing() {
    let mut config = config();
    config.security = crate::SecurityOptions { privileged: true, ..Default::default() };
    let sandbox = sandbox(&id(), &config, &facts()).unwrap();
    assert_eq!(sandbox.limits.devices, None);
    let process = process(&id(), &config, &facts(), None).unwrap();
    assert_eq!(process.capabilities.bounding.len(), 41);
    assert_eq!(process.seccomp, None);
    let ProcessRoot::Own(container) = process.root else { panic!("it has a root of its own") };
    assert!(container.masked_paths.is_empty() && container.read_only_paths.is_empty());
}

#[test]
fn capabilities_are_added_and_dropped_as_dockers_are() {
    let count = |add: &[&str], drop: &[&str]| {
        let mut config = config();
        let words = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        config.security.cap_add = words(add);
        config.security.cap_drop = words(drop);
        let spec = process(&id(), &config, &facts(), None).unwrap();
        assert_eq!(spec.capabilities.bounding, spec.capabilities.effective);
        spec.capabilities.bounding.len()
    };
    assert_eq!(count(&[], &[]), 14);
    assert_eq!(count(&["net_admin"], &[]), 15);
    assert_eq!(count(&[], &["CAP_CHOWN"]), 13);
    assert_eq!(count(&["ALL"], &["SYS_ADMIN"]), 40);
    assert_eq!(count(&["CHOWN"], &["all"]), 1);
}

#[test]
fn mounts_come_parents_first_and_ones_own_take_a_defaults_place() {
    let mut config = config();
    config.mounts = vec![tmpfs("/a/b/c", &[]), tmpfs("/a", &[]), tmpfs("/dev/shm", &[])];
    assert_eq!(
        targets(&config),
        [
            "/proc",
            "/dev",
            "/sys",
            "/a",
            "/dev/pts",
            "/dev/mqueue",
            "/etc/hosts",
            "/dev/shm",
            "/sys/fs/cgroup",
            "/a/b/c"
        ]
    );
    config.mounts = vec![tmpfs("/dev", &[])];
    assert!(!targets(&config).contains(&"/dev/pts".to_owned()));
}

#[test]
fn tmpfs_options_mean_what_dockers_do() {
    let mut config = config();
    config.mounts = vec![tmpfs("/t", &["exec", "size=1m", "mode=700", "uid=5", "ro"])];
    let spec = container(&config, &facts()).unwrap();
    let mount = spec.mounts.iter().find(|mount| mount.target.ends_with("t")).unwrap();
    assert_debug_snapshot!(mount, @r#"
    Mount {
        target: "/t",
        source: Tmpfs(
            Tmpfs {
                size: Some(
                    ByteSize(
                        1048576,
                    ),
                ),
                mode: Some(
                    448,
                ),
                options: [
                    "uid=5",
                ],
            },
        ),
        flags: MountFlags {
            read_only: true,
            recursive_read_only: false,
            nosuid: true,
            nodev: true,
            noexec: false,
            noatime: false,
            nodiratime: false,
            strictatime: false,
            nosymfollow: false,
        },
        propagation: None,
    }
    "#);
    config.mounts = vec![tmpfs("/t", &["nonsense"])];
    assert!(container(&config, &facts()).is_err());
}

#[test]
fn binds_are_recursive_and_read_only_all_the_way_down_where_the_kernel_can() {
    let mut config = config();
    config.mounts = vec![MountRequest {
        target: "/srv".into(),
        kind: MountKind::Bind {
            source: "/host".into(),
            create: true,
            non_recursive: false,
            propagation: Some("rslave".to_owned()),
        },
        read_only: true,
        idmap: None,
    }];
    let at = |kernel| {
        let facts = Facts { kernel, ..facts() };
        let spec = container(&config, &facts).unwrap();
        spec.mounts.into_iter().find(|mount| mount.target.ends_with("srv")).unwrap()
    };
    let (new, old) = (at((5, 12)), at((5, 11)));
    assert!(new.flags.read_only && new.flags.recursive_read_only);
    assert!(old.flags.read_only && !old.flags.recursive_read_only);
    assert!(matches!(new.source, MountSource::Bind(bind) if bind.recursive));
    assert!(new.propagation.is_some_and(|p| p.recursive));
}

#[test]
fn namespaces_of_another_container_are_joined_by_its_process() {
    let mut config = config();
    config.network = NetworkMode::Container("web".to_owned());
    config.pid = NamespaceMode::Container("web".to_owned());
    let stopped = sandbox(&id(), &config, &facts()).unwrap_err();
    assert_eq!(stopped.to_string(), "cannot join namespaces of a non running container: web");
    let facts = Facts { joined: [("web".to_owned(), 42)].into(), ..facts() };
    let sandbox = sandbox(&id(), &config, &facts).unwrap();
    assert_eq!(sandbox.network, Network::Join("/proc/42/ns/net".into()));
    assert!(sandbox.sysctls.is_empty(), "the network is somebody else's");
    let spec = container(&config, &facts).unwrap();
    assert_eq!(spec.pid, Namespace::Join("/proc/42/ns/pid".into()));
}

#[test]
fn an_exec_is_like_its_container_but_for_what_it_asks() {
    let mut config = config();
    config.user = Some("www".to_owned());
    config.working_dir = Some("/srv".to_owned());
    let plain = ExecCreate { command: vec!["id".to_owned()], ..ExecCreate::default() };
    let spec = exec(&id(), "e1", &config, &plain, &facts()).unwrap();
    assert_eq!(spec.user, user(Some("www"), &[]));
    assert_eq!(spec.cwd, PathBuf::from("/srv"));
    assert!(spec.env.contains(&"K=V".to_owned()));
    let own = ExecCreate {
        user: Some("root".to_owned()),
        env: vec!["K=W".to_owned()],
        terminal: Some(TerminalSize::default()),
        privileged: true,
        ..plain
    };
    let spec = exec(&id(), "e2", &config, &own, &facts()).unwrap();
    assert_eq!(spec.user, user(Some("root"), &[]));
    assert!(spec.env.contains(&"K=W".to_owned()) && spec.env.contains(&"TERM=xterm".to_owned()));
    assert_eq!(spec.capabilities.bounding.len(), 41);
}

#[test]
fn device_rules_read_as_they_are_written() {
    let rule = parse_device_rule("c 1:3 rw").unwrap();
    assert_eq!((rule.major, rule.minor, rule.mknod), (Some(1), Some(3), false));
    let all = parse_device_rule("a *:* rwm").unwrap();
    assert_eq!((all.kind, all.major, all.minor), (None, None, None));
    for bad in ["", "c", "c 1 r", "d 1:1 r", "c 1:1 rx", "c 1:1 r more", "c -1:1 r"] {
        assert!(parse_device_rule(bad).is_err(), "{bad}");
    }
    assert_eq!(rlimit_number("nofile"), Some(7));
    assert!(Signal::parse("TERM").is_some());
}

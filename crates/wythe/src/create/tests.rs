//! Flags as Docker documents them, and the containers they mean.

use std::{collections::BTreeMap, io, path::PathBuf};

use base::ByteSize;
use clap::Parser as _;
use engine::{MountKind, NamespaceMode, NetworkMode, Protocol, UlimitRequest};
use workload::{Isolation, MemorySwap, Signal};

use super::*;

struct Fake;

impl Surroundings for Fake {
    fn variable(&self, name: &str) -> Option<String> {
        (name == "HERE").then(|| "it is".to_owned())
    }

    fn read(&self, path: &str) -> io::Result<String> {
        match path {
            "vars" => {
                Ok("\u{feff}# comment\n\nA=1\n  B=two words\nHERE\nGONE\nHERE2=\n".to_owned())
            }
            "bad" => Ok("two words=1\n".to_owned()),
            "profile.json" => Ok("{}".to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn directory(&self) -> io::Result<PathBuf> {
        Ok("/home/me".into())
    }
}

#[derive(Debug, clap::Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Line {
    #[command(flatten)]
    flags: Flags,
}

fn create(line: &str) -> Create {
    try_create(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn try_create(line: &str) -> Result<Create, String> {
    let words = line.split('|').flat_map(|part| match part.strip_prefix('~') {
        Some(whole) => vec![whole],
        None => part.split_whitespace().collect(),
    });
    let command = crate::cli::with_docker_switches(<Line as clap::CommandFactory>::command());
    let matches = command.try_get_matches_from(words).map_err(|error| error.to_string())?;
    let line = <Line as clap::FromArgMatches>::from_arg_matches(&matches)
        .map_err(|error| error.to_string())?;
    line.flags.request(&Fake).map_err(|error| crate::error::chain(&error))
}

#[test]
fn nothing_but_an_image_is_all_defaults() {
    assert_eq!(create("demo"), Create { image: "demo".to_owned(), ..Create::default() });
    let _ = Line::try_parse_from(["demo"]).unwrap();
}

#[test]
fn what_follows_the_image_is_the_command_whatever_it_looks_like() {
    let made = create("-i demo sh -c ls --rm -- -x");
    assert_eq!(made.image, "demo");
    assert_eq!(made.command, ["sh", "-c", "ls", "--rm", "--", "-x"]);
    assert!(made.stdin && !made.auto_remove);
    let made = create("demo -it");
    assert_eq!((made.command, made.terminal), (vec!["-it".to_owned()], false));
}

#[test]
fn switches_can_be_joined_and_given_a_value() {
    let made = create("-it --rm demo");
    assert!(made.stdin && made.terminal && made.auto_remove);
    let made = create("-it=false --rm=true --init=0 demo");
    assert!(made.stdin && !made.terminal && made.auto_remove && !made.init);
    assert!(try_create("--rm=maybe demo").is_err());
}

#[test]
fn environment_comes_from_files_flags_and_here() {
    let made = create("--env-file vars -e C=3 -e HERE -e GONE -e D= demo");
    assert_eq!(made.env, ["A=1", "B=two words", "HERE=it is", "HERE2=", "C=3", "HERE=it is", "D="]);
    assert!(try_create("--env-file bad demo").unwrap_err().contains("line 1"));
    assert!(try_create("--env-file none demo").unwrap_err().contains("none"));
    assert!(try_create("-e =x demo").is_err());
}

#[test]
fn labels_come_from_files_and_flags() {
    let made = create("--label-file vars -l A=2 -l bare demo");
    let want =
        [("A", "2"), ("B", "two words"), ("GONE", ""), ("HERE", ""), ("HERE2", ""), ("bare", "")];
    let want: BTreeMap<_, _> = want.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    assert_eq!(made.labels, want);
}

#[test]
fn the_process_is_as_described() {
    let made = create(
        "--entrypoint sh -w /src -u 1:2 --group-add 7 --stop-signal INT --stop-timeout 3 --init \
         --ulimit nofile=10:20 --ulimit core=-1 --oom-score-adj -500 demo",
    );
    assert_eq!(made.entrypoint, Some(vec!["sh".to_owned()]));
    assert_eq!(made.working_dir.as_deref(), Some("/src"));
    assert_eq!(made.user.as_deref(), Some("1:2"));
    assert_eq!(made.groups, ["7"]);
    assert_eq!(made.stop_signal, Signal::parse("INT"));
    assert_eq!(made.stop_timeout_s, Some(3));
    assert!(made.init);
    assert_eq!(made.oom_score_adj, Some(-500));
    let ulimit = |name: &str, soft, hard| UlimitRequest { name: name.to_owned(), soft, hard };
    assert_eq!(made.ulimits, [ulimit("nofile", 10, 20), ulimit("core", u64::MAX, u64::MAX)]);
    assert_eq!(create("--entrypoint=|~demo").entrypoint, Some(vec![String::new()]));
    for bad in ["-w src", "--ulimit nofile=3:2", "--ulimit files=1", "--stop-signal NOPE"] {
        assert!(try_create(&format!("{bad} demo")).is_err(), "{bad}");
    }
}

#[test]
fn resources_are_limited_in_the_kernels_units() {
    let made = create(
        "-m 256m --memory-reservation 128m --cpus 1.5 -c 512 --cpuset-cpus 0-1 --pids-limit 50 \
         --blkio-weight 500 --memory-swappiness 0 demo",
    );
    let memory = &made.limits.memory;
    assert_eq!(memory.limit, Some(ByteSize(256 << 20)));
    assert_eq!(memory.swap, Some(MemorySwap::Total(ByteSize(512 << 20))));
    assert_eq!(memory.reservation, Some(ByteSize(128 << 20)));
    assert_eq!(memory.swappiness, Some(0));
    let cpu = &made.limits.cpu;
    assert_eq!(
        (cpu.quota_us, cpu.period_us, cpu.shares),
        (Some(150_000), Some(100_000), Some(512))
    );
    assert_eq!(cpu.cpus.as_deref(), Some("0-1"));
    assert_eq!((made.limits.pids, made.limits.block_weight), (Some(50), Some(500)));
    let unlimited = create("-m 8m --memory-swap -1 --pids-limit -1 demo");
    assert_eq!(unlimited.limits.memory.swap, Some(MemorySwap::Unlimited));
    assert_eq!(unlimited.limits.pids, None);
    for (flags, want) in [
        ("-m 4m", "least is 6m"),
        ("--memory-swap 1g", "needs --memory"),
        ("-m 1g --memory-swap 512m", "cannot be below"),
        ("-m 1g --memory-reservation 2g", "above --memory"),
        ("--cpus 1 --cpu-quota 5", "conflicting"),
        ("--cpus one", "number of processors"),
        ("--blkio-weight 5", "10 to 1000"),
        ("--device-read-bps /dev/null:1m", "not a block device"),
        ("--device-read-bps sda:1m", "/dev/NAME"),
    ] {
        let error = try_create(&format!("{flags} demo")).unwrap_err();
        assert!(error.contains(want), "{flags}: {error}");
    }
}

#[test]
fn the_network_is_one_that_is_built() {
    assert_eq!(create("--net host demo").network, NetworkMode::Host);
    assert_eq!(create("--network none demo").network, NetworkMode::None);
    let joined = NetworkMode::Container("web".to_owned());
    assert_eq!(create("--network container:web demo").network, joined);
    assert_eq!(create("--network mine demo").network, NetworkMode::Named("mine".to_owned()));
    assert_eq!(create("--network bridge demo").endpoints, None);
    let two = create(
        "--network name=mine,alias=a,gw-priority=2 --network other --network-alias b \
         --ip 10.5.0.7 --mac-address 02:00:00:00:00:07 demo",
    );
    let places = two.endpoints.unwrap();
    assert_eq!((places["mine"].aliases.join(","), places["mine"].priority), ("a,b".to_owned(), 2));
    assert_eq!(places["mine"].ipv4, Some("10.5.0.7".parse().unwrap()));
    assert!(places["mine"].mac.is_some() && places["other"].ipv4.is_none());
    for bad in [
        "--network host --ip 10.5.0.7",
        "--network mine --network mine",
        "--network name=mine,ip=10.5.0.7 --ip 10.5.0.8",
        "--network alias=a",
        "--network name=mine,driver-opt=a=b",
        "--link-local-ip 169.254.1.1",
    ] {
        assert!(try_create(&format!("{bad} demo")).is_err(), "{bad}");
    }
    let made = create("-p 8080:80 -P --expose 53/udp --dns 1.1.1.1 --add-host db:10.0.0.1 demo");
    assert_eq!(made.ports.len(), 1);
    assert!(made.publish_all);
    assert_eq!(made.expose, [(53, Protocol::Udp)]);
    assert_eq!(made.extra_hosts, [("db".to_owned(), "10.0.0.1".to_owned())]);
    assert!(try_create("--add-host db:here demo").is_err());
}

#[test]
fn namespaces_are_private_unless_said() {
    let made = create("--pid host --ipc container:a1 --uts host --cgroupns private demo");
    assert_eq!(made.pid, NamespaceMode::Host);
    assert_eq!(made.ipc, NamespaceMode::Container("a1".to_owned()));
    assert_eq!(made.uts, NamespaceMode::Host);
    assert_eq!(made.cgroupns, NamespaceMode::Private);
    for bad in ["--uts container:a1", "--pid other", "--userns keep-id", "--ipc none"] {
        assert!(try_create(&format!("{bad} demo")).is_err(), "{bad}");
    }
}

#[test]
fn security_options_are_read_as_docker_reads_them() {
    let made = create(
        "--cap-add net_admin --cap-drop ALL --security-opt no-new-privileges \
         --security-opt seccomp=profile.json --security-opt label=type:spc_t \
         --security-opt systempaths=unconfined --sysctl net.ipv4.ip_forward=1 \
         --device /dev/fuse --device /dev/a:/dev/b:r --device-cgroup-rule|~c 1:* rw|demo",
    );
    let security = &made.security;
    assert_eq!(security.cap_add, ["NET_ADMIN"]);
    assert_eq!(security.cap_drop, ["ALL"]);
    assert!(security.no_new_privileges && security.unmasked);
    assert_eq!(security.seccomp.as_deref(), Some("{}"));
    assert_eq!(security.selinux.as_deref(), Some("system_u:system_r:spc_t:s0"));
    assert_eq!(made.devices.len(), 2);
    assert_eq!(made.device_rules, ["c 1:* rw"]);
    let error = try_create("--cap-add NET_ADMN demo").unwrap_err();
    assert!(error.contains("NET_ADMIN"), "{error}");
    for bad in ["--security-opt fast", "--device null", "--sysctl x", "--device-cgroup-rule x"] {
        assert!(try_create(&format!("{bad} demo")).is_err(), "{bad}");
    }
}

#[test]
fn mounts_keep_their_order_and_do_not_meet() {
    let made = create("--tmpfs /run:size=1m -v /a:/b:ro --mount type=bind,src=/c,dst=/d demo");
    let kinds: Vec<bool> =
        made.mounts.iter().map(|m| matches!(m.kind, MountKind::Bind { .. })).collect();
    assert_eq!(kinds, [true, true, false]);
    assert!(try_create("-v /a:/b -v /c:/b demo").unwrap_err().contains("two mounts"));
}

#[test]
fn logs_are_bounded_as_asked() {
    let made = create("--log-driver json-file --log-opt max-size=1m --log-opt max-file=3 demo");
    assert_eq!((made.log.bytes_max, made.log.files_max, made.log.none), (1 << 20, 3, false));
    assert!(create("--log-driver none demo").log.none);
    assert!(try_create("--log-driver fluentd demo").unwrap_err().contains("not built yet"));
    assert!(try_create("--log-opt max-file=0 demo").is_err());
}

#[test]
fn isolation_is_chosen_by_name() {
    assert_eq!(create("--isolation vm demo").isolation, Isolation::Vm);
    assert_eq!(create("--isolation host demo").isolation, Isolation::Host);
    assert!(try_create("--isolation jail demo").is_err());
}

#[test]
fn dockers_other_flags_are_refused_by_name() {
    for (name, _) in unbuilt::names() {
        let value = if name == "use-api-socket" { "" } else { "1" };
        let error = try_create(&format!("--{name} {value} demo")).unwrap_err();
        assert!(error.contains(&format!("--{name} is not built yet")), "{error}");
    }
    let both = try_create("--rm --restart always demo").unwrap_err();
    assert_eq!(both, "conflicting options: cannot specify both --restart and --rm");
    create("--rm --restart no demo");
    create("--pull always demo");
    create("--pull never --platform linux --disable-content-trust --no-healthcheck demo");
}

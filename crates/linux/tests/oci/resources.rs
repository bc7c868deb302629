//! Namespaces, control groups, system calls and the kernel's parameters.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    bundle::{Bundle, said},
    process::says,
};

/// What a file of the container's group says: of version 1, or of version 2 where its controller
/// is there. `None` where the file is of neither.
fn knob(bundle: &Bundle, one: &str, two: &str) -> Option<String> {
    let controller = one.split('.').next().unwrap();
    let group = bundle.cgroup();
    let old = format!("/sys/fs/cgroup/{controller}/{group}/{one}");
    let new = format!("/sys/fs/cgroup/{group}/{two}");
    let path = if Path::new("/sys/fs/cgroup").join(controller).exists() { old } else { new };
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

#[test]
fn namespaces_that_are_not_listed_are_the_hosts() {
    let kinds = ["cgroup", "ipc", "net", "pid", "time", "user", "uts"];
    let script = "cd /proc/self/ns; for kind in cgroup ipc mnt net pid time user uts; do \
                  readlink $kind; done";
    let own = |config: &mut Value| {
        let all = ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];
        let list: Value = all.iter().map(|kind| json!({"type": kind})).collect();
        let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        config["linux"]["namespaces"] = list;
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
    };
    let hosts = |config: &mut Value| {
        config["linux"]["namespaces"] = json!([{"type": "mount"}]);
        config.as_object_mut().unwrap().remove("hostname");
        // A new one would show the wrong processes.
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "cgroup");
    };
    let (Some(own), Some(hosts)) = (says(script, own), says(script, hosts)) else { return };
    for kind in kinds {
        let here = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        let here = here.to_str().unwrap();
        assert!(hosts.contains(here), "{kind}: {here} is not in {hosts}");
        assert!(!own.contains(here), "{kind}: {here} is in {own}");
    }
    let mount = fs::read_link("/proc/self/ns/mnt").unwrap();
    assert!(!own.contains(mount.to_str().unwrap()) && !hosts.contains(mount.to_str().unwrap()));
}

#[test]
fn clocks_are_set_forward() {
    let said = says("cat /proc/self/timens_offsets", |config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
        config["linux"]["timeOffsets"] = json!({
            "monotonic": {"secs": 100, "nanosecs": 200}, "boottime": {"secs": 300, "nanosecs": 400},
        });
    });
    let Some(said) = said else { return };
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words, ["monotonic", "100", "200", "boottime", "300", "400"]);
}

#[test]
fn limits_reach_the_files_of_the_group() {
    let Some(bundle) = Bundle::new("exec sleep 1000") else { return };
    let old = Path::new("/sys/fs/cgroup/memory").exists();
    bundle.change(|config| {
        config["linux"]["resources"] = json!({
            "memory": {"limit": 67_108_864, "reservation": 33_554_432, "swap": 134_217_728},
            "cpu": {"shares": 512, "quota": 50_000, "period": 200_000, "burst": 10_000,
                    "cpus": "0", "mems": "0"},
            "pids": {"limit": 50},
        });
        // What version 2 has no files for.
        if old {
            let resources = &mut config["linux"]["resources"];
            resources["memory"]["swappiness"] = 10.into();
            resources["memory"]["disableOOMKiller"] = true.into();
            resources["memory"]["kernelTCP"] = 8_388_608.into();
            resources["cpu"]["realtimeRuntime"] = 1000.into();
            resources["cpu"]["realtimePeriod"] = 500_000.into();
        }
    });
    bundle.start();
    for (one, two, want_one, want_two) in [
        ("memory.limit_in_bytes", "memory.max", "67108864", "67108864"),
        ("memory.soft_limit_in_bytes", "memory.low", "33554432", "33554432"),
        ("memory.memsw.limit_in_bytes", "memory.swap.max", "134217728", "67108864"),
        ("memory.swappiness", "", "10", ""),
        ("memory.oom_control", "", "oom_kill_disable 1", ""),
        ("memory.kmem.tcp.limit_in_bytes", "", "8388608", ""),
        ("cpu.shares", "cpu.weight", "512", "59"),
        ("cpu.cfs_quota_us", "cpu.max", "50000", "50000 200000"),
        ("cpu.cfs_period_us", "cpu.max", "200000", "50000 200000"),
        ("cpu.cfs_burst_us", "cpu.max.burst", "10000", "10000"),
        ("cpu.rt_runtime_us", "", "1000", ""),
        ("cpu.rt_period_us", "", "500000", ""),
        ("cpuset.cpus", "cpuset.cpus", "0", "0"),
        ("cpuset.mems", "cpuset.mems", "0", "0"),
        ("pids.max", "pids.max", "50", "50"),
    ] {
        let Some(is) = knob(&bundle, one, two).filter(|_| old || !two.is_empty()) else { continue };
        let want = if old { want_one } else { want_two };
        assert!(is.lines().any(|line| line == want), "{one}: {is}");
    }
    assert!(knob(&bundle, "memory.limit_in_bytes", "memory.max").is_some());
    bundle.delete();
}

#[test]
fn a_group_can_be_idle() {
    let Some(bundle) = Bundle::new("exec sleep 1000") else { return };
    bundle.change(|config| config["linux"]["resources"]["cpu"] = json!({"idle": 1}));
    bundle.start();
    assert_eq!(knob(&bundle, "cpu.idle", "cpu.idle").as_deref(), Some("1"));
    bundle.delete();
}

#[test]
fn rates_of_disks_are_limited() {
    let Some(bundle) = Bundle::new("exec sleep 1000") else { return };
    // Some disk of this host, whichever it is: nothing is written to it.
    let mut disks = fs::read_dir("/sys/block").unwrap().map(|disk| disk.unwrap().path());
    let Some(disk) = disks.find(|disk| disk.join("queue").exists()) else { return };
    let numbers = fs::read_to_string(disk.join("dev")).unwrap().trim().to_owned();
    let (major, minor) = numbers.split_once(':').unwrap();
    let (major, minor): (u32, u32) = (major.parse().unwrap(), minor.parse().unwrap());
    let rate = |rate: u32| json!([{"major": major, "minor": minor, "rate": rate}]);
    bundle.change(|config| {
        config["linux"]["resources"]["blockIO"] = json!({
            "throttleReadBpsDevice": rate(1001),
            "throttleWriteBpsDevice": rate(1002),
            "throttleReadIOPSDevice": rate(1003),
            "throttleWriteIOPSDevice": rate(1004),
        });
    });
    bundle.start();
    for (file, word, rate) in [
        ("read_bps", "rbps", 1001),
        ("write_bps", "wbps", 1002),
        ("read_iops", "riops", 1003),
        ("write_iops", "wiops", 1004),
    ] {
        let is = knob(&bundle, &format!("blkio.throttle.{file}_device"), "io.max").unwrap();
        let one = format!("{numbers} {rate}");
        assert!(is == one || is.contains(&format!("{word}={rate}")), "{file}: {is}");
    }
    bundle.delete();
}

#[test]
fn devices_beyond_the_list_cannot_be_opened() {
    // The kernel's log, by another name; opening it for writing takes no capability.
    let script = "true > /dev/made && echo written; true < /dev/made && echo read; \
                  true < /dev/null && echo null";
    let with = |rules: Value| {
        says(script, |config| {
            let node = json!({"path": "/dev/made", "type": "c", "major": 1, "minor": 11});
            config["linux"]["devices"] = json!([node]);
            config["linux"]["resources"]["devices"] = rules;
        })
    };
    let none = json!({"allow": false, "access": "rwm"});
    let rule = |kind: &str, minor: u32, access: &str| json!({"allow": true, "type": kind, "major": 1, "minor": minor, "access": access});
    let Some(refused) = with(json!([none])) else { return };
    assert_eq!(refused, "null\n");
    assert_eq!(with(json!([none, rule("b", 11, "w")])).unwrap(), "null\n");
    assert_eq!(with(json!([none, rule("c", 12, "w")])).unwrap(), "null\n");
    assert_eq!(with(json!([none, rule("c", 11, "r")])).unwrap(), "null\n");
    assert_eq!(with(json!([none, rule("c", 11, "w")])).unwrap(), "written\nnull\n");
}

#[test]
fn parameters_of_the_namespaces_are_set() {
    let script = "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax";
    let said = says(script, |config| {
        config["linux"]["sysctl"] = json!({"net.core.somaxconn": "77", "kernel.msgmax": "4097"});
    });
    assert!(said.is_none_or(|said| said == "77\n4097\n"));
    let Some(bundle) = Bundle::new("true") else { return };
    bundle.change(|config| config["linux"]["sysctl"] = json!({"kernel.panic": "1"}));
    let ran = bundle.oci(["run", "box"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("sysctl kernel.panic"), "{ran:?}");
}

#[test]
fn calls_are_judged_by_action_argument_and_number() {
    let script = "trap 'echo caught' USR1; mkdir /tmp/x 2>&1; kill -USR1 $$ 2>&1; kill -0 $$ && \
                  echo there; stat /missing; echo $?";
    let Some(bundle) = Bundle::new(script) else { return };
    bundle.change(|config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64", "SCMP_ARCH_S390X"],
            "syscalls": [
                {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
                // SIGUSR1, and no other signal.
                {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5,
                 "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]},
                {"names": ["stat", "lstat", "newfstatat", "statx"],
                 "action": "SCMP_ACT_KILL_PROCESS"},
            ],
        });
    });
    let ran = bundle.oci(["run", "box"]);
    let said = &ran.stdout;
    assert!(said.contains("No space left on device"), "{ran:?}");
    assert!(!said.contains("caught") && said.contains("put/output error"), "{ran:?}");
    assert!(said.contains("there\n"), "{ran:?}");
    // A shell says of a command that SIGSYS killed: 128 and the signal's number.
    assert!(said.ends_with("\n159\n"), "{ran:?}");
}

#[test]
fn calls_beyond_the_list_get_the_default_error() {
    let Some(bundle) = Bundle::new("mkdir /tmp/x 2>&1; true") else { return };
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("../seccomp/src/default.json");
    let mut profile: Value = serde_json::from_slice(&fs::read(list).unwrap()).unwrap();
    for rule in profile["syscalls"].as_array_mut().unwrap() {
        let making = |name: &Value| name == "mkdir" || name == "mkdirat";
        rule["names"].as_array_mut().unwrap().retain(|name| !making(name));
    }
    // The specification's own form has no conditions on the host and no nulls.
    for rule in profile["syscalls"].as_array_mut().unwrap() {
        let known = ["names", "action", "errnoRet", "args"];
        let keep = |name: &str, value: &Value| known.contains(&name) && !value.is_null();
        rule.as_object_mut().unwrap().retain(|name, value| keep(name, value));
    }
    let rules = profile["syscalls"].take();
    bundle.change(|config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 28, "syscalls": rules,
        });
    });
    let ran = bundle.oci(["run", "box"]);
    assert_eq!(ran, said(0, "mkdir: can't create directory '/tmp/x': No space left on device\n"));
}

//! `[option.…]`, the options of mounts, and what `features` says of all.

use serde_json::{Value, json};

use super::{
    Entry, State,
    config::{converted, same},
    entries,
};
use crate::oci::features;

/// A configuration with one mount of this kind.
fn mounting(on: &str, options: &[&str]) -> Value {
    let map = json!([{"containerID": 0, "hostID": 7, "size": 9}]);
    let mount = match on {
        "bind" => json!({"type": "bind", "source": "/y"}),
        "idmapped" => {
            json!({"type": "bind", "source": "/y", "uidMappings": map, "gidMappings": map})
        }
        "tmpfs" => json!({"type": "tmpfs", "source": "tmpfs"}),
        "none" => json!({"type": "none", "source": "/y"}),
        other => panic!("nothing is known to mount on {other}"),
    };
    let mut config = json!({
        "ociVersion": "1.2.0",
        "root": {"path": "r"},
        "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["sh"]},
        "mounts": [mount],
        "linux": {"namespaces": [{"type": "mount"}]},
    });
    config["mounts"][0]["destination"] = "/x".into();
    config["mounts"][0]["options"] = options.into();
    config
}

#[test]
fn options_of_mounts_mean_what_the_table_says() {
    for entry in entries("option") {
        let name = entry.name.as_str();
        let on = entry.text("on").unwrap_or("bind");
        let before = entry.list("after");
        let with = converted(&mounting(on, &[&before[..], &[name]].concat()));
        match entry.state {
            State::Refused => {
                let error = with.map(drop).expect_err(name);
                assert!(error.contains("mounts: /x") && error.contains(name), "{error}");
            }
            State::Supported | State::Ignored => {
                let with = with.unwrap_or_else(|error| panic!("{name}: {error}"));
                let without = converted(&mounting(on, &before)).unwrap();
                let idle = entry.has("default") || entry.state == State::Ignored;
                assert_eq!(same(&with, &without), idle, "{name} changes nothing, or something");
                let plain = converted(&mounting(on, &[])).unwrap();
                let taken_back = same(&with, &plain);
                assert!(before.is_empty() || taken_back, "{name} does not undo {before:?}");
            }
        }
    }
}

/// The names of what is supported directly below a property, sorted.
fn supported(entries: &[Entry], prefix: &str) -> Vec<String> {
    let entries = entries.iter().filter(|entry| entry.state == State::Supported);
    let names = entries.filter_map(|entry| entry.name.strip_prefix(prefix));
    let mut names: Vec<String> =
        names.filter(|name| !name.contains('.')).map(str::to_owned).collect();
    names.sort_unstable();
    names
}

fn sorted(value: &Value) -> Vec<String> {
    let mut list: Vec<String> = serde_json::from_value(value.clone()).unwrap();
    list.sort_unstable();
    list
}

#[test]
fn features_say_what_the_table_says() {
    let (config, options) = (entries("config"), entries("option"));
    let entry = |name: &str| config.iter().find(|entry| entry.name == name).expect(name);
    let features = features::value();
    assert_eq!(sorted(&features["mountOptions"]), supported(&options, ""));
    assert_eq!(sorted(&features["hooks"]), supported(&config, "hooks."));

    let linux = &features["linux"];
    let lists = [
        ("/namespaces", "linux.namespaces[].type"),
        ("/seccomp/actions", "linux.seccomp.defaultAction"),
        ("/seccomp/actions", "linux.seccomp.syscalls[].action"),
        ("/seccomp/operators", "linux.seccomp.syscalls[].args[].op"),
        ("/seccomp/archs", "linux.seccomp.architectures"),
        ("/seccomp/knownFlags", "linux.seccomp.flags"),
        ("/seccomp/supportedFlags", "linux.seccomp.flags"),
    ];
    for (feature, property) in lists {
        let mut values = entry(property).list("values");
        values.sort_unstable();
        assert_eq!(sorted(linux.pointer(feature).expect(feature)), values, "{feature}");
    }
    let switches = [
        ("/apparmor/enabled", "process.apparmorProfile"),
        ("/selinux/enabled", "process.selinuxLabel"),
        ("/seccomp/enabled", "linux.seccomp"),
        ("/intelRdt/enabled", "linux.intelRdt"),
        ("/netDevices/enabled", "linux.netDevices"),
        ("/mountExtensions/idmap/enabled", "mounts[].uidMappings"),
        ("/cgroup/rdma", "linux.resources.rdma"),
    ];
    for (feature, property) in switches {
        let on = entry(property).state == State::Supported;
        assert_eq!(linux.pointer(feature).and_then(Value::as_bool), Some(on), "{feature}");
    }
}

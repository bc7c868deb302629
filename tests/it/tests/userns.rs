//! User namespaces for root's containers.

use std::{fs, os::unix::fs::MetadataExt as _};

use it::Instance;

/// The uid on the host of a container's first process.
fn owner(instance: &Instance, container: &str) -> u32 {
    let pid = instance.inspect(container, "{{.State.Pid}}");
    fs::metadata(format!("/proc/{pid}")).expect("it runs").uid()
}

#[test]
fn every_container_has_ids_of_its_own() {
    let Some(instance) = Instance::start() else { return };
    for name in ["one", "two"] {
        let args = ["run", "-d", "--userns", "auto", "--name", name, "demo", "sleep", "600"];
        instance.ok(&args);
        assert_eq!(instance.inspect(name, "{{.HostConfig.UsernsMode}}"), "private");
        assert!(instance.ok(&["exec", name, "id"]).starts_with("uid=0 gid=0"));
    }
    let (one, two) = (owner(&instance, "one"), owner(&instance, "two"));
    assert!(one != two && one.min(two) >= 65_536, "{one} {two}");

    // What it writes is kept as its own; the map is the same after a restart.
    instance.ok(&["exec", "one", "sh", "-c", "echo mine > /file"]);
    instance.ok(&["restart", "-t", "0", "one"]);
    assert_eq!(owner(&instance, "one"), one);
    assert_eq!(instance.ok(&["exec", "one", "cat", "/file"]), "mine");
}

#[test]
fn the_ids_can_be_said() {
    let Some(instance) = Instance::start() else { return };
    let run = ["run", "--rm", "--userns", "remap:3000000:100", "demo"];
    let map = instance.ok(&[&run[..], &["cat", "/proc/self/uid_map"]].concat());
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "3000000", "100"]);
    // The engine's own files belong to root inside.
    let hosts =
        instance.ok(&[&run[..], &["sh", "-c", "echo 1 >> /etc/hosts; cat /etc/hosts"]].concat());
    assert!(hosts.ends_with('1'), "{hosts}");
    assert_eq!(instance.run(&["run", "--rm", "--userns", "keep-id", "demo"]).code, 125);
}

//! What is typed every day, with the stock docker client.

use it::Instance;

fn start() -> Option<Instance> {
    testkit::need::tool("docker")?;
    let instance = Instance::start()?;
    // The demo image is loaded by whoever asks for it first.
    instance.docker_ok(&["run", "--rm", "--network", "none", "demo", "true"]);
    Some(instance)
}

#[test]
fn a_container_is_named_anew_looked_at_and_made_an_image() {
    let Some(instance) = start() else { return };
    let ok = |args: &[&str]| instance.docker_ok(args);
    ok(&["run", "-d", "--name", "old", "-p", "127.0.0.1:18080:80", "demo", "sleep", "1000"]);
    ok(&["rename", "old", "box"]);
    assert_eq!(ok(&["ps", "--format", "{{.Names}}", "--filter", "name=^/b.x$"]), "box");
    assert_eq!(ok(&["port", "box"]), "80/tcp -> 127.0.0.1:18080");
    assert_eq!(ok(&["port", "box", "80"]), "127.0.0.1:18080");
    let none = instance.docker(&["port", "box", "81"]);
    assert!(none.code == 1 && none.err.contains("No public port"), "{none:?}");

    let stats = ok(&["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}"]);
    assert!(stats.starts_with("box 1 ") && stats.contains("iB / "), "{stats}");
    assert!(ok(&["top", "box"]).contains("sleep 1000"));

    ok(&["exec", "box", "sh", "-c", "echo kept > /tmp/file"]);
    let id =
        ok(&["commit", "-m", "with a file", "-c", "CMD [\"cat\", \"/tmp/file\"]", "box", "kept:1"]);
    assert_eq!(
        ok(&["image", "inspect", "-f", "{{.Id}} {{.Comment}}", "kept:1"]),
        id + " with a file"
    );
    assert_eq!(ok(&["run", "--rm", "--network", "none", "kept:1"]), "kept");

    ok(&["restart", "-t", "0", "box"]);
    assert_eq!(ok(&["inspect", "-f", "{{.State.Status}} {{.RestartCount}}", "box"]), "running 0");
    ok(&["rm", "-f", "box"]);
    ok(&["rmi", "kept:1"]);
    instance.remove_all();
}

#[test]
fn what_is_no_longer_needed_goes() {
    let Some(instance) = start() else { return };
    let ok = |args: &[&str]| instance.docker_ok(args);
    ok(&["run", "--name", "done", "--network", "none", "-v", "/data", "demo", "true"]);
    ok(&[
        "run",
        "-d",
        "--name",
        "busy",
        "--network",
        "none",
        "-v",
        "named:/data",
        "demo",
        "sleep",
        "9",
    ]);
    ok(&["tag", "demo", "twice:1"]);
    let pruned = ok(&["container", "prune", "-f"]);
    assert!(
        pruned.contains("Deleted Containers:") && pruned.contains("reclaimed space"),
        "{pruned}"
    );
    assert_eq!(ok(&["container", "ls", "-a", "--format", "{{.Names}}"]), "busy");
    // What has no name goes, what has one stays unless all is asked for.
    assert!(ok(&["volume", "prune", "-f"]).contains("Deleted Volumes:"));
    assert_eq!(ok(&["volume", "ls", "-q"]), "named");
    ok(&["rm", "-f", "busy"]);
    let pruned = ok(&["system", "prune", "-af", "--volumes"]);
    assert!(pruned.contains("untagged: "), "{pruned}");
    assert_eq!(ok(&["images", "-q"]), "");
    assert_eq!(ok(&["volume", "ls", "-q"]), "named");
    ok(&["volume", "rm", "named"]);
    instance.remove_all();
}

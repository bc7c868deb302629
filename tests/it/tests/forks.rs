//! Copies of a running machine: what each has of the other one, and what is its own.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, SystemTime},
};

use it::{Instance, instance_with_kernel, wait_until};

/// A counter in memory and on the disk, beside a web server.
const COUNTER: &str = "/bin/httpd & n=0; while :; do n=$((n+1)); echo \"counted $n\"; \
                       echo $n > /new; /busybox mv /new /count; /busybox sleep 0.1; done";

/// The id that a container's image might bring along.
const MACHINE_ID: &str = "0123456789abcdef0123456789abcdef";

/// An instance that has a kernel, and an image with a shell that counts.
fn start() -> Option<Instance> {
    let busybox = testkit::need::tool("busybox")?;
    let instance = instance_with_kernel()?;
    instance.ok(&["create", "--name", "base", "demo"]);
    instance.ok(&["cp", &busybox.display().to_string(), "base:/busybox"]);
    instance.ok(&["commit", "base", "counter"]);
    instance.ok(&["rm", "base"]);
    Some(instance)
}

/// Runs a counter in a machine.
fn count(instance: &Instance, name: &str, more: &[&str]) {
    let mut words = vec!["run", "-d", "--name", name, "--isolation", "vm"];
    words.extend(more);
    words.extend(["counter", "/busybox", "sh", "-c", COUNTER]);
    instance.ok(&words);
    wait_until("it counts", || counted(instance, name) > 2);
}

/// The last number that a container has told; the web server has something to say too.
fn counted(instance: &Instance, name: &str) -> u64 {
    let log = instance.ok(&["logs", "--tail", "9", name]);
    log.lines().rev().find_map(number).unwrap_or_default()
}

fn number(line: &str) -> Option<u64> {
    line.strip_prefix("counted ")?.parse().ok()
}

/// What a shell in a container says.
fn sh(instance: &Instance, name: &str, script: &str) -> String {
    instance.ok(&["exec", name, "/busybox", "sh", "-c", script])
}

fn seconds() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.expect("it is after 1970").as_secs()
}

/// What tells who a machine is: commands, each of which says one line.
const FACTS: [&str; 8] = [
    "hostname",
    "cat /etc/hostname",
    "echo $(cat /etc/hosts)",
    "cat /etc/machine-id",
    "/busybox od -An -N16 -tx1 /dev/urandom",
    "cat /proc/sys/kernel/random/uuid",
    "cat /sys/class/net/eth0/address",
    "/busybox ip -4 -o addr show eth0",
];

/// What they say.
fn facts(instance: &Instance, name: &str) -> [String; FACTS.len()] {
    let said = sh(instance, name, &FACTS.join("; "));
    let lines: Vec<_> = said.lines().map(str::to_owned).collect();
    lines.try_into().unwrap_or_else(|lines| panic!("{name} says {lines:?}"))
}

#[test]
fn copies_go_on_as_others_than_the_one_they_are_of() {
    let Some(instance) = start() else { return };
    let ok = |args: &[&str]| instance.ok(args);
    ok(&["network", "create", "n1"]);
    let shared = instance.path("shared");
    fs::create_dir(&shared).expect("the directory is ours");
    let share = format!("{}:/shared", shared.display());
    let mut more = vec!["--network", "n1", "--hostname", "first", "-p", "18081:80"];
    more.extend(["-v", &share]);
    count(&instance, "one", &more);
    sh(&instance, "one", &format!("mkdir -p /etc; echo {MACHINE_ID} > /etc/machine-id"));
    sh(&instance, "one", "echo before > /before");

    let before = counted(&instance, "one");
    let ran = instance.run(&["fork", "-n", "2", "--name", "copy", "one"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("port 18081 of the host leads to the other container"), "{ran:?}");
    let names = ["one", "copy-1", "copy-2"];
    let ids: Vec<_> = names[1..].iter().map(|name| instance.inspect(name, "{{.Id}}")).collect();
    assert_eq!(ran.out.lines().collect::<Vec<_>>(), ids);

    // Each counts on from where the one was, in memory, on its disk and in its log.
    for name in names {
        let at = counted(&instance, name);
        wait_until("it counts on", || counted(&instance, name) > at.max(before));
        let disk: u64 = sh(&instance, name, "cat /count").parse().expect("it is a number");
        assert!(disk > before, "{name}: {disk}");
        assert_eq!(sh(&instance, name, "cat /before"), "before");
    }
    for name in &names[1..] {
        let log = ok(&["logs", name]);
        let first = log.lines().find_map(number).expect("it has told a number");
        assert!(first > before, "the log of {name} begins with {first}, after {before}");
    }

    let facts: Vec<_> = names.iter().map(|name| facts(&instance, name)).collect();
    for (n, what) in FACTS.iter().enumerate() {
        let all: Vec<_> = facts.iter().map(|facts| &facts[n]).collect();
        let apart: BTreeSet<_> = all.iter().collect();
        assert!(
            apart.len() == all.len() && all.iter().all(|fact| !fact.is_empty()),
            "{what}: {all:?}"
        );
    }
    for (name, facts) in names.iter().zip(&facts) {
        let network =
            "{{with index .NetworkSettings.Networks \"n1\"}}{{.IPAddress}} {{.MacAddress}}{{end}}";
        let shown = instance.inspect(name, network);
        let (address, mac) = shown.split_once(' ').expect("two words");
        let [hostname, file, hosts, _, _, _, inside, addresses] = facts;
        assert!(addresses.contains(address) && inside == mac, "{name}: {shown}, {facts:?}");
        assert!(hosts.contains(address) && hosts.contains(hostname.as_str()), "{name}: {facts:?}");
        assert_eq!(hostname, file, "{name}");
    }
    for name in names {
        let (before, inside, after) =
            (seconds(), sh(&instance, name, "/busybox date +%s"), seconds());
        let inside: u64 = inside.parse().expect("it is a number");
        assert!((before..=after).contains(&inside), "{before} {inside} {after}");
    }

    // All of them find and reach each other.
    for from in names {
        for to in names.iter().filter(|to| **to != from) {
            let ran =
                instance.run_with(&["exec", "-i", from, "nc", to, "80"], b"GET / HTTP/1.0\r\n\r\n");
            assert!(ran.out.starts_with("HTTP/1.0 200"), "{from} to {to}: {ran:?}");
        }
    }
    // What is the host's they have together.
    for name in names {
        sh(&instance, name, &format!("echo {name} > /shared/{name}"));
    }
    assert_eq!(entries(&shared), names.map(str::to_owned).into());
    for name in names {
        assert_eq!(sh(&instance, "copy-2", &format!("cat /shared/{name}")), name);
    }
    // What one writes is its own.
    sh(&instance, "copy-1", "echo mine > /mine");
    for name in ["one", "copy-2"] {
        assert_eq!(sh(&instance, name, "cat /mine 2>/dev/null || echo none"), "none");
    }

    // Without the one the others go on, and a copy can be forked itself.
    ok(&["rm", "-f", "one"]);
    ok(&["fork", "--name", "again", "copy-1"]);
    assert_eq!(sh(&instance, "again", "cat /mine"), "mine");
    ok(&["stop", "-t", "0", "copy-1"]);
    for name in ["copy-2", "again"] {
        let at = counted(&instance, name);
        wait_until("it counts on", || counted(&instance, name) > at);
    }
    // One that ended begins anew, with what is on its disk.
    ok(&["start", "copy-1"]);
    assert_eq!(sh(&instance, "copy-1", "cat /mine"), "mine");
    instance.remove_all();
    ok(&["network", "rm", "n1"]);
    assert_eq!(fs::read_dir(instance.path("data/forks")).unwrap().count(), 0);
}

#[test]
fn input_stays_open_in_a_copy() {
    let Some(instance) = start() else { return };
    let none = ["run", "-d", "-i", "--name", "one", "--isolation", "vm", "--network", "none"];
    instance.ok(&[&none[..], &["demo", "sh"]].concat());
    let mut attach = instance.command(&["attach", "one"]);
    let mut attach = attach.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = attach.stdin.take().unwrap();
    input.write_all(b"export SAID=before\necho set\n").unwrap();
    let mut line = String::new();
    BufReader::new(attach.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "set\n");
    // Its end would be the end of the shell's input.
    attach.kill().unwrap();
    attach.wait().unwrap();
    instance.ok(&["fork", "--name", "copy", "one"]);
    for (name, code, input) in
        [("copy", 3, "echo $SAID here\nexit 3\n"), ("one", 4, "echo $SAID here\nexit 4\n")]
    {
        let ran = instance.run_with(&["attach", name], input.as_bytes());
        assert_eq!((ran.code, ran.out.as_str()), (code, "before here\n"), "{name}: {ran:?}");
    }
    instance.remove_all();
}

#[test]
fn what_cannot_be_forked_says_why() {
    let Some(instance) = start() else { return };
    instance.ok(&["run", "-d", "--name", "plain", "demo", "sleep", "1000"]);
    let machine = ["run", "-d", "--name", "vm", "--isolation", "vm", "--network", "none"];
    instance.ok(&[&machine[..], &["demo", "sleep", "1000"]].concat());
    let refused = |args: &[&str], why: &str| {
        let ran = instance.run(&[&["fork"], args].concat());
        assert!(ran.code != 0 && ran.err.contains(why) && ran.out.is_empty(), "{args:?}: {ran:?}");
    };
    refused(&["plain"], "only machines (vm) can be forked");
    refused(&["nobody"], "No such container");
    refused(&["-n", "0", "vm"], "not between 1 and");
    refused(&["--name", "plain", "vm"], "plain");
    instance.ok(&["pause", "vm"]);
    refused(&["vm"], "paused");
    instance.ok(&["unpause", "vm"]);
    instance.ok(&["kill", "vm"]);
    wait_until("it has ended", || instance.inspect("vm", "{{.State.Status}}") == "exited");
    refused(&["vm"], "not running");
    assert_eq!(instance.ok(&["ps", "-aq"]).lines().count(), 2);
    instance.remove_all();
}

/// Names of what is in a directory.
fn entries(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).expect("it is there");
    let names = entries.flatten().map(|entry| entry.file_name().into_string());
    names.map(|name| name.expect("it is text")).collect()
}

#[test]
fn a_daemon_that_is_killed_meanwhile_leaves_whole_copies_or_none() {
    let Some(mut instance) = start() else { return };
    count(&instance, "one", &["--network", "none"]);
    for wait_ms in [0, 50, 150, 300, 600, 1200] {
        let mut fork = instance.client(&["fork", "-n", "2", "one"]);
        let mut fork = fork.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(wait_ms));
        instance.kill_daemon();
        fork.wait().unwrap();
        instance.start_daemon();
        // It has been opened when it answers.
        instance.ok(&["ps"]);
        assert_eq!(entries(&instance.path("data/forks")), BTreeSet::new());
        wait_until("what was half made is gone", || {
            let all = instance.ok(&["ps", "-aq", "--no-trunc"]);
            let all: BTreeSet<_> = all.lines().map(str::to_owned).collect();
            let states = instance.ok(&["ps", "-a", "--format", "{{.State}}"]);
            states.lines().all(|state| state == "running")
                && entries(&instance.path("data/containers")) == all
                && entries(&instance.path("data/trash")).is_empty()
        });
        for id in instance.ok(&["ps", "-q", "--no-trunc"]).lines() {
            let at = counted(&instance, id);
            wait_until("it counts on", || counted(&instance, id) > at);
        }
        let copies = instance.ok(&["ps", "-q", "--no-trunc"]);
        let one = instance.inspect("one", "{{.Id}}");
        for copy in copies.lines().filter(|id| *id != one) {
            instance.ok(&["rm", "-f", copy]);
        }
    }
    instance.remove_all();
}

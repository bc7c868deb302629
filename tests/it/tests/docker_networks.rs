//! Networks by the stock docker client, and the names on them.

use std::{
    net::{Ipv4Addr, UdpSocket},
    process::Command,
};

use it::{Instance, wait_until};

/// Where busybox is in the containers of these tests.
const BUSYBOX: &str = "/busybox";

/// An instance whose demo image is loaded, and where busybox is on the host.
fn start() -> Option<(Instance, String)> {
    testkit::need::tool("docker")?;
    let busybox = testkit::need::tool("busybox")?;
    let instance = Instance::start()?;
    instance.docker_ok(&["run", "--rm", "--network", "none", "demo", "true"]);
    Some((instance, format!("{}:{BUSYBOX}:ro", busybox.display())))
}

/// What `nslookup` finds, in the order in which it is told.
fn found(instance: &Instance, from: &str, what: &str) -> Vec<String> {
    let ran = instance.docker(&["exec", from, BUSYBOX, "nslookup", what]);
    let lines = ran.out.lines();
    // The first address is the server's own.
    let value = |line: &str| {
        let address = line.strip_prefix("Address:").map(str::trim);
        let name = line.split_once("name = ").map(|(_, name)| name.trim());
        address.or(name).filter(|text| *text != "127.0.0.11:53").map(str::to_owned)
    };
    lines.filter_map(value).collect()
}

fn sorted(mut all: Vec<String>) -> Vec<String> {
    all.sort();
    all
}

/// Whether a server of `httpd` answers a container, within three seconds.
fn reaches(instance: &Instance, from: &str, to: &str) -> bool {
    let ask = format!("echo 'GET / HTTP/1.0' | nc {to} 80");
    let exec = instance.docker_command(&["exec", from, "sh", "-c", &ask]);
    let mut command = Command::new("timeout");
    command.arg("3").arg(exec.get_program()).args(exec.get_args());
    command.envs(exec.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let out = command.output().expect("timeout runs");
    String::from_utf8_lossy(&out.stdout).contains("200 OK")
}

/// Answers every question with one address or with none, as a nameserver of the host's network would.
fn nameserver(instance: &Instance, knows: bool) {
    let bind = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).expect("nobody has it");
    let socket = instance.on_network(bind);
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((count, from)) = socket.recv_from(&mut buffer) {
            // The question, marked as an answer, and one address for the name in it.
            let mut answer = buffer[..count].to_vec();
            let asks_for_v4 = answer[count - 3] == 1;
            answer[2] |= 0x80;
            if !knows {
                // There is no such name.
                answer[3] |= 3;
            } else if asks_for_v4 {
                answer[7] = 1;
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 7]);
            }
            let _ = socket.send_to(&answer, from);
        }
    });
}

#[test]
fn containers_find_each_other_by_every_name_they_have() {
    let Some((mut instance, bind)) = start() else { return };
    let docker = |args: &[&str]| instance.docker_ok(args);
    docker(&["network", "create", "--subnet", "10.93.0.0/24", "back"]);
    docker(&["network", "create", "--subnet", "10.94.0.0/24", "other"]);
    nameserver(&instance, false);
    let run = |name: &str, network: &str, more: &[&str]| {
        let dns = if network == "back" { "--dns=10.93.0.1" } else { "--dns=10.94.0.1" };
        let args = ["run", "-d", "--name", name, "--network", network, "-v", &bind, dns];
        docker(&[&args[..], more, &["demo", "httpd"]].concat())
    };
    run("asks", "back", &[]);
    let one = run("one", "back", &["--ip", "10.93.0.11", "--network-alias", "web"]);
    run("two", "back", &["--ip", "10.93.0.12", "--network-alias", "web", "--hostname", "deux"]);
    run("stranger", "other", &["--ip", "10.94.0.11"]);

    for name in ["one", "ONE", "one.back", &one[..12]] {
        assert_eq!(found(&instance, "asks", name), ["10.93.0.11"], "{name}");
    }
    assert_eq!(found(&instance, "asks", "deux"), ["10.93.0.12"]);
    assert_eq!(sorted(found(&instance, "asks", "web")), ["10.93.0.11", "10.93.0.12"]);
    let firsts = || found(&instance, "asks", "web").into_iter().next().unwrap_or_default();
    wait_until("the second one is told first", || firsts() == "10.93.0.12");
    wait_until("the first one is told first", || firsts() == "10.93.0.11");
    assert_eq!(found(&instance, "asks", "10.93.0.12"), ["two.back"]);
    wait_until("one answers", || reaches(&instance, "asks", "one"));
    wait_until("two answers", || reaches(&instance, "asks", "two"));
    assert!(reaches(&instance, "asks", "web"));

    // Networks are apart, names and addresses alike.
    assert_eq!(found(&instance, "stranger", "stranger"), ["10.94.0.11"]);
    assert_eq!(found(&instance, "stranger", "one"), [""; 0]);
    assert!(!reaches(&instance, "stranger", "10.93.0.11"));
    docker(&["network", "connect", "--alias", "guest", "back", "stranger"]);
    assert_eq!(found(&instance, "stranger", "one"), ["10.93.0.11"]);
    assert!(reaches(&instance, "stranger", "one"));
    wait_until("the guest answers", || reaches(&instance, "asks", "guest"));
    assert_eq!(found(&instance, "asks", "stranger.other"), [""; 0]);

    // Names come and go with containers, and are there again with the next daemon.
    docker(&["rename", "two", "zwei"]);
    assert_eq!(found(&instance, "asks", "zwei"), ["10.93.0.12"]);
    assert_eq!(found(&instance, "asks", "two"), [""; 0]);
    docker(&["stop", "-t", "0", "one"]);
    assert_eq!(found(&instance, "asks", "web"), ["10.93.0.12"]);
    instance.kill_daemon();
    instance.start_daemon();
    let docker = |args: &[&str]| instance.docker_ok(args);
    assert_eq!(found(&instance, "asks", "web"), ["10.93.0.12"]);
    assert!(reaches(&instance, "stranger", "zwei") && reaches(&instance, "asks", "guest"));
    docker(&["start", "one"]);
    assert_eq!(sorted(found(&instance, "asks", "web")), ["10.93.0.11", "10.93.0.12"]);
    docker(&["network", "disconnect", "back", "stranger"]);
    assert_eq!(found(&instance, "asks", "guest"), [""; 0]);
    assert_eq!(found(&instance, "stranger", "one"), [""; 0]);
    instance.remove_all();
    instance.docker_ok(&["network", "rm", "back", "other"]);
}

#[test]
fn what_nobody_is_called_is_asked_of_others_unless_the_network_is_internal() {
    let Some((instance, bind)) = start() else { return };
    let docker = |args: &[&str]| instance.docker_ok(args);
    docker(&["network", "create", "--subnet", "10.95.0.0/24", "open"]);
    docker(&["network", "create", "--internal", "--subnet", "10.96.0.0/24", "closed"]);
    nameserver(&instance, true);
    let run = |name: &str, network: &str, dns: &str| {
        let args = ["run", "-d", "--name", name, "--network", network, "-v", &bind, "--dns", dns];
        docker(&[&args[..], &["--dns-search", "inner.test", "demo", "sleep", "1000"]].concat())
    };
    run("free", "open", "10.95.0.1");
    run("shut", "closed", "10.96.0.1");
    assert_eq!(found(&instance, "free", "some.example"), ["192.0.2.7"]);
    assert_eq!(found(&instance, "free", "free.open"), ["10.95.0.2"], "its own before others'");
    assert_eq!(found(&instance, "shut", "some.example"), [""; 0]);
    assert_eq!(found(&instance, "shut", "shut.closed"), ["10.96.0.2"]);
    let conf = docker(&["exec", "free", "cat", "/etc/resolv.conf"]);
    assert_eq!(conf, "nameserver 127.0.0.11\nsearch inner.test\noptions ndots:0");

    // One of the default network has names from the moment on when it is on another one as well.
    docker(&["run", "-d", "--name", "plain", "-v", &bind, "demo", "sleep", "1000"]);
    let conf = || docker(&["exec", "plain", "cat", "/etc/resolv.conf"]);
    let before = conf();
    assert!(!before.contains("127.0.0.11"), "{before}");
    docker(&["network", "connect", "open", "plain"]);
    assert!(conf().starts_with("nameserver 127.0.0.11\n"), "{}", conf());
    assert_eq!(found(&instance, "plain", "free.open"), ["10.95.0.2"]);
    docker(&["network", "disconnect", "open", "plain"]);
    assert_eq!(conf(), before);
    instance.remove_all();
    docker(&["network", "rm", "open", "closed"]);
}

#[test]
fn networks_are_made_listed_inspected_and_removed() {
    let Some((instance, _)) = start() else { return };
    let docker = |args: &[&str]| instance.docker_ok(args);
    let create = ["network", "create", "--label", "tier=back", "--subnet", "10.97.0.0/24"];
    let id = docker(&[&create[..], &["--ip-range", "10.97.0.128/25", "ranged"]].concat());
    docker(&["network", "create", "--attachable", "empty"]);
    let names = |args: &[&str]| {
        let listed = docker(&[&["network", "ls", "--format", "{{.Name}}"], args].concat());
        sorted(listed.lines().map(str::to_owned).collect())
    };
    assert_eq!(names(&[]), ["bridge", "empty", "host", "none", "ranged"]);
    assert_eq!(names(&["--filter", "label=tier=back"]), ["ranged"]);
    assert_eq!(names(&["--filter", "type=custom", "--filter", "name=emp"]), ["empty"]);
    assert_eq!(names(&["--filter", "driver=host"]), ["host"]);
    assert_eq!(docker(&["network", "inspect", "-f", "{{.Name}}", &id[..12]]), "ranged");

    docker(&["run", "-d", "--name", "box", "--network", "ranged", "demo", "sleep", "1000"]);
    docker(&["network", "connect", "empty", "box"]);
    let address =
        docker(&["inspect", "-f", "{{.NetworkSettings.Networks.ranged.IPAddress}}", "box"]);
    let last: u8 = address.rsplit('.').next().and_then(|last| last.parse().ok()).expect("a number");
    assert!(address.starts_with("10.97.0.") && last >= 128, "{address}");
    let users = docker(&[
        "network",
        "inspect",
        "-f",
        "{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}",
        "ranged",
    ]);
    assert_eq!(users, format!("box {address}/24"));
    let both = docker(&[
        "inspect",
        "-f",
        "{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{end}}",
        "box",
    ]);
    assert_eq!(both.trim(), "empty ranged");

    let said = |args: &[&str], want: &str| {
        let ran = instance.docker(args);
        assert!(ran.code == 1 && ran.err.contains(want), "{ran:?}");
    };
    said(&["network", "rm", "ranged"], "has active endpoints");
    said(&["network", "rm", "bridge"], "is a pre-defined network and cannot be removed");
    said(&["network", "create", "ranged"], "network with name ranged already exists");
    said(&["network", "create", "--subnet", "10.97.0.0/16", "meets"], "Pool overlaps");
    said(&["network", "inspect", "nosuch"], "network nosuch not found");
    said(&["network", "connect", "ranged", "box"], "already exists in network ranged");
    instance.remove_all();
    docker(&["network", "create", "--label", "keep", "kept"]);
    assert_eq!(
        docker(&["network", "prune", "-f", "--filter", "label!=keep"]),
        "Deleted Networks:\nempty\nranged"
    );
    assert_eq!(names(&["--filter", "type=custom"]), ["kept"]);
    docker(&["network", "rm", "kept"]);
    wait_until("links and rules are gone", || {
        instance.links() == ["lo"] && instance.rules().is_empty()
    });
}

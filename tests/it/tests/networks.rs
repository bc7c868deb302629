//! Networks that users make, by our own command line.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use it::{Instance, wait_until};

/// Whether an HTTP server answers, asked from the host.
fn answers(instance: &Instance, address: &str) -> bool {
    let address = address.parse().expect("an address");
    let fetched: std::io::Result<String> = instance.on_network(move || {
        let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        socket.shutdown(Shutdown::Write)?;
        let mut text = String::new();
        socket.read_to_string(&mut text)?;
        Ok(text)
    });
    fetched.is_ok_and(|text| text.contains("200 OK"))
}

/// Whether a container's server answers another container, by address or name.
fn reaches(instance: &Instance, from: &str, to: &str) -> bool {
    asked(instance, from, to, 80).contains("200 OK")
}

/// What a server says to a container, that has two seconds to do it.
fn asked(instance: &Instance, from: &str, to: &str, port: u16) -> String {
    let ask = format!("echo 'GET / HTTP/1.0' | nc {to} {port}");
    let exec = instance.command(&["exec", from, "sh", "-c", &ask]);
    let mut command = std::process::Command::new("timeout");
    command.arg("2").arg(exec.get_program()).args(exec.get_args());
    command.envs(exec.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let out = command.output().expect("timeout runs");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn address(instance: &Instance, container: &str, network: &str) -> String {
    let template = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
    instance.inspect(container, &template)
}

fn web(instance: &Instance, name: &str, more: &[&str]) {
    let args = [&["run", "-d", "--name", name], more, &["demo", "httpd"]].concat();
    instance.ok(&args);
}

#[test]
fn containers_reach_others_of_their_networks_and_nobody_else() {
    let Some(instance) = Instance::start() else { return };
    for name in ["one", "two"] {
        instance.ok(&["network", "create", name]);
    }
    web(&instance, "c-a", &["--network", "one"]);
    web(&instance, "c-b", &["--network", "one"]);
    web(&instance, "c-c", &["--network", "two"]);
    web(&instance, "c-d", &[]);
    web(&instance, "both", &["--network", "one", "--network", "two", "-p", "8080:80"]);
    let (a, b) = (address(&instance, "c-a", "one"), address(&instance, "c-b", "one"));
    let (c, d) = (address(&instance, "c-c", "two"), address(&instance, "c-d", "bridge"));
    wait_until("a reaches b", || reaches(&instance, "c-a", &b));
    wait_until("both reach b", || reaches(&instance, "both", &b));
    wait_until("both reach c", || reaches(&instance, "both", &c));
    for (from, to) in [("c-a", &c), ("c-c", &a), ("c-d", &a), ("c-a", &d), ("c-d", &c)] {
        assert!(!reaches(&instance, from, to), "{from} reaches {to}");
    }
    wait_until("the port answers", || answers(&instance, "127.0.0.1:8080"));
    // A published port is for everybody.
    let gateway = instance.inspect("c-d", "{{.NetworkSettings.Gateway}}");
    assert!(asked(&instance, "c-d", &gateway, 8080).contains("200 OK"));

    let refused = instance.run(&["network", "rm", "one"]);
    assert!(refused.code == 1 && refused.err.contains("has active endpoints"), "{refused:?}");
    instance.remove_all();
    assert_eq!(instance.ok(&["network", "rm", "one", "two"]), "one\ntwo");
    wait_until("links and rules are gone", || {
        instance.links() == ["lo"] && instance.rules().is_empty()
    });
    let missing = instance.run(&["run", "--rm", "--network", "one", "demo", "true"]);
    assert!(missing.code == 125 && missing.err.contains("network one not found"), "{missing:?}");
}

#[test]
fn a_running_container_comes_and_goes_and_keeps_its_networks_over_a_killed_daemon() {
    let Some(mut instance) = Instance::start() else { return };
    let subnet = "10.91.0.0/24";
    instance.ok(&["network", "create", "--subnet", subnet, "--label", "tier=back", "mine"]);
    web(&instance, "c-a", &["-p", "8080:80"]);
    web(&instance, "c-b", &["--network", "mine", "--ip", "10.91.0.9"]);
    assert_eq!(address(&instance, "c-b", "mine"), "10.91.0.9");
    assert!(!reaches(&instance, "c-a", "10.91.0.9"));
    instance.ok(&["network", "connect", "--ip", "10.91.0.7", "--alias", "front", "mine", "c-a"]);
    wait_until("a reaches b", || reaches(&instance, "c-a", "10.91.0.9"));
    wait_until("b reaches a by its alias", || reaches(&instance, "c-b", "front"));
    let twice = instance.run(&["network", "connect", "mine", "c-a"]);
    assert!(twice.code == 1 && twice.err.contains("already exists in network mine"), "{twice:?}");

    instance.kill_daemon();
    instance.start_daemon();
    let users = instance.ok(&["network", "inspect", "-f", "{{len .Containers}}", "mine"]);
    assert_eq!(users, "2");
    wait_until("a reaches b again", || reaches(&instance, "c-a", "10.91.0.9"));
    wait_until("the port answers again", || answers(&instance, "127.0.0.1:8080"));
    let rows = instance.ok(&["network", "ls", "--filter", "label=tier=back", "-q"]);
    assert_eq!(rows.lines().count(), 1);
    let doctor = instance.run(&["doctor"]).out;
    assert!(doctor.contains("network mine") && !doctor.contains("network link"), "{doctor}");

    instance.ok(&["network", "disconnect", "mine", "c-a"]);
    assert!(!reaches(&instance, "c-a", "10.91.0.9"));
    // A stopped one too, and it is there at the next start.
    instance.ok(&["stop", "-t", "0", "c-a"]);
    instance.ok(&["network", "connect", "mine", "c-a"]);
    instance.ok(&["network", "disconnect", "bridge", "c-a"]);
    instance.ok(&["start", "c-a"]);
    wait_until("a reaches b once more", || reaches(&instance, "c-a", "10.91.0.9"));
    let networks =
        instance.inspect("c-a", "{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{end}}");
    assert_eq!(networks.trim(), "mine");
    wait_until("the port has come along", || answers(&instance, "127.0.0.1:8080"));
    instance.remove_all();
    assert!(instance.ok(&["network", "prune", "-f"]).contains("Deleted Networks:\nmine"));
    wait_until("links and rules are gone", || {
        instance.links() == ["lo"] && instance.rules().is_empty()
    });
}

#[test]
fn internal_networks_and_those_of_strangers_keep_packets_in() {
    let Some(instance) = Instance::start() else { return };
    instance.ok(&["network", "create", "--internal", "inner"]);
    let apart = "com.docker.network.bridge.enable_icc=false";
    instance.ok(&["network", "create", "-o", apart, "apart"]);
    for (name, network) in [("c-a", "inner"), ("c-b", "inner"), ("c-c", "apart"), ("c-d", "apart")]
    {
        web(&instance, name, &["--network", network]);
    }
    let b = address(&instance, "c-b", "inner");
    wait_until("within it they reach each other", || reaches(&instance, "c-a", &b));
    let routes = instance.ok(&["exec", "c-a", "cat", "/proc/net/route"]);
    let mut targets = routes.lines().filter_map(|line| line.split('\t').nth(1));
    assert!(targets.all(|to| to != "00000000"), "{routes}");
    let (c, d) = (address(&instance, "c-c", "apart"), address(&instance, "c-d", "apart"));
    wait_until("the host reaches d", || answers(&instance, &format!("{d}:80")));
    assert!(!reaches(&instance, "c-c", &d) && !reaches(&instance, "c-d", &c));
    instance.remove_all();
    instance.ok(&["network", "rm", "inner", "apart"]);
}
